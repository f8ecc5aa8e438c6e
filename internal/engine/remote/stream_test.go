package remote

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func newStreams() *streams { return &streams{wake: make(chan struct{}, 1)} }

// exchange plays one exchange that takes a moment and leaves a stream if it may.
func (s *streams) exchange(now time.Time, name string) (baton string, keep bool) {
	baton, keep = s.begin(now)
	left := ""
	if keep {
		left = name
	}
	s.end(now, left, true)
	return baton, keep
}

func TestStreamsAreKeptWhileCallsFollowOneAnother(t *testing.T) {
	s, now := newStreams(), time.Now()
	for i := range 10 {
		baton, keep := s.exchange(now, fmt.Sprint(i))
		want := ""
		if i > streamStreak {
			want = fmt.Sprint(i - 1)
		}
		if keep != (i >= streamStreak) || baton != want {
			t.Errorf("exchange %d: keeps %v, goes on with %q, want %q", i, keep, baton, want)
		}
		now = now.Add(streamGap)
	}
	// Rare calls never leave a stream, and use up what there is.
	for i := range 5 {
		now = now.Add(streamGap + time.Millisecond)
		baton, keep := s.exchange(now, "rare")
		if keep || (baton != "") != (i == 0) {
			t.Errorf("rare exchange %d: keeps %v, goes on with %q", i, keep, baton)
		}
	}
	if batons, next := s.due(now, true); len(batons) > 0 || next < time.Minute {
		t.Errorf("%q are left", batons)
	}
}

func TestColdStreamsAreClosed(t *testing.T) {
	s, now := newStreams(), time.Now()
	s.end(now, "a", true)
	s.end(now.Add(100*time.Millisecond), "b", true)
	s.end(now.Add(200*time.Millisecond), "open transaction", false)
	for _, tt := range []struct {
		after time.Duration
		want  string
		next  time.Duration
	}{
		{200 * time.Millisecond, "[open transaction]", streamIdle - 200*time.Millisecond},
		{streamIdle - 1, "[]", 1},
		{streamIdle, "[a]", 100 * time.Millisecond},
		{streamIdle + 100*time.Millisecond, "[b]", time.Hour},
	} {
		batons, next := s.due(now.Add(tt.after), false)
		if fmt.Sprint(batons) != tt.want || next != tt.next {
			t.Errorf("after %v: %v, next in %v", tt.after, batons, next)
		}
	}
}

func TestTheLastUsedStreamIsUsedNext(t *testing.T) {
	s, now := newStreams(), time.Now()
	s.end(now, "a", true)
	s.end(now, "b", true)
	if baton, _ := s.begin(now); baton != "b" {
		t.Errorf("took %q", baton)
	}
	s.dropAll(time.Now(), time.Now())
	if baton, _ := s.begin(now); baton != "" || s.lost.Load() != 2 {
		t.Errorf("took %q, lost %d", baton, s.lost.Load())
	}
	s.disable()
	for range 10 {
		if _, keep := s.exchange(now, "x"); keep {
			t.Error("a stream is kept that goes on elsewhere")
		}
	}
}

func TestBudget(t *testing.T) {
	now := time.Now()
	var b budget
	granted := func(calls int) (n int) {
		for range calls {
			b.earn(now)
			if b.take(now) {
				n++
			}
		}
		return n
	}
	if n := granted(1000); n < 100 || n > 111 {
		t.Errorf("%d retries for 1000 calls that fail at once", n)
	}
	if b.exhausted.Load() < 889 {
		t.Errorf("%d counted as denied", b.exhausted.Load())
	}
	now = now.Add(5 * time.Second)
	if n := granted(1); n != 1 {
		t.Error("time earned nothing")
	}
	now = now.Add(time.Hour)
	if n := granted(20); n < 10 || n > 12 {
		t.Errorf("%d retries at once after an hour", n)
	}
	now = now.Add(-time.Hour) // a clock set back takes nothing away
	b.earn(now)
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
	t.Parallel()
	const callers, percent, conns = 16, 10, 10
	calls := testkit.Effort(2000, 3000, 10_000)
	e, proxy := open(t, hrana.V3JSON)
	must(t, e, stmt("CREATE TABLE t(k)"))
	begin := time.Now()
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
	// On a slow machine it lasts longer than orphanTime, after which as many are allowed again.
	if most := maxOrphans*(1+int(time.Since(begin)/orphanTime)) + conns; n > most || n < maxOrphans {
		t.Errorf("up to %d streams were open at a time", n)
	}
}

// A kept stream may have an older schema. What finds no table there is asked again on
// another stream, once.
func TestAStreamThatFindsNoTableIsLeft(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*Engine) error
	}{
		{"a read", func(e *Engine) error { _, err := e.Query(t.Context(), stmt("SELECT * FROM t")); return err }},
		{"a write", func(e *Engine) error { _, err := e.Batch(t.Context(), stmt("INSERT INTO t VALUES(1)")); return err }},
		{"a transaction", func(e *Engine) error {
			_, err := e.Batch(t.Context(), stmt("INSERT INTO u VALUES(1)"), stmt("INSERT INTO t VALUES(1)"))
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := hranatest.Start(t)
			proxy := hranatest.NewProxy(t, server.URL())
			other, e := openURL(t, server.URL()), openURL(t, proxy.URL())
			must(t, other, stmt("CREATE TABLE u(k)"))
			if err := tt.do(e); engine.KindOf(err) != engine.KindNoTable {
				t.Fatalf("without the table: %v", err)
			}
			eventually(t, "asked on a kept stream", func() bool { // on a slow machine calls do not follow one another
				must(t, other, stmt("DROP TABLE IF EXISTS t"))
				for range streamStreak + 2 {
					must(t, e, stmt("DELETE FROM u"))
				}
				reused := e.ServerStats().StreamsReused
				asked := 0
				proxy.Always(func(x *hranatest.Exchange) {
					if bytes.Contains(x.Body(), []byte(" t")) {
						if asked++; asked == 2 {
							must(t, other, stmt("CREATE TABLE t(k)")) // as if the stream had not known it
						}
					}
					hranatest.Pass(x)
				})
				err := tt.do(e)
				proxy.Always(nil)
				kept := e.ServerStats().StreamsReused > reused
				if kept && err != nil {
					t.Errorf("with the table: %v", err)
				}
				return kept
			})
			if n := count(t, e, "SELECT count(*) FROM u"); tt.name == "a transaction" && n != 1 {
				t.Errorf("%d rows were stored, want 1", n)
			}
		})
	}
}

// spread plays exchanges behind a balancer that sends every other one to a server that
// does not know the stream, and returns how many were.
func spread(s *streams, from time.Time, n int) (strays int, end time.Time) {
	now := from
	for i := range n {
		baton, keep := s.begin(now)
		switch {
		case baton != "" && i%2 == 0:
			s.dropAll(now, now.Add(time.Millisecond))
			strays++
			s.end(now, "", true)
		case baton != "":
			s.reused.Add(1)
			fallthrough
		default:
			left := ""
			if keep {
				left = fmt.Sprint(i)
			}
			s.end(now, left, true)
		}
		now = now.Add(10 * time.Millisecond)
	}
	return strays, now
}

func TestNoStreamsAreKeptWhereRequestsAreSpread(t *testing.T) {
	s := newStreams()
	strays, now := spread(s, time.Now(), 1000)
	if strays != maxStrays {
		t.Errorf("%d exchanges went to the wrong server", strays)
	}
	if strays, _ = spread(s, now.Add(strayRest), 1000); strays != maxStrays {
		t.Errorf("%d exchanges went to the wrong server after a rest", strays)
	}
}

func TestStreamsAreKeptThoughServersRestart(t *testing.T) {
	s, now := newStreams(), time.Now()
	for restart := range 20 {
		for i := range streamStreak + strayReuses + 1 {
			if baton, _ := s.exchange(now, fmt.Sprint(restart, ".", i)); baton != "" {
				s.reused.Add(1)
			}
			now = now.Add(10 * time.Millisecond)
		}
		if baton, keep := s.begin(now); baton == "" || !keep {
			t.Fatalf("restart %d: goes on with %q, keeps %v", restart, baton, keep)
		}
		for range 8 { // all that were under way notice
			s.dropAll(now, now.Add(5*time.Millisecond))
		}
		s.end(now, "", true)
		now = now.Add(10 * time.Millisecond)
	}
}
