package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/effort"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
)

// road is an engine and what lies between it and its server: link, then proxy.
type road struct {
	*Engine
	server *hranatest.Server
	proxy  *hranatest.Proxy
	link   *hranatest.Link
	marks  *marks
}

func openRoad(t *testing.T, o pool.Options) *road {
	t.Helper()
	r := &road{server: hranatest.Start(t), marks: &marks{seen: map[string]bool{}}}
	r.proxy = hranatest.NewProxy(t, r.server.URL())
	var err error
	if r.link, err = hranatest.NewLink(r.proxy.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.link.Close)
	if r.Engine, err = Open(Config{URL: r.link.URL(), Pool: o}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // always nil
	return r
}

// eventually waits until is returns true, and returns how long that took.
func eventually(t *testing.T, what string, is func() bool) time.Duration {
	t.Helper()
	const limit, pace = 10 * time.Second, time.Millisecond
	start := time.Now()
	for !is() {
		if time.Since(start) > limit {
			t.Fatalf("not %s within %v", what, limit)
		}
		time.Sleep(pace)
	}
	return time.Since(start)
}

// soon is how soon after an outage calls must succeed again. The race detector
// makes everything several times slower.
var soon = sync.OnceValue(func() time.Duration {
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 2 * time.Second
	}
	return time.Second
})

// callAll makes n calls, some at a time, and returns their errors.
func callAll(n, callers int, call func(i int) error) []error {
	errs := make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs[i] = call(i)
			}
		})
	}
	wg.Wait()
	return errs
}

// marks finds marked statements in requests. Marks pass through all encodings as
// they are.
type marks struct {
	mu       sync.Mutex
	seen     map[string]bool
	repeated int // requests with a statement that was seen before
}

var markPattern = regexp.MustCompile(`#\d{6};`)

func markOf(k int) string { return fmt.Sprintf("#%06d;", k) }

// before looks at requests before f has them.
func (m *marks) before(f hranatest.Fault) hranatest.Fault {
	return func(x *hranatest.Exchange) {
		m.mu.Lock()
		again := false
		for _, mark := range markPattern.FindAll(x.Body(), -1) {
			again = again || m.seen[string(mark)]
			m.seen[string(mark)] = true
		}
		if again {
			m.repeated++
		}
		m.mu.Unlock()
		f(x)
	}
}

func (m *marks) repeats() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.repeated
}

// write is a write and what its caller was told.
type write struct {
	key string
	err error
}

// checkOutcomes compares what is stored in inserted, which allows a key many
// times, with what the callers were told. It returns the keys that were not
// acknowledged, and how many of them may be stored.
func checkOutcomes(t *testing.T, e *Engine, writes []write) (left []string, unknown int) {
	t.Helper()
	r, err := e.Query(t.Context(), stmt("SELECT k, count(*) FROM inserted GROUP BY k"))
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int64{}
	for _, row := range r[0].Rows {
		times[row[0].(string)] = row[1].(int64)
	}
	for _, w := range writes {
		n, kind := times[w.key], engine.KindOf(w.err)
		delete(times, w.key)
		switch {
		case w.err == nil && n == 1:
			continue
		case w.err == nil:
			t.Errorf("%s was acknowledged and is stored %d times", w.key, n)
		case kind == engine.KindUnknownOutcome && n <= 1:
			unknown++
		case kind == engine.KindUnavailable && n == 0:
		default:
			t.Errorf("%s is stored %d times after: %v", w.key, n, w.err)
		}
		left = append(left, w.key)
	}
	if len(times) > 0 {
		t.Errorf("stored, though nobody wrote it: %v", times)
	}
	return left, unknown
}

func TestWritesWhoseAnswersAreCut(t *testing.T) {
	const percent, rounds = 20, 100
	// Enough requests that some use up the budget of retries.
	calls, callers := effort.Of(1200, 4000, 50_000), effort.Of(16, 32, 128)
	keys := make([]string, calls)
	for i := range keys {
		keys[i] = markOf(i)
	}
	for _, repeatable := range []bool{true, false} {
		t.Run(fmt.Sprintf("repeatable %v", repeatable), func(t *testing.T) {
			r := openRoad(t, pool.Options{})
			must(t, r.Engine,
				stmt("CREATE TABLE t(k PRIMARY KEY)"),
				stmt("CREATE TABLE inserted(k)"),
				stmt("CREATE TRIGGER log AFTER INSERT ON t BEGIN INSERT INTO inserted VALUES(new.k); END"))
			do, sql := r.Batch, "INSERT INTO inserted VALUES(?)"
			if repeatable {
				do, sql = r.Repeatable, "INSERT INTO t VALUES(?) ON CONFLICT(k) DO NOTHING"
			}
			store := func(keys []string) []write {
				writes := make([]write, len(keys))
				callAll(len(keys), callers, func(i int) error {
					_, err := do(t.Context(), stmt(sql, keys[i]))
					writes[i] = write{keys[i], err}
					return err
				})
				return writes
			}
			var cuts atomic.Int64
			cut := hranatest.Then(func() { cuts.Add(1) }, hranatest.CutAnswer)
			r.proxy.Always(r.marks.before(hranatest.Share(percent, 1, cut)))
			begin := time.Now()
			writes := store(keys)
			took, s := time.Since(begin), r.Stats()
			r.proxy.Always(nil)
			left, unknown := checkOutcomes(t, r.Engine, writes)
			t.Logf("%d writes in %v: %d commits, %d requests, %d answers cut, %d retries; %d outcomes unknown, %d not sent",
				calls, took, s.Commits, s.Requests, cuts.Load(), s.Retries, unknown, len(left)-unknown)
			if cuts.Load()*200 < int64(s.Requests)*percent || unknown == 0 || s.Commits >= s.Batches {
				t.Error("that tried nothing")
			}
			if !repeatable {
				if n := r.marks.repeats(); n > 0 {
					t.Errorf("%d requests sent writes again", n)
				}
				return
			}
			if r.marks.repeats() == 0 {
				t.Error("nothing was sent again")
			}

			r.proxy.Always(hranatest.Share(percent, 2, hranatest.CutAnswer))
			acknowledged := make([]write, 0, calls)
			for range rounds {
				for _, w := range store(left) {
					if w.err == nil {
						acknowledged = append(acknowledged, w)
					}
				}
				left = slices.DeleteFunc(left, func(k string) bool { return slices.Contains(acknowledged, write{k, nil}) })
			}
			for _, w := range writes {
				if w.err == nil {
					acknowledged = append(acknowledged, w)
				}
			}
			r.proxy.Always(nil)
			checkOutcomes(t, r.Engine, acknowledged)
			if len(acknowledged) != calls {
				t.Errorf("%d of %d writes were acknowledged at last", len(acknowledged), calls)
			}
		})
	}
}

func TestOutage(t *testing.T) {
	const calls, callers, longest = 2000, 8, 5 * time.Second // few, so that hardly any travel together
	unavailable := hranatest.Refuse(http.StatusServiceUnavailable, "")
	for _, tt := range []struct {
		name       string
		begin, end func(*road)
		text       string // of every error; %s is the port
		unknown    bool   // the outcome of a write that was sent is unknown
	}{
		{"no server", func(r *road) { r.link.Refuse(true); r.link.ResetAll() }, func(r *road) { r.link.Refuse(false) },
			"cannot reach 127.0.0.1:%s: connection refused", false},
		{"a gateway without its server", func(r *road) { r.proxy.Always(unavailable) }, func(r *road) { r.proxy.Always(nil) },
			"server at 127.0.0.1:%s is unavailable: HTTP 503: Service Unavailable", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := openRoad(t, pool.Options{})
			must(t, r.Engine, stmt("CREATE TABLE t(k)"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			call := func(i int) error {
				do, sql := r.Query, "SELECT 1"
				if i%2 == 0 {
					do, sql = r.Repeatable, "INSERT INTO t VALUES(1)"
				}
				_, err := do(ctx, stmt(sql))
				return err
			}
			attempts := func() int { return r.proxy.Requests("") + int(r.pool.Stats().Dials) }
			_, port, _ := strings.Cut(r.host, ":")
			text := fmt.Sprintf(tt.text, port)

			for i, err := range callAll(calls, callers, call) { // which must not hide the outage
				if err != nil {
					t.Fatalf("call %d before the outage: %v", i, err)
				}
			}
			tt.begin(r)
			before, begin := attempts(), time.Now()
			took := make([]time.Duration, calls)
			errs := callAll(calls, callers, func(i int) error {
				defer func(start time.Time) { took[i] = time.Since(start) }(time.Now())
				return call(i)
			})
			lasted, made, withheld := time.Since(begin), attempts()-before, 0
			for i, err := range errs {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Fatalf("call %d: error is %v, want %s", i, err, text)
				}
				sent := !strings.HasPrefix(err.Error(), "not sent")
				if !sent {
					withheld++
				}
				if kind := engine.KindOf(err); kind != engine.KindUnavailable && !(kind == engine.KindUnknownOutcome && tt.unknown && sent) {
					t.Fatalf("call %d: error of kind %d: %v", i, kind, err)
				}
			}
			if made*10 > calls*11 {
				t.Errorf("%d attempts for %d calls", made, calls)
			}
			if lasted > longest {
				t.Errorf("the calls took %v, one of them %v", lasted, slices.Max(took))
			}

			tt.end(r)
			ended := time.Now()
			for i, name := range []string{"write", "read"} {
				for call(i) != nil {
				}
				if d := time.Since(ended); d > soon() {
					t.Errorf("the first %s succeeded %v after the outage", name, d)
				}
			}
			t.Logf("%d calls in %v, the slowest %v; %d attempts, %d withheld; works again after %v",
				calls, lasted, slices.Max(took), made, withheld, time.Since(ended))
		})
	}
}

func TestServerKilledUnderLoad(t *testing.T) {
	const writers, readers, loaded = 8, 8, 200
	rounds := effort.Of(1, 3, 10)
	const pause = 2 * time.Millisecond // of a caller whose call failed
	server := hranatest.Start(t)
	e := openURL(t, server.URL())
	must(t, e, stmt("CREATE TABLE inserted(k)"))

	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var load sync.WaitGroup
	var reads, writes, failedReads, failedWrites atomic.Int64
	note := func(err error, good, bad *atomic.Int64) {
		if err == nil {
			good.Add(1)
			return
		}
		bad.Add(1)
		time.Sleep(pause)
	}
	told := make([][]write, writers)
	for w := range writers {
		load.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := markOf(w*100_000 + i)
				_, err := e.Batch(t.Context(), stmt("INSERT INTO inserted VALUES(?)", key))
				told[w] = append(told[w], write{key, err})
				note(err, &writes, &failedWrites)
			}
		})
	}
	for range readers {
		load.Go(func() {
			seen := int64(0)
			for ctx.Err() == nil {
				r, err := e.Query(t.Context(), stmt("SELECT count(*) FROM inserted"))
				if err == nil {
					n := r[0].Rows[0][0].(int64)
					if n < seen {
						t.Errorf("a reader saw %d rows, and then %d", seen, n)
					}
					seen = n
				}
				note(err, &reads, &failedReads)
			}
		})
	}
	for range rounds {
		enough := writes.Load() + loaded
		eventually(t, "under load", func() bool { return writes.Load() > enough })
		server.Kill()
		failedReads.Store(0)
		failedWrites.Store(0)
		eventually(t, "noticed", func() bool { return failedReads.Load() > 0 && failedWrites.Load() > 0 })
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		w, r := writes.Load(), reads.Load()
		took := eventually(t, "working again", func() bool { return writes.Load() > w && reads.Load() > r })
		t.Logf("reads and writes succeed %v after the restart", took)
		if took > soon() {
			t.Errorf("it took %v until reads and writes succeeded", took)
		}
	}
	stop()
	load.Wait()
	all := slices.Concat(told...)
	left, unknown := checkOutcomes(t, e, all)
	t.Logf("%d of %d writes acknowledged, %d outcomes unknown; %d reads", len(all)-len(left), len(all), unknown, reads.Load())
}

// Closings that cross a request on its way cannot be avoided, but are hidden.
func TestConnectionsClosedAtRandomMoments(t *testing.T) {
	const callers = 3
	calls := effort.Of(1000, 2000, 10_000)
	const pause = 30 * time.Millisecond // at most, between two closings
	r := openRoad(t, pool.Options{})
	must(t, r.Engine, stmt("CREATE TABLE t(k UNIQUE)"))
	// A call has three attempts, so it must not meet three closings: the next one
	// waits until all that were under way have ended.
	var calling sync.RWMutex
	closings := 0
	ctx, stop := context.WithCancel(t.Context())
	var closer sync.WaitGroup
	closer.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(rand.N(pause))
			r.link.CloseIdle()
			calling.Lock()
			closings++
			calling.Unlock()
		}
	})
	for i, err := range callAll(calls, callers, func(i int) error {
		calling.RLock()
		defer calling.RUnlock()
		do, sql := r.Query, "SELECT ?"
		if i%10 == 0 {
			do, sql = r.Repeatable, "INSERT INTO t VALUES(?) ON CONFLICT DO NOTHING"
		}
		_, err := do(t.Context(), stmt(sql, int64(i)))
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	stop()
	closer.Wait()
	s, l := r.pool.Stats(), r.link.Counts()
	t.Logf("%d connections closed at %d moments, %d of them under a call", l.ClosedByLink, closings, s.FirstUseFailures)
	if l.ClosedByLink < 10 {
		t.Error("that tried nothing")
	}
}

// A connection that the server has closed while it was idle is never used.
func TestConnectionsClosedWhileIdle(t *testing.T) {
	const callers, between = 3, 100 // calls between two closings, on average
	calls := effort.Of(1000, 3000, 30_000)
	r := openRoad(t, pool.Options{})
	must(t, r.Engine, stmt("CREATE TABLE t(k UNIQUE)"))
	// A closing that crosses a request on its way cannot be known in time, so
	// there is none under way. The calls that come next do not wait.
	var quiet sync.RWMutex
	var made atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var closer sync.WaitGroup
	closer.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			next := made.Load() + rand.Int64N(2*between)
			eventually(t, "called", func() bool { return made.Load() >= next || ctx.Err() != nil })
			quiet.Lock()
			if n%10 > 0 {
				r.link.CloseIdle()
			} else {
				r.link.IdleClose(time.Millisecond)
				eventually(t, "closed", func() bool { return r.link.Counts().Open == 0 })
				r.link.IdleClose(0)
			}
			quiet.Unlock()
		}
	})
	for i, err := range callAll(calls, callers, func(i int) error {
		quiet.RLock()
		defer quiet.RUnlock()
		made.Add(1)
		do, sql := r.Query, "SELECT ?"
		if i%10 == 0 {
			do, sql = r.Batch, "INSERT INTO t VALUES(?)" // which is never sent again
		}
		_, err := do(t.Context(), stmt(sql, int64(i)))
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	stop()
	closer.Wait()
	s, l := r.pool.Stats(), r.link.Counts()
	t.Logf("%d connections closed in %d calls", l.ClosedByLink, calls)
	if s.FirstUseFailures > 0 {
		t.Errorf("%d calls failed on a closed connection", s.FirstUseFailures)
	}
	if l.ClosedByLink < calls/between {
		t.Errorf("%d connections closed in %d calls, which tried nothing", l.ClosedByLink, calls)
	}
}

func TestSilentlyDeadIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	const conns, interval, timeout = 3, 5 * time.Second, 500 * time.Millisecond
	r := openRoad(t, pool.Options{MinConns: conns, KeepAlive: pool.KeepAlive{Interval: interval, PingTimeout: timeout}})
	must(t, r.Engine, stmt("CREATE TABLE t(k)"))
	if err := r.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.link.Blackhole(true)
	r.link.Blackhole(false) // for connections to come
	begin := time.Now()
	for n := range conns { // one is pinged at a time
		eventually(t, "detected", func() bool { return r.pool.Stats().PingTimeouts > uint64(n) })
		took, limit := time.Since(begin), interval+time.Duration(n+1)*timeout
		t.Logf("%d detected after %v", n+1, took)
		if took > limit+timeout/2 {
			t.Errorf("%d dead connections were detected after %v, want %v", n+1, took, limit)
		}
	}
	start := time.Now()
	must(t, r.Engine, stmt("INSERT INTO t VALUES(1)"))
	count(t, r.Engine, "SELECT count(*) FROM t")
	if took := time.Since(start); took > soon()/4 || r.pool.Stats().FirstUseFailures > 0 || r.Stats().Retries > 0 {
		t.Errorf("the next calls took %v: %+v", took, r.ServerStats())
	}
}

func TestPeerThatDiesUnderACall(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	const limit, calls, callers = suspectAfter*3/2 + 300*time.Millisecond, 100, 4
	r := openRoad(t, pool.Options{})
	must(t, r.Engine, stmt("CREATE TABLE t(k)"))
	arrived := make(chan struct{})
	r.proxy.Next(hranatest.Then(func() { close(arrived) }, hranatest.BlackHole))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var victim sync.WaitGroup
	begin := time.Now()
	victim.Go(func() {
		if _, err := r.Query(ctx, stmt("SELECT 1")); err != nil {
			t.Errorf("call whose peer died: %v", err)
		}
		if took := time.Since(begin); took < limit*2/3 {
			t.Errorf("it took %v, which tried nothing", took)
		}
	})
	<-arrived
	for i, err := range callAll(calls, callers, func(i int) error {
		do, sql := r.Query, "SELECT 1"
		if i%2 == 0 {
			do, sql = r.Batch, "INSERT INTO t VALUES(1)"
		}
		_, err := do(t.Context(), stmt(sql))
		return err
	}) {
		if err != nil {
			t.Errorf("other call %d: %v", i, err)
		}
	}
	if took := time.Since(begin); took > soon() {
		t.Errorf("the others took %v", took)
	}
	victim.Wait()
	if s := r.pool.Stats(); s.ClosedBy[pool.ClosedBroken] != 1 || r.Stats().Retries != 1 {
		t.Errorf("%d connections were lost, %d calls repeated", s.ClosedBy[pool.ClosedBroken], r.Stats().Retries)
	}
}

func TestPeerThatDiesUnderReadsThatTravelTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	const limit, n = suspectAfter*3/2 + 300*time.Millisecond, 5
	r, held := openHeld(t, hranatest.BlackHole)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	begin := time.Now()
	replies := r.together(t, []context.Context{ctx}, slices.Repeat([][]engine.Stmt{{stmt("SELECT 1")}}, n)...)
	close(held.open)
	for i, c := range replies {
		if got := <-c; got.err != nil {
			t.Errorf("read %d: %v", i, got.err)
		}
	}
	if took := time.Since(begin); took < suspectAfter {
		t.Errorf("it took %v, which tried nothing", took)
	}
	if n := r.Stats().Retries; n != 1 {
		t.Errorf("%d requests were repeated", n)
	}
}

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

// noticed waits until the pool knows of all connections that were closed.
func (s *story) noticed() {
	s.t.Helper()
	eventually(s.t, "noticed", func() bool { return s.pool.Stats().Open == s.link.Counts().Open })
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

// At rest the engine has counted what was seen of it, no more and no less.
func TestCountersAreTrue(t *testing.T) {
	for _, tt := range []struct {
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
		}, func(s ServerStats, e engine.Stats) bool { return s.Pool.ClosedBy[pool.ClosedDied] == 5 }},
		{"connections closed while idle", func(s *story) {
			for range 3 {
				s.calls(2)
				s.link.CloseIdle()
				s.noticed()
			}
		}, func(s ServerStats, e engine.Stats) bool { return s.Pool.Stale[pool.StaleDied] >= 3 }},
		{"connections reset while idle", func(s *story) {
			for range 3 {
				s.calls(2)
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
	} {
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

func TestNoStreamIsHeldIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	const sparse, calls = 300 * time.Millisecond, 6
	e, proxy := open(t, hrana.V3JSON) // in which the proxy can tell streams
	must(t, e, stmt("CREATE TABLE t(k)"))
	streams := func() int { n, _ := proxy.Streams(); return n }
	traffic := func() {
		t.Helper()
		if err := errors.Join(callAll(400, 8, func(int) error {
			_, err := e.Query(t.Context(), stmt("SELECT 1"))
			return err
		})...); err != nil {
			t.Errorf("traffic: %v", err)
		}
		if streams() == 0 {
			t.Error("no stream was kept under load")
		}
	}

	traffic()
	took := eventually(t, "closed", func() bool { return streams() == 0 })
	t.Logf("streams were closed %v after the last call", took)
	if took > soon() {
		t.Errorf("a stream was held for %v after the last call", took)
	}

	rare := time.NewTicker(sparse)
	defer rare.Stop()
	<-rare.C
	before := proxy.Requests("")
	for range calls {
		count(t, e, "SELECT count(*) FROM t")
		if n := streams(); n > 0 {
			t.Errorf("%d streams are open after a rare call", n)
		}
		<-rare.C
	}
	if n := proxy.Requests("") - before; n != calls {
		t.Errorf("%d requests for %d rare calls", n, calls)
	}

	traffic()
	_ = e.Close() // always nil
	if n := streams(); n > 0 {
		t.Errorf("%d streams are open after Close", n)
	}
}

// A stream whose answer is lost stays open on the server, which has few.
func TestLostAnswersLeaveFewStreams(t *testing.T) {
	const callers, percent, most = 16, 10, maxOrphans + 10 // connections
	calls := effort.Of(1000, 3000, 10_000)
	e, proxy := open(t, hrana.V3JSON)
	must(t, e, stmt("CREATE TABLE t(k)"))
	proxy.Always(hranatest.Share(percent, 1, hranatest.CutAnswer))
	for i, err := range callAll(calls, callers, func(int) error {
		_, err := e.Query(t.Context(), stmt("SELECT 1"))
		return err
	}) {
		if err != nil && strings.Contains(err.Error(), "HTTP 429") {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	_, n := proxy.Streams()
	t.Logf("up to %d streams were open, %d exchanges went on with one", n, e.ServerStats().StreamsReused)
	if n > most || n < maxOrphans {
		t.Errorf("up to %d streams were open at a time", n)
	}
}

// gate is a fault that holds a request until it is opened, and then passes it.
type gate struct {
	arrived chan struct{} // closed when the request is there
	open    chan struct{} // to be closed
	gone    chan struct{} // closed if the client has gone before
}

func newGate() *gate {
	return &gate{make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

func (g *gate) fault(x *hranatest.Exchange) {
	close(g.arrived)
	left := make(chan struct{})
	go func() {
		x.Hold()
		close(left)
	}()
	select {
	case <-g.open:
		hranatest.Pass(x)
	case <-left:
		close(g.gone)
	}
}

// openHeld opens an engine with one connection, which a read holds until the
// gate is opened. then is for the request after it.
func openHeld(t *testing.T, then ...hranatest.Fault) (*road, *gate) {
	t.Helper()
	r, held := openRoad(t, pool.Options{MaxConns: 1}), newGate()
	must(t, r.Engine, stmt("CREATE TABLE t(k)"))
	r.proxy.Next(append([]hranatest.Fault{held.fault}, then...)...)
	var holder sync.WaitGroup
	holder.Go(func() {
		if _, err := r.Query(t.Context(), stmt("SELECT 1")); err != nil {
			t.Errorf("held read: %v", err)
		}
	})
	t.Cleanup(holder.Wait)
	<-held.arrived
	return r, held
}

// reply is what a call gave.
type reply struct {
	results []engine.Result
	err     error
}

// together starts reads, and returns when they wait for the one connection.
// Their contexts are ctxs in turn.
func (r *road) together(t *testing.T, ctxs []context.Context, reads ...[]engine.Stmt) []chan reply {
	t.Helper()
	replies := make([]chan reply, len(reads))
	for i, stmts := range reads {
		replies[i] = make(chan reply, 1)
		go func() {
			results, err := r.Query(ctxs[i%len(ctxs)], stmts...)
			replies[i] <- reply{results, err}
		}()
	}
	eventually(t, "waiting together", func() bool {
		r.reads.mu.Lock()
		defer r.reads.mu.Unlock()
		return len(r.reads.queue) == len(reads)
	})
	return replies
}

func TestWaitingReadsShareARequest(t *testing.T) {
	const n = 50
	for _, tt := range []struct {
		name     string
		bad      []engine.Stmt // takes the place of one of the reads
		kind     engine.Kind
		stmt     int
		text     string
		requests int // at most
	}{
		{"all good", nil, 0, 0, "", 1},
		{"a missing table", []engine.Stmt{stmt("SELECT 1"), stmt("SELECT * FROM nowhere")}, engine.KindNoTable, 1, "no such table: nowhere", 1},
		{"a failure at run time", []engine.Stmt{stmt("SELECT 1"), stmt("SELECT 2"), stmt("SELECT json('{')")}, engine.KindOther, 2, "malformed JSON", 1},
		// Two halves, six times, and one request more to find the statement. Each
		// refused one may cost another, which closes its stream.
		{"unparsable", []engine.Stmt{stmt("SELECT 1"), stmt("SELECT FROM WHERE")}, engine.KindOther, 1, "syntax error", 22},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, held := openHeld(t)
			reads := make([][]engine.Stmt, n)
			for i := range reads {
				reads[i] = []engine.Stmt{stmt("SELECT ?", int64(i))}
			}
			bad := -1
			if tt.bad != nil {
				bad = n / 3
				reads[bad] = tt.bad
			}
			replies := r.together(t, []context.Context{t.Context()}, reads...)
			before := r.proxy.Requests("")
			close(held.open)
			for i, c := range replies {
				if got := <-c; i == bad {
					wantError(t, got.err, tt.kind, tt.stmt, tt.text)
				} else if got.err != nil || got.results[0].Rows[0][0] != int64(i) {
					t.Errorf("read %d: %v, %v", i, got.results, got.err)
				}
			}
			if got := r.proxy.Requests("") - before; got > tt.requests {
				t.Errorf("%d requests for %d reads, want %d", got, n, tt.requests)
			}
		})
	}
}

func TestReadsTooBigForOneAnswer(t *testing.T) {
	const n, size = 5, 4_000_000 // bytes; a server's answer ends at 10 MB
	r, held := openHeld(t)
	big := []engine.Stmt{stmt("SELECT zeroblob(?)", int64(size))}
	replies := r.together(t, []context.Context{t.Context()}, slices.Repeat([][]engine.Stmt{big}, n)...)
	close(held.open)
	for i, c := range replies {
		if got := <-c; got.err != nil || len(got.results[0].Rows[0][0].([]byte)) != size {
			t.Errorf("read %d: error %v", i, got.err)
		}
	}
}

func TestCancelledReadsThatTravelTogether(t *testing.T) {
	const n = 5
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all %v", all), func(t *testing.T) {
			batch := newGate()
			r, held := openHeld(t, batch.fault)
			ctxs, cancels := make([]context.Context, n), make([]context.CancelFunc, n)
			for i := range ctxs {
				ctxs[i], cancels[i] = context.WithCancel(t.Context())
				defer cancels[i]()
			}
			replies := r.together(t, ctxs, slices.Repeat([][]engine.Stmt{{stmt("SELECT 1")}}, n)...)
			close(held.open)
			<-batch.arrived
			for i := range ctxs {
				if i > 0 && !all {
					break
				}
				cancels[i]()
				if got := <-replies[i]; !errors.Is(got.err, context.Canceled) { // while the batch is held
					t.Errorf("cancelled read: %v", got.err)
				}
			}
			if all {
				eventually(t, "given up", func() bool {
					select {
					case <-batch.gone:
						return true
					default:
						return false
					}
				})
				count(t, r.Engine, "SELECT 1")
				return
			}
			close(batch.open)
			for i, c := range replies[1:] {
				if got := <-c; got.err != nil || len(got.results) != 1 {
					t.Errorf("read %d: %v, %v", i+1, got.results, got.err)
				}
			}
		})
	}
}
