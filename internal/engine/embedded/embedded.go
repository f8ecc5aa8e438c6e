// Package embedded is the engine over one local SQLite file, in pure Go.
//
// One connection writes, behind an engine.Lane; a few query-only connections
// read beside it. The file is in WAL mode, so that readers never wait for the
// writer, and other processes may use it at the same time: every connection has
// a busy timeout and every write begins with BEGIN IMMEDIATE.
package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	readers     = 4
	busyTimeout = 5 * time.Second
	// A switch of a new file to WAL, and a transaction behind a crowd of other
	// processes, can be refused as busy in spite of the busy timeout.
	busyTries = 4
	// maxStmts bounds the prepared statements kept for reading; the Store's SQL
	// has fewer variants.
	maxStmts = 256
)

// Config says which file to open and how.
type Config struct {
	Path      string // of the database file; its folder must exist
	MustExist bool   // refuse to create the file, with fs.ErrNotExist
	NoMmap    bool   // readers use read(2) instead of a memory map; for network file systems
}

// Engine is an engine.Engine over a local file.
type Engine struct {
	lane   *engine.Lane
	writer *writer
	reads  *sql.DB
	stmts  sync.Map // SQL text -> *sql.Stmt of reads
	nstmts atomic.Int32

	queries, batches, commits, retries atomic.Uint64

	closeOnce sync.Once
	closeErr  error
	closed    atomic.Bool
}

// Open opens or creates the file. It succeeds when several processes open the
// same new file at once. Its errors do not repeat the path.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if err := checkPath(cfg.Path, cfg.MustExist); err != nil {
		return nil, err
	}
	e := &Engine{}
	var err error
	err = e.retryBusy(ctx, func() error {
		e.writer, err = openWriter(ctx, cfg.Path)
		return err
	})
	if err != nil {
		return nil, classify(err, -1)
	}
	pragmas := url.Values{"_pragma": {"query_only(1)", "cache_size(-2048)"}}
	if !cfg.NoMmap {
		// Without a map all connections of the process contend for one page cache.
		pragmas.Add("_pragma", "mmap_size(1073741824)")
	}
	e.reads, err = openDB(cfg.Path, pragmas)
	if err != nil {
		return nil, errors.Join(err, e.writer.close())
	}
	e.reads.SetMaxOpenConns(readers)
	e.reads.SetMaxIdleConns(readers)
	e.lane = engine.NewLane(e.commit)
	return e, nil
}

func checkPath(path string, mustExist bool) error {
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the folder %s does not exist; create it first", dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return errors.New("it is a folder; name a file in it")
	case mustExist && errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

func openDB(path string, params url.Values) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	params.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), OmitHost: true, RawQuery: params.Encode()}
	c, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// Query implements engine.Engine.
func (e *Engine) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if e.closed.Load() {
		return nil, engine.ErrClosed
	}
	results, err := e.query(ctx, stmts)
	if err != nil && e.closed.Load() && ctx.Err() == nil {
		return nil, engine.ErrClosed
	}
	return results, err
}

func (e *Engine) query(ctx context.Context, stmts []engine.Stmt) ([]engine.Result, error) {
	prepare := e.prepared
	if len(stmts) > 1 {
		tx, err := e.reads.BeginTx(ctx, nil)
		if err != nil {
			return nil, classify(err, -1)
		}
		// A reading transaction has nothing to lose, so its rollback cannot fail
		// in a way that matters to the caller.
		defer func() { _ = tx.Rollback() }()
		prepare = func(ctx context.Context, sql string) (*sql.Stmt, func() error, error) {
			s, done, err := e.prepared(ctx, sql)
			if err != nil {
				return nil, nil, err
			}
			return tx.StmtContext(ctx, s), done, nil
		}
	}
	results := make([]engine.Result, len(stmts))
	for i, s := range stmts {
		if err := queryOne(ctx, prepare, s, &results[i]); err != nil {
			return nil, classify(err, i)
		}
	}
	e.queries.Add(1)
	return results, nil
}

func queryOne(ctx context.Context, prepare func(context.Context, string) (*sql.Stmt, func() error, error), s engine.Stmt, into *engine.Result) (err error) {
	stmt, done, err := prepare(ctx, s.SQL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	rows, err := stmt.QueryContext(ctx, s.Args...)
	if err != nil {
		return err
	}
	into.Rows, err = collect(rows)
	return err
}

// prepared returns the statement for a text, kept for the next time, and what
// to call when it is no longer in use.
func (e *Engine) prepared(ctx context.Context, text string) (*sql.Stmt, func() error, error) {
	keep := func() error { return nil }
	if s, ok := e.stmts.Load(text); ok {
		return s.(*sql.Stmt), keep, nil
	}
	s, err := e.reads.PrepareContext(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	if e.nstmts.Load() >= maxStmts {
		return s, s.Close, nil
	}
	if first, loaded := e.stmts.LoadOrStore(text, s); loaded {
		return first.(*sql.Stmt), s.Close, nil
	}
	e.nstmts.Add(1)
	return s, keep, nil
}

// collect reads all rows and closes them.
func collect(rows *sql.Rows) (out [][]engine.Value, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	cols, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	into := make([]any, len(cols))
	for rows.Next() {
		row := make([]engine.Value, len(cols))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// Batch implements engine.Engine.
func (e *Engine) Batch(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	return e.lane.Do(ctx, stmts)
}

// commit is the lane's: it runs on one goroutine, the only user of e.writer.
func (e *Engine) commit(units []*engine.Unit) {
	// The group outlives any caller's patience; what bounds it is the busy
	// timeout and the lane's group size.
	ctx := context.Background()
	bad, err := e.transact(ctx, units)
	switch {
	case err == nil:
		e.commits.Add(1)
		e.batches.Add(uint64(len(units)))
	case bad < 0 || len(units) == 1:
		settle(units, err)
	default:
		// Nothing is stored. The one to blame comes last: what refused it may be a
		// unit of its own group, whose fate must be known first.
		e.commit(slices.Delete(slices.Clone(units), bad, bad+1))
		e.commit(units[bad : bad+1])
	}
}

// transact runs units as one transaction. An error means that nothing is stored;
// it comes with the unit to blame, -1 if it is none. There are no savepoints to
// save the rest of a group: full-text search writes all it holds at each, and
// nearly all groups have no failure.
func (e *Engine) transact(ctx context.Context, units []*engine.Unit) (bad int, err error) {
	if err := e.retryBusy(ctx, func() error { return e.writer.begin(ctx) }); err != nil {
		return -1, classify(err, -1)
	}
	for i, u := range units {
		if u.Results, err = e.writer.runAll(ctx, u.Stmts); err != nil {
			e.writer.abandon(ctx)
			return i, err
		}
	}
	if err := e.writer.commit(ctx); err != nil {
		e.writer.abandon(ctx)
		return -1, classify(err, -1)
	}
	return -1, nil
}

func settle(units []*engine.Unit, err error) {
	for _, u := range units {
		u.Results, u.Err = nil, err
	}
}

// retryBusy calls f until it is not refused as busy, a few times, with jitter.
func (e *Engine) retryBusy(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || engine.KindOf(classify(err, -1)) != engine.KindBusy || try == busyTries {
			return err
		}
		e.retries.Add(1)
		select {
		case <-time.After(time.Duration(5+rand.IntN(45)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stats implements engine.Engine.
func (e *Engine) Stats() engine.Stats {
	return engine.Stats{
		Queries: e.queries.Load(),
		Batches: e.batches.Load(),
		Commits: e.commits.Load(),
		Retries: e.retries.Load(),
	}
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.closed.Store(true)
		e.lane.Close()
		// The writer last: closing the last connection folds the WAL into the
		// file, which a query-only connection cannot do.
		e.closeErr = errors.Join(e.reads.Close(), e.writer.close())
	})
	return e.closeErr
}
