// Package remote is the engine over a libSQL server (sqld, Turso).
//
// A call is one HTTP request. A Query is one statement, or a batch in a reading
// transaction; concurrent Batch calls gather in the write lane and travel as
// one batch that holds a whole transaction with its rollback, so that no lock is
// held on the server between two requests. A request is a pipeline that opens a
// stream of its own and closes it again.
//
// This is the only place that sends anything twice: a transaction that the
// server refused as busy, or ran none of because of one unit of its group.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
)

const (
	// readers is how many reading requests run at once. Together with the writer
	// it stays far below the 128 streams a server gives to all its clients.
	readers = 8
	// requestTimeout ends a request whose answer does not come. It lies well
	// above the 5 s after which a server takes the lock from a hanging writer.
	// What a large request takes at slowestLink, in bytes a second, is added.
	requestTimeout = 15 * time.Second
	slowestLink    = 100_000
	dialTimeout    = 5 * time.Second
	idleTimeout    = 90 * time.Second
	// maxValue is the size of the largest value a server stores, in bytes.
	maxValue = 5_000_000
)

// Config says where the database is.
type Config struct {
	URL   string                                // http or https, without credentials, query and fragment
	Token func(context.Context) (string, error) // asked before each request; nil sends no token
}

// Engine is an engine.Engine over a libSQL server.
type Engine struct {
	host      string // host:port, for errors
	client    *hrana.Client
	transport *http.Transport
	lane      *engine.Lane
	reading   chan struct{} // holds an element for each reading request under way

	queries, batches, commits, retries atomic.Uint64

	// mu guards closed, and the passage of running from 0 to 1.
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // Query calls
}

// Open returns an engine on the database at cfg.URL. It does not speak to the
// server.
func Open(cfg Config) (*Engine, error) {
	token := cfg.Token
	if token != nil {
		token = func(ctx context.Context) (string, error) {
			text, err := cfg.Token(ctx)
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
	client, err := hrana.NewClient(cfg.URL, token)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		host:      hostPort(cfg.URL),
		client:    client,
		transport: newTransport(),
		reading:   make(chan struct{}, readers),
	}
	e.lane = engine.NewLane(e.commit)
	return e, nil
}

// newTransport speaks HTTP/1.1 only: over HTTP/2 a server takes the namespace
// from a header that is not there and answers from the wrong database.
func newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols:           protocols,
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout: dialTimeout,
		// Servers compress every answer if asked, which costs more time than it
		// saves on any link above 100 Mbit/s.
		DisableCompression:  true,
		MaxConnsPerHost:     readers + 1, // the writer never waits for a reader
		MaxIdleConnsPerHost: readers + 1,
		IdleConnTimeout:     idleTimeout,
		WriteBufferSize:     32 << 10,
		ReadBufferSize:      32 << 10,
	}
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

// Query implements engine.Engine.
func (e *Engine) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
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
	select {
	case e.reading <- struct{}{}:
		defer func() { <-e.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	results, err := e.read(ctx, stmts)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return results, err
}

// read runs stmts on one snapshot.
func (e *Engine) read(ctx context.Context, stmts []engine.Stmt) ([]engine.Result, error) {
	if len(stmts) == 1 && verb(stmts[0].SQL) == "SELECT" {
		results, err := e.exchange(ctx, stmts, hrana.Execute{Stmt: wire(stmts[0])}, hrana.Close{})
		if err != nil {
			return nil, e.requestError(err)
		}
		if err := results[0].Err; err != nil {
			return nil, serverError(err, 0)
		}
		e.queries.Add(1)
		return []engine.Result{result(results[0].Stmt)}, nil
	}

	// The transaction is rolled back whatever happens: it has nothing to commit,
	// and what a PRAGMA may write is not stored beside the write lane.
	steps := []hrana.Step{{Stmt: hrana.Stmt{SQL: "BEGIN"}}}
	for i, s := range stmts {
		steps = append(steps, hrana.Step{Cond: hrana.Ok(i), Stmt: wire(s)})
	}
	steps = append(steps, hrana.Step{Cond: hrana.Ok(0), Stmt: hrana.Stmt{SQL: "ROLLBACK"}})
	results, err := e.exchange(ctx, stmts, hrana.Batch{Steps: steps}, hrana.Close{})
	if err != nil {
		return nil, e.requestError(err)
	}
	if err := results[0].Err; err != nil {
		return nil, serverError(err, e.blame(ctx, stmts))
	}
	out := make([]engine.Result, len(stmts))
	for i, s := range results[0].Batch.Steps[:len(stmts)+1] {
		if s.Result == nil {
			return nil, stepError(s, i-1)
		}
		if i > 0 {
			out[i-1] = result(s.Result)
		}
	}
	e.queries.Add(1)
	return out, nil
}

// Batch implements engine.Engine.
func (e *Engine) Batch(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if err := check(stmts, nil); err != nil {
		return nil, err
	}
	return e.lane.Do(ctx, stmts)
}

// Stats implements engine.Engine.
func (e *Engine) Stats() engine.Stats {
	return engine.Stats{
		Queries:  e.queries.Load(),
		Batches:  e.batches.Load(),
		Commits:  e.commits.Load(),
		Retries:  e.retries.Load(),
		Requests: e.client.Requests(),
	}
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.lane.Close()
	e.running.Wait()
	e.transport.CloseIdleConnections()
	return nil
}

// exchange sends one pipeline that carries stmts, on a new stream, and returns a
// result for each of its requests. It is the one place that chooses the
// connection.
func (e *Engine) exchange(ctx context.Context, stmts []engine.Stmt, requests ...hrana.Request) ([]hrana.Result, error) {
	upload := time.Duration(engine.Size(stmts)) * time.Second / slowestLink
	ctx, cancel := context.WithTimeout(ctx, requestTimeout+upload)
	defer cancel()
	answer, err := e.client.Do(ctx, e.transport, hrana.Pipeline{Requests: requests})
	if _, refused := errors.AsType[*hrana.Error](err); refused {
		// A server that refuses a request may close the connection behind its
		// answer, which the next request on it would find out too late.
		e.transport.CloseIdleConnections()
	}
	if err != nil {
		return nil, err
	}
	return answer.Results, nil
}

// blame finds the statement that the server cannot parse, after it refused a
// batch for it without saying which; -1 if it is none or remains unknown. Each
// statement is sent in a batch of its own, on a condition that never holds.
func (e *Engine) blame(ctx context.Context, stmts []engine.Stmt) int {
	if len(stmts) == 1 {
		return 0
	}
	never := hrana.Not(hrana.And())
	requests := make([]hrana.Request, 0, len(stmts)+1)
	for _, s := range stmts {
		requests = append(requests, hrana.Batch{Steps: []hrana.Step{{Cond: never, Stmt: hrana.Stmt{SQL: s.SQL}}}})
	}
	results, err := e.exchange(ctx, nil, append(requests, hrana.Close{})...)
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
	return hrana.Stmt{SQL: s.SQL, Args: s.Args, WantRows: true}
}

func result(r *hrana.StmtResult) engine.Result {
	return engine.Result{Rows: r.Rows, Affected: r.Affected}
}

var (
	// readVerbs begin the statements that Query runs. A statement of another kind
	// would be carried out beside the write lane.
	readVerbs = map[string]bool{"SELECT": true, "VALUES": true, "WITH": true, "EXPLAIN": true, "PRAGMA": true}
	// foreignVerbs begin the statements that would end the transaction of a
	// whole group, or make the server refuse it.
	foreignVerbs = map[string]bool{
		"BEGIN": true, "COMMIT": true, "END": true, "ROLLBACK": true, "SAVEPOINT": true, "RELEASE": true,
		"ATTACH": true, "DETACH": true, "VACUUM": true,
	}
)

// check finds what no server can run, before anything is sent. allowed limits
// the verbs of the statements, nil does not.
func check(stmts []engine.Stmt, allowed map[string]bool) error {
	for i, s := range stmts {
		verb := verb(s.SQL)
		switch {
		case !utf8.ValidString(s.SQL):
			return &engine.Error{Stmt: i, Err: errors.New("text is not valid UTF-8")}
		case verb == "":
			return &engine.Error{Stmt: i, Err: errors.New("text does not begin with a verb")}
		case foreignVerbs[verb]:
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
