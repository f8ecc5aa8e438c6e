package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/testkit"
)

const hooksEnv = "EPISODIC_TEST_HOOKS"

func TestMain(m *testing.M) {
	if spec := os.Getenv(hooksEnv); spec != "" {
		if err := callHooks(strings.Split(spec, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// callHooks records calls of a session one after the other, and tells each: from a number on, so
// many, or until it is killed.
func callHooks(spec []string) error {
	r := recorderOf(spec[0], spec[1])
	r.rest = -1
	from, err1 := strconv.Atoi(spec[3])
	many, err2 := strconv.Atoi(spec[4])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for i := from; many == 0 || i < from+many; i++ {
		e, err := clients.Decode("", "", callPayload("s", spec[2]+strconv.Itoa(i), "x"))
		if err == nil {
			_, err = r.Record(context.Background(), &e)
		}
		if err != nil {
			return err
		}
		fmt.Println(i)
	}
	return nil
}

func (b *bench) hooksSpec(prefix string, from, many int) string {
	return fmt.Sprintf("%s=%s|%s|%s|%d|%d", hooksEnv, b.Dir, b.path, prefix, from, many)
}

// inOrder checks that the episode has the calls of each prefix, from 0 on, once and in order.
func (b *bench) inOrder(want map[string]int) {
	b.t.Helper()
	got := make(map[string]int)
	for _, st := range b.episode("s").Steps {
		id := strings.TrimSuffix(strings.TrimPrefix(string(st.Parameters), `{"command":"run `), `"}`)
		at := strings.IndexAny(id, "0123456789")
		if n, err := strconv.Atoi(id[at:]); err != nil || n != got[id[:at]] {
			b.t.Fatalf("behind %d calls of %q comes %q", got[id[:at]], id[:at], id)
		}
		got[id[:at]]++
	}
	for prefix, n := range want {
		if got[prefix] != n {
			b.t.Errorf("of %q there are %d calls, want %d", prefix, got[prefix], n)
		}
	}
}

func TestAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.now = nil
	b.prompt("s", "mend it")
	many := testkit.Effort(2, 3, 12) // all together fewer than a session remembers
	want := make(map[string]int)
	var running sync.WaitGroup
	for g := range 20 {
		prefix := "g" + strings.Repeat("x", g) + "-"
		want[prefix] = many
		running.Go(func() {
			for i := range many {
				for range 1 + g%2 { // some of them twice
					if _, err := b.Record(t.Context(), event(t, callPayload("s", prefix+strconv.Itoa(i), "x"))); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	running.Wait()
	b.inOrder(want)
}

func TestProcessesAtOnce(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("20 processes")
	}
	b := newBench(t)
	b.prompt("s", "mend it")
	want := make(map[string]int)
	var running sync.WaitGroup
	for g := range 20 {
		prefix := "p" + strings.Repeat("x", g) + "-"
		want[prefix] = 2
		running.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), b.hooksSpec(prefix, 0, 2))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	running.Wait()
	b.inOrder(want)
}

// Processes that are killed lose nothing that they have taken, and double nothing.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.prompt("s", "mend it")
	next := 0
	for range testkit.Effort(2, 3, 30) {
		testkit.Killed(t, b.hooksSpec("k", next, 0), 3, 50*time.Millisecond, func(line string) {
			if n, err := strconv.Atoi(line); err != nil || n != next {
				t.Fatalf("%q follows %d", line, next)
			}
			next++
		})
		// The event under way may be there already: its hook is not called again, but this one is.
	}
	b.call("s", "k"+strconv.Itoa(next), "x")
	b.inOrder(map[string]int{"k": next + 1})
}

// Wherever a hook is killed, the session's later ones make up for it.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	type killed struct{}
	script := func(b *bench) {
		step := func(p []byte) {
			defer func() {
				if p := recover(); p != nil && p != any(killed{}) {
					panic(p)
				}
			}()
			if _, err := b.Record(t.Context(), event(t, p)); err != nil {
				t.Error(err)
			}
		}
		step(payload("s", "SessionStart", map[string]any{"source": "startup"}))
		step(payload("s", "UserPromptSubmit", map[string]any{"prompt": "mend it"}))
		step(callPayload("s", "a", "x"))
		b.rest = 1 << 40
		for _, id := range []string{"b", "c", "d"} {
			step(callPayload("s", id, "y"))
		}
		b.rest = -1
		step(payload("s", "Stop", map[string]any{"last_assistant_message": "did"}))
		step(payload("s", "UserPromptSubmit", map[string]any{"prompt": "go on"}))
		step(callPayload("s", "e", "z"))
		step(payload("s", "Stop", map[string]any{"last_assistant_message": "did"}))
		step(payload("s", "SessionEnd", map[string]any{"reason": "other"}))
		step(callPayload("s", "f", "late"))
		if err := b.Sweep(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}
	b := newBench(t)
	places := 0
	b.stopped = func(string) { places++ }
	script(b)
	want := told(b.episode("s"))
	if places < 30 || strings.Count(want, "\n") != 7 || !strings.Contains(want, "ended: did") {
		t.Fatalf("%d places, the episode is\n%s", places, want)
	}
	for at := 0; at < places; at += testkit.Effort(16, 9, 1) {
		t.Run(strconv.Itoa(at), func(t *testing.T) {
			b := newBench(t)
			n, where := 0, ""
			b.stopped = func(place string) {
				if n++; n == at+1 {
					where = place
					panic(killed{})
				}
			}
			script(b)
			if got := told(b.episode("s")); got != want {
				t.Errorf("killed when it was %s the episode is\n%s\n\nwant\n%s", where, got, want)
			}
		})
	}
}

// Also where the episode was judged in the middle of the session.
func TestKilledAfterTheVerdict(t *testing.T) {
	t.Parallel()
	type killed struct{}
	script := func(b *bench, kill func()) {
		b.prompt("s", "mend it")
		b.call("s", "a", "x")
		if err := b.store.CompleteEpisode(t.Context(), idOf(clients.ClaudeCode, "s"), episodic.Completion{Outcome: episodic.Outcome{Kind: episodic.Success, Verdict: "it holds"}}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"b", "c"} {
			func() {
				defer func() {
					if p := recover(); p != nil && p != any(killed{}) {
						panic(p)
					}
				}()
				b.stopped = func(string) { kill() }
				b.call("s", id, "y")
			}()
			b.stopped = nil
		}
		b.end("s")
	}
	places := 0
	b := newBench(t)
	script(b, func() { places++ })
	want := told(b.episode("s"))
	if places < 6 || strings.Count(want, "\n") != 3 || !strings.Contains(want, "ended, success: it holds") {
		t.Fatalf("%d places, the episode is\n%s", places, want)
	}
	for at := 0; at < places; at += testkit.Effort(6, 3, 1) {
		b, n := newBench(t), 0
		script(b, func() {
			if n++; n == at+1 {
				panic(killed{})
			}
		})
		if got := told(b.episode("s")); got != want {
			t.Errorf("killed at %d the episode is\n%s\n\nwant\n%s", at, got, want)
		}
	}
}
