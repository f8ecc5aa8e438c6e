package episodic

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/replica"
)

const (
	// sqlIndexRun indexes a run of steps that is stored beside others.
	sqlIndexRun = `INSERT INTO index_units(place, data) SELECT (seq << 24) + ?, ?` + writtenBy
	// sqlKnownHeads reads what a head in a replica was indexed by, apart from its payload.
	sqlKnownHeads = `SELECT id, end_us IS NULL, (SELECT json_group_array(tag) FROM (SELECT tag FROM tags WHERE episode = seq ORDER BY pos))
 FROM episodes WHERE id IN (SELECT unhex(value) FROM json_each(?))`
	sqlWaitItem = `INSERT INTO index_waiting SELECT %s FROM %s WHERE id = ? ON CONFLICT DO NOTHING`
)

// knownHead is the head of an episode of which a page brings only some steps.
type knownHead struct {
	running bool
	tags    string
}

// words returns the statements that index a page for a replica, made on all processors.
// What cannot be read is left waiting, as in any file.
func (s *Store) words(ctx context.Context, p *replica.Page) ([]engine.Stmt, error) {
	known, err := s.knownHeads(ctx, p.Heads)
	if err != nil {
		return nil, err
	}
	parts, errs := make([][]engine.Stmt, len(p.Heads)), make([]error, len(p.Heads))
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(p.Heads)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(p.Heads); i = int(next.Add(1)) - 1 {
				h := &p.Heads[i]
				parts[i], errs[i] = s.headWords(ctx, h, p.Runs[h.ID], known[ID(h.ID)])
			}
		})
	}
	all.Wait()
	var stmts []engine.Stmt
	for i := range parts {
		if errs[i] != nil {
			return nil, errs[i]
		}
		stmts = append(stmts, parts[i]...)
	}
	for i := range p.Patterns {
		it := &p.Patterns[i]
		v := it.Values
		item, _, err := s.patternFrom(ctx, []any{int64(0), v[0], v[4], v[5], v[7], ""})
		st, err := waitUnlessRead(err, "-2 * seq", "patterns", it.ID)
		if err != nil {
			return nil, err
		}
		if item != nil {
			st = s.wording.patternStmt(item, it.Rev)
		}
		stmts = append(stmts, st)
	}
	for i := range p.Heuristics {
		it := &p.Heuristics[i]
		v := it.Values
		item, _, err := s.heuristicFrom(ctx, []any{int64(0), v[0], v[2], v[3], v[5], ""})
		st, err := waitUnlessRead(err, "-2 * seq - 1", "heuristics", it.ID)
		if err != nil {
			return nil, err
		}
		if item != nil {
			st = s.wording.heuristicStmt(item, it.Rev)
		}
		stmts = append(stmts, st)
	}
	return stmts, nil
}

// waitUnlessRead returns the statement that leaves an item waiting to be indexed, and the
// error with which it was read unless that is a reason to do so.
func waitUnlessRead(err error, group, table string, id [16]byte) (engine.Stmt, error) {
	if errors.Is(err, ErrCorrupt) || payload.IsDictionaryGone(err) {
		err = nil
	}
	return engine.Stmt{SQL: fmt.Sprintf(sqlWaitItem, group, table), Args: []any{id[:]}}, err
}

// knownHeads reads the heads of which some steps stay.
func (s *Store) knownHeads(ctx context.Context, heads []replica.Head) (map[ID]knownHead, error) {
	var ids []string
	for i := range heads {
		if heads[i].Kept > 0 {
			ids = append(ids, hex.EncodeToString(heads[i].ID[:]))
		}
	}
	if ids == nil {
		return nil, nil
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlKnownHeads, Args: []any{string(list)}})
	if err != nil {
		return nil, err
	}
	known := make(map[ID]knownHead, len(r[0].Rows))
	for _, row := range r[0].Rows {
		id, err := idFrom(row[0])
		if err != nil {
			return nil, err
		}
		in := engine.Row{Values: row}
		if known[id] = (knownHead{in.Int(1) != 0, in.Text(2)}); in.Err != nil {
			return nil, in.Err
		}
	}
	return known, nil
}

// headWords are the statements that index an episode, or what is new of it.
func (s *Store) headWords(ctx context.Context, h *replica.Head, runs []replica.Run, known knownHead) ([]engine.Stmt, error) {
	wait, stmts, err := engine.Stmt{SQL: sqlWait, Args: []any{h.ID[:]}}, []engine.Stmt(nil), error(nil)
	switch {
	case h.Kept == 0:
		stmts, err = s.wholeWords(ctx, h, runs)
	case known.running && known.tags == h.Tags:
		stmts, err = s.grownWords(ctx, h, runs)
	default:
		return []engine.Stmt{wait}, nil
	}
	if errors.Is(err, ErrCorrupt) || payload.IsDictionaryGone(err) {
		return []engine.Stmt{wait}, nil
	}
	return stmts, err
}

// pulledHead reads the head of a page.
func (s *Store) pulledHead(ctx context.Context, h *replica.Head) (*Episode, error) {
	v := h.Values
	e, _, err := s.episodeFrom(ctx, []any{int64(0), v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[9], h.Tags, v[8], ""})
	return e, err
}

// wholeWords indexes an episode of which nothing is indexed.
func (s *Store) wholeWords(ctx context.Context, h *replica.Head, runs []replica.Run) ([]engine.Stmt, error) {
	e, err := s.pulledHead(ctx, h)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		if _, err := s.addRun(ctx, e, []any{r.First, r.Count, r.Payload}); err != nil {
			return nil, err
		}
	}
	return s.wording.store(s.wording.episode(e), []any{h.ID[:], h.Rev}), nil
}

// grownWords indexes what an episode that was running here got since: steps, or its end.
func (s *Store) grownWords(ctx context.Context, h *replica.Head, runs []replica.Run) (stmts []engine.Stmt, err error) {
	key := []any{h.ID[:], h.Rev}
	for _, r := range runs {
		stored := storedSteps{hint: int(r.Count)}
		if _, err := s.payloads.DecodeSized(ctx, r.Payload, boundRun(h.ID, int(r.Count)), &stored); err != nil {
			return nil, err
		}
		steps := make([]Step, len(stored.steps))
		for i := range stored.steps {
			steps[i] = Step(stored.steps[i])
		}
		stmts = append(stmts, engine.Stmt{SQL: sqlIndexRun, Args: append([]any{r.First, s.wording.appended(steps)}, key...)})
	}
	if h.Values[6] != nil {
		e, err := s.pulledHead(ctx, h)
		if err != nil {
			return nil, err
		}
		stmts = append(stmts, s.wording.conclude(s.wording.concluded(e), key))
	}
	return stmts, nil
}
