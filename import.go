package episodic

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Record is an episode as the record of another program tells it, for Store.Import.
type Record struct {
	// Episode has the ID by which the record is known: the same record must always get the
	// same one. Required.
	Episode *Episode
	// Hash says what the record holds: one that has the same has not changed. Required, at
	// most 32 bytes.
	Hash []byte
	// Replace stores the record also over an episode that differs from it by more than what
	// has been added to either.
	Replace bool
	// Ongoing says that the record is of a run that is followed while it goes on. Its steps then
	// take the place of those that are stored where they differ, as where something was taken
	// back; what else was added here stays. While the record has no End the episode is running,
	// also one that had ended, unless it was judged.
	Ongoing bool
	// Undelete stores the record also if its episode was deleted after an earlier import.
	Undelete bool
}

// ImportOutcome is what has become of a Record.
type ImportOutcome uint8

// The outcomes of an import.
const (
	ImportFailed     ImportOutcome = iota // ImportResult.Err says why
	ImportAdded                           // it was not stored before
	ImportUnchanged                       // it is stored as the record has it
	ImportUpdated                         // the record has grown, or it was to be replaced
	ImportDiffers                         // the stored one differs, and stays as it is; see Record.Replace
	ImportDeleted                         // it was deleted after an earlier import, and stays so; see Record.Undelete
	ImportSuperseded                      // a later record of the same call has its ID
)

// ImportResult is what has become of a Record.
type ImportResult struct {
	Outcome ImportOutcome
	Steps   int   // that were added to the memory
	Err     error // of this record: ErrInvalid, ErrConflict; nil unless Outcome is ImportFailed
}

const (
	sqlImports = `SELECT j.key, e.id IS NOT NULL, m.hash FROM json_each(?) j
LEFT JOIN episodes e ON e.id = unhex(j.value) LEFT JOIN imports m ON m.item = unhex(j.value)`
	sqlNoteImports = `INSERT INTO imports SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each(?) WHERE true
ON CONFLICT(item) DO UPDATE SET hash = excluded.hash`
)

// Import stores episodes as records of other programs tell them, and returns what has become
// of each. A record that has not changed since it was imported costs next to nothing. One
// that has grown updates its episode, and leaves what was added to that here: tags,
// reflections, applied patterns, a judgement that the record does not have. An episode that
// was deleted stays deleted.
//
// A record that is refused is told in its result, and does not keep the others from being
// stored. The error is of the memory as a whole, and then results that are ImportFailed
// without an Err were not stored; importing again is safe. When ctx ends nothing further is
// begun, and what is under way has five seconds to end, so that the results are true. For a
// Store that queues, what was imported is known on this machine only.
func (s *Store) Import(ctx context.Context, records []Record) (_ []ImportResult, err error) {
	ctx, traced := s.trace(ctx, "Import")
	defer func() { traced(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return nil, failed(err, "import")
	}
	results, now := make([]ImportResult, len(records)), time.Now()
	last := make(map[ID]int, len(records))
	for i := range records {
		if results[i].Err = s.prepareImport(ctx, &records[i], now); results[i].Err != nil {
			continue
		}
		if before, twice := last[records[i].Episode.ID]; twice {
			results[before].Outcome = ImportSuperseded
		}
		last[records[i].Episode.ID] = i
	}
	storing, end := outliving(ctx, lastImport)
	defer end()
	im := &imports{s: s, records: records, results: results, noted: make([]bool, len(records)), storing: storing}
	for i := range records {
		if results[i] == (ImportResult{}) {
			im.todo = append(im.todo, i)
		}
	}
	return results, failed(im.run(ctx), "import")
}

// lastImport is how long an import whose context has ended waits for what is under way.
const lastImport = 5 * time.Second

// outliving returns a context that ends so long after ctx.
func outliving(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, end) })
	return longer, func() { stop(); end() }
}

// prepareImport checks a record.
func (s *Store) prepareImport(ctx context.Context, r *Record, now time.Time) error {
	switch {
	case r.Episode == nil:
		return invalid("episode", "is missing")
	case r.Episode.ID.IsZero():
		return invalid("id", "is zero; a record needs one that is always the same")
	case len(r.Hash) == 0 || len(r.Hash) > 32:
		return invalid("hash", "has %d bytes; it must have 1 to 32", len(r.Hash))
	}
	return s.prepare(ctx, r.Episode, now)
}

// imports is a call of Import.
type imports struct {
	s       *Store
	records []Record
	results []ImportResult
	todo    []int  // places of records
	noted   []bool // of each record: its hash is stored already
	storing context.Context
}

// here is the Store that knows what was imported.
func (im *imports) here() *Store {
	if im.s.queues() {
		return im.s.replica.inner
	}
	return im.s
}

func (im *imports) run(ctx context.Context) error {
	if len(im.todo) == 0 {
		return nil
	}
	stored, err := im.look(ctx)
	if err != nil {
		return err
	}
	var add []*Episode
	var added, known []int
	for n, i := range im.todo {
		switch r, was := &im.records[i], stored[n]; {
		case was.there && string(was.hash) == string(r.Hash):
			im.results[i].Outcome, im.noted[i] = ImportUnchanged, true
		case was.there:
			known = append(known, i)
		case was.hash != nil && !r.Undelete:
			im.results[i].Outcome = ImportDeleted
		default:
			add, added = append(add, r.Episode), append(added, i)
		}
	}
	if err := im.add(ctx, add, added); err != nil {
		return err
	}
	for _, i := range known {
		if err := im.again(ctx, i); err != nil {
			return errors.Join(err, im.note())
		}
	}
	return im.note()
}

// wasImported is what is known of a record.
type wasImported struct {
	there bool
	hash  []byte // nil: it was not imported
}

// look finds what is known of the records.
func (im *imports) look(ctx context.Context) ([]wasImported, error) {
	ids := make([]string, len(im.todo))
	for n, i := range im.todo {
		ids[n] = hex.EncodeToString(im.records[i].Episode.ID.bytes())
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	r, err := im.here().engine.Query(ctx, engine.Stmt{SQL: sqlImports, Args: []any{string(list)}})
	if err != nil {
		return nil, err
	}
	found := make([]wasImported, len(ids))
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		at := in.Int(0)
		w := wasImported{there: in.Int(1) == 1}
		if row[2] != nil {
			w.hash = in.Blob(2)
		}
		if in.Err != nil {
			return nil, in.Err
		}
		found[at] = w
	}
	return found, nil
}

// add stores new episodes. Those that somebody else stores meanwhile are left to be looked at.
func (im *imports) add(ctx context.Context, episodes []*Episode, places []int) error {
	for _, e := range episodes {
		e.Revision = 0
	}
	_, err := im.s.addEpisodes(ctx, im.storing, episodes)
	if errors.Is(err, ErrInvalid) { // one that is too large; the others are stored one by one
		if err = im.addEach(ctx, episodes, places); err == nil {
			return nil
		}
	}
	for n, e := range episodes {
		i := places[n]
		switch {
		case e.Revision != 0:
			im.results[i] = ImportResult{Outcome: ImportAdded, Steps: len(e.Steps)}
		case err == nil:
			if err := im.again(ctx, i); err != nil {
				return err
			}
		}
	}
	if err != nil { // what was stored is known by its hash
		err = errors.Join(err, im.note())
	}
	return err
}

// addEach stores new episodes that are not stored yet, each by itself.
func (im *imports) addEach(ctx context.Context, episodes []*Episode, places []int) error {
	for n, e := range episodes {
		i := places[n]
		if e.Revision == 0 {
			_, err := im.s.addEpisodes(ctx, im.storing, episodes[n:n+1])
			if errors.Is(err, ErrInvalid) {
				im.results[i] = ImportResult{Err: err}
				continue
			}
			if err != nil {
				return err
			}
		}
		if e.Revision == 0 {
			if err := im.again(ctx, i); err != nil {
				return err
			}
			continue
		}
		im.results[i] = ImportResult{Outcome: ImportAdded, Steps: len(e.Steps)}
	}
	return nil
}

// again imports a record over the episode that is stored.
func (im *imports) again(ctx context.Context, i int) error {
	r, res := &im.records[i], &im.results[i]
	for range 10 {
		old, err := im.s.episode(WithFresh(ctx), r.Episode.ID)
		if errors.Is(err, ErrNotFound) { // deleted meanwhile, or of another scope
			*res = ImportResult{Err: fmt.Errorf("episode %v: %w", r.Episode.ID, ErrConflict)}
			return nil
		}
		if err != nil {
			return err
		}
		e, how := imported(old, r.Episode, r.Ongoing)
		if how == ImportDiffers {
			e, how = im.s.importedClean(old, r.Episode)
		}
		switch {
		case how == ImportUnchanged, how == ImportDiffers && !r.Replace:
			res.Outcome = how
			return nil
		case how == ImportDiffers:
			e = r.Episode
		}
		e.Revision = old.Revision
		o := &putEpisode{Episode: e, Rev: newRevision(), Base: old.Revision}
		err = im.s.carryOut(im.storing, o)
		im.s.changed(err, oneEpisode, e.ID)
		switch {
		case errors.Is(err, ErrConflict):
			continue // it was changed meanwhile
		case errors.Is(err, ErrInvalid):
			*res = ImportResult{Err: err}
			return nil
		case err != nil:
			return err
		}
		e.Revision = o.Rev
		*res = ImportResult{Outcome: ImportUpdated, Steps: max(0, len(e.Steps)-len(old.Steps))}
		return nil
	}
	*res = ImportResult{Err: fmt.Errorf("episode %v is changed all the time: %w", r.Episode.ID, ErrConflict)}
	return nil
}

// note notes the hashes of what is stored as the records have it, if they are not.
func (im *imports) note() error {
	var pairs [][2]string
	for i, r := range im.results {
		if !im.noted[i] && (r.Outcome == ImportAdded || r.Outcome == ImportUpdated || r.Outcome == ImportUnchanged) {
			rec := &im.records[i]
			pairs = append(pairs, [2]string{hex.EncodeToString(rec.Episode.ID.bytes()), hex.EncodeToString(rec.Hash)})
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	list, err := json.Marshal(pairs)
	if err != nil {
		return err
	}
	_, err = im.here().engine.Repeatable(im.storing, engine.Stmt{SQL: sqlNoteImports, Args: []any{string(list)}})
	return err
}
