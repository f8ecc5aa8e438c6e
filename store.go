package episodic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/cache"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/feed"
	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/schema"
)

// Store is an open memory. It is safe for concurrent use. Several Stores, in one
// process or in many, may be open on the same database.
type Store struct {
	engine engine.Engine
	server *remote.Engine // the same as engine; nil if that is a local file

	payloads *payload.Codec
	hub      *feed.Hub // of those who watch changes
	wording  wording
	indexer  *indexer
	embedder *embedder                   // nil: Options.Embedder is not set
	cache    *cache.Cache[cacheKey, any] // nil: none
	unpolled bool                        // Cache.DisablePolling
	vectors  VectorFormat                // of those written
	sets     *vectorSets                 // of Nearest
	tracer   Tracer                      // nil: none
	redactor *redactor                   // of what is written; nil: it was redacted before

	publisher *publisher
	damage    *atomic.Uint64 // see Stats.Damaged

	replica *localReplica // of a server's memory, which reads go to; nil: none
	mark    string        // begins the cursors of its lists
	queue   *writeQueue   // where writes go; nil: to the database

	// failedOpen are failures before the Store was open: Open reads tables that a new
	// database lacks.
	failedOpen engine.Failures

	notices   []string // of Open
	temporary string   // a folder that goes with the Store; empty: none

	scope    Scope // bounds what the Store sees
	borrowed bool  // all but scope belongs to the Store that this one was made of
}

// Open opens the memory at target and creates it if there is none:
//
//	memory.db, /path/memory.db, file:memory.db   a local file; its folder must exist
//	libsql://host, https://host                  a libSQL server over TLS
//	http://127.0.0.1:8080                        a libSQL server on this machine
//
// A server's URL may name several hosts with commas between, libsql://primary,replica,replica:
// see Options.Replicas. It may have USER:PASSWORD@ before the host, for HTTP basic authentication,
// and these parameters; those that Options says too come second:
//
//	authToken   see Options.AuthToken
//	namespace   see Options.Namespace
//	ca          see Options.TLS.CAFile
//	cert, key   see Options.TLS.CertFile and KeyFile
//	tls         0 makes libsql:// mean http://
//
// A file that Link has linked to a server opens the server. A nil opts gives the defaults. The
// database must be episodic's alone. Errors: ErrInvalid for a target or option that cannot be;
// ErrNotFound if it must exist and does not; ErrSchema for a file that is no database and a
// database of another program or of a newer episodic; ErrUnauthorized; Retryable errors if the
// server cannot be reached.
func Open(ctx context.Context, target string, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := cmp.Or(opts.Compression.validate(), opts.Cache.validate(), opts.Vectors.validate()); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	scope, err := opts.Scope.within(Scope{})
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	secrets, err := newRedactor(opts)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	t, err := parseTarget(target, opts.AllowPlaintext)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if err := checkEmbedder(opts.Embedder, t); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	e, err := openEngine(ctx, t, opts, refuseNewer)
	if err != nil {
		return nil, openFailed(t, err)
	}
	if t.path != "" {
		switch linked, err := linkedServer(ctx, e); {
		case err != nil:
			return nil, openFailed(t, errors.Join(err, e.Close()))
		case linked != "":
			if err := e.Close(); err != nil {
				return nil, openFailed(t, err)
			}
			return openLinked(ctx, t.path, linked, opts, scope)
		}
	}
	server, _ := e.(*remote.Engine)
	var upgraded string
	if file, ok := e.(*embedded.Engine); ok {
		if opts.DisableUpgrade {
			s, err := openCopy(ctx, file, t, opts)
			if s != nil || err != nil {
				if err = errors.Join(err, e.Close()); err != nil {
					return nil, openFailed(t, errors.Join(err, s.Close()))
				}
				s.publisher.target, s.scope, s.redactor = t.absolute(), scope, secrets
				s.openCache(opts.Cache)
				return s, nil
			}
		}
		if upgraded, err = beforeUpgrade(ctx, file, t.absolute()); err != nil {
			return nil, openFailed(t, errors.Join(err, e.Close()))
		}
	}
	r, migrated, err := openReplica(ctx, t, opts, scope)
	if err == nil && !migrated {
		if err = schema.Migrate(ctx, e, !opts.MustExist); err != nil && r != nil {
			err = errors.Join(err, r.couldNotOpen(ctx, err))
		}
	}
	if err == nil && r != nil {
		err = r.start(server, opts, 0)
	}
	if err != nil {
		return nil, openFailed(t, errors.Join(err, r.close(), e.Close()))
	}
	if server != nil {
		server.Migrated()
	}
	var copied engine.Engine
	if r != nil {
		copied = r.inner.engine
	}
	s := newStore(e, opts, copied, false)
	s.publisher.target = t.absolute()
	s.scope, s.failedOpen, s.replica, s.redactor = scope, e.Stats().Failures, r, secrets
	if r != nil {
		s.sets.maxBytes = minVectorBytes // the server compares what is not here yet; it is not fetched twice
	}
	if server == nil {
		s.notice(opts.Logger, upgraded, cutOff(e, t), readByOthers(t.absolute()))
	}
	if server != nil {
		s.engine = orNewer{e}
	}
	if migrated {
		s.engine = checkedWrites{s.engine, r}
	}
	if err := s.openQueue(ctx, t, opts); err != nil {
		return nil, openFailed(t, errors.Join(err, s.Close()))
	}
	if s.embedder != nil {
		if err := s.embedder.checkStored(ctx, e); err != nil {
			return nil, openFailed(t, errors.Join(err, s.Close()))
		}
		s.embedder.kick()
	}
	if r == nil { // which has one of its own
		s.openCache(opts.Cache)
	}
	return s, nil
}

// newStore returns a Store on a database that has been migrated, of which copied, if it is
// not nil, is the replica. replica says that e is one. The options have been checked.
func newStore(e engine.Engine, o *Options, copied engine.Engine, replica bool) *Store {
	server, _ := e.(*remote.Engine)
	c := o.Compression.payloadOptions(o.Logger)
	c.Copy, c.DisableTraining = copied, replica
	c.Unreadable = func(ctx context.Context) error { return refuseNewer(ctx, e) }
	s := &Store{engine: e, server: server, payloads: payload.New(e, server == nil, c), vectors: o.Compression.Embeddings, tracer: o.Tracer, damage: new(atomic.Uint64)}
	s.sets = newVectorSets(e, &o.Vectors)
	s.publisher = &publisher{opened: time.Now()}
	s.hub = s.newHub()
	s.wording = wording{server: server != nil, steps: o.IndexSteps}
	s.indexer = newIndexer(s, o.Logger)
	s.embedder = newEmbedder(s, o.Embedder, o.Logger)
	return s
}

func openFailed(t target, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, schema.ErrEmpty) {
		err = fmt.Errorf("%w: there is no memory yet", ErrNotFound)
	}
	if engine.KindOf(err) == engine.KindNotADatabase {
		err = fmt.Errorf("%w; if it was a memory, episodic doctor may save what it holds", err)
	}
	return failed(err, "open %s", t)
}

// openEngine opens what is at a target; check is that of a file, see embedded.Config.
func openEngine(ctx context.Context, t target, opts *Options, check func(context.Context, embedded.Querier) error) (engine.Engine, error) {
	connections, err := opts.poolOptions()
	if err != nil {
		return nil, err
	}
	if t.path != "" {
		e, err := embedded.Open(ctx, embedded.Config{Path: t.path, MustExist: opts.MustExist, NetworkFile: opts.AllowNetworkFile, LockDir: opts.LockDir, Reads: opts.DisableUpgrade, Check: check})
		if _, ok := errors.AsType[*embedded.NetworkError](err); ok {
			return nil, invalid("target", "%v; AllowNetworkFile opens it all the same", err)
		}
		return e, err
	}
	cfg, err := opts.remoteConfig(t)
	if err != nil {
		return nil, err
	}
	cfg.Pool = connections
	return remote.Open(cfg)
}

// Warm opens Pool.MinConns connections to the server ahead of the first call that
// needs them, and returns when they are open. For a local file it does nothing.
// Errors: ErrClosed; Retryable errors if the server cannot be reached.
func (s *Store) Warm(ctx context.Context) (err error) {
	ctx, end := s.trace(ctx, "Warm")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return failed(err, "warm")
	}
	if s.server == nil {
		return nil
	}
	return failed(s.server.Warm(ctx), "warm")
}

// Close waits for writes under way, and frees everything the Store holds. Reads
// under way and later calls return ErrClosed. Closing twice is harmless. The error is
// ErrReplaced if the file that was written is not in its place any more. A Store
// that Scoped returned ends with the one that it was made of: its own Close does
// nothing.
func (s *Store) Close() error {
	if s == nil || s.engine == nil || s.borrowed {
		return nil
	}
	s.publisher.close()
	queueErr := s.queue.close()
	s.hub.Close(ErrClosed)
	s.embedder.close()
	s.indexer.close()
	s.payloads.Close()
	if s.cache != nil {
		s.cache.Close()
	}
	err := errors.Join(queueErr, s.replica.close(), s.engine.Close())
	if s.temporary != "" {
		err = errors.Join(err, os.RemoveAll(s.temporary))
	}
	return failed(err, "close")
}

// check refuses what no call can work with: a Store that Open did not return, no
// context, or no item, which name names.
func (s *Store) check(ctx context.Context, item bool, name string) error {
	switch {
	case s == nil || s.engine == nil:
		return fmt.Errorf("%w: the Store was not returned by Open", ErrClosed)
	case ctx == nil:
		return invalid("ctx", "is nil; pass context.Background() if there is no other")
	case !item:
		return invalid(name, "is nil")
	}
	return nil
}

// trace begins the trace of a call.
func (s *Store) trace(ctx context.Context, operation string) (context.Context, func(error)) {
	if s == nil || s.tracer == nil || ctx == nil {
		return ctx, func(error) {}
	}
	return s.tracer.Start(ctx, operation)
}
