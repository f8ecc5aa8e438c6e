package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana"
)

const (
	// probeTimeout bounds each check of Probe.
	probeTimeout = 5 * time.Second
	// probeLockWait bounds the wait for the write lock. A server takes the lock
	// from a transaction that another one has waited 5 s for: a longer wait would
	// end another program's transaction.
	probeLockWait = 2 * time.Second
	// probePrimaryWait bounds the wait for what a replica asks its primary for. A replica
	// itself tries for ever.
	probePrimaryWait = 2 * time.Second
	// probeSamples is how many requests a median is taken of.
	probeSamples = 9
	// maxProbeText bounds, in bytes, a text of the server in a report.
	maxProbeText = 500
)

// probeSizes are the sizes of values that are tried, in bytes. A server that
// fills such a value with zeros, instead of remembering its length only, is not
// to suffer by the last one.
var probeSizes = []int64{1e6, 2e6, 5e6, 10e6, 20e6, 50e6, 100e6}

// probePaths answer a GET if the server speaks the protocol.
var probePaths = []struct {
	path     string
	protocol hrana.Protocol
}{
	{"/v3-protobuf", hrana.V3Protobuf}, {"/v3", hrana.V3JSON}, {"/v2", hrana.V2JSON},
}

// ServerReport is what Probe found out. The root package's ProbedServer has the
// same fields, and says what they mean.
type ServerReport struct {
	Addresses          []string
	Proxy              string
	HTTP               []string
	TLS                string
	CertificateExpires time.Time
	Version            string
	ServerHeader       string
	Protocols          []string
	Protocol           string
	Token              string
	Role               string
	Primary            string
	Lag                *uint64
	Writes             string
	ReplicationIndex   uint64
	RetryAfter         string
	BaseURL            string
	LargestValue       int64
	RefusedValue       int64
	Parameters         int64
	KeepAlive          bool
	Resolve            float64
	Cold               float64
	Warm               float64
	FirstQuery         float64
	NewStream          float64
	KeptStream         float64
}

// Failure is a check of Probe that failed, and why. It does not hold the token.
type Failure struct{ Check, Error string }

// Probe finds out what the server of cfg is and can do, without writing to it. Of cfg
// it uses what says how to reach the server. A check that fails does not end the others,
// unless nothing can be learned without it: then it is the last failure, and
// Protocol is empty. Each check ends within 5 s, and when ctx does.
func Probe(ctx context.Context, cfg Config) (*ServerReport, []Failure) {
	p, err := newProber(cfg)
	if err != nil {
		return &ServerReport{}, []Failure{{"address", err.Error()}}
	}
	p.run(ctx)
	return &p.report, p.failures
}

// prober carries out one Probe. It is used by one goroutine.
type prober struct {
	cfg       Config
	base      *url.URL
	token     func(context.Context) (string, error)
	secret    string // what token returned; "" before the first query
	client    *hrana.Client
	transport *http.Transport
	dials     atomic.Int32
	timeout   time.Duration

	report   ServerReport
	failures []Failure
}

func newProber(cfg Config) (*prober, error) {
	p := &prober{cfg: cfg, token: cfg.token(), timeout: probeTimeout}
	var err error
	secret := func(context.Context) (string, error) { return p.secret, nil }
	if p.client, err = cfg.newClient(secret); err != nil {
		return nil, err
	}
	p.base, _ = url.Parse(cfg.URL) // as NewClient did
	if p.transport, err = newTransport(&cfg); err != nil {
		return nil, err
	}
	dial := p.transport.DialContext
	p.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		p.dials.Add(1)
		return dial(ctx, network, addr)
	}
	return p, nil
}

func (p *prober) run(ctx context.Context) {
	defer p.transport.CloseIdleConnections()
	if !p.check(ctx, "address", p.address) || !p.check(ctx, "connection", p.connect) {
		return
	}
	if p.base.Scheme == "https" {
		p.check(ctx, "HTTP/2", p.http2)
	}
	p.check(ctx, "server", p.version)
	p.check(ctx, "protocols", p.protocols)
	p.check(ctx, "warm", p.warm)
	if !p.check(ctx, "first query", p.firstQuery) {
		return
	}
	p.check(ctx, "token", p.needsToken)
	p.check(ctx, "role", p.role)
	p.check(ctx, "new stream", p.newStream)
	p.check(ctx, "kept stream", p.keptStream)
	p.check(ctx, "writing", p.writing)
	p.check(ctx, "largest value", p.largestValue)
	p.check(ctx, "parameters", p.parameters)
}

func (p *prober) check(ctx context.Context, name string, f func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	err := f(ctx)
	if err != nil {
		p.failures = append(p.failures, Failure{name, p.clean(err.Error())})
	}
	return err == nil
}

// explain says in a few words what went wrong on the network, and what to do
// about it where that is clear.
func (p *prober) explain(err error) error {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	op, isOp := errors.AsType[*net.OpError](err)
	_, isPlain := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case isDNS && dns.IsNotFound:
		return fmt.Errorf("there is no host %s (%s); check the name", dns.Name, dns.Err)
	case isDNS:
		return fmt.Errorf("look up %s: %s", dns.Name, dns.Err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v", p.timeout)
	case isPlain:
		return errors.New("the server speaks no TLS; begin the target with http://")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s (%w); check that the server runs, and the port", cmp.Or(p.report.Proxy, p.base.Host), errno)
	case isErrno:
		return errno
	case isOp:
		return op.Err
	}
	return err
}

// clean makes a text that may come from the server fit for a report: short, and
// without credentials, which an answer can repeat.
func (p *prober) clean(s string) string {
	s = hrana.Clean(s, p.secret)
	if len(s) > maxProbeText {
		s = s[:maxProbeText] + "..."
	}
	return strings.ToValidUTF8(strings.TrimSpace(s), "\uFFFD")
}

func (p *prober) address(ctx context.Context) (err error) {
	if isLocalhost(p.base.Hostname()) {
		p.report.Addresses = localhostAddresses
		return nil
	}
	if p.transport.Proxy != nil {
		proxy, err := p.transport.Proxy(&http.Request{URL: p.base})
		if err != nil {
			return fmt.Errorf("read the proxy's address in the environment: %w", err)
		}
		if proxy != nil {
			p.report.Proxy = proxy.Host // which looks the server up itself
			return nil
		}
	}
	start := time.Now()
	p.report.Addresses, err = net.DefaultResolver.LookupHost(ctx, p.base.Hostname())
	p.report.Resolve = millis(time.Since(start))
	if err != nil {
		return p.explain(err)
	}
	return nil
}

// connect makes the connection that all checks but http2 go on with.
func (p *prober) connect(ctx context.Context) error {
	start := time.Now()
	resp, body, err := p.get(ctx, p, "/v3")
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusBadRequest && strings.Contains(body, "HTTPS") { // as Go's server and nginx say it
		return errors.New("the server speaks only TLS; begin the target with libsql:// or https://")
	}
	p.report.Cold = millis(time.Since(start))
	p.report.HTTP = []string{fmt.Sprintf("%d.%d", resp.ProtoMajor, resp.ProtoMinor)}
	if resp.TLS != nil {
		p.report.TLS = tls.VersionName(resp.TLS.Version)
		p.report.CertificateExpires = earliest(resp.TLS.PeerCertificates)
	}
	return nil
}

// earliest is when the first of a chain's certificates expires.
func earliest(chain []*x509.Certificate) time.Time {
	c := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return c.NotAfter.UTC()
}

// http2 asks on a connection of its own, which offers the server both versions.
func (p *prober) http2(ctx context.Context) error {
	both := p.transport.Clone()
	defer both.CloseIdleConnections()
	both.Protocols = new(http.Protocols)
	both.Protocols.SetHTTP1(true)
	both.Protocols.SetHTTP2(true)
	resp, _, err := p.get(ctx, both, "/v3")
	if err == nil && resp.ProtoMajor == 2 {
		p.report.HTTP = append(p.report.HTTP, "2")
	}
	return err
}

func (p *prober) version(ctx context.Context) error {
	resp, body, err := p.get(ctx, p, "/version")
	// Something else than a libSQL server may show a page here.
	if err == nil && resp.StatusCode == http.StatusOK && len(body) < 200 && !strings.HasPrefix(body, "<") {
		p.report.Version = p.clean(body)
	}
	return err
}

func (p *prober) protocols(ctx context.Context) error {
	var refused []error
	for _, x := range probePaths {
		resp, _, err := p.get(ctx, p, x.path)
		switch {
		case err != nil:
			return err
		case resp.StatusCode/100 == 2:
			p.report.Protocols = append(p.report.Protocols, x.protocol.String())
		case resp.StatusCode != http.StatusNotFound:
			refused = append(refused, fmt.Errorf("GET %s: HTTP %s", x.path, resp.Status))
		}
	}
	return errors.Join(refused...)
}

func (p *prober) warm(ctx context.Context) (err error) {
	before := p.dials.Load()
	p.report.Warm, err = median(ctx, func() error {
		_, _, err := p.get(ctx, p, "/v3")
		return err
	})
	p.report.KeepAlive = err == nil && p.dials.Load() == before
	return err
}

func (p *prober) firstQuery(ctx context.Context) error {
	if p.token != nil {
		token, err := p.token(ctx)
		if err != nil {
			return fmt.Errorf("get token: %w", err)
		}
		p.secret = strings.TrimSpace(token) // one from a file ends in a line feed
	}
	start := time.Now()
	_, err := p.query(ctx, p.client, execute("SELECT 1"))
	if err == nil {
		p.report.FirstQuery = millis(time.Since(start))
		p.report.Protocol = p.client.Protocol().String()
		return nil
	}
	refusal, isRefusal := errors.AsType[*hrana.Error](err)
	lost, isLost := errors.AsType[*hrana.TransportError](err)
	isLibSQL := len(p.report.Protocols) > 0
	switch {
	case isRefusal && refusal.Status == http.StatusUnauthorized && p.secret == "":
		p.report.Token = "missing"
		return fmt.Errorf("the server wants a token: %w", err)
	case isRefusal && (refusal.Status == http.StatusUnauthorized || refusal.Status == http.StatusForbidden && isLibSQL && p.secret != ""):
		p.report.Token = "refused"
		return fmt.Errorf("the server refuses the token: %w", err)
	case isRefusal && !isLibSQL && !troubled(refusal):
		return fmt.Errorf("what answers is no libSQL server: %w; check the URL", err)
	case isRefusal && refusal.Status == http.StatusNotFound && !refusal.Foreign:
		return fmt.Errorf("no such database on this server: %w", err)
	case isLost && lost.Sent && ctx.Err() == nil:
		return fmt.Errorf("no usable answer, perhaps this is no libSQL server: %w", err)
	}
	return err
}

// needsToken tells whether the token that was accepted is looked at.
func (p *prober) needsToken(ctx context.Context) error {
	p.report.Token = "not needed"
	if p.secret == "" {
		return nil
	}
	bare, err := p.cfg.newClient(nil)
	if err != nil {
		return err
	}
	_, err = p.query(ctx, bare, execute("SELECT 1"))
	if err != nil {
		p.report.Token = "accepted"
	}
	if refusal, ok := errors.AsType[*hrana.Error](err); ok && unauthorized(refusal) {
		return nil
	}
	return err
}

// troubled reports whether a refusal may come from the right server, which cannot do
// its work now, or from a gateway before it.
func troubled(h *hrana.Error) bool {
	a := classOf(h)
	return a.disposition >= maybeExecuted || a.down || a.overload
}

func unauthorized(e *hrana.Error) bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

func (p *prober) newStream(ctx context.Context) (err error) {
	p.report.NewStream, err = median(ctx, func() error {
		_, err := p.query(ctx, p.client, execute("SELECT 1"))
		return err
	})
	return err
}

func (p *prober) keptStream(ctx context.Context) error {
	stream, err := p.query(ctx, p.client, hrana.Pipeline{Requests: []hrana.Request{selectOne}})
	switch {
	case err != nil:
		return err
	case stream.BaseURL != "":
		p.report.BaseURL = p.clean(stream.BaseURL)
		return errors.New("not measured: the server wants streams to go on at another URL")
	case stream.Baton == "":
		return errors.New("the server keeps no streams open")
	}
	p.report.KeptStream, err = median(ctx, func() error {
		stream, err = p.query(ctx, p.client, hrana.Pipeline{Baton: stream.Baton, Requests: []hrana.Request{selectOne}})
		return err
	})
	if err != nil {
		return err // the stream ends by itself after some seconds
	}
	_, err = p.query(ctx, p.client, hrana.Pipeline{Baton: stream.Baton, Requests: []hrana.Request{hrana.Close{}}})
	return err
}

// role finds out whether the server is a replica. A replica passes all but SELECT on to
// its primary, and says so in the error if the primary refuses it.
func (p *prober) role(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, probePrimaryWait)
	defer cancel()
	// It reads only; servers demand the right to write all the same, the primary for a
	// replica.
	_, err := p.query(asking, p.client, execute("PRAGMA foreign_key_check(episodic_no_such_table)"))
	refusal, isRefusal := errors.AsType[*hrana.Error](err)
	switch {
	case isRefusal && strings.HasPrefix(refusal.Message, fromPrimary):
		p.report.Role, p.report.Primary = "replica", "answers"
		return p.lag(ctx)
	case isRefusal && (unauthorized(refusal) || strings.Contains(refusal.Message, "no such table")):
		p.report.Role = "primary"
	case err != nil && asking.Err() != nil && ctx.Err() == nil:
		// Any server may be slow: that it answers a SELECT at once shows that it is not.
		if _, err = p.query(ctx, p.client, execute("SELECT 1")); err != nil {
			return err
		}
		p.report.Role, p.report.Primary = "replica", "does not answer"
	}
	return nil
}

// lag compares the replica's state with its primary's, if the token may ask that.
func (p *prober) lag(ctx context.Context) error {
	primary, err := p.query(ctx, p.client, execute("PRAGMA user_version"))
	if refusal, ok := errors.AsType[*hrana.Error](err); ok && forbids(refusal) {
		return nil
	}
	if err != nil {
		return err
	}
	replica, err := p.query(ctx, p.client, execute("SELECT 1"))
	if err != nil {
		return err
	}
	if newest, own := primary.ReplicationIndex(), replica.ReplicationIndex(); newest > 0 { // else the protocol does not tell
		p.report.Lag = new(newest - min(newest, own))
	}
	return nil
}

// forbids reports whether the token lacks a right. A replica passes on what its primary
// says.
func forbids(e *hrana.Error) bool {
	return unauthorized(e) || strings.Contains(e.Message, "Authorization forbidden")
}

// execute is a pipeline of one statement.
func execute(sql string) hrana.Pipeline {
	return hrana.Pipeline{Requests: []hrana.Request{hrana.Execute{Stmt: hrana.Stmt{SQL: sql}}, hrana.Close{}}}
}

// writing takes the write lock and gives it back without having written. The
// lock alone tells nothing about the token: servers refuse a reader's request
// for a statement in it that writes, even if it would never be run.
func (p *prober) writing(ctx context.Context) error {
	if p.report.Primary == "does not answer" {
		return fmt.Errorf("this is a replica, and its primary did not answer it within %v: it can be read, not written; see that the primary runs and that the replica reaches it (--primary-grpc-url)", probePrimaryWait)
	}
	ctx, cancel := context.WithTimeout(ctx, probeLockWait)
	defer cancel()
	never := hrana.Not(hrana.And())
	a, err := p.query(ctx, p.client, hrana.Pipeline{Requests: []hrana.Request{
		hrana.Batch{Steps: []hrana.Step{
			{Stmt: hrana.Stmt{SQL: "BEGIN IMMEDIATE"}},
			{Cond: never, Stmt: hrana.Stmt{SQL: "DELETE FROM no_such_table"}},
			{Cond: hrana.Ok(0), Stmt: hrana.Stmt{SQL: "ROLLBACK"}},
		}},
		hrana.Close{},
	}})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer to BEGIN IMMEDIATE within %v: another program is writing, or writers hang; if it stays so, restart the server", probeLockWait)
	}
	if err == nil && a.Results[0].Batch.Steps[0].Err != nil {
		err = a.Results[0].Batch.Steps[0].Err
	}
	refusal, isRefusal := errors.AsType[*hrana.Error](err)
	switch {
	case err == nil:
		p.report.Writes = "allowed"
	case isRefusal && (forbids(refusal) || refusal.Code == "SQLITE_READONLY"):
		p.report.Writes = "forbidden"
	case isRefusal && refusal.Code == "SQLITE_BUSY":
		p.report.Writes = "busy"
	default:
		return err
	}
	return nil
}

func (p *prober) largestValue(ctx context.Context) error {
	var b hrana.Batch
	for i, size := range probeSizes {
		step := hrana.Step{Stmt: hrana.Stmt{SQL: "SELECT length(zeroblob(?))", Args: []any{size}}}
		if i > 0 {
			step.Cond = hrana.Ok(i - 1)
		}
		b.Steps = append(b.Steps, step)
	}
	a, err := p.query(ctx, p.client, hrana.Pipeline{Requests: []hrana.Request{b, hrana.Close{}}})
	if err != nil {
		return err
	}
	for i, s := range a.Results[0].Batch.Steps {
		switch {
		case s.Result != nil:
			p.report.LargestValue = probeSizes[i]
		case s.Err != nil && strings.Contains(s.Err.Message, "too big"):
			p.report.RefusedValue = probeSizes[i]
		case s.Err != nil:
			return s.Err
		}
	}
	return nil
}

// parameters learns their largest number from the error of a statement that has
// a parameter beyond.
func (p *prober) parameters(ctx context.Context) error {
	_, err := p.query(ctx, p.client, hrana.Pipeline{Requests: []hrana.Request{
		hrana.Execute{Stmt: hrana.Stmt{SQL: "SELECT ?1000000"}}, hrana.Close{},
	}})
	refusal, ok := errors.AsType[*hrana.Error](err)
	if !ok {
		return err
	}
	const says = "must be between ?1 and ?"
	if at := strings.Index(refusal.Message, says); at >= 0 {
		_, err = fmt.Sscan(refusal.Message[at+len(says):], &p.report.Parameters)
	}
	return err
}

var selectOne = hrana.Execute{Stmt: hrana.Stmt{SQL: "SELECT 1"}}

// query sends one pipeline. The failure of a request of it is an error, too.
func (p *prober) query(ctx context.Context, client *hrana.Client, pipeline hrana.Pipeline) (*hrana.Answer, error) {
	a, err := client.Do(ctx, p, pipeline)
	if lost, ok := errors.AsType[*hrana.TransportError](err); ok {
		return nil, &hrana.TransportError{Sent: lost.Sent, Err: p.explain(lost.Err)}
	}
	if err != nil {
		// A server may close the connection behind a refusal.
		p.transport.CloseIdleConnections()
		return nil, err
	}
	p.report.ReplicationIndex = max(p.report.ReplicationIndex, a.ReplicationIndex())
	for _, r := range a.Results {
		if r.Err != nil {
			return nil, r.Err
		}
	}
	return a, nil
}

// get asks for a path below the server's URL and returns the beginning of what
// it says.
func (p *prober) get(ctx context.Context, rt http.RoundTripper, path string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base.JoinPath(path).String(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("User-Agent", "episodic")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, "", p.explain(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, "", p.explain(err)
	}
	return resp, string(body), nil
}

// RoundTrip implements http.RoundTripper over the kept connection. It notes what
// the header of an answer tells.
func (p *prober) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.transport.RoundTrip(req)
	if err == nil {
		p.report.ServerHeader = p.clean(resp.Header.Get("Server"))
		p.report.RetryAfter = cmp.Or(p.clean(resp.Header.Get("Retry-After")), p.report.RetryAfter)
	}
	return resp, err
}

// median calls f a few times and returns the median of its times. Times count
// that were taken before ctx ended.
func median(ctx context.Context, f func() error) (float64, error) {
	var times []time.Duration
	for range probeSamples {
		start := time.Now()
		if err := f(); err != nil {
			if ctx.Err() != nil && len(times) > 0 {
				break
			}
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return millis(times[len(times)/2]), nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
