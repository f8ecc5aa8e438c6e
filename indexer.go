package episodic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
)

// indexer keeps the full-text index in order, in the background: it merges what writes
// have added, and indexes what is waiting for it.
type indexer struct {
	file *index.Index // nil: on a server
	wake chan struct{}
	ctx  context.Context
	stop context.CancelFunc
	ends chan struct{} // closed, by end, when no more is to be begun
	end  func()
	done sync.WaitGroup
	once sync.Once // the goroutine is started
	run  func(context.Context) error
	log  *slog.Logger
	busy chan struct{} // holds a token while the index is being put in order
	// incomplete says that something was waiting when it was last looked, and completed
	// how often nothing was any more: results of before must not be served after.
	incomplete atomic.Bool
	completed  atomic.Uint64
}

// saw notes how much a search found waiting.
func (x *indexer) saw(waiting int) {
	switch {
	case waiting > 0:
		x.incomplete.Store(true)
		x.kick()
	case x.incomplete.Swap(false):
		x.completed.Add(1)
	}
}

func newIndexer(s *Store, log *slog.Logger) *indexer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	x := &indexer{wake: make(chan struct{}, 1), ends: make(chan struct{}), busy: make(chan struct{}, 1), log: log}
	if s.server == nil {
		x.file = &index.Index{}
	}
	x.ctx, x.stop = context.WithCancel(context.Background())
	x.end = sync.OnceFunc(func() { close(x.ends) })
	x.run = func(ctx context.Context) error { return s.keepIndex(ctx, false) }
	return x
}

const (
	// kickEvery is after how many writes, on average, it is looked whether there is much to
	// merge. A program that writes once and ends is one of many.
	kickEvery = 8
	// lastWork is how long Close lets go on what was begun, or about to be.
	lastWork = 2 * time.Second
)

// written says that so many items were indexed.
func (x *indexer) written(items int) {
	if x.file != nil && rand.IntN(kickEvery) < items {
		x.kick()
	}
}

// kick has the index put in order soon.
func (x *indexer) kick() {
	x.once.Do(func() {
		x.done.Go(func() {
			for {
				select {
				case <-x.ends:
					select {
					case <-x.wake:
					default:
						return
					}
				case <-x.wake:
				}
				if err := x.run(x.ctx); err != nil && x.ctx.Err() == nil {
					x.log.Warn("search index not put in order; it is tried again later", "error", failed(err, "index"))
				}
			}
		})
	})
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// close waits on a file for what was begun, and for what a write that is done has asked for,
// at most lastWork. A server, which may not answer, is not waited for.
func (x *indexer) close() {
	x.once.Do(func() {}) // nothing is begun any more
	x.end()
	if x.file == nil {
		x.stop()
	}
	cut := time.AfterFunc(lastWork, x.stop)
	x.done.Wait()
	cut.Stop()
	x.stop()
}

// waitingAtOnce is how many items are indexed anew in one transaction.
const waitingAtOnce = 32

const (
	sqlWaiting       = `SELECT g FROM index_waiting WHERE g > ? ORDER BY g LIMIT ?`
	sqlWait          = `INSERT INTO index_waiting SELECT seq FROM episodes WHERE id = ? ON CONFLICT DO NOTHING`
	sqlStopWaiting   = `DELETE FROM index_waiting WHERE g = ?`
	sqlForget        = `INSERT INTO forgotten SELECT %s FROM %s WHERE id = ? AND rev = ?`
	sqlEpisodeBySeq  = `SELECT id FROM episodes WHERE seq = ?`
	sqlWaitForAll    = `INSERT INTO index_waiting SELECT * FROM (SELECT seq FROM episodes UNION ALL SELECT -2 * seq FROM patterns UNION ALL SELECT -2 * seq - 1 FROM heuristics) WHERE true ON CONFLICT DO NOTHING`
	sqlPatternBySeq  = `SELECT ` + patternColumns + ` FROM patterns WHERE seq = ?`
	sqlHeuristicByNo = `SELECT ` + heuristicColumns + ` FROM heuristics WHERE seq = ?`
)

// keepIndex indexes what is waiting and merges what is to be merged; all of it, if all.
func (s *Store) keepIndex(ctx context.Context, all bool) error {
	select {
	case s.indexer.busy <- struct{}{}:
		defer func() { <-s.indexer.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.takeIndex(ctx); err != nil {
		return err
	}
	var failures []error
	for last, more := int64(-1<<62), true; more; {
		r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlWaiting, Args: []any{last, int64(waitingAtOnce)}})
		if err != nil {
			return err
		}
		var stmts []engine.Stmt
		for _, row := range r[0].Rows {
			in := engine.Row{Values: row}
			last = in.Int(0)
			if in.Err != nil {
				return in.Err
			}
			more, err := s.indexAnew(ctx, last)
			if err != nil {
				// It stays waiting, and the others are not kept from the index.
				failures = append(failures, err)
				if ctx.Err() != nil || !errors.Is(err, ErrCorrupt) {
					return errors.Join(failures...)
				}
				continue
			}
			if stmts = append(stmts, more...); engine.Size(stmts) > addBytes {
				if _, err := s.engine.Repeatable(ctx, stmts...); err != nil {
					return err
				}
				stmts = nil
			}
		}
		if len(stmts) > 0 {
			if _, err := s.engine.Repeatable(ctx, stmts...); err != nil {
				return err
			}
		}
		more = len(r[0].Rows) == waitingAtOnce
	}
	if s.indexer.file != nil {
		if err := index.Merge(ctx, s.engine, all); err != nil {
			return indexFailed(err)
		}
	}
	return errors.Join(failures...)
}

// takeIndex has everything indexed anew if the index is one that this engine does not read.
func (s *Store) takeIndex(ctx context.Context) error {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: `SELECT of_file, of_server FROM index_state`})
	if err != nil {
		return err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	ofFile, ofServer := in.Int(0) != 0, in.Int(1) != 0
	stmts := []engine.Stmt{{SQL: sqlWaitForAll}}
	switch {
	case in.Err != nil:
		return in.Err
	case s.server != nil && ofFile:
		stmts = append(stmts, dropIndex()...)
	case s.server == nil && ofServer:
		stmts = append(stmts, engine.Stmt{SQL: `INSERT INTO heads(heads) VALUES('delete-all')`})
	default:
		return nil
	}
	_, err = s.engine.Repeatable(ctx, stmts...)
	return err
}

// indexFailed makes a damaged index ErrCorrupt, and says what to do.
func indexFailed(err error) error {
	if errors.Is(err, index.ErrDamaged) {
		return fmt.Errorf("%w: %w; make it anew with Reindex, or episodic compact --reindex", ErrCorrupt, err)
	}
	return err
}

// Reindex makes the search index anew from what is stored: all of it is thrown away, and
// until Reindex is done searches find what has been indexed so far, and say how much is
// waiting. What it has not done when it fails is done in the background by any Store, or by
// the next Compact. It concerns the whole database, whatever the Store's scope. Errors: those
// of the database; ErrCorrupt for items that cannot be read, which are not indexed.
func (s *Store) Reindex(ctx context.Context) (err error) {
	ctx, end := s.trace(ctx, "Reindex")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return failed(err, "reindex")
	}
	stmts := []engine.Stmt{{SQL: sqlWaitForAll}, {SQL: `INSERT INTO heads(heads) VALUES('delete-all')`}}
	if _, err := s.engine.Repeatable(ctx, append(stmts, dropIndex()...)...); err != nil {
		return failed(err, "reindex")
	}
	s.indexer.incomplete.Store(true)
	return failed(s.keepIndex(ctx, true), "reindex")
}

// dropIndex are the statements that empty the index of a file.
func dropIndex() (stmts []engine.Stmt) {
	for _, table := range []string{"index_units", "index_segments", "index_blocks", "index_gone"} {
		stmts = append(stmts, engine.Stmt{SQL: "DELETE FROM " + table})
	}
	return stmts
}

// sqlGroup finds an episode that is waiting.
const sqlGroup = `SELECT seq FROM episodes JOIN index_waiting ON g = seq WHERE id = ?`

// indexSoon indexes an episode that is waiting: on a file at once, on a server, which
// that would take two more round trips, in the background. What is not done stays
// waiting, whatever becomes of this process.
func (s *Store) indexSoon(ctx context.Context, id ID) error {
	s.indexer.incomplete.Store(true)
	if s.server != nil {
		s.indexer.kick()
		return nil
	}
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlGroup, Args: []any{id.bytes()}})
	if err != nil || len(r[0].Rows) == 0 {
		return err
	}
	g, err := intFrom(r[0].Rows[0][0])
	if err != nil {
		return err
	}
	stmts, err := s.indexAnew(ctx, int64(g))
	if err != nil {
		return err
	}
	_, err = s.engine.Repeatable(ctx, stmts...)
	return err
}

// indexAnew returns the statements that index a group by what is stored of it now. If it
// is changed before they are carried out they change nothing, and it stays waiting.
func (s *Store) indexAnew(ctx context.Context, g int64) ([]engine.Stmt, error) {
	forget := func(group, table string, key []any) engine.Stmt {
		return engine.Stmt{SQL: fmt.Sprintf(sqlForget, group, table), Args: key}
	}
	gone := []engine.Stmt{{SQL: sqlStopWaiting, Args: []any{g}}}
	if g > 0 {
		e, err := s.episodeBySeq(ctx, g)
		if errors.Is(err, ErrNotFound) {
			return gone, nil
		}
		if err != nil {
			return nil, err
		}
		key := []any{e.ID.bytes(), e.Revision}
		return append([]engine.Stmt{forget("seq", "episodes", key)}, s.wording.store(s.wording.episode(e), key)...), nil
	}
	sql := sqlPatternBySeq
	if g&1 != 0 {
		sql = sqlHeuristicByNo
	}
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sql, Args: []any{-(g + g&1) / 2}})
	if err != nil {
		return nil, err
	}
	if len(r[0].Rows) == 0 {
		return gone, nil
	}
	if g&1 != 0 {
		h, _, err := s.heuristicFrom(ctx, r[0].Rows[0])
		if err != nil {
			return nil, err
		}
		return []engine.Stmt{forget("-2 * seq - 1", "heuristics", []any{h.ID.bytes(), h.Revision}), s.wording.heuristicStmt(h, h.Revision)}, nil
	}
	p, _, err := s.patternFrom(ctx, r[0].Rows[0])
	if err != nil {
		return nil, err
	}
	return []engine.Stmt{forget("-2 * seq", "patterns", []any{p.ID.bytes(), p.Revision}), s.wording.patternStmt(p, p.Revision)}, nil
}

func (s *Store) episodeBySeq(ctx context.Context, seq int64) (*Episode, error) {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlEpisodeBySeq, Args: []any{seq}})
	if err != nil {
		return nil, err
	}
	if len(r[0].Rows) == 0 {
		return nil, ErrNotFound
	}
	id, err := idFrom(r[0].Rows[0][0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return readAgain(ctx, func(ctx context.Context) (*Episode, error) { return s.load(ctx, s.engine, id) })
}
