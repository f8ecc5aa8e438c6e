package episodic

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

const (
	episodeColumns = `episodes.seq, id, task_type, domain, language, episodes.outcome, start_us, end_us, episodes.steps, payload,
 (SELECT json_group_array(tag) FROM (SELECT tag FROM tags WHERE episode = episodes.seq ORDER BY pos)) AS tags, episodes.rev,
 iif(episodes.scope, (SELECT n || char(10) || text FROM scopes WHERE n = episodes.scope), '')`

	sqlInsertEpisode = `INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, end_us, steps, rev, payload, bytes) VALUES(?,?,?,?,?,?,?,?,?,?,?)`
	sqlAddEpisode    = sqlInsertEpisode + ` ON CONFLICT(id) DO NOTHING`
	// Setting the id, to itself, fires the trigger episode_replaced.
	sqlUpsertEpisode = sqlInsertEpisode + ` ON CONFLICT(id) DO UPDATE SET id = excluded.id, task_type = excluded.task_type, domain = excluded.domain,
 language = excluded.language, outcome = excluded.outcome, start_us = excluded.start_us, end_us = excluded.end_us,
 steps = excluded.steps, rev = excluded.rev, payload = excluded.payload, bytes = excluded.bytes`
	sqlReplaceEpisode = `UPDATE episodes SET id = ?1, task_type = ?2, domain = ?3, language = ?4, outcome = ?5, start_us = ?6, end_us = ?7,
 steps = ?8, rev = ?9, payload = ?10, bytes = ?11 WHERE id = ?1 AND rev = ?12`

	bySeq         = `(SELECT seq FROM episodes WHERE id = ?)`
	sqlInsertRun  = `INSERT INTO runs(place, count, payload) SELECT (seq << 24) + ?, ?, ?` + writtenBy
	sqlInsertTags = `INSERT INTO tags(tag, episode, pos) SELECT j.value, seq, j.key FROM json_each(?) j, episodes WHERE episodes.id = ? AND rev = ?`

	sqlGetHead    = `SELECT ` + episodeColumns + ` FROM episodes WHERE id = ?`
	sqlGetEpisode = `SELECT *, (SELECT scope FROM episodes WHERE id = ?1) FROM whole WHERE id=?1 ORDER BY place`
	// The same with one run, for episodes of earlier versions that do not tell how large they are.
	sqlGetFirst = `SELECT *, (SELECT scope FROM episodes WHERE id = ?1) FROM whole WHERE id = ?1 AND ifnull(first, 1) = 1`
	// As many runs from a step on as fit into so many bytes, and always one.
	sqlGetMoreRuns = `SELECT first, count, payload FROM (
 SELECT first, count, payload, length(payload) AS size, sum(length(payload)) OVER (ORDER BY place) AS upto
 FROM runs WHERE place >= (` + bySeq + ` << 24) + ? AND place < ((` + bySeq + ` + 1) << 24)) WHERE upto <= ? OR upto = size ORDER BY first`
	sqlRevisions = `SELECT id, rev FROM episodes WHERE id IN (SELECT unhex(value) FROM json_each(?))`

	// Added where the episode runs, and where the very same append was not stored
	// before: its answer may have been lost. It returns where it begins, or NULL.
	sqlAppend        = `INSERT INTO appends VALUES(?,?,?,?,?,?,?)RETURNING(SELECT n FROM last_run WHERE id=?1 AND key=?4)n`
	sqlAppendInScope = `INSERT INTO appends SELECT ?1,?2,?3,?4,?5,?6,?7 FROM episodes WHERE id = ?1 RETURNING(SELECT n FROM last_run WHERE id=?1 AND key=?4)n`
	// Around an append that is queued: see operation.
	sqlKeepRevision   = `UPDATE revised SET rev = (SELECT rev FROM episodes WHERE id = ?)`
	sqlAppendRevised  = `UPDATE episodes SET rev = (SELECT (rev | ?) - (rev & ?) FROM revised) WHERE id = ? AND EXISTS (SELECT 1 FROM appends WHERE id = ? AND key = ?)`
	sqlWhyNotAppended = `SELECT (SELECT first FROM appends WHERE id = ? AND key = ?), end_us, steps, bytes FROM episodes WHERE id = ?`

	// writtenBy guards the later statements of a batch by the effect of the first: they
	// belong to the write that gave the episode its revision.
	writtenBy = ` FROM episodes WHERE id = ? AND rev = ?`

	// What was read is what is completed, as its revision tells.
	sqlComplete     = `UPDATE episodes SET outcome = ?, end_us = ?, rev = ?, payload = ? WHERE id = ? AND end_us IS NULL AND rev = ?`
	sqlCompleteRuns = `DELETE FROM runs WHERE place IN (SELECT place FROM episodes e JOIN runs ON place > (seq << 24) AND place < ((seq + 1) << 24) WHERE e.id = ? AND rev = ?)`
)

// episodePayload is what of an Episode is not in columns of its own.
type episodePayload struct {
	Description     string            `json:"description"`
	Framework       string            `json:"framework,omitempty"`
	Complexity      Complexity        `json:"complexity,omitempty"`
	Outcome         Outcome           `json:"outcome,omitzero"`
	Reward          *Reward           `json:"reward,omitempty"`
	Reflection      Reflection        `json:"reflection,omitzero"`
	AppliedPatterns []AppliedPattern  `json:"applied_patterns,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
}

// run is steps stored in one row, numberedScope from first.
type run struct {
	first, count int
	payload      []byte
}

// episodeRow is an Episode in the form of its rows.
type episodeRow struct {
	id      ID
	columns []any // of sqlInsertEpisode
	payload []byte
	end     any
	rev     int64 // names this write
	steps   int
	runs    []run
	tags    string // JSON array, in order
	wording wording
	words   words // empty: it is encoded for another purpose than storing it
	scope   Scope
}

// row encodes an episode with its words.
func (s *Store) row(e *Episode, rev int64) (*episodeRow, error) {
	w, err := newEpisodeRow(s.payloads, e, rev)
	if err != nil {
		return nil, err
	}
	w.wording, w.words = s.wording, s.wording.episode(e)
	return w, nil
}

// concludedRow encodes an episode that ends, with the words of what came of it.
func (s *Store) concludedRow(e *Episode, rev int64) (*episodeRow, error) {
	w, err := newEpisodeRow(s.payloads, e, rev)
	if err != nil {
		return nil, err
	}
	w.wording, w.words = s.wording, words{head: s.wording.concluded(e)}
	return w, nil
}

// newEpisodeRow encodes an episode that has been prepared. It changes nothing in it.
func newEpisodeRow(c *payload.Codec, e *Episode, rev int64) (*episodeRow, error) {
	w := &episodeRow{id: e.ID, rev: rev, steps: len(e.Steps), scope: e.Scope}
	if !e.End.IsZero() {
		w.end = micros(e.End)
	}
	w.columns = append(make([]any, 0, 11), e.ID.bytes(), string(e.TaskType), e.Context.Domain, e.Context.Language, string(e.Outcome.Kind), micros(e.Start), w.end)
	head, err := encodePayload(c, payload.Episodes, boundHead(w.columns), "episode", &episodePayload{
		Description: e.Description, Framework: e.Context.Framework, Complexity: e.Context.Complexity, Outcome: e.Outcome,
		Reward: e.Reward, Reflection: e.Reflection, AppliedPatterns: e.AppliedPatterns, Metadata: e.Metadata,
	})
	if err != nil {
		return nil, err
	}
	w.payload = head
	var size int
	if w.runs, size, err = encodeRuns(c, e.ID, e.Steps, 1); err != nil {
		return nil, err
	}
	w.columns = append(w.columns, int64(w.steps), w.rev, head, int64(size))
	tags := unique(e.Context.Tags)
	list, err := json.Marshal(tags)
	if err != nil {
		return nil, err
	}
	if len(tags) > 0 {
		w.tags = string(list)
	}
	return w, nil
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// encodeRuns cuts steps of an episode into runs that a row can hold, the first step being
// number first. size is what they take before compression, in bytes.
func encodeRuns(c *payload.Codec, id ID, steps []Step, first int) (runs []run, size int, err error) {
	runs, size, err = cutRuns(steps, first)
	for i := range runs {
		runs[i].payload = c.EncodeJSON(payload.Episodes, boundRun(id, runs[i].count), runs[i].payload)
	}
	return runs, size, err
}

// cutRuns is encodeRuns without compressing.
func cutRuns(steps []Step, first int) (runs []run, size int, err error) {
	var step []byte
	for i, s := range steps {
		s.Number = 0 // its place says it
		s.Time = truncateMicros(s.Time)
		if step, err = payload.AppendJSON(step[:0], (*storedStep)(&s)); err != nil {
			return nil, 0, encodeFailed(fmt.Sprintf("steps[%d]", i), err)
		}
		if size += len(step); size > maxEpisode {
			return nil, 0, invalid(fmt.Sprintf("steps[%d]", i), "brings the steps of the episode over %d bytes, as many as one may have; begin another episode", maxEpisode)
		}
		last := len(runs) - 1
		if last < 0 || len(runs[last].payload)+len(step) > runTarget {
			runs = append(runs, run{first: first + i, payload: []byte{'['}})
			last++
		} else {
			runs[last].payload = append(runs[last].payload, ',')
		}
		runs[last].payload = append(runs[last].payload, step...)
		runs[last].count++
	}
	for i := range runs {
		runs[i].payload = append(runs[i].payload, ']')
	}
	return runs, size, nil
}

// insert stores an episode that must not be there yet.
func (w *episodeRow) insert() []engine.Stmt {
	return w.children(w.scope.insert(engine.Stmt{SQL: sqlInsertEpisode, Args: w.columns}))
}

// add stores an episode unless it is there, without its words; see wording.storeMany.
func (w *episodeRow) add() []engine.Stmt {
	return w.family(w.scope.insert(engine.Stmt{SQL: sqlAddEpisode, Args: w.columns}))
}

// upsert stores an episode, over one that is there.
func (w *episodeRow) upsert() []engine.Stmt {
	return append(w.children(w.scope.insert(engine.Stmt{SQL: sqlUpsertEpisode, Args: w.columns})), storeScopes(w.scope)...)
}

// replace stores an episode over the one that has the revision.
func (w *episodeRow) replace(rev int64) []engine.Stmt {
	return w.children(w.scope.guardOne(engine.Stmt{SQL: sqlReplaceEpisode, Args: append(w.columns[:len(w.columns):len(w.columns)], rev)}))
}

// key are the arguments of writtenBy.
func (w *episodeRow) key() []any { return []any{w.id.bytes(), w.rev} }

// children are the statements that store a row and what belongs to it.
func (w *episodeRow) children(head engine.Stmt) []engine.Stmt {
	return append(w.family(head), w.wording.store(w.words, w.key())...)
}

// family is children without the words.
func (w *episodeRow) family(head engine.Stmt) []engine.Stmt {
	stmts := append([]engine.Stmt{head}, w.insertRuns()...)
	if w.tags != "" {
		stmts = append(stmts, engine.Stmt{SQL: sqlInsertTags, Args: append([]any{w.tags}, w.key()...)})
	}
	return stmts
}

func (w *episodeRow) insertRuns() []engine.Stmt {
	stmts := make([]engine.Stmt, len(w.runs))
	for i, r := range w.runs {
		stmts[i] = engine.Stmt{SQL: sqlInsertRun, Args: append([]any{int64(r.first), int64(r.count), r.payload}, w.key()...)}
	}
	return stmts
}

// complete stores w over the running episode of which so much was recorded. Its
// runs stay as they are if w has none, or no fewer.
func (w *episodeRow) complete(r recorded) []engine.Stmt {
	stmts := []engine.Stmt{
		{SQL: sqlComplete, Args: []any{w.columns[4], w.end, w.rev, w.payload, w.id.bytes(), r.rev}},
		w.wording.conclude(w.words.head, w.key()),
	}
	if len(w.runs) == 0 || r.rows <= len(w.runs) {
		return stmts
	}
	return append(append(stmts, engine.Stmt{SQL: sqlCompleteRuns, Args: w.key()}), w.insertRuns()...)
}

// appendRow is a call of AppendSteps in the form of its rows.
type appendRow struct {
	id      ID
	key     []byte // recognises this append if it has to be sent again
	first   int    // 0: wherever the episode ends
	count   int
	payload []byte
	words   any
	size    int // of the payload before compression
}

func newAppend(c *payload.Codec, wording wording, id ID, key []byte, steps []Step, now time.Time) (*appendRow, error) {
	first := steps[0].Number
	bad := &check{}
	bad.notNegative("steps[0].number", int64(first))
	steps = timed(steps, now)
	for i := range steps {
		if first == 0 && steps[i].Number != 0 {
			bad.fail(fmt.Sprintf("steps[%d].number", i), "is %d, but the first step has no number; number all steps or none", steps[i].Number)
		}
	}
	bad.steps(steps, first)
	if bad.err != nil {
		return nil, bad.err
	}
	runs, size, err := encodeRuns(c, id, steps, first)
	if err != nil {
		return nil, err
	}
	if len(runs) > 1 {
		return nil, invalid("steps", "take over %d bytes when stored; append them in several calls", runTarget)
	}
	return &appendRow{
		id: id, key: key, first: first, count: len(steps), payload: runs[0].payload, words: wording.appended(steps), size: size,
	}, nil
}

// timed are steps of which those without a time have happened now.
func timed(steps []Step, now time.Time) []Step {
	steps = slices.Clone(steps)
	for i := range steps {
		if steps[i].Time.IsZero() {
			steps[i].Time = now
		}
	}
	return steps
}

// insert stores the steps if the episode lies within a scope.
func (a *appendRow) insert(scope Scope) engine.Stmt {
	st := engine.Stmt{SQL: sqlAppend, Args: []any{a.id.bytes(), int64(a.first), int64(a.count), a.key, a.payload, a.words, int64(a.size)}}
	if scope != (Scope{}) {
		st.SQL = sqlAppendInScope
	}
	return scope.guardOne(st)
}

// load reads an episode with its steps, in one round trip unless the steps are
// larger than one answer may be.
func (s *Store) load(ctx context.Context, q querier, id ID) (*Episode, error) {
	e, _, err := s.loadSome(ctx, q, id, math.MaxInt)
	if err != nil {
		return nil, err
	}
	for len(e.Steps) < e.StepCount {
		r, err := q.Query(ctx, engine.Stmt{SQL: sqlGetMoreRuns, Args: []any{id.bytes(), int64(len(e.Steps) + 1), id.bytes(), int64(readAtOnce)}})
		if err != nil {
			return nil, err
		}
		if err := s.addRuns(ctx, e, r[0].Rows, math.MaxInt); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// recorded is what was stored of an episode when it was read.
type recorded struct {
	rev   int64
	rows  int  // that hold the steps that were read
	whole bool // all steps were read
}

// loadSome reads an episode with as many of its steps as one answer may carry,
// but none after so many bytes of them, not compressed.
func (s *Store) loadSome(ctx context.Context, q querier, id ID, most int) (*Episode, recorded, error) {
	r, err := q.Query(ctx, engine.Stmt{SQL: sqlGetEpisode, Args: []any{id.bytes()}})
	if engine.KindOf(err) == engine.KindTooLarge {
		r, err = q.Query(ctx, engine.Stmt{SQL: sqlGetFirst, Args: []any{id.bytes()}})
	}
	if err != nil {
		return nil, recorded{}, err
	}
	if len(r[0].Rows) == 0 {
		return nil, recorded{}, ErrNotFound
	}
	return s.recordedFrom(ctx, r[0].Rows, most)
}

// recordedFrom reads the rows of sqlGetEpisode, but none after so many bytes of
// steps, not compressed.
func (s *Store) recordedFrom(ctx context.Context, rows [][]any, most int) (*Episode, recorded, error) {
	const (
		scope       = 12
		firstOfRun  = 13 // columns before it are the episode's
		scopeNumber = 17 // behind those of whole, which has the text only
	)
	head := slices.Clone(rows[0][:firstOfRun])
	if n := rows[0][scopeNumber]; n != int64(0) {
		head[scope] = fmt.Sprintf("%v\n%v", n, head[scope])
	}
	e, _, err := s.episodeFrom(ctx, head)
	if err != nil {
		return nil, recorded{}, err
	}
	var runs [][]any
	for _, row := range rows {
		if row[firstOfRun] != nil {
			runs = append(runs, row[firstOfRun:])
		}
	}
	if e.StepCount > 0 || len(runs) > 0 {
		if err := s.addRuns(ctx, e, runs, most); err != nil {
			return nil, recorded{}, err
		}
	}
	if len(e.Steps) > e.StepCount {
		return nil, recorded{}, s.damaged(ctx, "episode", e.ID, fmt.Errorf("%w: it has %d steps, and %d are stored", ErrCorrupt, e.StepCount, len(e.Steps)))
	}
	return e, recorded{rev: e.Revision, rows: len(runs), whole: len(e.Steps) == e.StepCount}, nil
}

// addRuns adds the steps of some rows of runs, which must be the next, until
// they have so many bytes.
func (s *Store) addRuns(ctx context.Context, e *Episode, rows [][]any, most int) error {
	if len(rows) == 0 {
		return s.damaged(ctx, "episode", e.ID, fmt.Errorf("%w: %d of its %d steps are missing", ErrCorrupt, e.StepCount-len(e.Steps), e.StepCount))
	}
	for _, row := range rows {
		if most <= 0 {
			break
		}
		plain, err := s.addRun(ctx, e, row)
		if err != nil {
			return err
		}
		most -= plain
	}
	return nil
}

func (s *Store) addRun(ctx context.Context, e *Episode, row []any) (plain int, err error) {
	first, err1 := intFrom(row[0])
	count, err2 := intFrom(row[1])
	if err := errors.Join(err1, err2); err != nil {
		return 0, s.damaged(ctx, "episode", e.ID, fmt.Errorf("runs: %w", err))
	}
	stored := storedSteps{hint: count}
	if plain, err = s.payloads.DecodeSized(ctx, row[2], boundRun(e.ID, count), &stored); err != nil {
		return 0, s.damaged(ctx, "episode", e.ID, fmt.Errorf("steps from %d: %w", first, err))
	}
	steps := stored.steps
	if first != len(e.Steps)+1 || count != len(steps) {
		return 0, s.damaged(ctx, "episode", e.ID, fmt.Errorf("%w: %d steps stored from number %d, want %d from %d", ErrCorrupt, len(steps), first, count, len(e.Steps)+1))
	}
	e.Steps = slices.Grow(e.Steps, len(steps))
	for i := range steps {
		steps[i].Number = first + i
		e.Steps = append(e.Steps, Step(steps[i]))
	}
	return plain, nil
}

// episodeFrom reads a row of episodeColumns. size is that of its payload, decoded.
func (s *Store) episodeFrom(ctx context.Context, row []any) (e *Episode, size int, err error) {
	id, err := idFrom(row[1])
	if err != nil {
		return nil, 0, s.damaged(ctx, "episode", ID{}, fmt.Errorf("%w: row %v: %w", ErrCorrupt, row[0], err))
	}
	damaged := func(err error) (*Episode, int, error) { return nil, 0, s.damaged(ctx, "episode", id, err) }
	var p episodePayload
	if size, err = s.payloads.DecodeSized(ctx, row[9], boundHead(row[1:8]), &p); err != nil {
		return damaged(err)
	}
	e = &Episode{
		ID: id, Description: p.Description, Outcome: p.Outcome, Reward: p.Reward, Reflection: p.Reflection,
		AppliedPatterns: p.AppliedPatterns, Metadata: p.Metadata,
		Context: Context{Framework: p.Framework, Complexity: p.Complexity},
	}
	r := engine.Row{Values: row}
	e.TaskType, e.Context.Domain, e.Context.Language = TaskType(r.Text(2)), r.Text(3), r.Text(4)
	e.Start = time.UnixMicro(r.Int(6)).UTC()
	if row[7] != nil {
		e.End = time.UnixMicro(r.Int(7)).UTC()
	}
	e.StepCount, e.Revision, e.Scope = int(r.Int(8)), r.Int(11), scopeIn(&r, 12, numberedScope)
	if tags := r.Text(10); tags != "[]" && r.Err == nil {
		r.Err = json.Unmarshal([]byte(tags), &e.Context.Tags)
	}
	if r.Err != nil {
		return damaged(fmt.Errorf("%w: %w", ErrCorrupt, r.Err))
	}
	return e, size, nil
}

// revisions returns those of the rows' episodes that are stored.
func (s *Store) revisions(ctx context.Context, rows ...*episodeRow) (map[ID]int64, error) {
	ids := make([]string, len(rows))
	for i, w := range rows {
		ids[i] = hex.EncodeToString(w.id.bytes())
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlRevisions, Args: []any{string(list)}})
	if err != nil {
		return nil, err
	}
	stored := make(map[ID]int64, len(r[0].Rows))
	for _, row := range r[0].Rows {
		id, err := idFrom(row[0])
		if err != nil {
			return nil, err
		}
		in := engine.Row{Values: row}
		if stored[id] = in.Int(1); in.Err != nil {
			return nil, fmt.Errorf("episode %v: %w: %w", id, ErrCorrupt, in.Err)
		}
	}
	return stored, nil
}
