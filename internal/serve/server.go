package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
	"github.com/episodic-memory/episodic/internal/mcpserver"
)

// Options say which memory a Server offers, and to whom.
type Options struct {
	// Store is the memory. It bounds all tokens, and stays the caller's to close. Required.
	Store *episodic.Store
	// Tokens are those of clients; without any nobody is let in. Required.
	Tokens *access.File
	// Hosts are the names and addresses, without a port, by which clients reach the Server,
	// besides those of the machine itself (localhost, 127.0.0.1, ::1).
	Hosts []string
	// Origins are those of web pages, such as https://example.com, that may call the Server,
	// besides its own.
	Origins []string
	// TLS is for connections; nil: they are not encrypted.
	TLS *tls.Config
	// Limits bound what clients take of this machine.
	Limits Limits
	// Version is that of this program, told to clients.
	Version string
	// Logger is told of refused requests, of panics and of what the SDK tells, and never of a
	// secret; default nil: nobody is.
	Logger *slog.Logger
}

// Limits bound what clients take of this machine. Zero fields have the defaults named.
type Limits struct {
	Connections int           // open at once; others wait for them. Default 256.
	Requests    int           // carried out at once; others wait for them. Default 64.
	Header      time.Duration // for the header of a request to come. Default 10 s.
	Body        time.Duration // for the rest of it. Default 30 s.
	Idle        time.Duration // between two requests of a connection. Default 2 min.
	Wait        time.Duration // for others to be carried out. Default 10 s.
	Drain       time.Duration // for what is under way when the Server ends. Default 50 s.
}

func (l Limits) orDefaults() Limits {
	return Limits{
		Connections: cmp.Or(l.Connections, 256), Requests: cmp.Or(l.Requests, 64),
		Header: cmp.Or(l.Header, 10*time.Second), Body: cmp.Or(l.Body, 30*time.Second),
		Idle: cmp.Or(l.Idle, 2*time.Minute), Wait: cmp.Or(l.Wait, 10*time.Second),
		Drain: cmp.Or(l.Drain, 50*time.Second),
	}
}

// answerPatience bounds a request that has come: longer than a tool takes at most, and its
// answer to a slow client.
const answerPatience = 90 * time.Second

// Server is an HTTP server of one memory: /mcp is for agents, /metrics for Prometheus, and
// /healthz for whoever asks whether it is there.
type Server struct {
	o        Options
	log      *slog.Logger
	gate     *gate
	work     *work
	count    *counters
	agents   map[access.Rights]*mcpserver.Server
	mcp      http.Handler
	refusals refusals
	ending   context.Context // of requests that last until the Server ends
	end      context.CancelFunc
}

// New returns a Server. The error names the option that is wrong.
func New(o Options) (*Server, error) {
	o.Limits = o.Limits.orDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	gate, err := newGate(o.Hosts, o.Origins)
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, log: o.Logger, gate: gate, work: newWork(o.Limits), count: newCounters(o.Store),
		agents: make(map[access.Rights]*mcpserver.Server),
	}
	s.ending, s.end = context.WithCancel(context.Background())
	for rights, tools := range map[access.Rights]mcpserver.Tools{
		access.Read: mcpserver.ReadTools, access.Write: mcpserver.KeepTools, access.Admin: mcpserver.AllTools,
	} {
		s.agents[rights] = mcpserver.New(mcpserver.Options{
			Open:  func(context.Context) (*episodic.Store, error) { return o.Store.Scoped(episodic.Scope{}) },
			Tools: tools, Version: o.Version, Logger: o.Logger,
		})
	}
	s.mcp = mcp.NewStreamableHTTPHandler(s.agent, &mcp.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, Logger: o.Logger, MaxRequestBodyBytes: maxBody,
		DisableLocalhostProtection:   true, // the gate does it, for every address
		PropagateRequestCancellation: true,
	})
	return s, nil
}

// agent is the SDK's server for a request whose token is known.
func (s *Server) agent(r *http.Request) *mcp.Server {
	if token, ok := r.Context().Value(tokenKey{}).(*access.Token); ok {
		if a := s.agents[token.Rights]; a != nil {
			return a.MCP()
		}
	}
	return nil
}

// Serve answers requests until ctx ends. Then it takes no more, answers what was asked, for
// Limits.Drain at most, and returns nil. It closes the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.o.Limits.Header,
		IdleTimeout:       s.o.Limits.Idle,
		MaxHeaderBytes:    maxHeader,
		TLSConfig:         s.o.TLS,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // of what clients do wrong
		Protocols:         new(http.Protocols),
		ConnState:         s.count.connection,
	}
	srv.Protocols.SetHTTP1(true) // so that a connection is one request at a time
	ended := make(chan error, 1)
	limited := newLimited(listener, s.o.Limits.Connections)
	go func() {
		if s.o.TLS != nil {
			ended <- srv.ServeTLS(limited, "", "")
		} else {
			ended <- srv.Serve(limited)
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.end()
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Limits.Drain)
	defer cancel()
	err := srv.Shutdown(patience)
	if err != nil {
		err = errors.Join(fmt.Errorf("not all that was asked for could be answered in %v: %w", s.o.Limits.Drain, err), srv.Close())
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// maxHeader bounds the header of a request, in bytes; net/http adds 4 KiB.
const maxHeader = 8 << 10

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, control: http.NewResponseController(w), began: time.Now()}
	defer s.count.answered(a)
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // it is compared so by net/http
				panic(p)
			}
			s.log.Error("panic", "in", r.URL.Path, "value", fmt.Sprint(p), "stack", string(debug.Stack()))
			if a.status == 0 {
				a.fail(s, &problem{status: http.StatusInternalServerError, text: "the request failed by a defect of episodic"})
			}
		}
	}()
	// A client that sends, or takes, slowly does not keep what it has for ever.
	_ = a.control.SetReadDeadline(a.began.Add(s.o.Limits.Body))
	_ = a.control.SetWriteDeadline(a.began.Add(s.o.Limits.Body + s.o.Limits.Wait + answerPatience))
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if r.URL.Path == "/healthz" {
		// It tells nothing, and probes come by addresses of all kinds.
		fmt.Fprintln(a, "ok")
		return
	}
	if p := s.route(a, r); p != nil {
		a.fail(s, p)
	}
}

func (s *Server) route(a *answer, r *http.Request) *problem {
	if p := s.gate.check(r); p != nil {
		return p
	}
	if s.gate.preflight(a, r) {
		return nil
	}
	switch r.URL.Path {
	case "/mcp":
		token, p := s.authorize(r)
		if p != nil {
			return p
		}
		return s.serveMCP(a, r, token)
	case "/metrics":
		token, p := s.authorize(r)
		if p != nil {
			return p
		}
		if token.Rights != access.Metrics {
			return &problem{status: http.StatusForbidden, reason: "rights", text: "this token is not one for metrics: episodic token create NAME --rights metrics makes one"}
		}
		s.count.handler.ServeHTTP(a, r)
		return nil
	}
	return &problem{status: http.StatusNotFound, reason: "path", text: "there are only /mcp, /metrics and /healthz"}
}
