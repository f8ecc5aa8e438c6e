package remote

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
	"github.com/episodic-memory/episodic/internal/testkit"
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
	t.Parallel()
	const percent, rounds = 20, 100
	// Enough requests that some use up the budget of retries.
	calls, callers := testkit.Effort(1200, 4000, 50_000), testkit.Effort(16, 32, 128)
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
	t.Parallel()
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
	t.Parallel()
	const writers, readers, loaded = 8, 8, 200
	rounds := testkit.Effort(1, 3, 10)
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
