package episodic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// A put of what was read loses nothing that was written since, by anybody.
func TestPutOfWhatWasReadLosesNothing(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		ctx := t.Context()
		s, other := open(t, target, nil), open(t, target, &Options{Cache: Cache{Disabled: true}})
		for name, change := range map[string]func(*Episode) error{
			"append": func(e *Episode) error { _, err := s.AppendSteps(ctx, e.ID, Step{Tool: "precious"}); return err },
			"put":    func(e *Episode) error { return s.PutEpisode(ctx, e) },
			"tag":    func(e *Episode) error { return s.AddTags(ctx, e.ID, "precious") },
			"untag":  func(e *Episode) error { return s.RemoveTags(ctx, e.ID, "a") },
			"complete": func(e *Episode) error {
				return s.CompleteEpisode(ctx, e.ID, Completion{Outcome: Outcome{Kind: Success}})
			},
			"delete": func(e *Episode) error { return s.DeleteEpisode(ctx, e.ID) },
		} {
			e := &Episode{Description: "a task", Context: Context{Tags: []string{"a"}}}
			ok(t, s.StartEpisode(ctx, e))
			read, err := other.Episode(ctx, e.ID)
			ok(t, err)
			ok(t, change(e))
			want, _ := other.Episode(ctx, e.ID)
			read.Metadata = map[string]string{"note": "looks fine"}
			wants(t, other.PutEpisode(ctx, read), ErrConflict, "after it was read")
			if got, _ := other.Episode(ctx, e.ID); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: a refused put made\n%v of\n%v", name, got, want)
			}
			if name == "delete" {
				continue
			}
			read, err = other.Episode(ctx, e.ID)
			ok(t, err)
			read.Metadata = map[string]string{"note": "looks fine"}
			ok(t, other.PutEpisode(ctx, read))
			ok(t, other.PutEpisode(ctx, read)) // its own revision is known
			read.Revision = 0
			ok(t, other.PutEpisode(ctx, read))
		}
		p := &Pattern{ToolSequence: &ToolSequence{Tools: []string{"grep"}}}
		h := &Heuristic{Condition: "c", Action: "a"}
		ok(t, s.PutPattern(ctx, p))
		ok(t, s.PutHeuristic(ctx, h))
		readP, err := other.Pattern(ctx, p.ID)
		ok(t, err)
		readH, err := other.Heuristic(ctx, h.ID)
		ok(t, err)
		ok(t, s.PutPattern(ctx, p))
		ok(t, s.PutHeuristic(ctx, h))
		wants(t, other.PutPattern(ctx, readP), ErrConflict, "changed after it was read")
		wants(t, other.PutHeuristic(ctx, readH), ErrConflict, "changed after it was read")
		ok(t, s.DeletePattern(ctx, p.ID))
		wants(t, s.PutPattern(ctx, p), ErrConflict, "deleted after it was read")
		// A copy without an ID is a new item, whatever it was read from.
		p2, h2, e2 := *p, *readH, Episode{Description: "x", Revision: 7}
		p2.ID, h2.ID = ID{}, ID{}
		ok(t, s.PutPattern(ctx, &p2))
		ok(t, s.PutHeuristic(ctx, &h2))
		ok(t, s.PutEpisode(ctx, &e2))
		p.Revision = 0
		ok(t, s.PutPattern(ctx, p))
	})
}

func TestAppendStepsOnce(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "x"}
		ok(t, s.StartEpisode(t.Context(), e))
		for i, tt := range []struct {
			key  string
			want int
		}{{"a", 1}, {"a", 1}, {"b", 2}, {"a", 1}, {"c", 3}, {"b", 2}} {
			if first, err := s.AppendStepsOnce(t.Context(), e.ID, tt.key, Step{Tool: tt.key}); err != nil || first != tt.want {
				t.Errorf("call %d with key %s: %d, %v; want %d", i, tt.key, first, err, tt.want)
			}
		}
		if got, err := s.Episode(t.Context(), e.ID); err != nil || len(got.Steps) != 3 {
			t.Errorf("%v, %v", got, err)
		}
		_, err := s.AppendStepsOnce(t.Context(), e.ID, "", Step{Tool: "x"})
		wants(t, err, ErrInvalid, "key")
	})
}

// What is refused by a limit on one way is refused on all: what is stored can be
// read and put again.
func TestTagsAreLimitedHoweverTheyCome(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "x", Context: Context{Tags: manyNames(600)}}
		ok(t, s.PutEpisode(t.Context(), e))
		more := make([]string, 401)
		for i := range more {
			more[i] = fmt.Sprint("more", i)
		}
		wants(t, s.AddTags(t.Context(), e.ID, more...), ErrInvalid, "tags: would be 1001")
		ok(t, s.AddTags(t.Context(), e.ID, append(manyNames(600), more[:400]...)...)) // most are there
		wants(t, s.AddTags(t.Context(), e.ID, "refused"), ErrInvalid, "none was added")
		wants(t, s.AddTags(t.Context(), e.ID, manyNames(1001)...), ErrInvalid, "are 1001")
		got, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		if n := len(got.Context.Tags); n != 1000 || got.Context.Tags[600] != "more0" {
			t.Fatalf("%d tags", n)
		}
		ok(t, s.PutEpisode(t.Context(), got))
		if hits, err := s.searchHits(t.Context(), "refused", nil); err != nil || len(hits) != 0 {
			t.Errorf("a tag that was refused finds %d episodes, %v", len(hits), err)
		}
	})
}

// Others write while very many episodes are added.
func TestAddingManyKeepsNobodyWaiting(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		s, other := open(t, target, nil), open(t, target, nil)
		n := testkit.Effort(300, 1000, 20_000)
		all := make([]*Episode, n)
		for i := range all {
			all[i] = &Episode{Description: fmt.Sprint("task ", i), Outcome: Outcome{Kind: Success}, Steps: []Step{{Tool: "a", Action: strings.Repeat(fmt.Sprint(i, " "), 100)}}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var beside sync.WaitGroup
		var took []time.Duration
		beside.Go(func() {
			for ctx.Err() == nil {
				begin := time.Now()
				if err := other.PutEpisode(ctx, &Episode{Description: "small"}); err != nil && ctx.Err() == nil {
					t.Errorf("a put beside: %v", err)
				}
				took = append(took, time.Since(begin))
			}
		})
		added, err := s.AddEpisodes(t.Context(), all...)
		cancel()
		beside.Wait()
		if err != nil || added != n {
			t.Errorf("added %d of %d, %v", added, n, err)
		}
		if commits := s.Stats().Commits; commits < uint64(n/addAtOnce) {
			t.Errorf("%d episodes were added in %d transactions", n, commits)
		}
		slices.Sort(took)
		t.Logf("%d puts beside: p99 %v, the slowest %v", len(took), took[len(took)*99/100], took[len(took)-1])
	})
}

// A unit that fails says what is stored.
func TestAddEpisodesSaysWhatIsStored(t *testing.T) {
	s := onFile(t)
	all := make([]*Episode, 150)
	for i := range all {
		all[i] = &Episode{Description: "x"}
	}
	all[100].Metadata = map[string]string{"big": strings.Repeat("x", 5_000_000)}
	added, err := s.AddEpisodes(t.Context(), all...)
	wants(t, err, ErrInvalid, "add episode 101 of 150, those before it are stored")
	if c, cerr := s.Counts(t.Context()); added != 100 || cerr != nil || c.Episodes != 100 {
		t.Errorf("added %d, stored %d, %v", added, c.Episodes, cerr)
	}
}

// Nothing that Open has not returned, and no nil, makes a call panic.
func TestNilsAreErrors(t *testing.T) {
	var zero Store
	s := onFile(t)
	for name, call := range map[string]func(s *Store, ctx context.Context) error{
		"put":   func(s *Store, ctx context.Context) error { return s.PutEpisode(ctx, &Episode{Description: "x"}) },
		"start": func(s *Store, ctx context.Context) error { return s.StartEpisode(ctx, &Episode{Description: "x"}) },
		"append": func(s *Store, ctx context.Context) error {
			_, err := s.AppendSteps(ctx, NewID(), Step{Tool: "x"})
			return err
		},
		"add": func(s *Store, ctx context.Context) error {
			_, err := s.AddEpisodes(ctx, &Episode{Description: "x"})
			return err
		},
		"complete": func(s *Store, ctx context.Context) error { return s.CompleteEpisode(ctx, NewID(), Completion{}) },
		"get":      func(s *Store, ctx context.Context) error { _, err := s.Episode(ctx, NewID()); return err },
		"list":     func(s *Store, ctx context.Context) error { _, err := s.ListEpisodes(ctx, nil, nil); return err },
		"search":   func(s *Store, ctx context.Context) error { _, err := s.Search(ctx, "x", nil); return err },
		"changes":  func(s *Store, ctx context.Context) error { _, err := collect(s.Changes(ctx, 0)); return err },
		"watch":    func(s *Store, ctx context.Context) error { _, err := collect(s.Watch(ctx, 0)); return err },
		"counts":   func(s *Store, ctx context.Context) error { _, err := s.Counts(ctx); return err },
		"delete":   func(s *Store, ctx context.Context) error { return s.DeleteEpisode(ctx, NewID()) },
		"tag":      func(s *Store, ctx context.Context) error { return s.AddTags(ctx, NewID(), "x") },
		"relations": func(s *Store, ctx context.Context) error {
			_, err := collect(s.Relations(ctx, NewID(), nil))
			return err
		},
		"names":   func(s *Store, ctx context.Context) error { _, err := s.ListNames(ctx, TagNames, nil); return err },
		"compact": func(s *Store, ctx context.Context) error { _, err := s.Compact(ctx, nil); return err },
		"warm":    func(s *Store, ctx context.Context) error { return s.Warm(ctx) },
	} {
		for _, none := range []*Store{nil, &zero} {
			if err := call(none, t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("%s of no Store: %v", name, err)
			}
		}
		if err := call(s, nil); !errors.Is(err, ErrInvalid) { //nolint:staticcheck // that is what is tested
			t.Errorf("%s without a context: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"episode": s.PutEpisode(t.Context(), nil), "start": s.StartEpisode(t.Context(), nil), "pattern": s.PutPattern(t.Context(), nil),
		"heuristic": s.PutHeuristic(t.Context(), nil), "relation": s.PutRelation(t.Context(), nil), "embedding": s.PutEmbedding(t.Context(), nil),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("nil %s: %v", name, err)
		}
	}
	ok(t, zero.Close())
	if zero.Stats().Reads != 0 {
		t.Error("a zero Store has read")
	}
}

// Lists of what is large come in pages that take little memory, on every engine.
func TestLargeListsComeInPages(t *testing.T) {
	t.Parallel()
	onEveryEngineIfLong(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		hub := &Episode{Description: "hub"}
		ok(t, s.PutEpisode(ctx, hub))
		for i := range 3 {
			v := make([]float32, 1_000_000)
			for j := range v {
				v[j] = float32(j%1013) * 70000.5 // too large for float16
			}
			ok(t, s.PutEmbedding(ctx, &Embedding{Kind: ItemEpisode, Item: hub.ID, Model: fmt.Sprint("m", i), Vector: v}))
		}
		if list, err := collect(s.Embeddings(ctx, ItemEpisode, hub.ID)); err != nil || len(list) != 3 || list[2].Model != "m2" {
			t.Errorf("%d embeddings, %v", len(list), err)
		}
		noise := noise(4_000_000)
		for i := range 4 {
			e := &Episode{Description: fmt.Sprint(i)}
			ok(t, s.PutEpisode(ctx, e))
			ok(t, s.PutRelation(ctx, &Relation{From: hub.ID, Type: RelatedTo, To: e.ID, Reason: noise}))
		}
		if list, err := collect(s.Relations(ctx, hub.ID, nil)); err != nil || len(list) != 4 {
			t.Errorf("%d relations, %v", len(list), err)
		}
		// What compresses well is small in an answer and large in memory.
		n := testkit.Effort(5, 5, 10)
		for range n {
			ok(t, s.PutEpisode(ctx, &Episode{Description: strings.Repeat("x", 4_400_000), Context: Context{Domain: "large"}}))
		}
		page, err := s.ListEpisodes(ctx, &EpisodeFilter{Domain: "large"}, nil)
		if err != nil || len(page.Items) > 4 || page.Next == "" {
			t.Errorf("a page of %d heads of 4.4 MB, %v", len(page.Items), err)
		}
		if all, err := collect(s.Episodes(ctx, &EpisodeFilter{Domain: "large"})); err != nil || len(all) != n {
			t.Errorf("%d large episodes, %v", len(all), err)
		}
	})
}

// noise is text that does not compress.
func noise(n int) string {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[x>>26]
	}
	return string(b)
}

// A cycle is found from the end that leads nowhere far, however long the other way
// is.
func TestCyclesOfLongChains(t *testing.T) {
	t.Parallel()
	s := onFile(t)
	const n = 20_000
	_, err := s.engine.Batch(t.Context(),
		stmt(`INSERT INTO episodes(seq, id, task_type, domain, language, outcome, start_us, steps, rev, payload)
 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?) SELECT i, unhex(printf('%032x', i)), 'x', '', '', '', i, 0, 1, x'017b7d' FROM n`, int64(n)),
		stmt(`INSERT INTO relations SELECT seq, 'follows', seq - 1, 1, x'017b7d' FROM episodes WHERE seq > 1`))
	ok(t, err)
	id := func(seq int) (id ID) {
		id[15], id[14], id[13] = byte(seq), byte(seq>>8), byte(seq>>16)
		return id
	}
	follow := func(from, to int) error {
		return s.PutRelation(t.Context(), &Relation{From: id(from), Type: Follows, To: id(to)})
	}
	wants(t, follow(1, n), ErrConflict, "cycle") // all the way
	wants(t, follow(1, 3), ErrConflict, "cycle")
	wants(t, follow(n-10, n-5), ErrConflict, "cycle")
	wants(t, follow(10, 5000), ErrConflict, "cycle")
	ok(t, follow(n, 1))
	fresh := &Episode{Description: "fresh"}
	ok(t, s.PutEpisode(t.Context(), fresh))
	begin := time.Now()
	for i := range 200 {
		ok(t, s.PutRelation(t.Context(), &Relation{From: fresh.ID, Type: Follows, To: id(n - i)}))
	}
	t.Logf("%v for a relation of a fresh episode to a chain of %d", time.Since(begin)/200, n)
}

func TestRunningEpisodesAreListed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		ok(t, s.StartEpisode(t.Context(), &Episode{Description: "running"}))
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "done", Outcome: Outcome{Kind: Success}}))
		for state, want := range map[State]string{"": "done running ", StateRunning: "running ", StateEnded: "done "} {
			got := ""
			for e, err := range s.Episodes(t.Context(), &EpisodeFilter{State: state}) {
				ok(t, err)
				got += e.Description + " "
			}
			if got != want {
				t.Errorf("state %q: %s", state, got)
			}
		}
	})
}

// Every error kind that a caller can act on has a sentinel.
func TestSentinelsOfEngineErrors(t *testing.T) {
	for kind, want := range map[engine.Kind]error{
		engine.KindReadOnly: ErrReadOnly, engine.KindFull: ErrFull, engine.KindTooLarge: ErrTooLarge, engine.KindNotFound: ErrUnknownDatabase,
		engine.KindAuth: ErrUnauthorized, engine.KindCorrupt: ErrCorrupt, engine.KindUnique: ErrConflict,
	} {
		if err := failed(&engine.Error{Kind: kind, Stmt: -1, Err: errors.New("x")}, "try"); !errors.Is(err, want) {
			t.Errorf("kind %d: %v, want %v", kind, err, want)
		}
	}
}
