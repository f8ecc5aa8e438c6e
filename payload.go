package episodic

import (
	"context"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/index"
	"github.com/episodic-memory/episodic/internal/payload"
)

// Bounds of what rows may hold, before it is compressed. libSQL servers refuse
// answers over 10 MB.
const (
	maxEpisode = 64 << 20 // encoded bytes of all steps stored by one call
	runTarget  = 1 << 20  // encoded bytes after which a run of steps is cut
	// readAtOnce is how many bytes of runs are asked for in one round trip, unless
	// a single run is larger: together with the largest head and the overhead of
	// any protocol it stays below the 10 MB of an answer. It is also how much
	// Complete folds.
	readAtOnce = 4_000_000
)

// encodePayload encodes v as a row with the bound columns holds it. A value that is too large
// is blamed on field.
func encodePayload(c *payload.Codec, k payload.Kind, bound payload.Bound, field string, v any) ([]byte, error) {
	p, err := c.Encode(k, bound, v)
	return p, encodeFailed(field, err)
}

func encodeFailed(field string, err error) error {
	if large, ok := errors.AsType[*payload.TooLargeError](err); ok {
		return invalid(field, "%v", large)
	}
	if err != nil {
		return fmt.Errorf("encode %s: %w", field, err)
	}
	return nil
}

// write encodes payloads and stores them; again, once, if a dictionary that it
// encoded with was deleted meanwhile.
func write[T any](ctx context.Context, s *Store, encode func() (T, error), store func(T) error) error {
	s.payloads.Ready(ctx)
	for again := true; ; again = false {
		v, err := encode()
		if err != nil {
			return err
		}
		err = store(v)
		if again && payload.IsDictionaryGone(err) {
			s.payloads.Reset()
			continue
		}
		if err == nil {
			s.payloads.Maintain()
			s.indexer.written(1)
			s.embedder.kick()
		}
		return err
	}
}

// readAgain calls read, and again if a dictionary was deleted between the reading of
// a row and that of the dictionary: the row has been recompressed meanwhile. If it was not, it
// is damaged.
func readAgain[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	v, err := read(ctx)
	if payload.IsDictionaryGone(err) {
		v, err = read(context.WithValue(ctx, rereadingKey{}, true))
	}
	return v, err
}

// Training is what came of an attempt to train a dictionary.
type Training struct {
	Kind string `json:"kind"` // of payloads: episode or pattern
	// Samples is how many payloads were looked at.
	Samples int `json:"samples"`
	// Before and After are bytes stored as part of the bytes of payloads that were
	// kept from training, with the dictionary used so far and with the new one.
	Before float64 `json:"before"`
	After  float64 `json:"after,omitempty"`
	// Dictionary is the id of the new one, 0 if it is not used; Reason is why not.
	Dictionary uint32 `json:"dictionary,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

func trainingsFrom(list []payload.Training) []Training {
	var done []Training
	for _, t := range list {
		done = append(done, Training(t))
	}
	return done
}

// TrainDictionaries trains dictionaries if it is time to: for episodes, and for
// patterns with heuristics and relations, when there are 20, 60 or 600 of them. A new one is
// stored, and used from then on, if it makes what it was not made from at least 3 % smaller. It
// returns the attempts, which are none if it is not time. Stores that stay open do the same in the
// background, at 60 and 600; a program that ends soon calls this at its end. It concerns the whole
// database, whatever the Store's scope. Errors: Retryable ones; the context's.
func (s *Store) TrainDictionaries(ctx context.Context) (_ []Training, err error) {
	ctx, end := s.trace(ctx, "TrainDictionaries")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return nil, failed(err, "train dictionaries")
	}
	done, err := s.payloads.Train(ctx)
	return trainingsFrom(done), failed(err, "train dictionaries")
}

// Compaction is what Compact did.
type Compaction struct {
	Trained []Training `json:"trained,omitempty"`
	// Payloads is how many were not written with the dictionary in use, or were written at
	// LevelFast. Rewritten
	// is how many of them became smaller, or had to leave a dictionary that is
	// given up, and Before and After are the bytes of those.
	Payloads  int64 `json:"payloads"`
	Rewritten int64 `json:"rewritten"`
	Before    int64 `json:"before_bytes"`
	After     int64 `json:"after_bytes"`
	// Damaged is how many could not be read, and were left as they are; Damage says
	// which row was the first, and why.
	Damaged int64  `json:"damaged"`
	Damage  string `json:"damage,omitempty"`
	// Deleted is how many dictionaries were deleted, because a newer one is in use, or
	// because they held text that no item may hold any more.
	Deleted int64 `json:"dictionaries_deleted"`
	// Freed is how many bytes of a local file were given back; always 0 on a server. While
	// somebody reads what was there before, the file gets shorter only at a later write, or
	// when it is closed. NotFreed says why that failed, such as that the disk is full.
	Freed    int64  `json:"freed_bytes"`
	NotFreed string `json:"not_freed,omitempty"`
}

// Compact trains dictionaries, if there are 20 items or more, recompresses what was
// stored without the dictionary in use or at LevelFast, and deletes all other dictionaries. After
// deletions a dictionary may hold text of what was deleted: then it is replaced, or
// given up for the built-in one, so that nothing of that text is left in one. It first indexes
// what is waiting for it, and merges the search index, in which no word of what was deleted is
// left; an index that is damaged is made anew. Other Stores may read
// and write meanwhile; what they change is left as they made it. It can be
// interrupted at any moment, and goes on where it was when it is called again. Conflicts of
// more than 30 days ago are deleted.
// It concerns the whole database, whatever the Store's scope.
//
// A local file then gets shorter by what is free in it, which is otherwise used for what is
// stored next. One that an earlier version made is written anew for that, once, if a fifth of it is
// free: that takes up to twice its space meanwhile, and writers wait. If it fails, the
// Compaction says so, and Compact does not fail.
//
// progress, unless it is nil, is
// called now and then with how many of the Compaction's Payloads have been looked
// at, and how many there are. What was done before an error is returned with it.
func (s *Store) Compact(ctx context.Context, progress func(done, all int64)) (_ Compaction, err error) {
	ctx, end := s.trace(ctx, "Compact")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return Compaction{}, failed(err, "compact")
	}
	done, err := s.compact(ctx, s.payloads.Compact, progress)
	if file, ok := s.engine.(*embedded.Engine); ok && err == nil {
		done.Freed, err = file.Shrink(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, engine.ErrClosed) && engine.KindOf(err) != engine.KindCorrupt {
			done.NotFreed, err = err.Error(), nil
		}
	}
	return done, failed(err, "compact")
}

// compact does what Compact does with rows; recompress is how it does so with payloads.
func (s *Store) compact(ctx context.Context, recompress func(context.Context, func(done, all int64)) (payload.Compaction, error), progress func(done, all int64)) (Compaction, error) {
	if err := s.forgetConflicts(ctx); err != nil {
		return Compaction{}, err
	}
	err := s.keepIndex(ctx, true)
	if errors.Is(err, index.ErrDamaged) {
		err = s.Reindex(ctx)
	}
	if err != nil && !errors.Is(err, ErrCorrupt) { // damaged payloads are told below
		return Compaction{}, fmt.Errorf("the search index: %w", err)
	}
	c, err := recompress(ctx, progress)
	return Compaction{
		Trained: trainingsFrom(c.Trained), Payloads: c.Payloads, Rewritten: c.Rewritten, Before: c.Before, After: c.After,
		Damaged: c.Damaged, Damage: c.Damage, Deleted: c.Deleted,
	}, err
}
