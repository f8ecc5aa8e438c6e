package episodic

import (
	"context"

	"github.com/episodic-memory/episodic/internal/engine"
)

// changeHead stores the head of an episode over the one that has a revision, and adds steps,
// whether or not it has ended; the steps that it has are not touched. It is never queued.
type changeHead struct {
	Head *Episode
	Over int64
	Rev  int64
	More []Step
	Key  []byte // of the steps; nil: none
}

const (
	sqlChangeHead = `UPDATE episodes SET task_type = ?, domain = ?, language = ?, outcome = ?, start_us = ?, end_us = ?, rev = ?, payload = ? WHERE id = ? AND rev = ?`
	sqlClearTags  = `DELETE FROM tags WHERE episode = (SELECT seq` + writtenBy + `)`
	// The run comes behind the steps counted so far, and then they are counted.
	sqlMoreRun  = `INSERT INTO runs(place, count, key, payload) SELECT (seq << 24) + steps + 1, ?, ?, ?` + writtenBy
	sqlMoreDone = `UPDATE episodes SET steps = steps + ?, bytes = bytes + ? WHERE id = ? AND rev = ?`
	sqlMoreFits = sqlRequired + `EXISTS (SELECT 1` + writtenBy + ` AND bytes <= ?)`
)

func (o *changeHead) encode(_ context.Context, s *Store) (*encoded, error) {
	e := *o.Head
	e.Steps, e.StepCount = nil, 0
	w, err := newEpisodeRow(s.payloads, &e, o.Rev)
	if err != nil {
		return nil, err
	}
	key := w.key()
	stmts := []engine.Stmt{
		{SQL: sqlChangeHead, Args: append(w.columns[1:7:7], w.rev, w.payload, w.id.bytes(), o.Over)},
		{SQL: sqlClearTags, Args: key},
	}
	if w.tags != "" {
		stmts = append(stmts, engine.Stmt{SQL: sqlInsertTags, Args: append([]any{w.tags}, key...)})
	}
	runs, size, err := encodeRuns(s.payloads, e.ID, o.More, 1)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		stmts = append(stmts, engine.Stmt{SQL: sqlMoreRun, Args: append([]any{int64(r.count), o.Key, r.payload}, key...)},
			engine.Stmt{SQL: sqlMoreDone, Args: append([]any{int64(r.count), int64(size)}, key...)})
		size = 0
	}
	if len(runs) > 0 {
		stmts = append(stmts, engine.Stmt{SQL: sqlMoreFits, Args: append(key, int64(maxEpisode))})
	}
	stmts = append(stmts, engine.Stmt{SQL: sqlWait, Args: []any{w.id.bytes()}})
	return &encoded{stmts: stmts, told: func(ctx context.Context, _ []engine.Result, err error) error {
		if err == nil {
			err = s.indexSoon(ctx, w.id)
		}
		return err
	}}, nil
}
