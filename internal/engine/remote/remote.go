// Package remote is the engine over a libSQL server (sqld, Turso).
//
// A call is one HTTP request over a pooled connection. A Query is sent at once if
// no other is in flight; otherwise it is queued, and queued ones share a request
// (reads.go). Concurrent Batch calls are combined by the write lane. Each request
// is a complete transaction with its rollback, so that no lock is held on the server
// between two requests.
//
// Under steady load a request reuses a stream of the server; otherwise it opens one
// and closes it again. Connections are kept alive, idle streams are not.
//
// Only this package retries requests; call.go says when.
package remote

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/pool"
)

// maxValue is the size of the largest value a server stores, in bytes.
const maxValue = 5_000_000

// Config says where the database is and how to reach it.
type Config struct {
	URL   string                                // http or https, without credentials, query and fragment
	Token func(context.Context) (string, error) // asked before each request; nil sends no token
	Pool  pool.Options                          // of the connections

	// Namespace is the database on a server that has several; see hrana.Client.
	Namespace string
	// BasicAuth is user:password of HTTP basic authentication. Token is not used then.
	BasicAuth string
	// AllowPlaintext lets http reach other machines than this one.
	AllowPlaintext bool
	// TLS says whom to trust and who we are; nil is the default.
	TLS *tls.Config
	// Proxy is used for all servers but those on this machine; nil is what the
	// environment says.
	Proxy *url.URL

	resolver *net.Resolver // of tests; nil is the system's

	// LockDir is the folder of the lock files by which the processes of this machine take
	// turns to write. Default that of the user's programs; see package userdir.
	LockDir string

	// Replicas are the URLs of servers that answer reads too.
	Replicas []string

	// Logger gets what no call reports: requests sent again and lost streams (Debug),
	// and that the circuit breaker holds requests back (Warn) and no longer does
	// (Info). No record holds the token, SQL, or what the server answered. Nil logs
	// nothing.
	Logger *slog.Logger
}

// token returns what gives the secret of the Authorization header; nil if there is none.
func (cfg *Config) token() func(context.Context) (string, error) {
	if cfg.BasicAuth == "" {
		return cfg.Token
	}
	secret := base64.StdEncoding.EncodeToString([]byte(cfg.BasicAuth))
	return func(context.Context) (string, error) { return secret, nil }
}

// database names the database for this machine's processes.
func (cfg *Config) database() string {
	if cfg.Namespace == "" {
		return cfg.URL
	}
	return cfg.URL + "?namespace=" + url.QueryEscape(cfg.Namespace)
}

// newClient returns a client that sends the secret that token gives.
func (cfg *Config) newClient(token func(context.Context) (string, error)) (*hrana.Client, error) {
	client, err := hrana.NewClient(cfg.URL, token)
	if err != nil {
		return nil, err
	}
	client.Namespace = cfg.Namespace
	if cfg.BasicAuth != "" {
		client.AuthScheme = "Basic"
	}
	return client, nil
}

// Engine is an engine.Engine over a libSQL server.
type Engine struct {
	scheme, host string // http or https; host:port
	client       *hrana.Client
	transport    *http.Transport
	resolver     *net.Resolver
	pool         *pool.Pool[*conn]
	streams      streams
	reads        readQueue
	lane         *engine.Lane
	turns        *turns
	servers      *servers
	replica      bool        // it answers reads for the engine of the primary
	migrated     atomic.Bool // see Migrated
	stuck        atomic.Bool // the server answers no writes
	patience     patience
	log          *slog.Logger

	breaker     circuitbreaker.CircuitBreaker[any]
	budget      budget
	lastFailure atomic.Pointer[failure]   // that the breaker counted
	index       *atomic.Uint64            // the newest replication index seen, shared with replicas; 0 is none
	indexWaits  atomic.Int64              // calls in a row that timed out and may have waited for it
	indexWaited atomic.Int64              // how long, in nanoseconds
	leftAt      atomic.Pointer[time.Time] // when all connections were last given up; nil is never

	queries, batches, commits, retries, breakerRejected, stuckTimes atomic.Uint64
	failures                                                        engine.FailureCounter
	readBytes, pullBytes, writeBytes, upkeepBytes                   traffic

	// drainFailed: Close was called and the server stopped answering, so that later
	// groups fail at once. Owned by the lane's goroutine.
	drainFailed bool
	open        context.Context // ends when Close begins, which ends the reads under way
	shut        context.CancelFunc
	life        context.Context // ends when the last call has
	end         context.CancelFunc
	owned       sync.WaitGroup // the engine's goroutines but the lane's and the pool's

	// mu guards closed, and the passage of running from 0 to 1.
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // Query calls
}

// Open returns an engine on the database at cfg.URL. It does not speak to the
// server.
func Open(cfg Config) (*Engine, error) {
	e, err := openOne(cfg, new(atomic.Uint64))
	if err != nil {
		return nil, err
	}
	for _, url := range cfg.Replicas {
		cfg.URL = url
		r, err := openOne(cfg, e.index)
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		r.replica = true
		e.servers.all = append(e.servers.all, &server{engine: r})
	}
	return e, nil
}

// openOne returns an engine on one server, which knows of no other.
func openOne(cfg Config, index *atomic.Uint64) (*Engine, error) {
	token := cfg.token()
	if given := token; given != nil {
		token = func(ctx context.Context) (string, error) {
			text, err := given(ctx)
			if err != nil {
				return "", &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf("get token: %w", err)}
			}
			text = strings.TrimSpace(text) // a token from a file ends in a line feed
			if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				return "", &engine.Error{Kind: engine.KindAuth, Stmt: -1, Err: errors.New("token holds a character that no token has, such as a space")}
			}
			return text, nil
		}
	}
	client, err := cfg.newClient(token)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(&cfg)
	if err != nil {
		return nil, err
	}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialConn(ctx, dial, network, addr)
	}
	scheme, _, _ := strings.Cut(cfg.URL, "://")
	e := &Engine{
		scheme:    strings.ToLower(scheme),
		host:      hostPort(cfg.URL),
		client:    client,
		transport: transport,
		resolver:  cfg.resolver,
		streams:   streams{wake: make(chan struct{}, 1)},
		reads:     readQueue{wake: make(chan struct{}, 1)},
		log:       slog.New(slog.DiscardHandler),
		patience:  patience{stuckAfter, stuckWait, stuckPause},
		index:     index,
	}
	e.servers = &servers{all: []*server{{engine: e}}, start: time.Now()}
	if cfg.Logger != nil {
		e.log = cfg.Logger.With("server", e.host)
	}
	e.breaker = e.newBreaker()
	e.open, e.shut = context.WithCancel(context.Background())
	e.life, e.end = context.WithCancel(context.Background())
	if e.pool, err = pool.New(e.connector(), cfg.Pool); err != nil {
		return nil, err
	}
	e.turns = newTurns(cfg.LockDir, cfg.database(), e.log)
	e.lane = engine.NewLane(e.commit, e.turns)
	e.owned.Go(e.serveReads)
	e.owned.Go(e.closeIdleStreams)
	e.owned.Go(e.watchAddress)
	return e, nil
}

func hostPort(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// query has this server answer, as Engine.Query promises.
func (e *Engine) query(ctx context.Context, stmts []engine.Stmt) ([]engine.Result, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, engine.ErrClosed
	}
	e.running.Add(1)
	e.mu.Unlock()
	defer e.running.Done()

	if err := ctx.Err(); err != nil || len(stmts) == 0 {
		return nil, err
	}
	if err := check(stmts, readVerbs); err != nil {
		return nil, err
	}
	if e.breaker.IsOpen() && e.breaker.RemainingDelay() > 0 {
		return nil, e.errBreakerOpen() // rather than wait for a connection first
	}
	r := &read{ctx: ctx, stmts: stmts}
	if l := e.acquireAlone(); l != nil {
		e.answerAlone(r, l)
		e.reads.done()
	} else {
		r.done = make(chan struct{})
		e.reads.push(r)
		select {
		case <-r.done:
		case <-ctx.Done():
			e.reads.withdraw(r)
			return nil, ctx.Err()
		case <-e.open.Done():
			return nil, engine.ErrClosed
		}
	}
	switch {
	case r.err == nil:
		return r.results, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case e.open.Err() != nil:
		return nil, engine.ErrClosed
	}
	return nil, r.err
}

// Batch implements engine.Engine.
func (e *Engine) Batch(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	return e.write(ctx, stmts, false)
}

// Repeatable implements engine.Engine.
func (e *Engine) Repeatable(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	return e.write(ctx, stmts, true)
}

func (e *Engine) write(ctx context.Context, stmts []engine.Stmt, repeatable bool) (_ []engine.Result, err error) {
	defer func() { e.failures.Count(ctx, err) }()
	if err := check(stmts, nil); err != nil {
		return nil, err
	}
	return e.lane.Do(ctx, stmts, repeatable)
}

// Migrated is called when the database has our schema: from then on writes ask the view
// turns for their turn, and replicas are asked too.
func (e *Engine) Migrated() { e.migrated.Store(true) }

// Warm opens the pool's MinConns connections to each server and returns when they are
// open. A replica that cannot be reached is no error.
func (e *Engine) Warm(ctx context.Context) error {
	var replicas sync.WaitGroup
	for _, r := range e.servers.all[1:] {
		replicas.Go(func() { _ = r.engine.Warm(ctx) })
	}
	defer replicas.Wait()
	err := e.pool.Warm(ctx)
	switch {
	case err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return err
	case errors.Is(err, pool.ErrClosed):
		return engine.ErrClosed
	}
	return e.requestError(&hrana.TransportError{Err: err})
}

// Stats implements engine.Engine. It counts what all servers did.
func (e *Engine) Stats() engine.Stats {
	s := engine.Stats{Batches: e.batches.Load(), Commits: e.commits.Load(), Turns: e.turns.Stats(), Failures: e.failures.Load()}
	for _, r := range e.servers.all {
		s.Queries += r.engine.queries.Load()
		s.Retries += r.engine.retries.Load()
		s.Requests += r.engine.client.Requests()
	}
	return s
}

// ServerStats counts what the engine's connections, streams and retries did since it
// was opened.
type ServerStats struct {
	Protocol   string // that the server answered last
	Pool       pool.Stats
	SizeEvents []pool.SizeEvent

	// Streams of the server, as known from its answers. All but those kept for reuse
	// are closed or lost.
	StreamsOpened, StreamsClosed uint64
	StreamsLost                  uint64 // ended by the server or the network
	StreamsReused                uint64 // exchanges on a stream that was kept open

	RetryBudgetExhausted uint64 // retries not made because there had been too many
	BreakerRejected      uint64 // requests not sent because the circuit breaker was open
	Stuck                uint64 // times that the server was found to answer no writes

	Servers []EndpointStats // of several, the primary first; nil of one

	// Bytes on the sockets. Pulls are reads with ForPull, which Reads does not count. Upkeep
	// is all that serves no call: handshakes, pings, closing streams.
	Reads, Pulls, Writes, Upkeep Traffic
}

// Traffic is bytes on sockets, those of TLS and HTTP included.
type Traffic struct{ Sent, Received uint64 }

func (t *Traffic) add(other Traffic) {
	t.Sent += other.Sent
	t.Received += other.Received
}

func (t *traffic) load() Traffic { return Traffic{t.sent.Load(), t.received.Load()} }

// ServerStats returns what happened since the engine was opened.
func (e *Engine) ServerStats() ServerStats {
	s := ServerStats{
		Protocol:             e.client.Protocol().String(),
		Pool:                 e.pool.Stats(),
		SizeEvents:           e.pool.SizeEvents(),
		StreamsOpened:        e.streams.opened.Load(),
		StreamsClosed:        e.streams.closed.Load(),
		StreamsLost:          e.streams.lost.Load(),
		StreamsReused:        e.streams.reused.Load(),
		RetryBudgetExhausted: e.budget.exhausted.Load(),
		BreakerRejected:      e.breakerRejected.Load(),
		Stuck:                e.stuckTimes.Load(),
		Servers:              e.servers.stats(),
		Writes:               e.writeBytes.load(),
	}
	for _, r := range e.servers.all {
		s.Reads.add(r.engine.readBytes.load())
		s.Pulls.add(r.engine.pullBytes.load())
		s.Upkeep.add(r.engine.upkeepBytes.load())
	}
	return s
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.shut()
	for _, r := range e.servers.all[1:] {
		_ = r.engine.Close() // always nil: no lease is out
	}
	e.lane.Close()
	e.running.Wait()
	e.end()
	e.owned.Wait()
	return e.pool.Close(context.Background()) // no lease is out
}

// blame returns the index of the statement that the server cannot parse, after it
// refused a batch without saying which; -1 if there is none or it is not found. Each
// statement is sent in a batch of its own, with a condition that is never true.
func (e *Engine) blame(ctx context.Context, stmts []engine.Stmt) int {
	if len(stmts) == 1 {
		return 0
	}
	never := hrana.Not(hrana.And())
	requests := make([]hrana.Request, 0, len(stmts))
	for _, s := range stmts {
		requests = append(requests, hrana.Batch{Steps: []hrana.Step{{Cond: never, Stmt: hrana.Stmt{SQL: s.SQL}}}})
	}
	results, err := e.do(ctx, &call{requests: requests})
	if err != nil {
		return -1
	}
	for i := range stmts {
		if results[i].Err != nil {
			return i
		}
	}
	return -1
}

func wire(s engine.Stmt) hrana.Stmt {
	return hrana.Stmt{SQL: s.SQL, Args: s.Args}
}

func result(r *hrana.StmtResult) engine.Result {
	return engine.Result{Rows: r.Rows, Affected: r.Affected}
}

var (
	// readVerbs begin the statements that Query runs. A statement of another kind
	// would be carried out beside the write lane.
	readVerbs = map[string]bool{"SELECT": true, "VALUES": true, "WITH": true, "EXPLAIN": true, "PRAGMA": true}
	// forbiddenVerbs begin the statements that would end the transaction of a
	// whole group, or make the server refuse it.
	forbiddenVerbs = map[string]bool{
		"BEGIN": true, "COMMIT": true, "END": true, "ROLLBACK": true, "SAVEPOINT": true, "RELEASE": true,
		"ATTACH": true, "DETACH": true, "VACUUM": true,
	}
)

// check rejects statements that no server can run, before anything is sent. allowed limits
// the verbs of the statements, nil does not.
func check(stmts []engine.Stmt, allowed map[string]bool) error {
	for i, s := range stmts {
		verb := verb(s.SQL)
		switch {
		case !utf8.ValidString(s.SQL):
			return &engine.Error{Stmt: i, Err: errors.New("text is not valid UTF-8")}
		case verb == "":
			return &engine.Error{Stmt: i, Err: errors.New("text does not begin with a verb")}
		case forbiddenVerbs[verb]:
			return &engine.Error{Stmt: i, Err: fmt.Errorf("%s cannot be part of a batch or query", verb)}
		case allowed != nil && !allowed[verb]:
			return &engine.Error{Kind: engine.KindReadOnly, Stmt: i, Err: fmt.Errorf("a query cannot run %s", verb)}
		}
		for j, v := range s.Args {
			if err := checkValue(v); err != nil {
				err.Stmt, err.Err = i, fmt.Errorf("argument %d: %w", j, err.Err)
				return err
			}
		}
	}
	return nil
}

func checkValue(v engine.Value) *engine.Error {
	size := 0
	switch v := v.(type) {
	case string:
		size = len(v)
	case []byte:
		size = len(v)
	}
	if size > maxValue {
		return &engine.Error{Kind: engine.KindTooLarge, Err: fmt.Errorf("value of %d bytes is over the limit of %d", size, maxValue)}
	}
	if err := hrana.CheckValue(v); err != nil {
		return &engine.Error{Err: err}
	}
	return nil
}

// verb returns the first word of a statement in capitals.
func verb(sql string) string {
	sql = strings.TrimSpace(sql)
	end := strings.IndexFunc(sql, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsLetter(r) })
	if end >= 0 {
		sql = sql[:end]
	}
	return strings.ToUpper(sql)
}
