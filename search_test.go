package episodic

import (
	"fmt"
	"strings"
	"testing"
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
			{query: "cancel reservation", limit: 1, want: []string{"Cancel"}},
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
