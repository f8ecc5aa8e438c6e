// Package embedded is the engine over one local SQLite file, in pure Go.
//
// One connection writes, behind an engine.Lane; a few query-only connections
// read beside it. The file is in WAL mode, so that readers never wait for the
// writer, and other processes may use it at the same time: every connection has
// a busy timeout and every write begins with BEGIN IMMEDIATE.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	readers     = 4
	readerCache = 2048 // KiB of pages that each reader keeps
	// busyTimeout bounds how long a reader waits for a lock, which only a program that is
	// not in WAL mode holds.
	busyTimeout = 5 * time.Second
	// A writer waits up to writeTimeout for those of other programs, of which SQLite waits
	// for tryTimeout at a time: nothing ends its wait, and who has waited leaves at once.
	writeTimeout = 20 * time.Second
	tryTimeout   = 100 * time.Millisecond
	busyTries    = 4 // of what can wait until another time
	// closeTimeout is how long writes under way wait after Close has begun.
	closeTimeout = 300 * time.Millisecond
	// A transaction that took longer looks once more before it commits whether the file is
	// in its place: a process that starts meanwhile, and makes another index of the log,
	// takes as long.
	lookAgain = 5 * time.Millisecond
	// A group that has held the write lock for maxHold is committed, and its other
	// units follow in another transaction, so that other processes can write between.
	maxHold = 50 * time.Millisecond
)

// Config says which file to open and how.
type Config struct {
	Path      string // of the database file; its folder must exist
	MustExist bool   // refuse to create the file, with fs.ErrNotExist

	// ReadOnly, unless it is empty, says why nothing is to be written: each write is KindReadOnly, as if
	// the file and its folder may not be written. So is Open where a log has been left that only a
	// writer can put into the file. Of a file that nobody has open the content must not change as
	// long as it is open here.
	ReadOnly string
	// Reads is for a caller who only reads. It opens a file whose end is missing, see Engine.Cut: what
	// comes to what is missing, and each write, fails with a *CutError, as KindCorrupt. And it
	// opens a file without a log on a full disk, which has no room for one, as if it may not be written: a
	// write is KindFull. Without Reads, Open fails so.
	Reads bool

	// NetworkFile lets the file lie on a network file system. SQLite's log needs memory that
	// all who use the file share, so that only one machine may use it.
	NetworkFile bool

	// LockDir is the folder of the lock files by which the processes of this machine take
	// turns to write. Default that of the user's programs; see package userdir.
	LockDir string

	// Check, unless it is nil, is called in the first read or write after the schema has changed,
	// and after one that failed, and refuses the file if this program does not know its schema. It
	// must only read.
	Check func(context.Context, Querier) error

	// Disposable is for a file whose content can be had again from elsewhere: a write is not
	// forced to the disk, which makes it several times as fast. After power loss the last
	// writes may be gone, in order; the file is whole all the same. One that is removed
	// while it is open is used on.
	Disposable bool
}

// Engine is an engine.Engine over a local file.
type Engine struct {
	cfg      Config
	place    *place
	access   access
	refusal  error         // of each write; nil: the file is written
	patience time.Duration // writeTimeout but for tests
	lane     *engine.Lane
	turns    *turns
	writer   *conn
	wal      bool            // the writer has seen that the file is in WAL mode
	checked  atomic.Int64    // the schema_version that Config.Check has approved; 0: none
	readers  chan struct{}   // a token for each of idle
	idle     idle            // the readers that nobody uses
	version  chan *version   // the only one, while it is idle
	polls    atomic.Uint64   // polls of the version that were begun
	shrink   chan struct{}   // holds a token unless Shrink is under way
	life     context.Context // ends when Close begins, which interrupts the reads under way
	end      context.CancelFunc

	queries, batches, commits, retries atomic.Uint64
	failures                           engine.FailureCounter

	close func() error
}

// Open opens or creates the file, which only its owner may read then. It succeeds when several
// processes open the same new file at once. Its errors do not repeat the path.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if err := checkPath(cfg.Path, cfg.MustExist); err != nil {
		return nil, err
	}
	real := realPath(cfg.Path)
	if name := networkOf(filepath.Dir(real)); name != "" && !cfg.NetworkFile {
		return nil, &NetworkError{FileSystem: name}
	}
	writes := mayWrite
	if cfg.ReadOnly != "" {
		writes = func(string) bool { return false }
	}
	a, err := accessTo(real, writes)
	if err != nil {
		return nil, err
	}
	e, err := openEngine(ctx, cfg, a)
	switch engine.KindOf(err) {
	case engine.KindCorrupt:
		return openCut(ctx, cfg, real, err)
	case engine.KindFull:
		return openFull(ctx, cfg, real, err)
	}
	return e, err
}

func openEngine(ctx context.Context, cfg Config, a access) (_ *Engine, err error) {
	e := &Engine{
		cfg:      cfg,
		access:   a,
		place:    newPlace(cfg.Path), // now that the file is there
		patience: writeTimeout,
		readers:  make(chan struct{}, readers),
		version:  make(chan *version, 1),
		shrink:   make(chan struct{}, 1),
	}
	if a != writable {
		reason := cmp.Or(cfg.ReadOnly, "the file or its folder may not be written by this user, or lies on a read-only file system")
		e.refusal = &engine.Error{Kind: engine.KindReadOnly, Stmt: -1, Err: errors.New(reason)}
	}
	e.version <- new(version)
	e.shrink <- struct{}{}
	if e.writer, err = e.openWriter(ctx); err != nil {
		return nil, classify(err, -1)
	}
	if err := e.place.note(); err != nil {
		return nil, errors.Join(err, e.writer.close())
	}
	e.enlist()
	e.life, e.end = context.WithCancel(context.Background())
	for range readers {
		r := &reader{}
		r.renew(e.life)
		e.release(r)
	}
	e.turns = newTurns(cfg.LockDir, e.place.real)
	e.lane = engine.NewLane(e.commit, e.turns)
	e.close = sync.OnceValue(e.shutDown)
	return e, nil
}

func (e *Engine) openWriter(ctx context.Context) (*conn, error) {
	// schema_version reads the header of the file, which tells whether it is a database.
	c, err := openAs(ctx, e.cfg.Path, e.access, "foreign_keys(1)", "schema_version")
	if err != nil {
		return nil, err
	}
	if err := c.exec(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", tryTimeout.Milliseconds())); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// NetworkError is returned for a file that lies where other machines may use it too.
type NetworkError struct{ FileSystem string }

func (e *NetworkError) Error() string {
	return fmt.Sprintf("it lies on a network file system (%s), where two machines that use it would damage it; keep it on a local disk, or a server's memory for several machines", e.FileSystem)
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

// reader is a connection that reads.
type reader struct {
	conn *conn // nil before the first read
	// ctx is the context of its reads, one after another. Making one for each
	// read would cost a small read a tenth of its time.
	ctx    context.Context
	cancel context.CancelFunc
}

func (r *reader) renew(life context.Context) { r.ctx, r.cancel = context.WithCancel(life) }

func (e *Engine) release(r *reader) {
	e.idle.push(r)
	e.readers <- struct{}{}
}

// idle is a stack of readers. The one that was used last has the pages and the prepared
// statements, and a process that reads one thing after another opens no second one.
type idle struct {
	mu      sync.Mutex
	readers []*reader
}

func (i *idle) push(r *reader) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.readers = append(i.readers, r)
}

// pop returns a reader, for one who holds a token.
func (i *idle) pop() *reader {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := len(i.readers) - 1
	r := i.readers[last]
	i.readers = i.readers[:last]
	return r
}

// Query implements engine.Engine.
func (e *Engine) Query(ctx context.Context, stmts ...engine.Stmt) (_ []engine.Result, err error) {
	defer func() { e.failures.Count(ctx, err) }()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	looked, err := e.glance(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.readers:
		r := e.idle.pop()
		stop := context.AfterFunc(ctx, r.cancel)
		results, err := e.read(r, stmts, looked)
		if !stop() {
			r.renew(e.life)
		}
		e.release(r)
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

// glance looks now and then whether the file is in its place, for reads, and reports whether
// it has looked. If it is and its sidecars are not, the lane opens it anew.
func (e *Engine) glance(ctx context.Context) (looked bool, err error) {
	if !e.place.due() {
		return false, nil
	}
	if e.cfg.Disposable {
		return true, nil
	}
	err = e.place.look()
	if errors.Is(err, errSidecars) {
		_, err = e.lane.Do(ctx, nil, false)
	}
	return true, err
}

// readError is the error of a read that Close or ctx may have interrupted.
func (e *Engine) readError(ctx context.Context, err error) error {
	switch {
	case !interrupted(err):
		err = classify(err, -1)
		if e.Cut() != nil && engine.KindOf(err) == engine.KindCorrupt {
			err = e.refusal
		}
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case e.life.Err() != nil:
		return engine.ErrClosed
	}
	return classify(err, -1)
}

func (e *Engine) openReader(ctx context.Context) (*conn, error) {
	// No memory map: each reader would map the whole file, and it is no faster.
	return openAs(ctx, e.cfg.Path, e.access, "query_only(1)", fmt.Sprintf("cache_size(-%d)", readerCache))
}

// read runs stmts on one snapshot, after a look at the schema if check is set.
func (e *Engine) read(r *reader, stmts []engine.Stmt, check bool) (_ []engine.Result, err error) {
	if r.conn == nil {
		if r.conn, err = e.openReader(r.ctx); err != nil {
			return nil, err
		}
	}
	if check {
		if err := e.checkSchema(r.ctx, r.conn); err != nil {
			return nil, err
		}
	}
	defer func() { err = e.orNewer(r.ctx, r.conn, err) }()
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
	// time is bounded by writeTimeout and maxHold.
	ctx := context.Background()
	mended, emptied := false, false
	for len(units) > 0 {
		done, bad, err := e.transact(ctx, units)
		switch {
		case err == nil:
			e.commits.Add(1)
			e.batches.Add(uint64(done))
			units = units[done:]
		case errors.Is(err, errSidecars) && !mended:
			mended = true // the next transaction begins with it
		case engine.KindOf(err) == engine.KindFull && !emptied:
			emptied = true
			e.reuseLog(ctx)
		case engine.KindOf(err) == engine.KindFull && len(units) > 1:
			// A smaller transaction may have room, such as one that deletes.
			e.commit(units[:len(units)/2])
			e.commit(units[len(units)/2:])
			return
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

// incremental makes an empty file one that can give pages back, and VACUUM make another
// one so. Else it does nothing.
const incremental = "PRAGMA auto_vacuum = INCREMENTAL"

// begin begins a transaction, in a file that is in its place. The first one switches the file to
// WAL mode; Open does not, because opening another program's file must not change it. Nor does it
// set what makes SQLite read the schema, 2 ms that a process which only reads need not spend.
func (e *Engine) begin(ctx context.Context) error {
	if e.refusal != nil {
		return e.refusal
	}
	if err := e.inPlace(ctx); err != nil {
		return err
	}
	if e.wal {
		return e.writer.exec(ctx, "BEGIN IMMEDIATE")
	}
	if err := e.prepareNew(ctx); err != nil {
		return err
	}
	synchronous := "PRAGMA synchronous(FULL)" // an acknowledged write survives power loss
	if e.cfg.Disposable {
		synchronous = "PRAGMA synchronous(NORMAL)"
	}
	for _, pragma := range []string{synchronous, "PRAGMA journal_size_limit(67108864)", "PRAGMA secure_delete(FAST)"} {
		if err := e.writer.run(ctx, engine.Stmt{SQL: pragma}, new(engine.Result)); err != nil {
			return err
		}
	}
	var mode engine.Result
	if err := e.writer.run(ctx, engine.Stmt{SQL: "PRAGMA journal_mode(WAL)"}, &mode); err != nil {
		return err
	}
	if got := fmt.Sprint(mode.Rows[0][0]); got != "wal" {
		return fmt.Errorf("the file system does not support WAL mode (the journal mode stays %s); use a local disk", got)
	}
	if err := e.writer.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := e.place.note(); err != nil { // the sidecars are there now
		e.writer.abandon(ctx)
		return err
	}
	e.wal = true
	return nil
}

// prepareNew has a file that is empty give pages back later; see Shrink. It must come before
// anything is written to it. In a file that is not empty it would write a page each time.
func (e *Engine) prepareNew(ctx context.Context) error {
	var pages int64
	if err := e.writer.conn.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil || pages > 0 {
		return err
	}
	return e.writer.exec(ctx, incremental)
}

// transact runs the first units as one transaction, at least one and as many as
// begin within maxHold, and returns how many it committed. An error means that
// nothing is stored; bad is the unit that failed, -1 if it is none. The rest of a
// group is not saved by savepoints: at each one FTS5 flushes its pending rows, and
// nearly all groups have no failure.
func (e *Engine) transact(ctx context.Context, units []*engine.Unit) (done, bad int, err error) {
	if err := e.waitToBegin(ctx, units); err != nil {
		return 0, -1, classify(err, -1)
	}
	if err := e.checkSchema(ctx, e.writer); err != nil {
		e.writer.abandon(ctx)
		return 0, -1, classify(err, -1)
	}
	start := time.Now()
	for ; done < len(units) && (done == 0 || time.Since(start) < maxHold); done++ {
		if units[done].Results, err = e.writer.runAll(ctx, units[done].Stmts); err != nil {
			e.writer.abandon(ctx)
			return 0, done, err
		}
	}
	if time.Since(start) > lookAgain && !e.cfg.Disposable {
		if err := e.place.look(); err != nil {
			e.writer.abandon(ctx)
			return 0, -1, err
		}
	}
	if err := e.writer.exec(ctx, "COMMIT"); err != nil {
		e.writer.abandon(ctx)
		return 0, -1, classify(err, -1)
	}
	if err := e.inPlace(ctx); err != nil {
		return 0, -1, afterwards(err)
	}
	return done, -1, nil
}

// waitToBegin begins a transaction when other programs have ended theirs, as long as one
// of the callers waits for it.
func (e *Engine) waitToBegin(ctx context.Context, units []*engine.Unit) error {
	giveUp := time.Now().Add(e.patience)
	var closing time.Time // when Close was seen to have begun
	for {
		err := e.begin(ctx)
		if err == nil || engine.KindOf(classify(err, -1)) != engine.KindBusy {
			return err
		}
		now := time.Now()
		if closing.IsZero() && e.life.Err() != nil {
			closing = now
		}
		if now.After(giveUp) || !closing.IsZero() && now.Sub(closing) > closeTimeout || !awaited(units) {
			return e.busy(err)
		}
		e.retries.Add(1)
		time.Sleep(time.Duration(1+rand.IntN(20)) * time.Millisecond)
	}
}

// awaited reports whether a caller still waits for one of the units.
func awaited(units []*engine.Unit) bool {
	return slices.ContainsFunc(units, func(u *engine.Unit) bool { return u.Caller == nil || u.Caller.Err() == nil })
}

// busy says who holds the lock, where that can be known.
func (e *Engine) busy(err error) error {
	who := holder(e.place.real)
	if who == "" {
		return err
	}
	return &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: fmt.Errorf("%s holds the write lock: %w", who, err)}
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
	// What was committed is to be where it is found, and nothing of another file is to be
	// deleted with the last connection.
	var place error
	if e.access == writable {
		place = e.mend(context.Background())
	}
	defer e.strike()
	var errs []error
	if place != nil && e.commits.Load() > 0 && !e.cfg.Disposable {
		errs = append(errs, place)
	}
	for range readers {
		<-e.readers
		if r := e.idle.pop(); r.conn != nil {
			errs = append(errs, r.conn.close())
		}
	}
	errs = append(errs, (<-e.version).close())
	<-e.shrink
	// The writer last: closing the last connection checkpoints the WAL, which a
	// query-only connection cannot do. Where another log is in use, that would write this
	// one into a file that has gone on without it: the connection stays until the process ends.
	switch {
	case gone(place) && e.entangled(), errors.Is(place, errNewLog):
		return errors.Join(append(errs, e.writer.leaveOpen())...)
	case gone(place):
		errs = append(errs, e.writer.keepLog())
	}
	return errors.Join(append(errs, e.writer.close())...)
}
