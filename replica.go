package episodic

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/replica"
	"github.com/episodic-memory/episodic/internal/schema"
)

// Replica says whether a Store on a server keeps a replica of the server's memory: a local
// file with all that lies in Options.Scope, its own search index, and the same compressed
// bytes. Reads go to it, as long as it is as new as Cache.PollInterval promises, and always
// include what this Store has written before; they wait for changes to be fetched where it
// is not. Searches then find steps too, as in a local file. Writes go to the server.
//
// It is the default. There is none if Disabled is set, and none without a Path if there is
// no cache folder, or with EPISODIC_REPLICA=0 in the environment.
//
// While the server cannot be reached, reads are answered from the replica whatever its age,
// and ReadInfo tells of it, unless Cache.DisableStale is set. A server that refuses
// (ErrUnauthorized, ErrUnknownDatabase, ErrReplaced) ends that: reads then fail. One that has
// refused its user for 7 days (the first two) has the replica deleted when the Store is closed,
// unless it is a linked file; never what is queued.
//
// All Stores of this machine that have the same server and scope share one replica. It
// holds what agents did, and only its owner may read it. It can be deleted at any time
// while no Store is open; the next one fills it anew, the newest first.
//
// Unused for a local file.
type Replica struct {
	// Disabled keeps none: every read that is not cached in memory asks the server, and the
	// dictionaries by which payloads are decompressed, about 100 KB, are fetched by each Store.
	Disabled bool
	// Path is the file that holds the replica; its folder must exist. Beside it are lock
	// files, and one that ends in .asof. A file that is there must be a replica of the same
	// server and scope. Default: a file in CacheDir; without one there is no replica.
	Path string
	// Offline says when a write is acknowledged. Default Through.
	Offline Offline
	// PushEvery is how long the queued start and steps of running episodes wait for more, so that
	// they travel together, and compress better; other writes, Flush and Close take them along.
	// Default 30 s.
	PushEvery time.Duration
	// MaxAge bounds what is held: episodes that began longer ago are not, with their relations
	// and vectors. Default 0: no bound. Patterns and heuristics are all
	// held. What is not held is read from the server, and so are lists and counts; searches
	// use what is held, and SearchResults.Since tells. Bounds may change from one Open to the next; of
	// Stores that share a replica those of the last one opened count. They cannot be set with
	// Queue, which checks writes against all that there is.
	MaxAge time.Duration
	// MaxBytes bounds the file, as MaxAge does: when it has become larger the oldest episodes
	// are dropped. At least 1 MiB; default 0: no bound.
	MaxBytes int64
}

// leastBytes is the least MaxBytes: an empty file takes a part of it.
const leastBytes = 1 << 20

func (r *Replica) validate() error {
	switch {
	case r.MaxAge < 0:
		return invalid("Replica.MaxAge", "is negative (%v)", r.MaxAge)
	case r.MaxBytes != 0 && r.MaxBytes < leastBytes:
		return invalid("Replica.MaxBytes", "is %d; it must be at least %d, or 0 for no bound", r.MaxBytes, leastBytes)
	case r.Offline == Queue && (r.MaxAge > 0 || r.MaxBytes > 0):
		return invalid("Replica.Offline", "is Queue, which needs all that the server has; set neither Replica.MaxAge nor Replica.MaxBytes")
	}
	return nil
}

// How old what the replica answers may be with respect to writes by others: as
// Cache.PollInterval and DisablePolling have it for what is kept in memory. With
// Cache.Disabled every read waits for the changes until then.
const (
	defaultPoll = 5 * time.Second
	unpolled    = time.Minute
)

// replicaVariable is the environment variable that keeps a replica from being made where no
// Path asks for one.
const replicaVariable = "EPISODIC_REPLICA"

// replicaPath is where the replica of t's memory is kept; empty: nowhere.
func (o *Options) replicaPath(t target, scope Scope) string {
	switch {
	case t.url == "" || o.Replica.Disabled:
		return ""
	case o.Replica.Path != "":
		return o.Replica.Path
	case o.Replica.Offline != Queue && os.Getenv(replicaVariable) == "0":
		return ""
	}
	dir := o.cacheDir()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "replicas", o.scopedKey(t, scope), "replica.db")
}

// scopedKey names what of the database at t lies in a scope, as serverKey names the database.
func (o *Options) scopedKey(t target, scope Scope) string {
	sum := sha256.Sum256([]byte(scope.text()))
	return o.serverKey(t) + "-" + hex.EncodeToString(sum[:4])
}

// localReplica is the replica of a Store on a server, and what the Store's reads have
// promised since it was opened.
type localReplica struct {
	path     string
	linked   string // the server that the file is linked to; empty: it is none of a link
	inner    *Store // on the replica's file
	pull     puller
	interval time.Duration // how old an answer may be with respect to writes by others
	strict   bool          // Cache.DisableStale
	opened   time.Time
	closed   atomic.Bool

	mu        sync.Mutex
	wrote     time.Time // the end of the last write of this Store
	answered  time.Time // the end of the last read that the server answered
	mine      map[ID]time.Time
	allMine   time.Time // when so much was written that mine was given up
	lateFloor time.Time // what the last read waited for in vain
	lateErr   error

	readLast atomic.Bool // there was a read after the last write that was pulled for

	reads, olderReads, serverReads, waits, failures atomic.Uint64
}

// puller is what localReplica needs of a replica.Replica.
type puller interface {
	Await(ctx context.Context, floor time.Time) (replica.Status, error)
	Kick()
	Wrote(at time.Time)
	Answered()
	Status() replica.Status
	Verify(ctx context.Context, deep bool) ([]replica.Difference, error)
	Fetch(ctx context.Context, ids ...[16]byte) error
	Close() error
}

// openReplica opens the replica of t's memory, and makes it if there is none; nil: there is
// to be none. migrated says that the server was seen to have the schema that this program
// knows, and so has it still.
func openReplica(ctx context.Context, t target, o *Options, scope Scope) (r *localReplica, migrated bool, err error) {
	path := o.replicaPath(t, scope)
	if path == "" {
		return nil, false, nil
	}
	if err := o.Replica.validate(); err != nil {
		return nil, false, err
	}
	if o.Replica.Path != "" {
		r, migrated, err = openReplicaFile(ctx, path, o.serverKey(t), o, scope)
		if errors.Is(err, replica.ErrReset) {
			if linked, _ := LinkedServer(ctx, path); linked != "" {
				if err = remakeLinked(ctx, path, linked); err == nil {
					r, migrated, err = openReplicaFile(ctx, path, o.serverKey(t), o, scope)
				}
			}
		}
		if errors.Is(err, errOtherReplica) {
			err = invalid("Replica.Path", "is no replica of this server and scope; choose another file, or delete it")
		}
		return r, migrated, err
	}
	if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
		r, migrated, err = openReplicaFile(ctx, path, o.serverKey(t), o, scope)
	}
	if err != nil && damaged(err) {
		if err = replica.Remove(path); err == nil {
			r, migrated, err = openReplicaFile(ctx, path, o.serverKey(t), o, scope)
		}
	}
	if err != nil && ctx.Err() == nil {
		// What a replica is for can be had from the server, if more slowly.
		if o.Logger != nil {
			o.Logger.Warn("no replica is kept, since its file cannot be used", "error", failed(err, "open replica"))
		}
		return nil, false, nil
	}
	return r, migrated, err
}

// damaged reports whether a replica's file is of no use, and may be made anew.
func damaged(err error) bool {
	_, foreign := errors.AsType[*schema.ForeignError](err)
	kind := engine.KindOf(err)
	return foreign || kind == engine.KindCorrupt || kind == engine.KindNotADatabase || errors.Is(err, errOtherReplica) || errors.Is(err, replica.ErrReset)
}

// errOtherReplica refuses a file that holds something else than the replica that is asked for.
var errOtherReplica = errors.New("the file is no replica of this server and scope")

func openReplicaFile(ctx context.Context, path, server string, o *Options, scope Scope) (_ *localReplica, migrated bool, err error) {
	file, err := embedded.Open(ctx, embedded.Config{Path: path, NetworkFile: o.AllowNetworkFile, LockDir: o.LockDir, Disposable: true, Check: refuseNewer})
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := schema.Migrate(ctx, file, true); err != nil {
		return nil, false, err
	}
	if err := claimReplica(ctx, file, server, scope); err != nil {
		return nil, false, err
	}
	if err := replica.Prepare(ctx, file); err != nil {
		return nil, false, err
	}
	known, err := replica.ServerSchema(ctx, file)
	if err != nil {
		return nil, false, err
	}
	linked, err := linkedServer(ctx, file)
	if err != nil {
		return nil, false, err
	}
	r := &localReplica{path: path, linked: linked, interval: cmp.Or(o.Cache.PollInterval, defaultPoll), strict: o.Cache.DisableStale, opened: time.Now(), mine: make(map[ID]time.Time)}
	switch {
	case o.Cache.Disabled:
		r.interval = 0
	case o.Cache.DisablePolling:
		r.interval = unpolled
	}
	if r.wrote, err = lastWrote(path); err != nil {
		return nil, false, err
	}
	inner := *o
	inner.Tracer, inner.Cache.DisablePolling = nil, false
	r.inner = newStore(file, &inner, nil, true)
	r.inner.scope, r.inner.mark = scope, replicaMark
	r.inner.openCache(inner.Cache)
	return r, known == schema.Newest(), nil
}

const (
	sqlClaims  = `SELECT (SELECT count(*) FROM sqlite_schema WHERE name = 'replica_of'), (SELECT count(*) FROM feed)`
	sqlClaim   = `INSERT INTO replica_of(only, server, scope) VALUES(1, ?, ?) ON CONFLICT DO NOTHING`
	sqlClaimed = `SELECT server, scope FROM replica_of`
)

// claimReplica makes a file the replica of a server's memory within a scope, or refuses one
// that is something else: what the server does not have would be deleted from it.
func claimReplica(ctx context.Context, file engine.Engine, server string, scope Scope) error {
	res, err := file.Query(ctx, engine.Stmt{SQL: sqlClaims})
	if err != nil {
		return err
	}
	in := engine.Row{Values: res[0].Rows[0]}
	claimed, items := in.Int(0), in.Int(1)
	switch {
	case in.Err != nil:
		return in.Err
	case claimed == 0 && items > 0:
		return errOtherReplica
	case claimed == 0:
		_, err := file.Batch(ctx, engine.Stmt{SQL: `CREATE TABLE IF NOT EXISTS replica_of(only INTEGER PRIMARY KEY, server TEXT NOT NULL, scope TEXT NOT NULL) STRICT`},
			engine.Stmt{SQL: sqlClaim, Args: []any{server, scope.text()}})
		if err != nil {
			return err
		}
	}
	if res, err = file.Query(ctx, engine.Stmt{SQL: sqlClaimed}); err != nil {
		return err
	}
	if rows := res[0].Rows; len(rows) != 1 || rows[0][0] != server || rows[0][1] != scope.text() {
		return errOtherReplica
	}
	return nil
}

// start begins to keep the replica in step with the server, by a pull every interval; 0: as
// package replica has it.
func (r *localReplica) start(server *remote.Engine, o *Options, interval time.Duration) error {
	pull, err := replica.New(replica.Config{
		Server: pulling{server}, Local: r.inner.engine, Path: r.path, Scope: r.inner.scope.condition,
		MaxAge: o.Replica.MaxAge, MaxBytes: o.Replica.MaxBytes, Interval: interval, Words: r.inner.words, Stored: r.inner.indexer.kick, Reach: server.Reachable, Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	r.pull = pull
	return nil
}

// pulling is a server's engine for what keeps a replica in step.
type pulling struct{ *remote.Engine }

func (p pulling) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	return p.Engine.Query(remote.ForPull(ctx), stmts...)
}

// checkedWrites is a server's engine that writes only what the server's schema takes: a Store
// that has a replica may have been opened without asking the server.
type checkedWrites struct {
	engine.Engine
	replica *localReplica
}

func (c checkedWrites) Batch(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	return c.Engine.Batch(ctx, stmts...)
}

func (c checkedWrites) Repeatable(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	return c.Engine.Repeatable(ctx, stmts...)
}

// check waits for the first look at the server, if there was none.
func (c checkedWrites) check(ctx context.Context) (err error) {
	st := c.replica.pull.Status()
	if st.Pulls == 0 {
		if st, err = c.replica.pull.Await(ctx, c.replica.opened); err != nil {
			return err
		}
	}
	if known := schema.Newest(); st.Schema > known {
		return &schema.NewerError{Found: st.Schema, Known: known}
	}
	return nil
}

// close ends what keeps the replica in step, and closes its file. Closing twice is harmless.
func (r *localReplica) close() error {
	if r == nil || r.closed.Swap(true) {
		return nil
	}
	if r.pull == nil {
		return r.inner.Close()
	}
	down := r.pull.Status().Down
	err := r.pull.Close()
	if engine.KindOf(down) == engine.KindNoTable { // who opens it next makes its tables, as ErrReplaced says
		err = errors.Join(err, replica.ForgetServerSchema(context.Background(), r.inner.engine))
	}
	void, voidErr := r.isVoid(down)
	err = errors.Join(err, r.noteWrites(), voidErr, r.inner.Close())
	switch {
	case !errors.Is(down, replica.ErrReset) && !void:
	case r.linked != "":
		err = errors.Join(err, remakeLinked(context.Background(), r.path, r.linked))
	default:
		err = errors.Join(err, replica.Remove(r.path))
	}
	return err
}

// couldNotOpen notes that the server has refused a Store that did not come to pull, and deletes
// what must not lie on the disk any longer.
func (r *localReplica) couldNotOpen(ctx context.Context, refusal error) error {
	if err := replica.NoteRefusal(ctx, r.inner.engine, refusal); err != nil {
		return err
	}
	void, err := r.isVoid(refusal)
	if void {
		r.closed.Store(true)
		err = errors.Join(r.inner.Close(), replica.Remove(r.path))
	}
	return err
}

// refusedFor is for how long a server refuses its user before what was read of it is deleted.
const refusedFor = 7 * 24 * time.Hour

// isVoid reports whether what is in the replica must not lie on the disk any longer: the server
// has refused since refusedFor to let its user read it, and did so last. A linked file is its
// owner's.
func (r *localReplica) isVoid(down error) (bool, error) {
	if kind := engine.KindOf(down); r.linked != "" || kind != engine.KindAuth && kind != engine.KindNotFound {
		return false, nil
	}
	since, err := replica.RefusedSince(context.Background(), r.inner.engine)
	return err == nil && !since.IsZero() && time.Since(since) >= refusedFor, err
}

// wroteSuffix ends the name of an empty file beside a replica's. Its time is when a Store of
// this machine wrote last: who opens one after that, such as the next command, sees what it
// wrote.
const wroteSuffix = ".wrote"

func lastWrote(path string) (time.Time, error) {
	info, err := os.Stat(path + wroteSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	if now := time.Now(); info.ModTime().After(now) {
		return now, nil // the clock was set back
	}
	return info.ModTime(), nil
}

// noteForOthers notes that a Store of this machine wrote at a time. If it cannot, noteWrites
// tells why.
func (r *localReplica) noteForOthers(at time.Time) {
	if err := os.Chtimes(r.path+wroteSuffix, at, at); errors.Is(err, os.ErrNotExist) {
		if f, err := os.OpenFile(r.path+wroteSuffix, os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
			_ = f.Close()
			_ = os.Chtimes(f.Name(), at, at) // a new file's time is that of a coarser clock, some milliseconds earlier
		}
	}
}

// noteWrites notes when this Store wrote last, if it did.
func (r *localReplica) noteWrites() error {
	r.mu.Lock()
	at := r.wrote
	r.mu.Unlock()
	last, err := lastWrote(r.path)
	if err != nil || !at.After(r.opened) || last.After(at) {
		return err
	}
	f, err := os.OpenFile(r.path+wroteSuffix, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Chtimes(f.Name(), at, at))
}

// narrowed is the Store on the replica's file, narrowed to a scope.
func (r *localReplica) narrowed(scope Scope) *Store {
	if scope == r.inner.scope {
		return r.inner
	}
	narrow := *r.inner
	narrow.scope, narrow.borrowed = scope, true
	return &narrow
}

// ReplicaStats is what a Store's replica holds, and what it was used for.
type ReplicaStats struct {
	Path string `json:"path"` // of its file
	// AsOf is when the server had all that is here, and no more; zero while some of the
	// changes since then are here already, and before anything is.
	AsOf time.Time `json:"as_of,omitzero"`
	// Complete says that all is here that the server had then, within the replica's scope and
	// bounds: if Since is set, the episodes that began then or later.
	// Otherwise about Remaining items are yet to be fetched.
	Complete  bool      `json:"complete"`
	Remaining int64     `json:"remaining,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	// Down says why the server could not tell of changes when it was last asked; empty if it
	// did.
	Down string `json:"down,omitempty"`

	Pulls        uint64 `json:"pulls"`         // times that changes were asked for and had
	Items        uint64 `json:"items"`         // episodes, patterns and so on that were fetched, again and again
	PayloadBytes uint64 `json:"payload_bytes"` // of them, compressed

	Reads       uint64      `json:"reads"`           // that the replica answered
	OlderReads  uint64      `json:"older_reads"`     // of Reads, those for which it was not as new as promised: see ReadInfo.Stale
	ServerReads uint64      `json:"server_reads"`    // that the server was asked for, as what they ask for is not here yet
	Waits       uint64      `json:"waits"`           // reads that waited for changes to be fetched
	Queue       *QueueStats `json:"queue,omitempty"` // nil: writes are not queued, nor were any left by others

	Failures uint64 `json:"failures"` // reads that failed because the replica was not new enough
}

func (r *localReplica) stats() *ReplicaStats {
	st := r.pull.Status()
	out := &ReplicaStats{
		Path: r.path, AsOf: st.AsOf, Complete: st.Complete, Remaining: st.Remaining, Since: st.Since,
		Pulls: st.Pulls, Items: st.Items, PayloadBytes: st.Payload,
		Reads: r.reads.Load(), OlderReads: r.olderReads.Load(), ServerReads: r.serverReads.Load(), Waits: r.waits.Load(), Failures: r.failures.Load(),
	}
	if st.Down != nil {
		out.Down = st.Down.Error()
	}
	return out
}
