package episodic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

const (
	sqlLinkHead = `SELECT id, task_type, domain, language, outcome, start_us, end_us, steps, rev, payload, bytes FROM episodes WHERE id = ?`
	sqlLinkRuns = `SELECT r.first, r.count, r.key, r.payload FROM episodes e CROSS JOIN runs r ON r.place > (e.seq << 24) + ? AND r.place < ((e.seq + 1) << 24)
 WHERE e.id = ? ORDER BY r.place LIMIT ?`
	sqlPushRun  = `INSERT INTO runs(place, count, key, payload) SELECT (seq << 24) + ?, ?, ?, ?` + writtenBy + ` ON CONFLICT DO NOTHING`
	sqlPushTags = sqlInsertTags + ` ON CONFLICT DO NOTHING`

	sqlRelated = `SELECT lower(hex(s.id)) || ' ' || r.type || ' ' || lower(hex(d.id)) FROM json_each(?) j CROSS JOIN episodes s ON s.id = unhex(j.value)
 CROSS JOIN relations r ON r.src = s.seq CROSS JOIN episodes d ON d.seq = r.dst`

	sqlLinkVectors = `SELECT rowid, kind, item, model, dim, vector FROM embeddings WHERE rowid > ? AND kind IN ('episode', 'pattern', 'heuristic') ORDER BY rowid LIMIT ?`
	sqlVectored    = `SELECT e.kind || lower(hex(e.item)) || e.model FROM json_each(?) j CROSS JOIN embeddings e ON e.kind IN ('episode', 'pattern', 'heuristic') AND e.item = unhex(j.value)`
	sqlPushVector  = `INSERT INTO embeddings(kind, item, model, dim, vector) SELECT ?1, ?2, ?3, ?4, ?5
 WHERE EXISTS (SELECT 1 FROM items WHERE kind = ?1 AND id = ?2) AND NOT EXISTS (SELECT 1 FROM embeddings WHERE model = ?3 AND dim <> ?4) ON CONFLICT DO NOTHING`
)

// episodes encodes the first of some episodes, as many as a unit may take. Their runs stay
// as they are, with the keys of appends, so that an append that is repeated after the file
// was linked is recognised.
func (p *pusher) episodes(ctx context.Context, ids []ID) (*pushUnit, error) {
	var u pushUnit
	var rows []*episodeRow
	var scopes []Scope
	for _, id := range ids {
		row, stmts, err := p.episode(ctx, id)
		if err != nil {
			return nil, failed(err, "episode %v", id)
		}
		u.items++
		if row != nil {
			u.stmts, rows, scopes = append(u.stmts, stmts...), append(rows, row), append(scopes, row.scope)
		}
		if engine.Size(u.stmts) >= addBytes {
			break
		}
	}
	if len(rows) > 0 {
		u.stmts = append(append(u.stmts, p.to.wording.storeMany(rows)...), storeScopes(scopes...)...)
	}
	return &u, nil
}

// episode encodes one; nil: it has been deleted meanwhile.
func (p *pusher) episode(ctx context.Context, id ID) (*episodeRow, []engine.Stmt, error) {
	e, err := p.from.load(ctx, p.from.engine, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	columns, runs, err := p.rows(ctx, id)
	if err != nil || columns == nil {
		return nil, nil, err
	}
	in := engine.Row{Values: columns}
	w := &episodeRow{id: id, columns: columns, rev: in.Int(8), scope: e.Scope, wording: p.to.wording, words: p.to.wording.episode(e)}
	if in.Err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, in.Err)
	}
	if columns[9], err = p.transcode(ctx, payload.Episodes, boundHead(columns), columns[9]); err != nil {
		return nil, nil, err
	}
	stmts := []engine.Stmt{w.scope.insert(engine.Stmt{SQL: sqlAddEpisode, Args: columns})}
	for _, row := range runs {
		count, err := intFrom(row[1])
		if err == nil {
			row[3], err = p.transcode(ctx, payload.Episodes, boundRun(id, count), row[3])
		}
		if err != nil {
			return nil, nil, err
		}
		stmts = append(stmts, engine.Stmt{SQL: sqlPushRun, Args: append(row, w.key()...)})
	}
	if tags := unique(e.Context.Tags); len(tags) > 0 {
		list, err := json.Marshal(tags)
		if err != nil {
			return nil, nil, err
		}
		stmts = append(stmts, engine.Stmt{SQL: sqlPushTags, Args: append([]any{string(list)}, w.key()...)})
	}
	return w, stmts, nil
}

// runsAtOnce is how many runs are read at once.
const runsAtOnce = 256

// rows returns the row of an episode, and those of its runs; nil: it has been deleted.
func (p *pusher) rows(ctx context.Context, id ID) (head []any, runs [][]any, err error) {
	last := any(int64(0))
	for n := runsAtOnce; ; {
		var res []engine.Result
		res, n, err = halving(n, func(n int) ([]engine.Result, error) {
			return p.from.engine.Query(ctx, engine.Stmt{SQL: sqlLinkHead, Args: []any{id.bytes()}}, engine.Stmt{SQL: sqlLinkRuns, Args: []any{last, id.bytes(), int64(n)}})
		})
		if err != nil || len(res[0].Rows) == 0 {
			return nil, nil, err
		}
		now, more := res[0].Rows[0], res[1].Rows
		if head != nil && now[8] != head[8] { // it was stored anew meanwhile
			head, runs, last = nil, nil, int64(0)
			continue
		}
		head, runs = now, append(runs, more...)
		if len(more) < n {
			return head, runs, nil
		}
		last = more[len(more)-1][0]
	}
}

func (p *pusher) patterns(ctx context.Context, ids []ID) (*pushUnit, error) {
	return p.items(ctx, ids, "patterns", 5, func(id ID) (w itemWrite, err error) {
		x, err := getOne(ctx, p.from.engine, sqlGetPattern, id, p.from.patternFrom)
		if err == nil {
			w, err = (&putPattern{Pattern: x, Rev: x.Revision}).write(p.to)
		}
		return w, err
	})
}

func (p *pusher) heuristics(ctx context.Context, ids []ID) (*pushUnit, error) {
	return p.items(ctx, ids, "heuristics", 3, func(id ID) (w itemWrite, err error) {
		x, err := getOne(ctx, p.from.engine, sqlGetHeuristic, id, p.from.heuristicFrom)
		if err == nil {
			w, err = (&putHeuristic{Heuristic: x, Rev: x.Revision}).write(p.to)
		}
		return w, err
	})
}

// items encodes patterns or heuristics; at is which of the columns is the payload.
func (p *pusher) items(ctx context.Context, ids []ID, table string, at int, read func(ID) (itemWrite, error)) (*pushUnit, error) {
	u := &pushUnit{items: len(ids)}
	for _, id := range ids {
		w, err := read(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		var res []engine.Result
		if err == nil {
			res, err = p.from.engine.Query(ctx, engine.Stmt{SQL: "SELECT payload FROM " + table + " WHERE id = ?", Args: []any{id.bytes()}})
		}
		if err != nil {
			return nil, failed(err, "one of the %s, %v", table, id)
		}
		if len(res[0].Rows) == 0 {
			continue
		}
		if w.columns[at], err = p.transcode(ctx, payload.Patterns, boundItem(id, w.created), res[0].Rows[0][0]); err != nil {
			return nil, failed(err, "one of the %s, %v", table, id)
		}
		insert, _, _ := strings.Cut(w.upsert, " ON CONFLICT")
		u.stmts = append(u.stmts, w.scope.insert(engine.Stmt{SQL: insert + " ON CONFLICT DO NOTHING", Args: w.columns}), w.words)
		u.stmts = append(u.stmts, storeScopes(w.scope)...)
	}
	return u, nil
}

// relations pushes those from some episodes. One that the server cannot take, since an end
// was deleted there or it would close a cycle, is left out.
func (p *pusher) relations(ctx context.Context, list string, ids []ID) error {
	there, err := p.texts(ctx, p.to, sqlRelated, list)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for r, err := range p.from.Relations(ctx, id, &RelationFilter{Direction: Outgoing}) {
			if err != nil {
				return err
			}
			if there[fmt.Sprintf("%x %s %x", r.From[:], r.Type, r.To[:])] {
				p.done(1)
				continue
			}
			if err := p.to.PutRelation(ctx, r); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) {
				return err
			}
			p.done(1)
		}
	}
	return nil
}

// vectors pushes embeddings. One of a model whose vectors have another dimension on the
// server is left out.
func (p *pusher) vectors(ctx context.Context) error {
	reader := vectorReader{limit: 100}
	for last := any(int64(0)); ; {
		res, _, err := reader.read(ctx, p.from.engine, engine.Stmt{SQL: sqlLinkVectors, Args: []any{last}})
		if err != nil || len(res[0].Rows) == 0 {
			return failed(err, "push embeddings")
		}
		rows := res[0].Rows
		last = rows[len(rows)-1][0]
		items := make([]string, len(rows))
		for i, row := range rows {
			items[i] = fmt.Sprintf("%x", row[2])
		}
		list, err := json.Marshal(items)
		if err != nil {
			return err
		}
		there, err := p.texts(ctx, p.to, sqlVectored, string(list))
		if err != nil {
			return failed(err, "push embeddings")
		}
		var stmts []engine.Stmt
		for i, row := range rows {
			if !there[fmt.Sprint(row[1], items[i], row[3])] {
				stmts = append(stmts, engine.Stmt{SQL: sqlPushVector, Args: row[1:]})
			}
		}
		if len(stmts) > 0 {
			if _, err := p.to.engine.Repeatable(ctx, stmts...); err != nil {
				return failed(err, "push embeddings")
			}
		}
		p.done(len(rows))
	}
}
