// Package embedded is the engine over one local SQLite file, in pure Go.
//
// One connection writes, behind an engine.Lane; a few query-only connections
// read beside it. The file is in WAL mode, so that readers never wait for the
// writer, and other processes may use it at the same time: every connection has
// a busy timeout and every write begins with BEGIN IMMEDIATE.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	readers     = 4
	readerCache = 2048 // KiB of pages that each reader keeps
	busyTimeout = 5 * time.Second
	// SQLite can report busy in spite of the busy timeout: while a new file is
	// switched to WAL, and when many processes compete for the lock.
	busyTries = 4
	// A group that has held the write lock for maxHold is committed, and its other
	// units follow in another transaction, so that other processes can write between.
	maxHold = 50 * time.Millisecond
)

// Config says which file to open and how.
type Config struct {
	Path      string // of the database file; its folder must exist
	MustExist bool   // refuse to create the file, with fs.ErrNotExist

	// LockDir is the folder of the lock files by which the processes of this machine take
	// turns to write. Default that of the user's programs; see package userdir.
	LockDir string
}

// Engine is an engine.Engine over a local file.
type Engine struct {
	cfg     Config
	lane    *engine.Lane
	turns   *turns
	writer  *conn
	wal     bool            // the writer has seen that the file is in WAL mode
	readers chan *reader    // the idle ones
	version chan *version   // the only one, while it is idle
	polls   atomic.Uint64   // polls of the version that were begun
	life    context.Context // ends when Close begins, which interrupts the reads under way
	end     context.CancelFunc

	queries, batches, commits, retries atomic.Uint64
	failures                           engine.FailureCounter

	close func() error
}

// Open opens or creates the file, which only its owner may read then. It succeeds when several processes open the
// same new file at once. Its errors do not repeat the path.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if err := checkPath(cfg.Path, cfg.MustExist); err != nil {
		return nil, err
	}
	if _, err := os.Stat(cfg.Path); errors.Is(err, fs.ErrNotExist) {
		create(cfg.Path)
	}
	e := &Engine{
		cfg:     cfg,
		readers: make(chan *reader, readers),
		version: make(chan *version, 1),
	}
	e.version <- new(version)
	var err error
	e.writer, err = openConn(ctx, cfg.Path,
		"synchronous(FULL)", // an acknowledged write survives power loss
		"foreign_keys(1)",
		"journal_size_limit(67108864)")
	if err != nil {
		return nil, classify(err, -1)
	}
	e.life, e.end = context.WithCancel(context.Background())
	for range readers {
		r := &reader{}
		r.renew(e.life)
		e.readers <- r
	}
	e.turns = newTurns(cfg.LockDir, cfg.Path)
	e.lane = engine.NewLane(e.commit, e.turns)
	e.close = sync.OnceValue(e.shutDown)
	return e, nil
}

func checkPath(path string, mustExist bool) error {
	if strings.ContainsRune(path, 0) {
		return errors.New("the path contains a NUL character, where SQLite would truncate it")
	}
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist) && mustExist:
		return err
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

// create makes an empty file that only its owner may read; SQLite's own would be
// everybody's to read, and its WAL has the mode of the file. If that fails, for a
// file system that has no links or a folder that may not be written, SQLite tries.
func create(path string) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	// The file is closed before it has its name: to close it later would end the locks
	// of this process's other connections.
	if f.Close() == nil {
		_ = os.Link(f.Name(), path) // fails if another process was faster
	}
}

// reader is a connection that reads.
type reader struct {
	conn *conn // nil before the first read
	// ctx is the context of its reads, one after another. Making one for each
	// read would cost a small read a tenth of its time.
	ctx    context.Context
	cancel context.CancelFunc
}

func (r *reader) renew(life context.Context) { r.ctx, r.cancel = context.WithCancel(life) }

// Query implements engine.Engine.
func (e *Engine) Query(ctx context.Context, stmts ...engine.Stmt) (_ []engine.Result, err error) {
	defer func() { e.failures.Count(ctx, err) }()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case r := <-e.readers:
		stop := context.AfterFunc(ctx, r.cancel)
		results, err := e.read(r, stmts)
		if !stop() {
			r.renew(e.life)
		}
		e.readers <- r
		if err != nil {
			return nil, e.readError(ctx, err)
		}
		e.queries.Add(1)
		return results, nil
	case <-e.life.Done():
		return nil, engine.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// readError is the error of a read that Close or ctx may have interrupted.
func (e *Engine) readError(ctx context.Context, err error) error {
	switch {
	case !interrupted(err):
		return classify(err, -1)
	case ctx.Err() != nil:
		return ctx.Err()
	case e.life.Err() != nil:
		return engine.ErrClosed
	}
	return classify(err, -1)
}

func (e *Engine) openReader(ctx context.Context) (*conn, error) {
	// No memory map: each reader would map the whole file, and it is no faster.
	return openConn(ctx, e.cfg.Path, "query_only(1)", fmt.Sprintf("cache_size(-%d)", readerCache))
}

// read runs stmts on one snapshot.
func (e *Engine) read(r *reader, stmts []engine.Stmt) ([]engine.Result, error) {
	if r.conn == nil {
		var err error
		if r.conn, err = e.openReader(r.ctx); err != nil {
			return nil, err
		}
	}
	if len(stmts) == 1 {
		return r.conn.runAll(r.ctx, stmts)
	}
	// A reading transaction has nothing to commit. A BEGIN that was cancelled may
	// have begun it all the same.
	defer r.conn.abandon(r.ctx)
	if err := r.conn.exec(r.ctx, "BEGIN"); err != nil {
		return nil, err
	}
	return r.conn.runAll(r.ctx, stmts)
}

// Batch implements engine.Engine.
func (e *Engine) Batch(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	results, err := e.lane.Do(ctx, stmts, false)
	e.failures.Count(ctx, err)
	return results, err
}

// Repeatable implements engine.Engine. The answer of a file is never lost.
func (e *Engine) Repeatable(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	return e.Batch(ctx, stmts...)
}

// commit is the lane's: it runs on one goroutine, the only user of e.writer.
func (e *Engine) commit(units []*engine.Unit) {
	// Not a caller's context: other callers' units are in the same transaction. Its
	// time is bounded by the busy timeout and maxHold.
	ctx := context.Background()
	for len(units) > 0 {
		done, bad, err := e.transact(ctx, units)
		switch {
		case err == nil:
			e.commits.Add(1)
			e.batches.Add(uint64(done))
			units = units[done:]
		case bad < 0 || len(units) == 1:
			engine.Fail(units, err)
			return
		default:
			for _, part := range engine.Bisect(units, bad) {
				e.commit(part)
			}
			return
		}
	}
}

// begin begins a transaction. The first one switches the file to WAL mode; Open
// does not, because opening another program's file must not change it.
func (e *Engine) begin(ctx context.Context) error {
	if !e.wal {
		var mode engine.Result
		if err := e.writer.run(ctx, engine.Stmt{SQL: "PRAGMA journal_mode(WAL)"}, &mode); err != nil {
			return err
		}
		if got := fmt.Sprint(mode.Rows[0][0]); got != "wal" {
			return fmt.Errorf("the file system does not support WAL mode (the journal mode stays %s); use a local disk", got)
		}
		e.wal = true
	}
	return e.writer.exec(ctx, "BEGIN IMMEDIATE")
}

// transact runs the first units as one transaction, at least one and as many as
// begin within maxHold, and returns how many it committed. An error means that
// nothing is stored; bad is the unit that failed, -1 if it is none. The rest of a
// group is not saved by savepoints: at each one FTS5 flushes its pending rows, and
// nearly all groups have no failure.
func (e *Engine) transact(ctx context.Context, units []*engine.Unit) (done, bad int, err error) {
	if err := e.retryBusy(ctx, func() error { return e.begin(ctx) }); err != nil {
		return 0, -1, classify(err, -1)
	}
	for start := time.Now(); done < len(units) && (done == 0 || time.Since(start) < maxHold); done++ {
		if units[done].Results, err = e.writer.runAll(ctx, units[done].Stmts); err != nil {
			e.writer.abandon(ctx)
			return 0, done, err
		}
	}
	if err := e.writer.exec(ctx, "COMMIT"); err != nil {
		e.writer.abandon(ctx)
		return 0, -1, classify(err, -1)
	}
	return done, -1, nil
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
		Turns:   e.turns.Stats(),

		Failures: e.failures.Load(),
	}
}

// Close implements engine.Engine.
func (e *Engine) Close() error { return e.close() }

func (e *Engine) shutDown() error {
	e.end()
	e.lane.Close()
	var errs []error
	for range readers {
		if r := <-e.readers; r.conn != nil {
			errs = append(errs, r.conn.close())
		}
	}
	errs = append(errs, (<-e.version).close())
	// The writer last: closing the last connection checkpoints the WAL, which a
	// query-only connection cannot do.
	return errors.Join(append(errs, e.writer.close())...)
}
