package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
)

// story is a road on which something happens.
type story struct {
	*road
	t *testing.T
	k int // the last mark
}

func (s *story) read(ctx context.Context) error {
	s.k++
	_, err := s.Query(ctx, stmt("SELECT ?", markOf(s.k)))
	return err
}

func (s *story) write(ctx context.Context) error {
	s.k++
	_, err := s.Repeatable(ctx, stmt("INSERT INTO t VALUES(?)", markOf(s.k)))
	return err
}

// calls makes n reads and n writes, which must succeed.
func (s *story) calls(n int) {
	s.t.Helper()
	for range n {
		if err := errors.Join(s.read(s.t.Context()), s.write(s.t.Context())); err != nil {
			s.t.Errorf("calls up to %d: %v", s.k, err)
		}
	}
}

func (s *story) fails(call func(context.Context) error) {
	s.t.Helper()
	if call(s.t.Context()) == nil {
		s.t.Errorf("call %d did not fail", s.k)
	}
}

func (s *story) faults(f ...hranatest.Fault) {
	for i := range f {
		f[i] = s.marks.before(f[i])
	}
	s.proxy.Next(f...)
}

// noticed waits until the pool knows of all connections that were closed, and dials
// none: one that is closed while it is dialed counts on one side only.
func (s *story) noticed() {
	s.t.Helper()
	eventually(s.t, "noticed", func() bool {
		now := s.pool.Stats()
		return now.Dialing == 0 && now.Open == s.link.Counts().Open
	})
}

func (s *story) restart() {
	s.t.Helper()
	s.server.Kill()
	if err := s.server.Restart(); err != nil {
		s.t.Fatal(err)
	}
}

// disagreements compares what the engine has counted with what proxy and link
// have seen.
func (r *road) disagreements() (found []string) {
	same := func(what string, counted uint64, seen int) {
		if counted != uint64(seen) {
			found = append(found, fmt.Sprintf("%d %s, seen %d", counted, what, seen))
		}
	}
	s, l, streams := r.pool.Stats(), r.link.Counts(), r.ServerStats()
	posts := r.proxy.Requests("/v3-protobuf/")
	same("requests", r.Stats().Requests, posts)
	same("pings", r.client.Pings(), r.proxy.Requests("")-posts)
	same("retries", r.Stats().Retries, r.marks.repeats())
	same("dials that succeeded", s.Dials-s.DialFailures, l.Accepted)
	same("connections opened", s.Opened, l.Accepted)
	same("connections closed", s.Closed, l.ClosedByClient+l.ClosedByServer+l.ClosedByLink)
	same("connections open", s.Opened-s.Closed, l.Open)
	same("streams", streams.StreamsOpened-streams.StreamsClosed-streams.StreamsLost, r.streams.left())
	return found
}

// left returns how many streams are kept or still to be closed.
func (s *streams) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle) + len(s.toClose)
}

// stories are what happens to an engine whose counters are compared with what passed
// the network.
var stories = []struct {
	name  string
	play  func(*story)
	tried func(ServerStats, engine.Stats) bool // that it did what it is for
}{
	{"quiet", func(s *story) { s.calls(20) },
		func(s ServerStats, e engine.Stats) bool { return s.Pool.Opened == 3 && s.StreamsReused > 30 }},
	{"connections closed behind answers", func(s *story) {
		for range 5 {
			s.faults(hranatest.GoAway)
			s.calls(1)
		}
	}, func(s ServerStats, e engine.Stats) bool { return s.Pool.ClosedBy[pool.ClosedDiscarded] == 5 }},
	{"connections closed while idle", func(s *story) {
		for range 3 {
			s.calls(2)
			s.noticed()
			s.link.CloseIdle()
			s.noticed()
		}
	}, func(s ServerStats, e engine.Stats) bool { return s.Pool.Stale[pool.StaleDied] >= 3 }},
	{"connections reset while idle", func(s *story) {
		for range 3 {
			s.calls(2)
			s.noticed()
			s.link.ResetAll()
			s.noticed()
		}
	}, func(s ServerStats, e engine.Stats) bool { return s.Pool.Stale[pool.StaleDied] >= 3 }},
	{"cut answers", func(s *story) {
		for range 3 {
			s.faults(hranatest.CutAnswer, hranatest.Pass, hranatest.CutAnswerAfter(5))
			s.calls(3)
		}
	}, func(s ServerStats, e engine.Stats) bool { return e.Retries == 6 && s.StreamsLost > 0 }},
	{"too many requests", func(s *story) {
		refuse := hranatest.Refuse(http.StatusTooManyRequests, "")
		s.faults(refuse, hranatest.Pass, refuse)
		s.calls(5)
	}, func(s ServerStats, e engine.Stats) bool { return s.Pool.Overloads == 2 }},
	{"gateway errors", func(s *story) {
		s.calls(6)
		s.faults(slices.Repeat([]hranatest.Fault{hranatest.Refuse(http.StatusServiceUnavailable, "")}, 2*maxAttempts)...)
		s.fails(s.read)
		s.fails(s.write)
		s.calls(1)
	}, func(s ServerStats, e engine.Stats) bool { return e.Retries == 4 }},
	{"refused connections", func(s *story) {
		s.calls(6)
		s.noticed()
		s.link.Refuse(true)
		s.link.ResetAll()
		s.noticed()
		s.fails(s.read)
		s.link.Refuse(false)
		s.calls(5)
	}, func(s ServerStats, e engine.Stats) bool { return s.Pool.DialFailures > 0 }},
	{"slow answers", func(s *story) {
		const limit = 300 * time.Millisecond
		s.faults(hranatest.SlowDrip(limit/3), hranatest.Pass, hranatest.SlowDrip(2*limit))
		s.calls(1)
		ctx, cancel := context.WithTimeout(s.t.Context(), limit)
		defer cancel()
		if err := s.read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			s.t.Errorf("slow read: %v", err)
		}
		s.calls(1)
	}, func(s ServerStats, e engine.Stats) bool { return s.Pool.ClosedBy[pool.ClosedBroken] == 1 }},
	{"failing pings", func(s *story) {
		s.calls(5)
		s.proxy.NextPing(hranatest.CutAnswer, hranatest.Refuse(http.StatusInternalServerError, ""))
		s.faults(hranatest.CutAnswer, hranatest.CutAnswer) // so that the network seems to have failed
		s.calls(1)
		eventually(s.t, "pinged", func() bool { return s.pool.Stats().PingsFailed == 2 })
		s.calls(1)
	}, func(s ServerStats, e engine.Stats) bool { return s.Pool.Resets > 0 }},
	{"a server killed under calls", func(s *story) {
		s.calls(6)
		s.server.Kill()
		s.fails(s.read)
		s.restart()
		s.calls(5)
	}, func(s ServerStats, e engine.Stats) bool { return e.Retries == 2 && s.StreamsLost > 0 }},
	{"a server restarted between calls", func(s *story) {
		s.calls(6)
		s.restart()
		s.calls(5)
	}, func(s ServerStats, e engine.Stats) bool { return s.StreamsLost == 1 }},
	{"callers at once", func(s *story) {
		s.proxy.Always(s.marks.before(hranatest.Share(10, 3, hranatest.CutAnswer)))
		for i, err := range callAll(1000, 16, func(i int) error {
			do := s.Query
			if i%4 == 0 {
				do = s.Repeatable
			}
			_, err := do(s.t.Context(), stmt("SELECT ?", markOf(i)))
			return err
		}) {
			if kind := engine.KindOf(err); err != nil && kind != engine.KindUnavailable && kind != engine.KindUnknownOutcome {
				s.t.Errorf("call %d: %v", i, err)
			}
		}
	}, func(s ServerStats, e engine.Stats) bool { return e.Retries > 5 && e.Commits < 250 && e.Requests < 800 }},
}

// At rest the engine has counted what was seen of it, no more and no less.
func TestCountersAreTrue(t *testing.T) {
	t.Parallel()
	for _, tt := range stories {
		t.Run(tt.name, func(t *testing.T) {
			r := openRoad(t, pool.Options{MinConns: 3})
			must(t, r.Engine, stmt("CREATE TABLE t(k)"))
			r.proxy.Always(r.marks.before(hranatest.Pass))
			// What is under way is counted on one side only.
			agreed := func() {
				t.Helper()
				var found []string
				for end := time.Now().Add(soon()); time.Now().Before(end); time.Sleep(time.Millisecond) {
					s := r.pool.Stats()
					if found = r.disagreements(); found == nil && s.Idle == s.Open && s.Dialing == 0 {
						return
					}
				}
				t.Errorf("counted %s", strings.Join(found, "; "))
			}
			tt.play(&story{road: r, t: t})
			agreed()
			if s := r.ServerStats(); !tt.tried(s, r.Stats()) {
				t.Errorf("that tried nothing: %+v, %+v", s, r.Stats())
			}
			_ = r.Close() // always nil
			agreed()
			if c, s := r.link.Counts().Open, r.streams.left(); c+s > 0 {
				t.Errorf("%d connections and %d streams are left", c, s)
			}
		})
	}
}

// What the engine counts is what passed the network, each byte as what it was for.
func TestBytesAreCounted(t *testing.T) {
	r := openRoad(t, pool.Options{MaxConns: 1})
	must(t, r.Engine, stmt("CREATE TABLE t(v)"))
	const large = 300_000
	before := r.ServerStats()
	must(t, r.Engine, stmt("INSERT INTO t VALUES(zeroblob(?))", int64(large)))
	must(t, r.Engine, stmt("INSERT INTO t VALUES(?)", make([]byte, 2*large)))
	if _, err := r.Query(t.Context(), stmt("SELECT v FROM t WHERE length(v) = ?", int64(large))); err != nil {
		t.Fatal(err)
	}
	after := r.ServerStats()
	for _, tt := range []struct {
		what            string
		before, after   uint64
		atLeast, atMost uint64
	}{
		{"sent by writes", before.Writes.Sent, after.Writes.Sent, 2 * large, 2*large + 2000},
		{"received by writes", before.Writes.Received, after.Writes.Received, 100, 2000},
		{"sent by reads", before.Reads.Sent, after.Reads.Sent, 100, 2000},
		{"received by reads", before.Reads.Received, after.Reads.Received, large, large + 2000},
	} {
		if n := tt.after - tt.before; n < tt.atLeast || n > tt.atMost {
			t.Errorf("%d bytes %s, want %d to %d", n, tt.what, tt.atLeast, tt.atMost)
		}
	}
	must(t, r.Engine, stmt("DELETE FROM t")) // so often in a row that a stream is kept
	_ = r.Close()                            // always nil; closes the stream
	s, l := r.ServerStats(), r.link.Counts()
	if s.Upkeep.Sent == 0 || s.Upkeep.Received == 0 {
		t.Errorf("closing a stream is counted as %+v", s.Upkeep)
	}
	if up, down := s.Reads.Sent+s.Writes.Sent+s.Upkeep.Sent, s.Reads.Received+s.Writes.Received+s.Upkeep.Received; int64(up) != l.BytesUp || int64(down) != l.BytesDown {
		t.Errorf("counted %d up and %d down, seen %d and %d", up, down, l.BytesUp, l.BytesDown)
	}
}
