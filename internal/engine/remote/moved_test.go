package remote

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
)

// nameServer is a DNS server for which every name has one IPv4 address.
type nameServer struct{ addr atomic.Pointer[netip.Addr] }

func (s *nameServer) set(addr string) {
	a := netip.MustParseAddr(addr)
	s.addr.Store(&a)
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe() // which is to the resolver as TCP
		go func() {
			defer server.Close()
			for s.answer(server) == nil {
			}
		}()
		return client, nil
	}}
}

func (s *nameServer) answer(c net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, query); err != nil {
		return err
	}
	const header, typeA = 12, 1
	end := header
	for query[end] != 0 { // the labels of the name
		end += 1 + int(query[end])
	}
	end += 5 // the last label, type and class
	answers := byte(0)
	record := append([]byte{0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4}, s.addr.Load().AsSlice()...)
	if query[end-3] == typeA {
		answers = 1
	}
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0}, query[header:end]...)
	if answers > 0 {
		reply = append(reply, record...)
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	return err
}

// frontAt passes all that comes to an address on to a server.
func frontAt(t *testing.T, address, to string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err) // not every system has 127.0.0.2
	}
	back, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	s := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(back) }, Transport: transport})
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		transport.CloseIdleConnections()
	})
}

func TestConnectionsFollowTheServersName(t *testing.T) {
	older, newer := hranatest.Start(t), hranatest.Start(t)
	port := port(t, "http://"+hranatest.Unused(t))
	frontAt(t, "127.0.0.1:"+port, older.URL())
	frontAt(t, "127.0.0.2:"+port, newer.URL())
	dns := &nameServer{}
	dns.set("127.0.0.1")
	const host = "moved.test"
	e := openConfig(t, Config{URL: fmt.Sprintf("http://%s:%s", host, port), resolver: dns.resolver()})
	for _, server := range []*hranatest.Server{older, newer} {
		must(t, openURL(t, server.URL()), stmt("CREATE TABLE t(k)"))
	}
	stored := func(want ...string) {
		t.Helper()
		for i, server := range []*hranatest.Server{older, newer} {
			if got := keys(t, openURL(t, server.URL())); got != want[i] {
				t.Errorf("server %d has %q, want %q", i, got, want[i])
			}
		}
	}
	given := func() uint64 { return e.pool.Stats().ClosedBy[pool.ClosedRetired] }

	must(t, e, insert(1))
	named := e.compareAddress(host, nil)
	dns.set("127.0.0.2")
	named = e.compareAddress(host, named) // one answer of many may lack an address
	must(t, e, insert(2))
	stored("1 2", "<nil>")
	if n := given(); n > 0 {
		t.Errorf("%d connections were given up", n)
	}
	named = e.compareAddress(host, named)
	must(t, e, insert(3))
	stored("1 2", "3")
	n := given()
	if n == 0 {
		t.Error("no connection was given up")
	}

	dns.set("127.0.0.3") // where nobody is
	for range 3 {
		named = e.compareAddress(host, named)
	}
	must(t, e, insert(4))
	stored("1 2", "3 4")
	if given() != n {
		t.Errorf("%d connections were given up for an address that does not answer", given()-n)
	}
}

func TestAServerThatTakesNoWritesIsLeft(t *testing.T) {
	admin := hranatest.Unused(t)
	server := hranatest.Start(t, hranatest.WithArgs("--admin-listen-addr", admin))
	block := func(what string) {
		t.Helper()
		resp, err := http.Post("http://"+admin+"/v1/namespaces/default/config", "application/json", strings.NewReader(what))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	defer http.DefaultClient.CloseIdleConnections()
	for what, call := range map[string]func(*Engine) error{
		`{"block_reads":false,"block_writes":true}`: func(e *Engine) error { _, err := e.Batch(t.Context(), insert(1)); return err },
		`{"block_reads":true,"block_writes":false}`: func(e *Engine) error { _, err := e.Query(t.Context(), stmt("SELECT 1")); return err },
	} {
		e := openURL(t, server.URL())
		_, err := e.Repeatable(t.Context(), stmt("CREATE TABLE IF NOT EXISTS t(k)"))
		if err != nil {
			t.Fatal(err)
		}
		open := e.pool.Stats().Open
		block(what)
		for range 3 {
			wantError(t, call(e), engine.KindUnavailable, 0, "Operation was blocked")
		}
		if n := e.pool.Stats().ClosedBy[pool.ClosedRetired]; n == 0 || n > uint64(open)+1 {
			t.Errorf("%s: %d connections were given up, %d were open", what, n, open)
		}
		block(`{"block_reads":false,"block_writes":false}`)
		must(t, e, insert(1))
	}
}

func TestAnswersThatSendAway(t *testing.T) {
	for _, tt := range []struct {
		err  hrana.Error
		away bool
	}{
		{hrana.Error{Code: "BLOCKED", Message: "Operation was blocked: moved"}, true},
		{hrana.Error{Code: "SQLITE_READONLY", Message: "attempt to write a readonly database"}, true},
		{hrana.Error{Code: "PROXY_ERROR", Message: "error executing a request on the primary: attempt to write a readonly database"}, true},
		{hrana.Error{Code: "SQLITE_BUSY", Message: "database is locked"}, false},
	} {
		steps := []hrana.StepResult{{Result: &hrana.StmtResult{}}, {Err: &tt.err}}
		if got := sentAway([]hrana.Result{{Batch: &hrana.BatchResult{Steps: steps}}}); got != tt.away {
			t.Errorf("%+v in a step: %v", tt.err, got)
		}
		if got := sentAway([]hrana.Result{{}, {Err: &tt.err}}); got != tt.away {
			t.Errorf("%+v: %v", tt.err, got)
		}
	}
}
