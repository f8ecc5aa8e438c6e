package episodic

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestSearchFindsAndRanks(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for _, e := range []*Episode{
			{Description: "Cancel a reservation with travel insurance", Context: Context{Domain: "airline"}, Outcome: Outcome{Kind: Success}},
			{Description: "Book a flight", Context: Context{Domain: "airline"}, Steps: []Step{{Tool: "cancel_reservation"}}, Outcome: Outcome{Kind: Failure, Reason: "passenger changed their mind"}},
			{Description: "Fix the data race in the connection pool", Context: Context{Domain: "code", Tags: []string{"concurrency"}}},
			{Description: "検索が遅い問題を調査する", Context: Context{Domain: "code"}},
			{Description: "Починить сборку", Context: Context{Domain: "code"}},
			{Description: "Größe der Façade", Context: Context{Domain: "code"}},
			{Description: "filler one"}, {Description: "filler two"}, {Description: "filler three"},
		} {
			ok(t, s.PutEpisode(t.Context(), e))
		}
		for _, tt := range []struct {
			query string
			f     EpisodeFilter
			limit int
			want  []string // beginnings of the descriptions, best first
		}{
			{query: "cancel reservation insurance", want: []string{"Cancel", "Book"}},
			{query: "cancelled reservations, insured?", want: []string{"Cancel", "Book"}},
			{query: "cancel reservation", f: EpisodeFilter{Outcome: Failure}, want: []string{"Book"}},
			{query: "cancel reservation insurance", limit: 1, want: []string{"Cancel"}},
			{query: "cancel reservation", f: EpisodeFilter{Domain: "code"}, want: nil},
			{query: "mind", want: []string{"Book"}},
			{query: "concurrency", want: []string{"Fix"}},
			{query: "the pool", want: []string{"Fix"}},
			{query: "問題", want: []string{"検索"}},
			{query: "遅い検索", want: []string{"検索"}},
			{query: "сборку", want: []string{"Починить"}},
			{query: "facade", want: []string{"Größe"}},
			{query: "zebra", want: nil},
			{query: "", want: nil},
			{query: "🙂 ... !!!", want: nil},
		} {
			hits, err := s.searchHits(t.Context(), tt.query, &SearchOptions{Filter: tt.f, Limit: tt.limit})
			ok(t, err)
			good := len(hits) == len(tt.want)
			for i := range hits {
				good = good && strings.HasPrefix(hits[i].Episode.Description, tt.want[i]) && hits[i].Snippet != ""
				if i > 0 && hits[i].Score > hits[i-1].Score {
					t.Errorf("%q: hit %d scores more than the one before", tt.query, i)
				}
			}
			if !good {
				var got []string
				for _, h := range hits {
					got = append(got, h.Episode.Description)
				}
				t.Errorf("%q %+v: %q; want %q", tt.query, tt.f, got, tt.want)
			}
		}
		hits, err := s.searchHits(t.Context(), "遅い", nil)
		if err != nil || len(hits) != 1 || !strings.HasPrefix(hits[0].Snippet, "検索が遅い問題を調査する") {
			t.Errorf("hits %+v, %v", hits, err)
		}
	})
}

func TestSearchRefusesNonsense(t *testing.T) {
	s := onFile(t)
	_, err := s.Search(t.Context(), "x", &SearchOptions{Limit: -1})
	wants(t, err, ErrInvalid, "limit")
	_, err = s.Search(t.Context(), "x", &SearchOptions{Filter: EpisodeFilter{Outcome: "x"}})
	wants(t, err, ErrInvalid, "outcome")
}

var hardQueries = []string{
	"", `"`, `""`, `a"b`, "a-b", "-a", "a*", "*", "col:on", "task: x", "NEAR(a b, 3)", "a NEAR b", "NOT a", "a AND", "OR", "(", ")", "^a", "{a b}: c",
	"a + b", "'; DROP TABLE episodes; --", "\x00", "a\x00b", "\xff\xfe", "日本語 検索", "🙂🙃", "ｶﾀｶﾅ", "ไทย", "ʼn", "e\u0301", "\u200b", "a\u200bb",
	strings.Repeat("word ", 2000), strings.Repeat("x", 10_000), strings.Repeat("検", 5_000), "rowid:1", "search", "rank", "%", "_", `\`, "\U000e0001",
}

func TestNoQueryBreaksTheSearch(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: strings.ToValidUTF8(strings.Join(hardQueries, "\n"), "?")}))
		for _, q := range hardQueries {
			if _, err := s.Search(t.Context(), q, nil); err != nil {
				t.Errorf("search %.40q: %v", q, err)
			}
		}
	})
}

func FuzzSearch(f *testing.F) {
	for _, q := range hardQueries {
		f.Add(q)
	}
	s := onFile(f)
	ok(f, s.PutEpisode(f.Context(), &Episode{Description: "cancel a reservation", Context: Context{Tags: []string{"a"}}}))
	f.Fuzz(func(t *testing.T, q string) {
		if _, err := s.Search(t.Context(), q, nil); err != nil {
			t.Fatalf("search %q: %v", q, err)
		}
	})
}

// Each append is indexed by itself; a running episode is found once by all of them, its
// last steps as well as the first, and once it has ended too.
func TestWordsOfAppends(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for _, words := range []string{"okapi", strings.Repeat("giraffes ", 300)} {
			e := &Episode{Description: "look at an animal"}
			ok(t, s.StartEpisode(t.Context(), e))
			for i := range 30 {
				_, err := s.AppendSteps(t.Context(), e.ID, Step{Action: fmt.Sprint(words, " look", i)})
				ok(t, err)
			}
			once := func(q string) {
				t.Helper()
				hits, err := s.searchHits(t.Context(), q, nil)
				if err != nil || len(hits) != 1 || hits[0].Episode.ID != e.ID {
					t.Errorf("%.10s: hits %+v, %v", q, hits, err)
				}
			}
			animal := strings.Fields(words)[0]
			once(animal)
			once("look29")
			ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success, Verdict: "it is a mammal, said " + animal}}))
			for _, q := range []string{animal, "look0", "look29", "mammals", "animals"} {
				once(q)
			}
			ok(t, s.keepIndex(t.Context(), true))
			for _, q := range []string{animal, "look0", "look29", "mammals", "animals"} {
				once(q)
			}
			ok(t, s.DeleteEpisode(t.Context(), e.ID))
			ok(t, s.keepIndex(t.Context(), true))
			n := number(t, s, "SELECT (SELECT count(*) FROM heads) + (SELECT count(*) FROM index_units) + (SELECT count(*) FROM index_blocks) + (SELECT count(*) FROM index_gone)")
			if n != 0 {
				t.Errorf("%.10s: %d rows are left", animal, n)
			}
		}
	})
}

// What is written in one form is found in another, in part, and in any script, before and
// after what was written is merged.
func TestSearchFindsFormsAndParts(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for _, text := range []string{
			"한글 파일 이름", "ガイドブック", "йод", "ＡＰＩ ｋｅｙ", "ｻｰﾊﾞｰ", "κόσμος", "cafe\u0301", "富士山に登る", "สวัสดีชาวโลก",
			"call getShippingMethodIdFromCheckout twice", "retry XMLHttpRequest through HTTPServer2", "refactor atomic_write_json",
			"open src/store/lane_test.go", "go1.26.8 fails with E1042", "job 01a21e5a-a12e-770d-bf25-c48e84641650 died", "commit 3eb6f2c5d0a1",
		} {
			ok(t, s.PutEpisode(t.Context(), &Episode{Description: text}))
		}
		for range 2 {
			for query, want := range map[string]string{
				"한글": "한글", "ガイド": "ガイド", "ЙОД": "йод", "API": "ＡＰＩ", "サーバー": "ｻｰﾊﾞｰ", "ΚΟΣΜΟΣ": "κόσμος", "café": "cafe", "CAFE": "cafe",
				"山": "富士山", "登": "富士山", "ชาวโลก": "สวัสดี",
				"shipping method": "call", "checkout": "call", "get_shipping_method_id_from_checkout": "call", "request": "retry", "xml": "retry", "server": "retry",
				"atomic": "refactor", "atomicWriteJSON": "refactor", "lane_test.go": "open", "lane": "open", "store/lane_test": "open",
				"E1042": "go1", "1.26": "go1", "01a21e5a": "job", "3eb6f2c5": "commit", `"twice"`: "call",
			} {
				hits, err := s.searchHits(t.Context(), query, &SearchOptions{Limit: 1})
				if err != nil || len(hits) == 0 || !strings.HasPrefix(hits[0].Episode.Description, want) {
					t.Errorf("%q: %+v, %v; want %q", query, hits, err, want)
				}
			}
			ok(t, s.keepIndex(t.Context(), true))
		}
	})
}

// A hit names the steps that fit, and what came of them.
func TestHitsNameSteps(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "make the build green", Metadata: map[string]string{"ticket": "OPS-4711"}, Reflection: Reflection{Insights: []string{"the proxy strips gzip headers"}}, Steps: []Step{
		{Tool: "read_file", Parameters: `{"path":"BUILD"}`},
		{Tool: "run_build", Action: "build", Parameters: `{"target":"//pkg/ledger:all"}`, Result: &Result{Kind: ResultError, Text: "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"}},
		{Action: "think"},
	}}
	ok(t, s.PutEpisode(t.Context(), e))
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "other", Steps: []Step{{Tool: "read_file", Action: "look at the ledger"}}}))
	for query, step := range map[string]int{"JSONDecodeError": 2, "Expecting value": 2, "run_build": 2, "BUILD": 2, "gzip": 0, "OPS-4711": 0, "thinking": 3} {
		found, err := s.Search(t.Context(), query, &SearchOptions{Explain: true})
		ok(t, err)
		h := found.Hits[0]
		got := 0
		if len(h.Steps) > 0 {
			got = h.Steps[0].Number
		}
		if h.Episode.ID != e.ID || got != step || step == 2 && (h.Steps[0].Result != ResultError || h.Steps[0].Tool != "run_build") {
			t.Errorf("%q: %+v", query, h)
		}
		// The parts of a score add up to it.
		if w := h.Why; w == nil || len(w.Words) == 0 || math.Abs((w.Own+w.Episode+w.Meaning)*w.Outcome*w.Recency-h.Score) > 1e-4 {
			t.Errorf("%q: score %v, why %+v", query, h.Score, w)
		}
	}
	found, err := s.Search(t.Context(), "ledger", &SearchOptions{Tool: "Read_File"})
	if err != nil || len(found.Hits) != 1 || found.Hits[0].Episode.ID == e.ID {
		t.Errorf("steps of a tool: %+v, %v", found, err)
	}
	found, err = s.Search(t.Context(), "ledger build", &SearchOptions{Steps: true, Explain: true})
	ok(t, err)
	for _, h := range found.Hits {
		if len(h.Steps) != 1 {
			t.Fatalf("a step: %+v", h)
		}
		if w := h.Why; math.Abs((w.Own+w.Neighbours+w.Episode+w.Meaning)*w.Outcome*w.Recency*w.Phrase-h.Score) > 1e-4 {
			t.Errorf("score %v, why %+v", h.Score, w)
		}
	}
	if found.Hits[0].Episode.ID != e.ID || found.Hits[0].Steps[0].Number != 2 {
		t.Errorf("the best step is %+v", found.Hits[0])
	}
}

// What holds none of the words is found by what it means, and says so; what the model knows
// nothing of is not.
func TestSearchFindsWhatMeansTheSame(t *testing.T) {
	s := onFile(t)
	car := &Episode{Description: "errands", Steps: []Step{{Action: "made coffee"}, {Action: "drove the automobile"}}}
	ok(t, s.PutEpisode(t.Context(), car))
	appended := &Episode{Description: "chores"}
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "book a flight to Paris"}))
	ok(t, s.StartEpisode(t.Context(), appended))
	_, err := s.AppendSteps(t.Context(), appended.ID, Step{Action: "booked an airplane"})
	ok(t, err)
	check := func() {
		t.Helper()
		for _, steps := range []bool{false, true} {
			found, err := s.Search(t.Context(), "car", &SearchOptions{Steps: steps, Explain: true})
			ok(t, err)
			if len(found.Hits) == 0 {
				t.Fatal("nothing was found")
			}
			h := found.Hits[0]
			if h.Episode.ID != car.ID || len(h.Steps) != 1 || h.Steps[0].Number != 2 || h.Snippet == "" {
				t.Errorf("steps %v: %+v", steps, h)
			}
			if w := h.Why; len(w.Words) != 0 || w.Meaning <= 0 || math.Abs((w.Own+w.Neighbours+w.Episode+w.Meaning)*w.Outcome*w.Recency-h.Score) > 1e-4 {
				t.Errorf("score %v, why %+v", h.Score, w)
			}
		}
		for _, none := range []string{"qwertzuiop", "x47", `"car dealer"`} {
			if found, err := s.Search(t.Context(), none, nil); err != nil || len(found.Hits) != 0 {
				t.Errorf("%s: %+v, %v", none, found, err)
			}
		}
		found, err := s.Search(t.Context(), "airplane", &SearchOptions{Filter: EpisodeFilter{Tags: []string{"none"}}})
		if err != nil || len(found.Hits) != 0 {
			t.Errorf("with a filter: %+v, %v", found, err)
		}
		found, err = s.Search(t.Context(), "airplane", nil)
		if err != nil || len(found.Hits) == 0 || found.Hits[0].Episode.ID != appended.ID {
			t.Errorf("%+v, %v", found, err)
		}
	}
	check()
	ok(t, s.Reindex(t.Context()))
	check()
}

// Pages follow one another without a gap or a repetition.
func TestSearchPages(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for i := range 25 {
			ok(t, s.PutEpisode(t.Context(), &Episode{Description: fmt.Sprintf("zebra %d %s", i/2, strings.Repeat("x ", i))}))
		}
		for _, each := range []bool{true, false} {
			all, err := s.Search(t.Context(), "zebra", &SearchOptions{Limit: 100, EachRun: each})
			ok(t, err)
			var paged []Hit
			for o := (&SearchOptions{Limit: 4, EachRun: each}); ; {
				page, err := s.Search(t.Context(), "zebra", o)
				ok(t, err)
				paged = append(paged, page.Hits...)
				if o.Cursor = page.Next; o.Cursor == "" {
					break
				}
			}
			if len(all.Hits) != len(paged) || len(paged) != 25 {
				t.Fatalf("%d hits, %d on pages", len(all.Hits), len(paged))
			}
			for i := range paged {
				if paged[i].Episode.ID != all.Hits[i].Episode.ID {
					t.Errorf("hit %d is another one on its page", i)
				}
			}
		}
		_, err := s.Search(t.Context(), "zebra", &SearchOptions{Cursor: "x"})
		wants(t, err, ErrInvalid, "cursor")
	})
}

// The runs of a task are one hit, which names the others.
func TestRunsOfATaskAreOneHit(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for i, kind := range []OutcomeKind{Failure, Success, Failure, Abstained} {
			ok(t, s.PutEpisode(t.Context(), &Episode{Description: []string{"Feed the zebra", "feed  the ZEBRA"}[i%2], Outcome: Outcome{Kind: kind}, Reward: &Reward{Total: float64(i)}}))
		}
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "wash the zebra, which takes longer"}))
		found, err := s.Search(t.Context(), "feed zebra", nil)
		ok(t, err)
		if len(found.Hits) != 2 || len(found.Hits[0].Alike) != 3 || len(found.Hits[1].Alike) != 0 {
			t.Fatalf("found %+v", found.Hits)
		}
		if s.server == nil && found.Hits[0].Episode.Outcome.Kind != Success {
			t.Errorf("the best run is %+v", found.Hits[0].Episode)
		}
	})
}

// A search meets all runs of a task, in whatever parts they are read.
func TestThousandsOfRunsOfATaskAreOneHit(t *testing.T) {
	s := onFile(t)
	var runs []*Episode
	for range 2000 {
		runs = append(runs, &Episode{Description: "feed the zebra"})
	}
	_, err := s.AddEpisodes(t.Context(), append(runs, &Episode{Description: "wash the zebra, which takes longer"})...)
	ok(t, err)
	found, err := s.Search(t.Context(), "zebra", nil)
	ok(t, err)
	if len(found.Hits) != 2 || len(found.Hits[0].Alike) != len(runs)-1 {
		t.Fatalf("%d hits, the first with %d other runs", len(found.Hits), len(found.Hits[0].Alike))
	}
}

// Far from a server a search must not take a request for every eleven runs of a task.
func TestManyRunsOfATaskTakeFewRequests(t *testing.T) {
	s := open(t, hranatest.Start(t).URL(), &Options{
		Cache: Cache{Disabled: true}, Replica: Replica{Disabled: true},
		Compression: Compression{DisableDictionaries: true}, // so that nothing is asked in the background
	})
	var runs []*Episode
	for range 300 {
		runs = append(runs, &Episode{Description: "feed the zebra"})
	}
	_, err := s.AddEpisodes(t.Context(), append(runs, &Episode{Description: "wash the zebra, which takes longer"})...)
	ok(t, err)
	before := s.Stats().Requests
	found, err := s.Search(t.Context(), "zebra", nil)
	ok(t, err)
	if len(found.Hits) != 2 || len(found.Hits[0].Alike) != len(runs)-1 {
		t.Fatalf("%d hits, the first with %d other runs", len(found.Hits), len(found.Hits[0].Alike))
	}
	if n := s.Stats().Requests - before; n > 5 { // of 11, 22, 44, 88 and 176 rows
		t.Errorf("a search took %d requests", n)
	}
}

// Words in quotes rank higher where they follow one another, in a head or a step.
func TestPhrasesComeFirst(t *testing.T) {
	s := onFile(t)
	for _, text := range []string{"map writes, concurrent map", "fatal error: concurrent map writes in the cache of maps", "map map concurrent writes"} {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: text}))
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "look " + text[:5], Steps: []Step{{Tool: "go", Parameters: JSON(`{"a":"x\n` + text + `"}`)}}}))
	}
	for _, query := range []string{`"concurrent map writes"`, `what is “concurrent map writes”?`} {
		found, err := s.Search(t.Context(), query, &SearchOptions{Limit: 2, Explain: true})
		ok(t, err)
		for _, h := range found.Hits {
			if !strings.Contains(h.Episode.Description, "fatal") && !strings.Contains(h.Episode.Description, "look fatal") || h.Why.Phrase != 3 {
				t.Errorf("%s: %+v", query, h)
			}
		}
	}
}

// A program that writes much and ends leaves an index that is quick to search.
func TestImportsLeaveFewUnits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	s := open(t, path, nil)
	var many []*Episode
	for i := range 400 {
		many = append(many, &Episode{Description: fmt.Sprint("zebra ", i), Steps: []Step{{Tool: "look"}}})
	}
	_, err := s.AddEpisodes(t.Context(), many...)
	ok(t, err)
	ok(t, s.Close())
	s = open(t, path, nil)
	if n := number(t, s, "SELECT count(*) FROM index_units"); n >= 128 {
		t.Errorf("%d units were not merged", n)
	}
	checkIndex(t, s)
}

// A damaged index is told, and made anew by Reindex, and by Compact.
func TestDamagedIndexIsMadeAnew(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "zebra", Steps: []Step{{Tool: "look"}}}
	ok(t, s.PutEpisode(t.Context(), e))
	for _, mend := range []func() error{
		func() error { return s.Reindex(t.Context()) },
		func() error { _, err := s.Compact(t.Context(), nil); return err },
	} {
		ok(t, s.keepIndex(t.Context(), true))
		sql(t, s, stmt("UPDATE index_blocks SET data = x'ffff'"), stmt("INSERT INTO forgotten VALUES(99)"))
		_, err := s.searchHits(WithFresh(t.Context()), "zebra", nil)
		wants(t, err, ErrCorrupt, "compact --reindex")
		ok(t, mend())
		hits, err := s.searchHits(WithFresh(t.Context()), "zebra", nil)
		if err != nil || len(hits) != 1 || hits[0].Episode.ID != e.ID {
			t.Errorf("hits %+v, %v", hits, err)
		}
		checkIndex(t, s)
	}
}
