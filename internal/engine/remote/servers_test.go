package remote

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func newServers(n int) *servers {
	s := &servers{start: time.Now().Add(-time.Hour)}
	for range n {
		s.all = append(s.all, &server{})
	}
	return s
}

// asks counts which of the servers are picked, all of them idle.
func (s *servers) asks(n int) map[*server]int {
	counts := map[*server]int{}
	for range n {
		counts[s.pick(s.all)]++
	}
	return counts
}

func TestEquallyNearServersShareTheReads(t *testing.T) {
	s := newServers(3)
	for i, r := range s.all {
		r.note(time.Duration(i+1) * time.Millisecond)
		r.reads.Store(firstReads)
	}
	for _, n := range s.asks(300) {
		if n != 100 {
			t.Errorf("a server has %d of 300 reads", n)
		}
	}
	s.all[0].inFlight.Store(2)
	s.all[1].inFlight.Store(1)
	if got := s.pick(s.all); got != s.all[2] {
		t.Error("an idle server is not preferred to one that is busy")
	}
}

func TestFarServerIsAskedNowAndThen(t *testing.T) {
	s := newServers(2)
	s.all[0].note(time.Millisecond)
	s.all[1].note(50 * time.Millisecond)
	far := s.all[1]
	far.reads.Store(firstReads)
	if n := s.asks(100)[far]; n != 1 { // the first time for an hour
		t.Errorf("asked %d times", n)
	}
	far.note(time.Millisecond) // it has come nearer
	if n := s.asks(100)[far]; n != 50 {
		t.Errorf("asked %d times after it came nearer", n)
	}
}

func TestFailedServerIsTriedByOneReadAtATime(t *testing.T) {
	s := newServers(2)
	down := s.all[1]
	down.failed.Store(int64(time.Since(s.start))) // just now
	if n := s.asks(100)[down]; n != 0 {
		t.Errorf("asked %d times at once", n)
	}
	down.failed.Store(int64(time.Since(s.start) - downFor))
	if n := s.asks(100)[down]; n != 1 {
		t.Errorf("asked %d times a while later", n)
	}
	s.all[0].failed.Store(int64(time.Since(s.start)))
	if got := s.pick(s.all); got != s.all[0] {
		t.Error("with all of them down the primary is not asked")
	}
}

// cluster is a primary and two replicas behind a proxy each.
type cluster struct {
	*Engine
	servers []*hranatest.Server
	proxies []*hranatest.Proxy
}

func openCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	primary := hranatest.Start(t, hranatest.WithReplication())
	c.servers = []*hranatest.Server{primary, hranatest.StartReplica(t, primary), hranatest.StartReplica(t, primary)}
	var urls []string
	for _, s := range c.servers {
		p := hranatest.NewProxy(t, s.URL())
		c.proxies = append(c.proxies, p)
		urls = append(urls, p.URL())
	}
	var err error
	if c.Engine, err = Open(Config{URL: urls[0], Replicas: urls[1:]}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // always nil
	must(t, c.Engine, stmt("CREATE TABLE t(k)"))
	writersTable(t, c.Engine)
	return c
}

func TestReadsAreSpread(t *testing.T) {
	c := openCluster(t)
	count(t, c.Engine, "SELECT count(*) FROM t")
	before := make([]int, len(c.proxies))
	for i, p := range c.proxies {
		before[i] = p.Requests("/")
	}
	callAll(1500, 6, func(int) error {
		_, err := c.Query(t.Context(), stmt("SELECT count(*) FROM t"))
		return err
	})
	for i, p := range c.proxies {
		if n := p.Requests("/") - before[i]; n < 20 {
			t.Errorf("server %d has had %d requests", i, n)
		}
	}
	var reads uint64
	for _, s := range c.ServerStats().Servers {
		reads += s.Reads
		if s.Reads < 100 || s.Failures > 0 || s.Down || s.Address == "" {
			t.Errorf("stats are %+v", s)
		}
	}
	if s := c.Stats(); s.Queries != reads {
		t.Errorf("%d reads of %+v", reads, s)
	}
}

func TestOwnWritesAreSeenWhicheverServerAnswers(t *testing.T) {
	c := openCluster(t)
	writes := testkit.Effort(30, 200, 10_000)
	for i := range writes {
		must(t, c.Engine, insert(1))
		if n := count(t, c.Engine, "SELECT count(*) FROM t"); n != int64(i+1) {
			t.Fatalf("%d rows are seen after %d writes", n, i+1)
		}
	}
	for i, s := range c.ServerStats().Servers {
		if s.Reads == 0 {
			t.Errorf("server %d has answered none", i)
		}
	}
}

// Whichever server is killed, no read fails, and writes only while the primary is down.
func TestServersAreKilledInTurn(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts servers")
	}
	t.Parallel()
	c := openCluster(t)
	var down atomic.Bool // the primary
	var stored, refused atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); callers.Wait() })
	defer end() // also where the test fails: what they see then is no finding
	until := func(do func()) {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					do()
				}
			}
		})
	}
	for range 6 {
		until(func() {
			if _, err := c.Query(t.Context(), stmt("SELECT count(*) FROM t")); err != nil {
				t.Errorf("a read failed: %v", err)
				time.Sleep(100 * time.Millisecond) // not thousands of them
			}
		})
	}
	until(func() {
		_, err := c.Repeatable(t.Context(), insert(1))
		switch kind := engine.KindOf(err); {
		case err == nil:
			stored.Add(1)
		case down.Load() && (kind == engine.KindUnavailable || kind == engine.KindUnknownOutcome):
			refused.Add(1)
		default:
			t.Errorf("a write failed while the primary was there: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	})
	for i, s := range []*hranatest.Server{c.servers[1], c.servers[2], c.servers[0]} {
		time.Sleep(300 * time.Millisecond)
		down.Store(i == 2)
		s.Kill()
		time.Sleep(500 * time.Millisecond)
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		want := c.ServerStats().Servers[(i+1)%3].Reads + 2 // a slow one is asked now and then only
		eventually(t, "asked again", func() bool { return c.ServerStats().Servers[(i+1)%3].Reads > want })
	}
	eventually(t, "writing again", func() bool {
		_, err := c.Repeatable(t.Context(), insert(1))
		stored.Add(1)
		return err == nil
	})
	end()
	if n := count(t, c.Engine, "SELECT count(*) FROM t"); n < stored.Load()-1 {
		t.Errorf("%d rows of %d stored", n, stored.Load())
	}
	if refused.Load() == 0 {
		t.Error("no write met a primary that was down")
	}
}

// A server that hangs costs the reads that ask it two seconds, and the others nothing.
func TestServerThatHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	c := openCluster(t)
	count(t, c.Engine, "SELECT count(*) FROM t")
	c.proxies[1].Always(hranatest.BlackHole)
	start, slow := time.Now(), 0
	for time.Since(start) < 3*time.Second {
		begun := time.Now()
		if n := count(t, c.Engine, "SELECT count(*) FROM t"); n != 0 {
			t.Fatal(n)
		}
		if took := time.Since(begun); took > firstTry+soon() {
			t.Errorf("a read took %v", took)
		} else if took > firstTry/2 {
			slow++
		}
	}
	if slow != 1 {
		t.Errorf("%d reads waited for the server that hangs", slow)
	}
	c.proxies[1].Always(nil)
	c.proxies[1].CloseConns()
}
