package hrana

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A session speaks one protocol with a real server.
type session struct {
	client *Client
	rt     *http.Transport
}

func newSession(t *testing.T, s *hranatest.Server, protocol Protocol) *session {
	t.Helper()
	out := &session{newClient(t, s.URL()), &http.Transport{DisableCompression: true}}
	out.client.protocol.Store(uint32(protocol))
	t.Cleanup(out.rt.CloseIdleConnections)
	return out
}

// do sends a pipeline. No request in it may fail.
func (s *session) do(t *testing.T, p Pipeline) *Answer {
	t.Helper()
	a, err := s.client.Do(t.Context(), s.rt, p)
	if err != nil {
		t.Fatalf("%v: %v", s.client.Protocol(), err)
	}
	for i, r := range a.Results {
		if r.Err != nil {
			t.Fatalf("%v: result %d: %v", s.client.Protocol(), i, r.Err)
		}
		if r.Batch == nil {
			continue
		}
		for j, step := range r.Batch.Steps {
			if step.Err != nil {
				t.Fatalf("%v: result %d: step %d: %v", s.client.Protocol(), i, j, step.Err)
			}
		}
	}
	return a
}

// once runs a statement on a stream of its own.
func (s *session) once(t *testing.T, sql string) *Answer {
	t.Helper()
	return s.do(t, Pipeline{Requests: append(execute(sql), Close{})})
}

func execute(sqls ...string) []Request {
	out := make([]Request, len(sqls), len(sqls)+1)
	for i, sql := range sqls {
		out[i] = Execute{Stmt{SQL: sql}}
	}
	return out
}

const count = "SELECT count(*) FROM t"

// rows counts the rows of t on a stream of its own.
func (s *session) rows(t *testing.T) int64 {
	t.Helper()
	return number(s.once(t, count))
}

// number returns the first result of an answer, which must be an integer.
func number(a *Answer) int64 {
	if b := a.Results[0].Batch; b != nil {
		return b.Steps[0].Result.Rows[0][0].(int64)
	}
	return a.Results[0].Stmt.Rows[0][0].(int64)
}

func eachProtocol(t *testing.T, test func(*testing.T, Protocol)) {
	for protocol := range V2JSON + 1 {
		t.Run(protocol.String(), func(t *testing.T) { test(t, protocol) })
	}
}

func TestBatonKeepsStream(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol Protocol) {
		const self = "http://self.example:1"
		server := hranatest.Start(t, hranatest.WithArgs("--http-self-url", self))
		s := newSession(t, server, protocol)
		s.once(t, "CREATE TABLE t(n)")

		first := s.do(t, Pipeline{Requests: execute("BEGIN IMMEDIATE", "INSERT INTO t VALUES(1)")})
		if first.Baton == "" || first.BaseURL != self {
			t.Fatalf("baton %q, base URL %q", first.Baton, first.BaseURL)
		}
		second := s.do(t, Pipeline{Baton: first.Baton, Requests: execute(count)})
		if n := number(second); n != 1 {
			t.Errorf("%d rows in the transaction of the first pipeline, want 1", n)
		}
		if n := s.rows(t); n != 0 {
			t.Errorf("%d rows outside of it, want 0", n)
		}
		if second.Baton == "" || second.Baton == first.Baton {
			t.Fatalf("baton %q after %q", second.Baton, first.Baton)
		}
		last := s.do(t, Pipeline{Baton: second.Baton, Requests: []Request{Close{}}})
		if last.Baton != "" {
			t.Errorf("baton %q after Close", last.Baton)
		}
		if n := s.rows(t); n != 0 {
			t.Errorf("%d rows after Close, want 0", n)
		}
		s.once(t, "INSERT INTO t VALUES(1)") // the write lock is free
	})
}

func TestPipelineIsNotRunWithoutItsStream(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol Protocol) {
		server := hranatest.Start(t)
		s := newSession(t, server, protocol)
		s.once(t, "CREATE TABLE t(n)")
		open := func() string { return s.do(t, Pipeline{Requests: []Request{selectOne}}).Baton }

		refused := func(name, baton string, why func(*Error) bool) {
			t.Helper()
			_, err := s.client.Do(t.Context(), s.rt, Pipeline{Baton: baton, Requests: append(execute("INSERT INTO t VALUES(1)"), Close{})})
			if e, ok := errors.AsType[*Error](err); !ok || !why(e) || e.StreamGone() && e.BatonUsed() {
				t.Errorf("%s: error is %v", name, err)
			}
		}

		refused("unknown", "unknown", (*Error).StreamGone)
		used := open()
		s.do(t, Pipeline{Baton: used, Requests: []Request{selectOne}})
		refused("used", used, (*Error).BatonUsed)
		closed := open()
		s.do(t, Pipeline{Baton: closed, Requests: []Request{Close{}}})
		refused("closed", closed, (*Error).StreamGone)
		lost := open()
		server.Kill()
		s.rt.CloseIdleConnections()
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		refused("lost", lost, (*Error).StreamGone)
		if n := s.rows(t); n != 0 {
			t.Errorf("%d rows of refused pipelines", n)
		}

		_, err := s.client.Do(t.Context(), s.rt, Pipeline{Requests: append(execute("INSERT INTO t VALUES(1)"), Close{}, selectOne)})
		if e, ok := errors.AsType[*Error](err); !ok || e.StreamGone() || s.rows(t) != 1 {
			t.Errorf("request after Close: %d rows, error is %v", s.rows(t), err)
		}
	})
}

func TestServerAcceptsOmittedFields(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol Protocol) {
		s := newSession(t, hranatest.Start(t), protocol)
		s.once(t, "CREATE TABLE t(n)")
		zeros := []any{nil, int64(0), 0.0, "", []byte{}}
		for _, sql := range []string{"SELECT ?, ?, ?, ?, ?", "INSERT INTO t VALUES(1) RETURNING ?, ?, ?, ?, ?"} {
			stmt := Stmt{SQL: sql, Args: zeros}
			a := s.do(t, Pipeline{Requests: []Request{
				Execute{stmt}, Batch{[]Step{{Stmt: stmt}, {Ok(0), stmt}, {And(), stmt}, {Not(Ok(0)), stmt}}}, Close{},
			}})
			steps := a.Results[1].Batch.Steps
			if steps[3].Result != nil {
				t.Errorf("%s: ran although its condition does not hold", sql)
			}
			for i, r := range []*StmtResult{a.Results[0].Stmt, steps[0].Result, steps[1].Result, steps[2].Result} {
				if r == nil {
					t.Fatalf("%s: %d was not run", sql, i)
				}
				if !reflect.DeepEqual(r.Rows, [][]any{zeros}) {
					t.Errorf("%s: rows of %d are %v", sql, i, r.Rows)
				}
			}
		}
		if n := s.rows(t); n != 4 {
			t.Errorf("%d rows inserted, want 4", n)
		}
	})
}

func TestAServerReadsLengths(t *testing.T) {
	s := newSession(t, hranatest.Start(t), V3Protobuf)
	for _, n := range []int{1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 4 << 20} {
		stmt := Stmt{SQL: "SELECT ?, ?", Args: []any{bytes.Repeat([]byte("x"), n), "last"}}
		a := s.do(t, Pipeline{Requests: []Request{Batch{[]Step{{Stmt: stmt}}}, Close{}}})
		if rows := a.Results[0].Batch.Steps[0].Result.Rows; !reflect.DeepEqual(rows, [][]any{stmt.Args}) {
			t.Errorf("blob of %d bytes is not what was sent", n)
		}
	}
}

// plainly removes Accept-Encoding from requests.
type plainly struct{ http.RoundTripper }

func (p plainly) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Del("Accept-Encoding")
	return p.RoundTripper.RoundTrip(r)
}

func TestJSONAnswersAreCompressed(t *testing.T) {
	server := hranatest.Start(t)
	direct := newSession(t, server, V3Protobuf)
	direct.once(t, "CREATE TABLE t(text, blob)")
	random := rand.NewChaCha8([32]byte{})
	var rows []Step
	for i := range 100 {
		text := strings.Repeat(fmt.Sprintf("row %d was found by the agent\n", i*i), 2048)[:2048]
		blob := make([]byte, 2048)
		_, _ = random.Read(blob)
		rows = append(rows, Step{Stmt: Stmt{SQL: "INSERT INTO t VALUES(?, ?)", Args: []any{text, blob}}})
	}
	direct.do(t, Pipeline{Requests: []Request{Batch{rows}, Close{}}})
	link, err := hranatest.NewLink(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)

	eachProtocol(t, func(t *testing.T, protocol Protocol) {
		c, rt := newClient(t, link.URL()), &http.Transport{DisableCompression: true}
		t.Cleanup(rt.CloseIdleConnections)
		c.protocol.Store(uint32(protocol))
		dials := countDials(rt)
		get := func(rt http.RoundTripper, column string) (rows [][]any, wire int64) {
			t.Helper()
			before := link.Counts().BytesDown
			a, err := c.Do(t.Context(), rt, Pipeline{Requests: append(execute("SELECT "+column+" FROM t"), Close{})})
			if err != nil || a.Results[0].Err != nil {
				t.Fatalf("answer is %+v, error %v", a, err)
			}
			return a.Results[0].Stmt.Rows, link.Counts().BytesDown - before
		}
		for column, most := range map[string]float64{"text": 0.2, "blob": 0.85} { // random bytes gain only what base64 loses
			wantRows, plain := get(plainly{rt}, column)
			gotRows, wire := get(rt, column)
			if len(gotRows) != 100 || !reflect.DeepEqual(gotRows, wantRows) {
				t.Errorf("%s: rows differ from those of a plain answer", column)
			}
			share := float64(wire) / float64(plain)
			if protocol == V3Protobuf && share < 0.999 || protocol != V3Protobuf && share > most { // the times the server tells differ by some bytes
				t.Errorf("%s: %d bytes of answer, plain %d", column, wire, plain)
			}
			t.Logf("%s: %d bytes of answer, plain %d", column, wire, plain)
		}
		if *dials != 1 {
			t.Errorf("%d dials for 4 requests", *dials)
		}
	})
}

func TestRefusalOfARealServer(t *testing.T) {
	server := hranatest.Start(t, hranatest.WithKey(hranatest.NewKey()))
	eachProtocol(t, func(t *testing.T, protocol Protocol) {
		s := newSession(t, server, protocol)
		_, err := s.client.Do(t.Context(), s.rt, closeOnly)
		want := Error{Message: "Unauthorized: `The JWT is invalid`", Status: http.StatusUnauthorized}
		if e, ok := errors.AsType[*Error](err); !ok || *e != want {
			t.Errorf("error is %v, want %v", err, &want)
		}
	})
}

func TestPingOfARealServer(t *testing.T) {
	server := hranatest.Start(t, hranatest.WithKey(hranatest.NewKey()))
	s := newSession(t, server, V3Protobuf)
	dials := countDials(s.rt)
	for range 3 {
		if err := s.client.Ping(t.Context(), s.rt); err != nil {
			t.Fatal(err)
		}
	}
	if s.client.Pings() != 3 || *dials != 1 {
		t.Errorf("%d pings on %d connections", s.client.Pings(), *dials)
	}
}

var (
	selectOne   = Execute{Stmt{SQL: "SELECT 1"}}
	insertBatch = Batch{Steps: []Step{
		{Stmt: Stmt{SQL: "BEGIN IMMEDIATE"}}, {Stmt: Stmt{SQL: "INSERT INTO t VALUES(1)"}}, {Stmt: Stmt{SQL: "COMMIT"}},
	}}
	countBatch = Batch{Steps: []Step{{Stmt: Stmt{SQL: count}}}}
)

func TestServerReturnsReplicationIndexOfWrite(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol Protocol) {
		server := hranatest.Start(t, hranatest.WithReplication())
		s := newSession(t, server, protocol)
		newest := func() uint64 { return s.once(t, "SELECT 1").ReplicationIndex() }
		created := s.once(t, "CREATE TABLE t(n)").ReplicationIndex()
		inserted := s.once(t, "INSERT INTO t VALUES(1)").ReplicationIndex()
		if created == 0 || inserted <= created {
			t.Errorf("index %d, then %d", created, inserted)
		}
		alone := s.do(t, Pipeline{Requests: []Request{insertBatch, Close{}}}).ReplicationIndex()
		want := newest()
		if protocol == V3Protobuf {
			want = 0
		}
		if alone != want {
			t.Errorf("index of a batch is %d, want %d", alone, want)
		}
		for name, s := range map[string]*session{"primary": s, "replica": newSession(t, hranatest.StartReplica(t, server), protocol)} {
			followed := s.do(t, Pipeline{Requests: []Request{insertBatch, Execute{Stmt{SQL: "PRAGMA user_version"}}, Close{}}})
			if told, want := followed.ReplicationIndex(), newest(); told < want {
				t.Errorf("index of a batch sent to the %s is %d, want %d", name, told, want)
			}
		}
	})
}

func TestAPrimaryDoesNotWaitForAnIndex(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol Protocol) {
		s := newSession(t, hranatest.Start(t), protocol)
		s.once(t, "CREATE TABLE t(n)")
		s.do(t, Pipeline{ReplicationIndex: math.MaxUint64, Requests: []Request{insertBatch, selectOne, Close{}}})
		if n := s.rows(t); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestReplicaHonoursReplicationIndex(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol Protocol) {
		server := hranatest.Start(t, hranatest.WithReplication())
		primary := newSession(t, server, protocol)
		replica := newSession(t, hranatest.StartReplica(t, server), protocol)
		primary.once(t, "CREATE TABLE t(n)")

		rounds := testkit.Effort(25, 100, 300)
		rows := int64(0)
		// stale counts stale answers in so many rounds, or until the first if ask is
		// false: then one is enough.
		stale := func(read Request, ask bool, rounds int) (n int) {
			for i := 0; i < rounds && (ask || n == 0); i++ {
				written := primary.once(t, "INSERT INTO t VALUES(1)")
				rows++
				p := Pipeline{Requests: []Request{read, Close{}}}
				if ask {
					p.ReplicationIndex = written.ReplicationIndex()
				}
				if number(replica.do(t, p)) != rows {
					n++
				}
			}
			return n
		}
		for _, read := range []Request{execute(count)[0], countBatch} {
			if n := stale(read, true, rounds); n != 0 {
				t.Errorf("%T: %d of %d answers are older than requested", read, n, rounds)
			}
			// How often the replica lags depends on the load of the machine.
			if stale(read, false, 2000) == 0 {
				t.Errorf("%T: no answer without an index is stale, so the test proves nothing", read)
			}
		}
	})
}

// As documented at Pipeline.ReplicationIndex, a later index may be lower.
func TestPrimaryIndexRestartsAfterACrash(t *testing.T) {
	server := hranatest.Start(t, hranatest.WithReplication())
	s := newSession(t, server, V3Protobuf)
	s.once(t, "CREATE TABLE t(n)")
	before := uint64(0)
	for range 3 {
		before = s.once(t, "INSERT INTO t VALUES(1)").ReplicationIndex()
	}
	server.Kill()
	s.rt.CloseIdleConnections()
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	after := s.once(t, "INSERT INTO t VALUES(1)").ReplicationIndex()
	if n := s.rows(t); after >= before || n != 4 {
		t.Errorf("index %d after %d, %d rows", after, before, n)
	}
}
