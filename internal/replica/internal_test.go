package replica

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
)

func TestBackoff(t *testing.T) {
	for failures, want := range map[int]time.Duration{0: 0, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 1000: 30 * time.Second} {
		if got := backoff(failures); got != want {
			t.Errorf("after %d failures %v, want %v", failures, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	sized := func(sizes ...int64) (list []change) {
		for _, n := range sizes {
			list = append(list, change{size: n})
		}
		return list
	}
	for _, tt := range []struct {
		sizes []int64
		bytes int64
		want  int
	}{{nil, 10, 0}, {[]int64{11}, 10, 1}, {[]int64{11, 1}, 10, 1}, {[]int64{5, 5}, 10, 2}, {[]int64{5, 5, 1}, 10, 2}, {[]int64{1, 100, 1}, 10, 1}} {
		if got := cut(sized(tt.sizes...), tt.bytes); got != tt.want {
			t.Errorf("%v in %d bytes: %d, want %d", tt.sizes, tt.bytes, got, tt.want)
		}
	}
}

// A pull ends the waiting of those whose floor it has reached, and a failure of all.
func TestRounds(t *testing.T) {
	var q rounds
	now := time.Now()
	a, b, c := q.join(now), q.join(now.Add(time.Second)), q.join(now.Add(2*time.Second))
	q.leave(c)
	if got := q.floor(); !got.Equal(now.Add(time.Second)) {
		t.Errorf("floor is %v later", got.Sub(now))
	}
	q.reached(now)
	if len(a.done) != 1 || len(b.done) != 0 {
		t.Error("not the first waiter only was told")
	}
	q.fail(errMoved)
	if len(b.done) != 1 || <-b.done != errMoved || len(c.done) != 0 || !q.floor().IsZero() {
		t.Error("the others were not told of a failure, or one that had left was")
	}
}

// A server that has less than is here is not believed at once.
func TestLagging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Replica{againFor: 3 * time.Second}
		p, behind := position{life: []byte{1}, upto: 9}, server{life: []byte{1}, newest: 8}
		for _, tt := range []struct {
			after time.Duration
			server
			fails bool
		}{
			{0, server{life: []byte{1}, newest: 9}, false},
			{0, behind, true},
			{2 * time.Second, behind, true},
			{0, server{life: []byte{1}, newest: 9}, false},
			{2 * time.Second, behind, true},
			{3 * time.Second, behind, false},
			{0, server{life: []byte{2}, newest: 1}, false},
		} {
			time.Sleep(tt.after)
			if err := r.lagging(p, tt.server); (err != nil) != tt.fails || tt.fails && engine.KindOf(err) != engine.KindUnavailable {
				t.Errorf("%+v: %v", tt, err)
			}
		}
	})
}

func TestAsOfFile(t *testing.T) {
	f := asOfFile(t.TempDir() + "/r.db.asof")
	check := func(what string, at time.Time, behind bool) {
		t.Helper()
		got, b, err := f.read()
		if err != nil || got.UnixMicro() != at.UnixMicro() || b != behind {
			t.Errorf("%s: %v, behind %v, %v", what, got, b, err)
		}
	}
	check("no file", time.Time{}, false)
	at := time.Now().Add(-time.Minute)
	for _, behind := range []bool{false, true, false} {
		if err := f.write(at, behind); err != nil {
			t.Fatal(err)
		}
		check("written", at, behind)
	}
	if err := f.write(time.Time{}, true); err != nil {
		t.Fatal(err)
	}
	check("never", time.Time{}, true)
	if err := f.write(time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	check("of a clock that was set back", time.Time{}, false)
}

func TestLacking(t *testing.T) {
	for _, tt := range []struct {
		here, there string
		want        []int64
		fails       bool
	}{
		{"[]", "[]", nil, false}, {"[1,2]", "[2,1]", nil, false}, {"[1,2,3]", "[2]", []int64{1, 3}, false},
		{"[]", "[7]", nil, false}, {"[1]", "x", nil, true},
	} {
		if got, err := lacking(tt.here, tt.there); !slices.Equal(got, tt.want) || (err != nil) != tt.fails {
			t.Errorf("%s without %s: %v, %v", tt.here, tt.there, got, err)
		}
	}
}

// A checksum is that of the plain bytes, whatever the form.
func FuzzChecksum(f *testing.F) {
	for _, seed := range [][]byte{{}, {1}, []byte("\x01{}"), {2, 1, 0, 2, 1, 2, 3, 4}, {2, 1, 0x80, 0x80, 2, 5, 1, 2, 3, 4, 9}, {2}, {2, 1, 0xff, 0xff}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if text := contentOf(b).String(); text == "" || len(text) > 20 {
			t.Errorf("%x: %q", b, text)
		}
	})
}

func TestChecksum(t *testing.T) {
	for _, tt := range []struct{ payload, want string }{
		{"", "no payload"},
		{"\x01{}", "payload 297bd0aa"},
		{"\x02\x00\x00\x02\xaa\xd0\x7b\x29{}", "payload 297bd0aa"},
		{"\x02\x01\x81\x80\x02\xac\x02\xaa\xd0\x7b\x29....", "payload 297bd0aa"},
		{"\x02\x01\x81\x80", "a damaged frame"},
		{"\x02", "a damaged frame"},
	} {
		if got := contentOf([]byte(tt.payload)).String(); got != tt.want {
			t.Errorf("%x: %s, want %s", tt.payload, got, tt.want)
		}
	}
}

// However steps are cut into rows, they have one CRC.
func TestRunsAreJoined(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.SliceOfN(rapid.StringMatching(`[a-z\[\],]{1,300}`), 1, 8).Draw(t, "steps")
		array := func(steps []string) []byte { return []byte("\x01[" + strings.Join(steps, ",") + "]") }
		var run *stepRun
		for left, first := steps, int64(1); len(left) > 0; {
			n := rapid.IntRange(1, len(left)).Draw(t, "together")
			next := stepRun{first, int64(n), contentOf(array(left[:n]))}
			if run == nil {
				run = &next
			} else if !run.join(next) {
				t.Fatal("they are not joined")
			}
			left, first = left[n:], first+int64(n)
		}
		if want := (stepRun{1, int64(len(steps)), contentOf(array(steps))}); *run != want {
			t.Errorf("%v, want %v", run, want)
		}
	})
	run := stepRun{1, 2, contentOf([]byte("\x01[1,2]"))}
	for _, next := range []stepRun{{4, 1, contentOf([]byte("\x01[4]"))}, {3, 1, contentOf(nil)}, {3, 1, contentOf([]byte("\x01"))}} {
		if run.join(next) {
			t.Errorf("%v is joined", next)
		}
	}
}
