package capture

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/episodic-memory/episodic"
)

// TestNext: what is to be done with a run, by what is stored of it and what that costs.
func TestNext(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	episode := func(title string, steps ...string) *episodic.Episode {
		e := &episodic.Episode{Description: "x", Metadata: map[string]string{"title": title}}
		for _, s := range steps {
			name, result, answered := strings.Cut(s, "=")
			step := episodic.Step{Tool: name, Time: now}
			if answered {
				step.Result = &episodic.Result{Kind: episodic.ResultOutput, Text: result}
			}
			e.Steps = append(e.Steps, step)
		}
		return e
	}
	for _, test := range []struct {
		name    string
		stored  *episodic.Episode
		is      *episodic.Episode
		cost    time.Duration // of storing all, which was done a second ago
		stale   bool
		ended   bool // by now
		ending  bool
		what    todo
		steps   int
		seconds float64 // until it is to be looked at again; 0: when it has changed
	}{
		{name: "it is new", is: episode("a", "x=1"), what: storeAll},
		{name: "nothing is new", stored: episode("a", "x=1"), is: episode("a", "x=1"), what: nothing},
		{name: "a step, cheap", stored: episode("a", "x=1"), is: episode("a", "x=1", "y=2"), what: storeAll},
		{name: "a step, dear", stored: episode("a", "x=1"), is: episode("b", "x=1", "y=2"), cost: time.Second, what: storeSteps, steps: 1, seconds: 19},
		{name: "the head, dear", stored: episode("a", "x=1"), is: episode("b", "x=1"), cost: time.Second, what: wait, seconds: 19},
		{name: "more than was stored, dear", stored: episode("a", "x=1"), is: episode("a", "x=1"), cost: time.Second, stale: true, what: wait, seconds: 19},
		{name: "more than was stored, time has passed", stored: episode("a", "x=1"), is: episode("a", "x=1"), cost: time.Millisecond, stale: true, what: storeAll},
		{name: "a result, dear", stored: episode("a", "x=1", "y"), is: episode("a", "x=1", "y=2"), cost: time.Second, what: wait, seconds: 19},
		{name: "behind one that waits, dear", stored: episode("a", "x=1"), is: episode("a", "x=1", "y", "z=3"), cost: time.Second, what: wait, seconds: 19},
		{name: "before one that waits, dear", stored: episode("a", "x=1"), is: episode("a", "x=1", "y=2", "z", "a=1"), cost: time.Second, what: storeSteps, steps: 1, seconds: 19},
		{name: "none has results, dear", stored: episode("a", "x"), is: episode("a", "x", "y", "z"), cost: time.Second, what: storeSteps, steps: 2, seconds: 19},
		{name: "a late result, rather cheap", stored: episode("a", "x=1", "y"), is: episode("a", "x=1", "y=2"), cost: cheap, what: storeAll},
		{name: "the head, very dear", stored: episode("a", "x=1"), is: episode("b", "x=1"), cost: time.Hour, what: wait, seconds: 119},
		{name: "it has ended, dear", stored: episode("a", "x=1"), is: episode("a", "x=1"), cost: time.Second, ended: true, ending: true, what: storeAll},
		{name: "its file tells what came of it, dear", stored: episode("a", "x=1"), is: episode("a", "x=1", "y=2"), cost: time.Second, ended: true, what: storeAll},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &run{stored: test.stored, running: true, stale: test.stale, at: now.Add(-time.Second), cost: test.cost}
			what, steps, later := r.next(test.is, !test.ended, test.ending, now)
			seconds := 0.0
			if !later.IsZero() {
				seconds = later.Sub(now).Seconds()
			}
			if what == storeAll {
				seconds = 0
			}
			if what != test.what || len(steps) != test.steps || seconds != test.seconds {
				t.Errorf("%d with %d steps, again in %v s; want %d with %d, %v s", what, len(steps), seconds, test.what, test.steps, test.seconds)
			}
		})
	}
}

// fake is a Store that keeps what it is given, and fails if it is to.
type fake struct {
	mu      sync.Mutex // guards the fields below
	err     error
	records []episodic.Record
	imports int
	appends int
}

func (f *fake) Scope() episodic.Scope { return episodic.Scope{} }

func (f *fake) Import(_ context.Context, records []episodic.Record) ([]episodic.ImportResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.imports++
	if f.err != nil {
		return make([]episodic.ImportResult, len(records)), f.err
	}
	f.records = append(f.records, records...)
	results := make([]episodic.ImportResult, len(records))
	for i := range results {
		results[i].Outcome = episodic.ImportUpdated
	}
	return results, nil
}

func (f *fake) AppendSteps(context.Context, episodic.ID, ...episodic.Step) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.appends++
	return 0, f.err
}

func (f *fake) Episode(context.Context, episodic.ID) (*episodic.Episode, error) {
	return nil, episodic.ErrNotFound
}

func (f *fake) Episodes(context.Context, *episodic.EpisodeFilter) iter.Seq2[*episodic.Episode, error] {
	return func(func(*episodic.Episode, error) bool) {}
}

func (f *fake) PutEpisode(context.Context, *episodic.Episode) error   { return f.fails() }
func (f *fake) PutRelation(context.Context, *episodic.Relation) error { return f.fails() }

func (f *fake) fails() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// then looks at what has happened, or changes what will.
func (f *fake) then(do func()) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// TestRun: a step is stored within a second, in between nothing is; while the memory cannot be
// written that is told once, and tried ever less often; and the end comes at once.
func TestRun(t *testing.T) {
	a, dir := &agents[0], t.TempDir()
	path := filepath.Join(dir, a.path)
	synctest.Test(t, func(t *testing.T) {
		store := &fake{}
		o := testOptions(dir, a.name)
		var told []string
		o.Tell = func(text string) {
			store.mu.Lock()
			defer store.mu.Unlock()
			told = append(told, text)
		}
		c := New(store, o)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		synctest.Wait()       // or its first look could see half of what is written next
		grow := func(i int) { // files have the time of the bubble
			if i == 1 {
				write(t, path, a.begin...)
			}
			write(t, path, a.lines(i)...)
			ok(t, os.Chtimes(path, time.Now(), time.Now()))
		}
		grow(1)
		time.Sleep(time.Second)
		store.then(func() {
			if store.imports != 1 || len(store.records[0].Episode.Steps) != 1 {
				t.Errorf("%d imports: %+v", store.imports, store.records)
			}
		})
		time.Sleep(time.Minute)
		store.then(func() {
			if store.imports != 1 {
				t.Errorf("%d imports of what does not change", store.imports)
			}
			store.err = fmt.Errorf("away: %w", episodic.ErrFull)
		})
		grow(2)
		time.Sleep(10 * time.Minute)
		store.then(func() {
			if n := store.imports; n < 20 || n > 30 || len(told) != 1 || !strings.Contains(told[0], "away") {
				t.Errorf("%d imports, told %q", n, told)
			}
			store.err, store.records = nil, nil
		})
		time.Sleep(lastWait)
		store.then(func() {
			if len(store.records) != 1 || len(store.records[0].Episode.Steps) != 2 || len(told) != 2 {
				t.Errorf("%+v, told %q", store.records, told)
			}
		})

		time.Sleep(DefaultIdle)
		imports := 0
		store.then(func() {
			if last := store.records[len(store.records)-1]; last.Episode.End.IsZero() {
				t.Error("the session has not ended")
			}
			imports = store.imports
		})
		time.Sleep(DefaultIdle)
		store.then(func() {
			if store.imports != imports {
				t.Errorf("%d more imports of an ended session", store.imports-imports)
			}
		})
		begun := time.Now()
		stop()
		if err := <-ended; err != nil || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// TestRunFails: an error that does not pass ends it.
func TestRunFails(t *testing.T) {
	t.Parallel()
	a, dir := &agents[0], t.TempDir()
	write(t, filepath.Join(dir, a.path), append(a.begin, a.lines(1)...)...)
	if err := New(&fake{err: episodic.ErrSchema}, testOptions(dir, a.name)).Run(t.Context()); !errors.Is(err, episodic.ErrSchema) {
		t.Errorf("%v", err)
	}
}

// TestSecrets: what the memory has redacted is compared as it was read, so that a long session
// with a secret is not stored again and again.
func TestSecrets(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	c := New(s, testOptions(dir, a.name))
	write(t, path, a.begin...)
	for i := 1; i <= 3; i++ {
		for _, l := range a.lines(i) {
			write(t, path, strings.ReplaceAll(l, "opened outlet", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIbPxRfiCYzzkeyQ71mnTAB"+"opened outlet"))
		}
		ok(t, c.Once(t.Context()))
		for _, f := range c.tree.files {
			for _, r := range f.runs {
				r.cost = time.Hour
			}
		}
	}
	e := stored(t, s)
	if len(e.Steps) != 3 || strings.Contains(fmt.Sprint(*e.Steps[0].Result, *e.Steps[2].Result), "wJalr") {
		t.Errorf("%+v", e.Steps)
	}
}

// TestDear: of a long session what is new is added by itself, and all of it is stored now and
// then.
func TestDear(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	c := New(s, testOptions(dir, a.name))
	write(t, path, append(a.begin, a.lines(1)...)...)
	once(t, c)
	for i := 2; i <= 5; i++ {
		for _, l := range a.lines(i) {
			write(t, path, l)
			for _, f := range c.tree.files {
				for _, r := range f.runs {
					r.cost = time.Hour
				}
			}
			ok(t, c.Once(t.Context()))
		}
		checkSteps(t, a, stored(t, s), i)
		finds(t, s, fmt.Sprintf("outlet%d", i))
	}
	if got := stored(t, s).Metadata["input_tokens"]; got != "3" {
		t.Errorf("%s tokens; they were to come later", got)
	}
	once(t, c)
	if got := stored(t, s).Metadata["input_tokens"]; got != "15" {
		t.Errorf("%s tokens", got)
	}
	if got := c.Stats(); got.Steps != 5 {
		t.Errorf("%+v", got)
	}

	// Steps that somebody else has added meanwhile are in nobody's way.
	_, err := s.AppendSteps(t.Context(), stored(t, s).ID, episodic.Step{Tool: "other"})
	ok(t, err)
	write(t, path, a.lines(6)...)
	for _, f := range c.tree.files {
		for _, r := range f.runs {
			r.cost = time.Hour
		}
	}
	ok(t, c.Once(t.Context()))
	checkSteps(t, a, stored(t, s), 6)
}
