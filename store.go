package episodic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	cache    *cache.Cache[cacheKey, any] // nil: none
	unpolled bool                        // Cache.DisablePolling
	vectors  VectorFormat                // of those written
	sets     *vectorSets                 // of Nearest
	tracer   Tracer                      // nil: none

	publisher *publisher

	// failedOpen are failures before the Store was open: Open reads tables that a new
	// database lacks.
	failedOpen engine.Failures

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
// A nil opts gives the defaults. The database must be episodic's alone. Errors:
// ErrInvalid for a target or option that cannot be; ErrNotFound if it must exist
// and does not; ErrSchema for a file that is no database and a database of
// another program or of a newer episodic; ErrUnauthorized; Retryable errors if
// the server cannot be reached.
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
	t, err := parseTarget(target, opts.AllowPlaintext)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	e, err := openEngine(ctx, t, opts)
	if err != nil {
		return nil, openFailed(t, err)
	}
	if err := schema.Migrate(ctx, e, !opts.MustExist); err != nil {
		return nil, openFailed(t, errors.Join(err, e.Close()))
	}
	if server, ok := e.(*remote.Engine); ok {
		server.Migrated()
	}
	s := newStore(e, opts, opts.dictionaryDir(t))
	s.publisher.target = t.absolute()
	s.scope, s.failedOpen = scope, e.Stats().Failures
	s.openCache(opts.Cache)
	return s, nil
}

// newStore returns a Store on a database that has been migrated. The options have
// been checked.
func newStore(e engine.Engine, o *Options, dictionaryDir string) *Store {
	server, _ := e.(*remote.Engine)
	c := o.Compression.payloadOptions(o.Logger)
	c.Folder = dictionaryDir
	s := &Store{engine: e, server: server, payloads: payload.New(e, server == nil, c), vectors: o.Compression.Embeddings, tracer: o.Tracer}
	s.sets = newVectorSets(e, &o.Vectors)
	s.publisher = &publisher{opened: time.Now()}
	s.hub = s.newHub()
	s.wording = wording{server: server != nil, steps: o.IndexSteps}
	s.indexer = newIndexer(s, o.Logger)
	return s
}

func openFailed(t target, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, schema.ErrEmpty) {
		err = fmt.Errorf("%w: there is no memory yet", ErrNotFound)
	}
	return failed(err, "open %s", t)
}

func openEngine(ctx context.Context, t target, opts *Options) (engine.Engine, error) {
	connections, err := opts.poolOptions()
	if err != nil {
		return nil, err
	}
	if t.path != "" {
		return embedded.Open(ctx, embedded.Config{Path: t.path, MustExist: opts.MustExist, LockDir: opts.LockDir})
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
// under way and later calls return ErrClosed. Closing twice is harmless. A Store
// that Scoped returned ends with the one that it was made of: its own Close does
// nothing.
func (s *Store) Close() error {
	if s == nil || s.engine == nil || s.borrowed {
		return nil
	}
	s.publisher.close()
	s.hub.Close(ErrClosed)
	s.indexer.close()
	s.payloads.Close()
	if s.cache != nil {
		s.cache.Close()
	}
	if err := s.engine.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
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
