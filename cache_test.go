package episodic

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
)

// shortPoll is the PollInterval of tests.
const shortPoll = 200 * time.Millisecond

// cachedStore opens a Store that asks nothing in the background.
func cachedStore(t testing.TB, target string, c Cache) *Store {
	t.Helper()
	if c.PollInterval == 0 {
		c.PollInterval = shortPoll
	}
	return open(t, target, &Options{Cache: c, Compression: Compression{DisableDictionaries: true}})
}

// onEveryCached runs a test on a Store with a cache and on one without on the same
// fresh memory of each kind, the second of which stands for others. lag is what
// the first may be behind.
func onEveryCached(t *testing.T, test func(t *testing.T, s, other *Store, lag time.Duration)) {
	onFileAndServer(t, func(t *testing.T, target string) {
		lag := shortPoll
		if !strings.HasPrefix(target, "http") {
			lag = 0
		}
		test(t, cachedStore(t, target, Cache{}), cachedStore(t, target, Cache{Disabled: true}), lag)
	})
}

// sql has a stranger write, as from an SQL shell, in one transaction.
func sql(t testing.TB, s *Store, stmts ...engine.Stmt) {
	t.Helper()
	_, err := s.engine.Batch(t.Context(), stmts...)
	ok(t, err)
}

// shows waits for lag, for the whole of which the cache may show what was before,
// and then wants is to hold.
func shows(t testing.TB, what string, lag time.Duration, is func() bool) {
	t.Helper()
	time.Sleep(lag)
	if !is() {
		t.Errorf("%v later still not seen: %s", lag, what)
	}
}

// Two polls that begin before either is applied must both tell of a change.
func TestCachePollsOfAFileAreTold(t *testing.T) {
	s := onFile(t)
	f := &fileFeed{file: s.engine.(*embedded.Engine)}
	before, err := f.poll(t.Context(), 0)
	ok(t, err)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
	var after int64
	for range 2 {
		l, err := f.poll(t.Context(), before.Seq)
		ok(t, err)
		if l.Seq <= before.Seq || len(l.Changes) != 1 {
			t.Errorf("poll since %d shows %+v", before.Seq, l)
		}
		after = l.Seq
	}
	// What is written in the background makes a poll read, and ends.
	waitUntil(t, "a poll that reads nothing", func() bool {
		reads := s.Stats().Reads
		l, err := f.poll(t.Context(), after)
		ok(t, err)
		if l.Seq != after || len(l.Changes) > 0 {
			t.Errorf("poll since %d shows %+v", after, l)
		}
		return l.Changes == nil && s.Stats().Reads == reads
	})
}

func TestCachedListsAndSearches(t *testing.T) {
	t.Parallel()
	onEveryCached(t, func(t *testing.T, s, other *Store, lag time.Duration) {
		count := func() (n [3]int) {
			hits, err := s.searchHits(t.Context(), "pool", nil)
			ok(t, err)
			page, err := s.ListEpisodes(t.Context(), &EpisodeFilter{Tags: []string{"go"}}, nil)
			ok(t, err)
			heuristics, err := s.ListHeuristics(t.Context(), nil, nil)
			ok(t, err)
			return [3]int{len(hits), len(page.Items), len(heuristics.Items)}
		}
		e := &Episode{Description: "pool", Context: Context{Tags: []string{"go"}}}
		h := &Heuristic{Condition: "x", Action: "y"}
		for n, by := range []*Store{s, other} {
			lag := time.Duration(n) * lag
			for _, tt := range []struct {
				what   string
				change func() error
				want   [3]int
			}{
				{"an episode", func() error { e.Revision, h.Revision = 0, 0; return by.PutEpisode(t.Context(), e) }, [3]int{1, 1, 0}},
				{"a tag less", func() error { return by.RemoveTags(t.Context(), e.ID, "go") }, [3]int{1, 0, 0}},
				{"a tag more", func() error { return by.AddTags(t.Context(), e.ID, "go") }, [3]int{1, 1, 0}},
				{"a heuristic", func() error { return by.PutHeuristic(t.Context(), h) }, [3]int{1, 1, 1}},
				{"no episode", func() error { return by.DeleteEpisode(t.Context(), e.ID) }, [3]int{0, 0, 1}},
				{"no heuristic", func() error { return by.DeleteHeuristic(t.Context(), h.ID) }, [3]int{}},
			} {
				count() // now it is cached
				ok(t, tt.change())
				shows(t, tt.what, lag, func() bool { return count() == tt.want })
			}
		}
		e.Revision = 0 // it was deleted
		ok(t, s.PutEpisode(t.Context(), e))
		for _, tt := range []struct{ what, sql string }{
			{"a stranger's tag less", "DELETE FROM tags"},
			{"a stranger's tag more", "INSERT INTO tags SELECT 'other',seq,0 FROM episodes"},
			{"a stranger's other tag", "UPDATE tags SET tag='go'"},
		} {
			count()
			sql(t, other, stmt(tt.sql))
			shows(t, tt.what, lag, func() bool {
				page, err := other.ListEpisodes(t.Context(), &EpisodeFilter{Tags: []string{"go"}}, nil)
				ok(t, err)
				return count()[1] == len(page.Items)
			})
		}
	})
}

// Requests that differ in one field, whichever, have different keys.
func TestCacheKeysTellRequestsApart(t *testing.T) {
	times := rapid.Custom(func(t *rapid.T) time.Time {
		at := anyTime.Draw(t, "time")
		if rapid.Bool().Draw(t, "far") {
			at = time.UnixMicro(rapid.Int64Range(time.Time{}.UnixMicro()+1, 253402300799_999999).Draw(t, "any µs"))
		}
		return at.In(time.FixedZone("", rapid.IntRange(-86400, 86400).Draw(t, "zone")))
	})
	var draw func(t *rapid.T, v reflect.Value, name string)
	draw = func(t *rapid.T, v reflect.Value, name string) {
		switch v.Interface().(type) {
		case EpisodeFilter, PatternFilter, HeuristicFilter, SearchOptions, Paging, Scope:
			for i := range v.NumField() {
				draw(t, v.Field(i), v.Type().Field(i).Name)
			}
		case time.Time:
			v.Set(reflect.ValueOf(times.Draw(t, name)))
		case []string:
			v.Set(reflect.ValueOf(list(rapid.SliceOfN(anyText, 0, 3).Draw(t, name))))
		case int:
			v.SetInt(int64(rapid.IntRange(0, 3).Draw(t, name)))
		case bool:
			v.SetBool(rapid.Bool().Draw(t, name))
		case uint64:
			v.SetUint(rapid.Uint64Range(0, 3).Draw(t, name))
		case float64:
			v.SetFloat(rapid.Float64Range(0, 1).Draw(t, name))
		default:
			v.SetString(rapid.OneOf(rapid.SampledFrom([]string{"", "a", "\ufffd"}), anyText).Draw(t, name))
		}
	}
	requests := []func() any{
		func() any { return &pageRequest[EpisodeFilter]{} }, func() any { return &pageRequest[PatternFilter]{} },
		func() any { return &pageRequest[HeuristicFilter]{} }, func() any { return &searchRequest{} },
	}
	asked := func(t *rapid.T, request any) string {
		var w where
		switch f := request.(type) {
		case *pageRequest[EpisodeFilter]:
			w, _ = f.Filter.where()
			return fmt.Sprintf("%#v %d %q", w, f.Limit, f.Cursor)
		case *pageRequest[PatternFilter]:
			w, _ = f.Filter.where()
			return fmt.Sprintf("%#v %d %q", w, f.Limit, f.Cursor)
		case *pageRequest[HeuristicFilter]:
			w, _ = f.Filter.where()
			return fmt.Sprintf("%#v %d %q", w, f.Limit, f.Cursor)
		}
		r := request.(*searchRequest)
		w, _ = r.Filter.where()
		r.Filter = EpisodeFilter{}
		return fmt.Sprintf("%#v %#v", *r, w)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, len(requests)-1).Draw(t, "kind")
		a, b := requests[n](), requests[n]()
		va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
		for i := range va.NumField() {
			draw(t, va.Field(i), va.Type().Field(i).Name)
		}
		vb.Set(va)
		field := rapid.IntRange(0, va.NumField()-1).Draw(t, "field")
		draw(t, vb.Field(field), "other "+va.Type().Field(field).Name)
		var keys [2]cacheKey
		for i, request := range []any{a, b} {
			var err error
			if keys[i], err = requestFor(episodePage+noun(n), request); err != nil {
				t.Fatalf("key of %+v: %v", request, err)
			}
		}
		if asked(t, a) != asked(t, b) && keys[0] == keys[1] {
			t.Fatalf("%+v and %+v share a key", a, b)
		}
	})
	for n := range requests {
		a, _ := requestFor(episodePage+noun(n), &pageRequest[HeuristicFilter]{})
		b, _ := requestFor(episodePage+noun((n+1)%len(requests)), &pageRequest[HeuristicFilter]{})
		if a == b {
			t.Error("requests of different kinds share a key")
		}
	}
}

// A year is told in UTC, whatever zone a caller's time lies in.
func TestFilterKeepsTheLastDayOfAllYears(t *testing.T) {
	last := time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC)
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 2*3600), time.FixedZone("", -2*3600)} {
		f := EpisodeFilter{From: last.In(zone), To: last.In(zone)}
		if got := f.canonical(); !got.From.Equal(last) || !got.To.Equal(last) {
			t.Errorf("%v is asked for as %v to %v", f.To, got.From, got.To)
		}
	}
	f := EpisodeFilter{To: last.Add(2 * time.Hour).In(time.FixedZone("", -4*3600))}
	if got := f.canonical(); !got.To.IsZero() {
		t.Errorf("%v, after all that is stored, is asked for as %v", f.To, got.To)
	}
}

func TestCacheRefusesAsTheDatabaseDoes(t *testing.T) {
	onEveryCached(t, func(t *testing.T, s, other *Store, _ time.Duration) {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
		calls := map[string]func(s *Store) error{}
		for _, f := range []EpisodeFilter{
			{Outcome: "x"}, {State: "x"}, {Domain: "\xff"}, {Tags: []string{"\x00\xff"}}, {Language: "\xff"}, {TaskType: "\xff"},
		} {
			calls[fmt.Sprintf("list %+q", fmt.Sprint(f))] = func(s *Store) error { _, err := s.ListEpisodes(t.Context(), &f, nil); return err }
			calls[fmt.Sprintf("search %+q", fmt.Sprint(f))] = func(s *Store) error {
				_, err := s.Search(t.Context(), "x", &SearchOptions{Filter: f})
				return err
			}
		}
		for _, f := range []PatternFilter{{Kind: "x"}, {MinSuccessRate: 2}, {Domain: "\xff"}} {
			calls[fmt.Sprintf("patterns %+v", f)] = func(s *Store) error { _, err := s.ListPatterns(t.Context(), &f, nil); return err }
		}
		for _, p := range []Paging{{Limit: -1}, {Limit: 1001}, {Cursor: "x"}, {Cursor: "\xff"}} {
			calls[fmt.Sprintf("page %+q", fmt.Sprint(p))] = func(s *Store) error { _, err := s.ListEpisodes(t.Context(), nil, &p); return err }
		}
		for _, f := range []HeuristicFilter{{MinConfidence: -1}} {
			calls[fmt.Sprintf("heuristics %+v", f)] = func(s *Store) error { _, err := s.ListHeuristics(t.Context(), &f, nil); return err }
		}
		for name, call := range calls {
			want := call(other)
			if !errors.Is(want, ErrInvalid) {
				t.Errorf("%s: error without a cache is %v", name, want)
				continue
			}
			for range 2 {
				if err := call(s); fmt.Sprint(err) != want.Error() || !errors.Is(err, ErrInvalid) {
					t.Errorf("%s: error is %v, without a cache %v", name, err, want)
				}
			}
		}
		if c := s.Stats().Cache; c.Entries != 0 || c.Misses != 0 || c.LoadFailures != 0 {
			t.Errorf("refused requests reached the cache: %+v", c)
		}
	})
}

func TestCacheHandsOutWhatIsTheCallersOwn(t *testing.T) {
	onEveryCached(t, func(t *testing.T, s, other *Store, _ time.Duration) {
		e := tenSteps()
		e.AppliedPatterns = []AppliedPattern{{PatternID: NewID(), Effect: Helped}}
		ok(t, other.PutEpisode(t.Context(), e))
		p := &Pattern{Description: "x", Evidence: []ID{e.ID}, Metadata: map[string]string{"a": "b"}, ToolSequence: &ToolSequence{Tools: []string{"x", "y"}}}
		ok(t, other.PutPattern(t.Context(), p))
		h := &Heuristic{Condition: "x", Action: "y", Evidence: Evidence{Episodes: []ID{e.ID}}, Metadata: map[string]string{"a": "b"}}
		ok(t, other.PutHeuristic(t.Context(), h))
		for name, read := range map[string]func(s *Store) (any, error){
			"episode":        func(s *Store) (any, error) { return s.Episode(t.Context(), e.ID) },
			"pattern":        func(s *Store) (any, error) { return s.Pattern(t.Context(), p.ID) },
			"heuristic":      func(s *Store) (any, error) { return s.Heuristic(t.Context(), h.ID) },
			"episode page":   func(s *Store) (any, error) { return s.ListEpisodes(t.Context(), nil, nil) },
			"pattern page":   func(s *Store) (any, error) { return s.ListPatterns(t.Context(), nil, nil) },
			"heuristic page": func(s *Store) (any, error) { return s.ListHeuristics(t.Context(), nil, nil) },
			"hits":           func(s *Store) (any, error) { return s.Search(t.Context(), e.Description, nil) },
		} {
			want, err := read(other)
			ok(t, err)
			if len(places("", reflect.ValueOf(want))) < 3 {
				t.Fatalf("%s: nothing to change in %+v", name, want)
			}
			hits, loads := s.Stats().Cache.Hits, s.Stats().Cache.Loads
			var got [3]any
			for i := range got {
				got[i], err = read(s)
				ok(t, err)
				for _, before := range got[:i] {
					if both := shared(before, got[i]); both != nil {
						t.Errorf("%s: two callers share %q", name, both)
					}
				}
				if !reflect.DeepEqual(got[i], want) {
					t.Errorf("%s: read\n%+v\nwithout a cache\n%+v", name, got[i], want)
				}
			}
			if c := s.Stats().Cache; c.Loads != loads+1 || c.Hits != hits+2 {
				t.Errorf("%s: %d loads, %d hits", name, c.Loads-loads, c.Hits-hits)
			}
		}
	})
}

func TestCacheOfWhatIsNotThere(t *testing.T) {
	onEveryCached(t, func(t *testing.T, s, other *Store, lag time.Duration) {
		for n, by := range []*Store{s, other} {
			e := &Episode{ID: NewID(), Description: "x"}
			p := &Pattern{ID: NewID(), ToolSequence: &ToolSequence{Tools: []string{"x"}}}
			h := &Heuristic{ID: NewID(), Condition: "x", Action: "y"}
			added := &Episode{ID: NewID(), Description: "x"}
			running := &Episode{ID: NewID(), Description: "x"}
			read := func() (found int) {
				_, errE := s.Episode(t.Context(), e.ID)
				_, errA := s.Episode(t.Context(), added.ID)
				_, errR := s.Episode(t.Context(), running.ID)
				_, errP := s.Pattern(t.Context(), p.ID)
				_, errH := s.Heuristic(t.Context(), h.ID)
				for _, err := range []error{errE, errA, errR, errP, errH} {
					if err == nil {
						found++
					} else if !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
				}
				return found
			}
			hits := s.Stats().Cache.Hits
			if n := read() + read(); n != 0 || s.Stats().Cache.Hits != hits+5 {
				t.Errorf("%d were found, %d hits", n, s.Stats().Cache.Hits-hits)
			}
			ok(t, by.PutEpisode(t.Context(), e))
			_, err := by.AddEpisodes(t.Context(), added)
			ok(t, err)
			ok(t, by.StartEpisode(t.Context(), running))
			ok(t, by.PutPattern(t.Context(), p))
			ok(t, by.PutHeuristic(t.Context(), h))
			shows(t, "what was made", time.Duration(n)*lag, func() bool { return read() == 5 })
		}
	})
}

func TestCacheOptions(t *testing.T) {
	for field, c := range map[string]Cache{
		"Cache.MaxBytes":     {MaxBytes: 1000},
		"Cache.MinTTL":       {MinTTL: time.Millisecond},
		"Cache.BaseTTL":      {BaseTTL: time.Minute, MinTTL: 2 * time.Minute},
		"Cache.MaxTTL":       {BaseTTL: time.Minute, MaxTTL: 30 * time.Second, MinTTL: time.Second},
		"Cache.PollInterval": {PollInterval: -1},
		"Cache.StaleIfError": {StaleIfError: -1},
	} {
		for _, target := range []string{"http://127.0.0.1:1", filepath.Join(t.TempDir(), "m.db")} {
			_, err := Open(t.Context(), target, &Options{Cache: c})
			if bad, ok := errors.AsType[*InvalidError](err); !ok || bad.Field != field || !strings.Contains(bad.Problem, "must be") {
				t.Errorf("%s: error is %v", field, err)
			}
		}
	}
	onEveryTarget(t, func(t *testing.T, target string) {
		s := cachedStore(t, target, Cache{Disabled: true})
		e := &Episode{Description: "x"}
		ok(t, s.PutEpisode(t.Context(), e))
		for range 3 {
			before := s.Stats().Reads
			_, err := s.Episode(t.Context(), e.ID)
			ok(t, err)
			// The background may read too, to keep the index.
			if after := s.Stats(); after.Cache != nil || after.Reads == before {
				t.Errorf("cache is %+v, %d reads", after.Cache, after.Reads-before)
			}
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "m.db"), &Options{Cache: Cache{MaxBytes: 64 << 10}, Compression: Compression{DisableDictionaries: true}})
	text := strings.Repeat("much the same ", 300)
	for i := range 100 {
		e := &Episode{Description: fmt.Sprint(i, text)}
		ok(t, s.PutEpisode(t.Context(), e))
		_, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		// Compressed payloads count as what they become.
		if c := s.Stats().Cache; c.Bytes > 64<<10 || c.Entries > 15 {
			t.Fatalf("%+v", c)
		}
	}
	if c := s.Stats().Cache; c.Evictions == 0 || c.Entries == 0 {
		t.Errorf("%+v", c)
	}
}

// Times that no episode can have choose as they would without a cache.
func TestFiltersOfFarTimes(t *testing.T) {
	s := onFile(t)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "zebra"}))
	never, always := time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		f    EpisodeFilter
		want int
	}{
		{EpisodeFilter{From: never}, 0}, {EpisodeFilter{To: never}, 1}, {EpisodeFilter{From: always}, 1}, {EpisodeFilter{To: always}, 0},
	} {
		page, err := s.ListEpisodes(t.Context(), &tt.f, nil)
		ok(t, err)
		hits, err := s.searchHits(t.Context(), "zebra", &SearchOptions{Filter: tt.f})
		ok(t, err)
		if len(page.Items) != tt.want || len(hits) != tt.want {
			t.Errorf("%v: %d listed, %d found, want %d", tt.f, len(page.Items), len(hits), tt.want)
		}
	}
}

// A file that cannot be asked is read, and not trusted to be as it was.
func TestCacheOfAFileThatIsMoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	ok(t, os.Mkdir(dir, 0o755))
	s, err := Open(t.Context(), filepath.Join(dir, "m.db"), &Options{DisableCacheDir: true})
	ok(t, err)
	e := &Episode{Description: "old"}
	ok(t, s.PutEpisode(t.Context(), e))
	_, err = s.Episode(t.Context(), e.ID)
	ok(t, err)
	ok(t, os.Rename(dir, dir+"b"))
	ok(t, open(t, filepath.Join(dir+"b", "m.db"), nil).PutEpisode(t.Context(), &Episode{ID: e.ID, Description: "new"}))
	if got, err := s.Episode(t.Context(), e.ID); err == nil && got.Description != "new" {
		t.Errorf("read %q", got.Description)
	}
	wants(t, s.Close(), ErrReplaced, "was removed or moved")
}

func TestCacheCountsItsKeys(t *testing.T) {
	s := onFile(t)
	_, err := s.Search(t.Context(), strings.Repeat("zebra ", 10)+strings.Repeat("z", 50_000), nil)
	ok(t, err)
	if n := s.Stats().Cache.Bytes; n < 50_000 {
		t.Errorf("%d bytes are counted for a key of more", n)
	}
}
