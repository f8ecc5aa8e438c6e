package episodic

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestMain(m *testing.M) {
	if crashWriter() || faultyProcess() || queueWriter() || conflictWriter() || backupMaker() || eraser() {
		return
	}
	remove := testkit.UserCacheDir()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		remove()
		os.Exit(code)
	}))
}

// open opens a Store that the test closes: with a replica of its server if opts say where that
// is, or onEveryTarget does.
func open(t testing.TB, target string, opts *Options) *Store {
	t.Helper()
	o := direct(opts)
	if dir, found := replicated.Load(target); found && !orZero(opts).Replica.Disabled && o.Replica.Disabled {
		o.CacheDir, o.Replica.Disabled = dir.(string), false
		o.Cache.PollInterval = cmp.Or(o.Cache.PollInterval, time.Nanosecond) // others' writes are to be seen
	}
	s, err := Open(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// direct returns opts with no replica of a server, unless they say where it is: one in the
// user's cache folder would be shared with other tests.
func direct(opts *Options) *Options {
	o := *orZero(opts)
	o.Replica.Disabled = o.Replica.Path == "" && o.CacheDir == ""
	return &o
}

// replicated are the servers whose Stores are to have a replica, with the cache folder for it.
var replicated sync.Map

func onFile(t testing.TB) *Store { return open(t, filepath.Join(t.TempDir(), "m.db"), nil) }

// onFileAndServer runs a test on the address of a fresh memory of each kind.
func onFileAndServer(t *testing.T, test func(t *testing.T, target string)) {
	t.Run("file", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "m.db")) })
	t.Run("sqld", func(t *testing.T) { test(t, hranatest.Start(t).URL()) })
}

// onEveryTarget is onFileAndServer and, in long tests, runs the test on a server whose Stores
// share a replica. It is for tests of what is stored and read, and not of how.
func onEveryTarget(t *testing.T, test func(t *testing.T, target string)) {
	onFileAndServer(t, test)
	if testkit.Effort(0, 0, 1) == 0 {
		return
	}
	t.Run("replica", func(t *testing.T) {
		url := hranatest.Start(t).URL()
		replicated.Store(url, t.TempDir())
		defer replicated.Delete(url)
		test(t, url)
	})
}

// onEveryEngine runs a test on a fresh memory of each kind.
func onEveryEngine(t *testing.T, test func(t *testing.T, s *Store)) {
	onEveryTarget(t, func(t *testing.T, target string) { test(t, open(t, target, &Options{IndexSteps: true})) })
}

// onEveryEngineIfLong is onEveryEngine for tests of many megabytes, which the race detector
// makes slow: only long tests, which go without it, run them on more than a server.
func onEveryEngineIfLong(t *testing.T, test func(t *testing.T, s *Store)) {
	if testkit.Effort(0, 0, 1) == 1 {
		onEveryEngine(t, test)
		return
	}
	test(t, open(t, hranatest.Start(t).URL(), &Options{IndexSteps: true}))
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants reports an error that is not target or does not contain text.
func wants(t testing.TB, err, target error, text string) {
	t.Helper()
	if !errors.Is(err, target) || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %v, want %v with %q", err, target, text)
	}
}

func TestOpenRefusesBadTargets(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	ok(t, os.WriteFile(text, []byte(strings.Repeat("my notes\n", 500)), 0o600))
	nobody := "http://" + hranatest.Unused(t)
	key := hranatest.NewKey()
	server := hranatest.Start(t, hranatest.WithKey(key))

	for _, tt := range []struct {
		target    string
		is        error
		text      string
		retryable bool
	}{
		{target: "", is: ErrInvalid, text: "target: is empty"},
		{target: "postgres://host/db", is: ErrInvalid, text: `unknown scheme "postgres"`},
		{target: ":memory:", is: ErrInvalid, text: "temporary folder"},
		{target: "ws://127.0.0.1:8080", is: ErrInvalid, text: "libsql://"},
		{target: "http://example.com", is: ErrInvalid, text: "unencrypted to example.com"},
		{target: filepath.Join(dir, "no", "m.db"), text: "does not exist"},
		{target: text, is: ErrSchema, text: "open " + text + ": unsuitable database: file is not a database"},
		{target: nobody, text: "refused", retryable: true},
		{target: server.URL(), is: ErrUnauthorized, text: "Expected authorization header"},
		{target: server.URL() + "?authToken=sesame", is: ErrUnauthorized, text: "JWT is invalid"},
		{target: server.URL() + "?authToken=" + key.Token(false, time.Now().Add(-time.Hour)), is: ErrUnauthorized, text: "expired"},
	} {
		s, err := Open(t.Context(), tt.target, direct(nil))
		if err == nil {
			t.Errorf("%q was opened", tt.target)
			ok(t, s.Close())
			continue
		}
		if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%q: %v; want %v with %q", tt.target, err, tt.is, tt.text)
		}
		if strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%q: the error tells the token: %v", tt.target, err)
		}
		if Retryable(err) != tt.retryable {
			t.Errorf("%q: Retryable is %v: %v", tt.target, !tt.retryable, err)
		}
	}
	ok(t, open(t, server.URL()+"?authToken="+key.Token(false, time.Now().Add(time.Hour)), nil).PutEpisode(t.Context(), &Episode{Description: "x"}))
}

func TestMustExist(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		_, err := Open(t.Context(), target, direct(&Options{MustExist: true}))
		wants(t, err, ErrNotFound, "no memory yet")
		if _, err := os.Stat(target); err == nil {
			t.Error("the file was created")
		}
		open(t, target, nil)
		open(t, target, &Options{MustExist: true})
	})
}

func TestTokenIsAskedForEveryRequest(t *testing.T) {
	key := hranatest.NewKey()
	server := hranatest.Start(t, hranatest.WithKey(key))
	var mu sync.Mutex
	token, asked := key.Token(false, time.Now().Add(time.Hour)), 0
	s := open(t, server.URL(), &Options{
		AuthToken: func(context.Context) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return token, nil
		},
		Compression: Compression{DisableDictionaries: true}, // so that nothing is asked in the background
	})
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
	if n := int(s.Stats().Requests); asked != n || n == 0 {
		t.Errorf("token was asked for %d times in %d requests", asked, n)
	}
	mu.Lock()
	token = key.Token(true, time.Now().Add(time.Hour))
	mu.Unlock()
	err := s.PutEpisode(t.Context(), &Episode{Description: "x"})
	wants(t, err, ErrUnauthorized, "Write permission")
	if _, err := s.Counts(t.Context()); err != nil {
		t.Errorf("reading with a read-only token: %v", err)
	}
}

func TestDatabasesOfOthersAreRefused(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		s := open(t, target, nil)
		_, err := s.engine.Batch(t.Context(), stmt("INSERT INTO episodic_migrations VALUES(99, 0)"))
		ok(t, err)
		_, err = Open(t.Context(), target, direct(nil))
		wants(t, err, ErrSchema, "newer episodic")
		_, err = s.engine.Batch(t.Context(), stmt("ALTER TABLE episodic_migrations RENAME TO other"))
		ok(t, err)
		_, err = Open(t.Context(), target, direct(nil))
		wants(t, err, ErrSchema, "another program")
	})
}

func TestClosedStore(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		ok(t, s.Close())
		ok(t, s.Close())
		e := &Episode{Description: "x"}
		_, appendErr := s.AppendSteps(t.Context(), NewID(), Step{Tool: "x"})
		_, getErr := s.Episode(t.Context(), NewID())
		_, listErr := s.ListEpisodes(t.Context(), nil, nil)
		_, searchErr := s.Search(t.Context(), "x", nil)
		_, countErr := s.Counts(t.Context())
		for i, err := range []error{s.PutEpisode(t.Context(), e), s.StartEpisode(t.Context(), e), appendErr, getErr, listErr, searchErr, countErr, s.DeleteEpisode(t.Context(), e.ID)} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("call %d: %v", i, err)
			}
		}
	})
}

func TestCancelledCallsLeaveTheStoreUsable(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := &Episode{Description: "x"}
		wants(t, s.PutEpisode(ctx, e), context.Canceled, "put episode "+e.ID.String())
		_, err := s.Episode(ctx, e.ID)
		wants(t, err, context.Canceled, "")
		ok(t, s.PutEpisode(t.Context(), e))
		if _, err := s.Episode(t.Context(), e.ID); err != nil {
			t.Error(err)
		}
	})
}

func TestSixOpenersOfOneNewMemory(t *testing.T) {
	test := func(t *testing.T, target string, opts *Options) {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				s, err := Open(t.Context(), target, opts)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				if err := s.PutEpisode(t.Context(), &Episode{Description: "x"}); err != nil {
					t.Errorf("put: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		wg.Wait()
		counts, err := open(t, target, opts).Counts(t.Context())
		if err != nil || counts.Episodes != 6 {
			t.Errorf("%d episodes, %v", counts.Episodes, err)
		}
	}
	onEveryTarget(t, func(t *testing.T, target string) { test(t, target, direct(nil)) })
	t.Run("replica", func(t *testing.T) { test(t, hranatest.Start(t).URL(), &Options{CacheDir: t.TempDir()}) })
}

func TestStatsCountWhatHappened(t *testing.T) {
	onFileAndServer(t, func(t *testing.T, target string) {
		// Looking for dictionaries is a read besides.
		s := open(t, target, &Options{Compression: Compression{DisableDictionaries: true}})
		s.indexer.close() // which now and then looks whether there is something to merge
		before := s.Stats()
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
		_, err := s.Counts(t.Context())
		ok(t, err)
		_, err = s.Search(t.Context(), "x", nil)
		ok(t, err)
		after := s.Stats()
		reads := uint64(2)
		if s.server == nil {
			reads = 3 // the index, then the head
		}
		if w, c, r := after.Writes-before.Writes, after.Commits-before.Commits, after.Reads-before.Reads; w != 1 || c != 1 || r != reads {
			t.Errorf("%d writes, %d commits, %d reads; want 1, 1, %d", w, c, r, reads)
		}
		if n := after.Requests - before.Requests; n != 0 && n != 3 {
			t.Errorf("%d requests for 3 calls", n)
		}
	})
}

type countingTracer struct{ started, failed []string }

func (c *countingTracer) Start(ctx context.Context, operation string) (context.Context, func(error)) {
	c.started = append(c.started, operation)
	return ctx, func(err error) {
		if err != nil {
			c.failed = append(c.failed, operation)
		}
	}
}

// Every exported method that can block, but for Watch and Close, is traced once,
// with the error that it returns.
func TestEveryCallIsTraced(t *testing.T) {
	tracer := &countingTracer{}
	s := open(t, filepath.Join(t.TempDir(), "m.db"), &Options{Tracer: tracer})
	ok(t, s.Close())
	for name := range reflect.TypeFor[*Store]().Methods() {
		method := reflect.ValueOf(s).MethodByName(name.Name)
		if method.Type().NumIn() == 0 || name.Name == "Watch" || method.Type().In(0) != reflect.TypeFor[context.Context]() {
			continue
		}
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for i := 1; i < method.Type().NumIn(); i++ {
			args = append(args, reflect.Zero(method.Type().In(i)))
		}
		before, failures := len(tracer.started), len(tracer.failed)
		call := method.Call
		if method.Type().IsVariadic() {
			call = method.CallSlice
		}
		results := call(args)
		if last := results[len(results)-1]; last.Kind() == reflect.Func { // an iterator
			yield := reflect.MakeFunc(last.Type().In(0), func([]reflect.Value) []reflect.Value { return []reflect.Value{reflect.ValueOf(true)} })
			last.Call([]reflect.Value{yield})
		} else if failed := !last.IsNil(); failed != (len(tracer.failed) > failures) {
			t.Errorf("%s returns %v, and its trace failed: %v", name.Name, last, len(tracer.failed) > failures)
		}
		if n := len(tracer.started) - before; n != 1 && name.Name != "Changes" {
			t.Errorf("%s is traced %d times: %v", name.Name, n, tracer.started[before:])
		}
	}
}
