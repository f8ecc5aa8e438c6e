package episodic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
)

// GCOptions say which episodes GC deletes: those that meet every condition that is set, the
// oldest first, until what is left is within the bounds that are set. To delete what meets
// one condition or another, call GC once for each. At least one of Before, Outcomes, Keep and
// MaxBytes must be set. Running episodes are never deleted.
type GCOptions struct {
	// Before: the episode began before this time.
	Before time.Time
	// Outcomes: it ended with one of these; the empty one is that of episodes that were not judged.
	Outcomes []OutcomeKind
	// Protect: it has none of these tags.
	Protect []string

	// Keep and MaxBytes are bounds of what is left: at most so many episodes, and episodes of
	// at most so many bytes, compressed, without the index and vectors. Running
	// and protected ones count, though they are not deleted. If one of them is set, no more
	// is deleted as soon as what is left is within all that are set. 0: no bound.
	Keep     int64
	MaxBytes int64

	// DryRun deletes nothing, and tells what would be deleted.
	DryRun bool
	// Each, unless it is nil, is called for each episode that was deleted, or would be, in turn.
	Each func(Collected)
}

func (o *GCOptions) validate() error {
	c := &check{}
	c.texts("protect", o.Protect)
	c.notNegative("keep", o.Keep)
	c.notNegative("max_bytes", o.MaxBytes)
	for _, kind := range o.Outcomes {
		c.oneOf("outcomes", string(kind), OutcomeKind(""), Success, PartialSuccess, Failure, Abstained)
	}
	if o.Before.IsZero() && len(o.Outcomes) == 0 && o.Keep == 0 && o.MaxBytes == 0 {
		c.fail("before", "is not set, nor are outcomes, keep and max_bytes; without any, all episodes would be deleted")
	}
	return c.err
}

// Collected is an episode that GC has deleted.
type Collected struct {
	ID      ID          `json:"id"`
	Start   time.Time   `json:"start"`
	Outcome OutcomeKind `json:"outcome,omitempty"`
	Bytes   int64       `json:"bytes"` // that it took, compressed, without index and vectors
}

// Collection is what GC did; with DryRun, what it would do.
type Collection struct {
	Episodes int64 `json:"episodes"` // deleted
	Bytes    int64 `json:"bytes"`    // that these took, as Collected counts
	// Kept are those that met all conditions, and were changed or deleted by others before
	// they could be deleted.
	Kept int64 `json:"kept,omitempty"`
	// Left and LeftBytes are all episodes of the Store's scope that are left.
	Left      int64 `json:"left"`
	LeftBytes int64 `json:"left_bytes"`
	// Freed is how many bytes shorter a local file is, or will be when nobody reads any more
	// what was there before. Reusable is how many bytes of the database, also of a server's
	// file, are free for what is stored next.
	Freed    int64 `json:"freed_bytes"`
	Reusable int64 `json:"reusable_bytes"`
	// NotFreed says why the search index or the file did not get smaller, such as that the
	// disk is full; what was deleted is deleted.
	NotFreed string `json:"not_freed,omitempty"`
}

const (
	sqlCollectable = `SELECT seq, id, rev, start_us, outcome, length(payload) + ` + runBytes + ` FROM episodes
 WHERE end_us IS NOT NULL AND (start_us, seq) > (?, ?)%s ORDER BY start_us, seq LIMIT ?`
	runBytes    = `(SELECT ifnull(sum(length(r.payload)), 0) FROM runs r WHERE r.place > (seq << 24) AND r.place < ((seq + 1) << 24))`
	sqlOccupied = `SELECT count(*), ifnull(sum(length(payload) + ` + runBytes + `), 0) FROM episodes WHERE true%s`
	sqlFree     = `SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size`

	// collectAtOnce is how many episodes are chosen at once, and deletersAtOnce how many calls
	// delete them. Each is a unit of the write lane, which commits those that come together, and lets
	// others write after 50 ms.
	collectAtOnce  = 256
	deletersAtOnce = 32
)

// GC deletes the episodes of the Store's scope that the options choose, with all that
// belongs to them, then takes their words out of the search index and gives the space back, as Compact
// does. It reads and deletes some hundred at a time, between which others write; an episode that
// is changed meanwhile is kept. It can be interrupted at any moment: what is deleted then are
// the oldest. It works on a full disk too, where only the space may come back later. What was
// deleted leaves the file for certain with CompactSecurely only. Errors: ErrInvalid; those of
// DeleteEpisode. What was done before an error is returned with it.
func (s *Store) GC(ctx context.Context, o *GCOptions) (done Collection, err error) {
	ctx, end := s.trace(ctx, "GC")
	defer func() { end(err) }()
	if err := s.check(ctx, o != nil, "options"); err != nil {
		return done, failed(err, "collect")
	}
	if err := o.validate(); err != nil {
		return done, failed(err, "collect")
	}
	done, err = s.collect(ctx, o)
	if err == nil && done.Episodes > 0 && !o.DryRun {
		err = s.giveBack(ctx, &done)
	}
	return done, failed(err, "collect")
}

func (s *Store) collect(ctx context.Context, o *GCOptions) (done Collection, err error) {
	// One side for all pages: the numbers of rows differ.
	ctx, from, err := s.on(ctx, readsPage(ID{}, nil))
	if err != nil {
		return done, err
	}
	var scope where
	from.scope.and(&scope, "scope")
	r, err := from.engine.Query(ctx, engine.Stmt{SQL: fmt.Sprintf(sqlOccupied, scope.sql), Args: scope.args})
	if err != nil {
		return done, err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	if done.Left, done.LeftBytes = in.Int(0), in.Int(1); in.Err != nil {
		return done, in.Err
	}
	w, err := o.where()
	if err != nil {
		return done, err
	}
	from.scope.and(&w, "scope")
	for start, seq := int64(-1<<63), int64(-1); !o.satisfied(&done); {
		r, err := from.engine.Query(ctx, engine.Stmt{SQL: fmt.Sprintf(sqlCollectable, w.sql), Args: append(append([]any{start, seq}, w.args...), int64(collectAtOnce))})
		if err != nil {
			return done, err
		}
		var chosen []collectable
		left := done
		for _, row := range r[0].Rows {
			e, err := collectableFrom(row)
			if err != nil {
				return done, err
			}
			start, seq = micros(e.Start), e.seq
			if o.satisfied(&left) {
				break
			}
			left.Left, left.LeftBytes = left.Left-1, left.LeftBytes-e.Bytes
			chosen = append(chosen, e)
		}
		if err := s.deleteAll(ctx, o, chosen, &done); err != nil {
			return done, err
		}
		if len(r[0].Rows) < collectAtOnce {
			break
		}
	}
	return done, nil
}

// satisfied reports whether what is left is within the bounds. Without any it never is.
func (o *GCOptions) satisfied(c *Collection) bool {
	if o.Keep == 0 && o.MaxBytes == 0 {
		return false
	}
	return (o.Keep == 0 || c.Left <= o.Keep) && (o.MaxBytes == 0 || c.LeftBytes <= o.MaxBytes)
}

func (o *GCOptions) where() (w where, err error) {
	if !o.Before.IsZero() {
		w.and("start_us < ?", micros(o.Before))
	}
	if len(o.Outcomes) > 0 {
		list, err := json.Marshal(o.Outcomes)
		if err != nil {
			return w, err
		}
		w.and("outcome IN (SELECT value FROM json_each(?))", string(list))
	}
	if len(o.Protect) > 0 {
		list, err := json.Marshal(unique(o.Protect))
		if err != nil {
			return w, err
		}
		w.and("seq NOT IN (SELECT episode FROM tags WHERE tag IN (SELECT value FROM json_each(?)))", string(list))
	}
	return w, nil
}

// collectable is an episode that may be deleted, as it was read.
type collectable struct {
	Collected
	seq, rev int64
}

func collectableFrom(row []any) (e collectable, err error) {
	in := engine.Row{Values: row}
	e.seq, e.rev, e.Start, e.Outcome, e.Bytes = in.Int(0), in.Int(2), time.UnixMicro(in.Int(3)).UTC(), OutcomeKind(in.Text(4)), in.Int(5)
	if err = in.Err; err == nil {
		e.ID, err = idFrom(row[1])
	}
	if err != nil {
		err = fmt.Errorf("%w: episode number %v: %w", ErrCorrupt, row[0], err)
	}
	return e, err
}

// deleteAll deletes episodes, and counts them.
func (s *Store) deleteAll(ctx context.Context, o *GCOptions, chosen []collectable, done *Collection) error {
	errs := make([]error, len(chosen))
	if !o.DryRun {
		work := make(chan int, len(chosen))
		for i := range chosen {
			work <- i
		}
		close(work)
		var deleters sync.WaitGroup
		for range min(deletersAtOnce, len(chosen)) {
			deleters.Go(func() {
				for i := range work {
					errs[i] = s.deleteRevision(ctx, chosen[i].ID, chosen[i].rev)
				}
			})
		}
		deleters.Wait()
	}
	var failure error
	for i, e := range chosen {
		switch {
		case errors.Is(errs[i], ErrNotFound):
			done.Kept++
		case errs[i] != nil:
			failure = errs[i]
		default:
			done.Episodes++
			done.Bytes += e.Bytes
			done.Left--
			done.LeftBytes -= e.Bytes
			if o.Each != nil {
				o.Each(e.Collected)
			}
		}
	}
	return failure
}

// deleteRevision deletes an episode if it is what was read. Errors: ErrNotFound if it is not.
func (s *Store) deleteRevision(ctx context.Context, id ID, rev int64) (err error) {
	defer func() { s.changed(err, oneEpisode, id) }()
	return s.carryOut(ctx, &deleteItem{Kind: ItemEpisode, ID: id, only: rev})
}

// giveBack compacts the index, and a file. What fails is told in done.
func (s *Store) giveBack(ctx context.Context, done *Collection) error {
	if s.queues() {
		return nil // the server does not know of it yet
	}
	err := s.keepIndex(ctx, true)
	if file, ok := s.engine.(*embedded.Engine); ok {
		var shrinkErr error
		done.Freed, shrinkErr = file.Shrink(ctx)
		err = errors.Join(err, shrinkErr)
	}
	if err == nil {
		done.Reusable, err = s.free(ctx)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, engine.ErrClosed) {
		return err
	}
	done.NotFreed = failed(err, "give back space").Error()
	return nil
}

// free is how many bytes of the database are free for what is stored next.
func (s *Store) free(ctx context.Context) (int64, error) {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlFree})
	if err != nil {
		return 0, err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	return in.Int(0), in.Err
}
