package episodic

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
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
			hits, err := s.Search(t.Context(), tt.query, &SearchOptions{Filter: tt.f, Limit: tt.limit})
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
		hits, err := s.Search(t.Context(), "遅い", nil)
		if err != nil || len(hits) != 1 || hits[0].Snippet != "検索が遅い問題を調査する" {
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
		if m := matchQuery(q); strings.Count(m, " OR ") >= maxTerms {
			t.Fatalf("%d terms", strings.Count(m, " OR ")+1)
		}
	})
}

func TestMatchQuery(t *testing.T) {
	for in, want := range map[string]string{
		"cancel reservation":       `"cancel" OR "reservation"`,
		"The cancel of the Cancel": `"cancel"`,
		"to be or not to be":       `"not"`,
		"what is it":               `"what" OR "is" OR "it"`,
		"update_user-id":           `"update" OR "user" OR "id"`,
		"検索 fast":                  "\"検\u200b索\" OR \"fast\"",
		"grep検索x速い":                "\"grep\" OR \"検\u200b索\" OR \"x\" OR \"速\u200bい\"",
		"遅い検索":                     "\"遅\u200bい\" OR \"い\u200b検\" OR \"検\u200b索\"",
		"検":                        `"検"`,
		"x検b":                      `"x" OR "検" OR "b"`,
		"...":                      "",
	} {
		if got := matchQuery(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestIndexableKeepsTheTextReadable(t *testing.T) {
	for _, s := range []string{"plain", "検索が遅い", "mixed 検索abc検索", "e\u0301", ""} {
		if got := strings.ReplaceAll(indexable(s), mark, ""); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	long := indexable(strings.Repeat("検", maxWords))
	if !utf8.ValidString(long) || len(long) > 3*maxWords {
		t.Errorf("a long text became %d bytes", len(long))
	}
	if got := fmt.Sprintf("%q", indexable("a\x00b")); got != `"a b"` {
		t.Error(got)
	}
}

// Each append is a row of its own in search; a running episode is found once by all
// of them, and when it ends its words come together in one row, unless they are too many.
func TestWordsOfAppends(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for _, tt := range []struct {
			words       string // of each of 30 appends
			ended, rows int64  // rows of search once it has ended
		}{{"okapi", 1, 31}, {strings.Repeat("giraffes ", 300), 31, 31}} {
			e := &Episode{Description: "look at an animal"}
			ok(t, s.StartEpisode(t.Context(), e))
			for i := range 30 {
				_, err := s.AppendSteps(t.Context(), e.ID, Step{Action: fmt.Sprint(tt.words, " look", i)})
				ok(t, err)
			}
			rows := func() int64 {
				return number(t, s, `SELECT count(*) FROM search JOIN episodes ON seq IN (search.rowid, -search.rowid >> 24) WHERE id = ?`, e.ID[:])
			}
			if n := rows(); n != tt.rows {
				t.Errorf("%.10s: %d rows while it runs, want %d", tt.words, n, tt.rows)
			}
			once := func() {
				t.Helper()
				hits, err := s.Search(t.Context(), strings.Fields(tt.words)[0], nil)
				if err != nil || len(hits) != 1 || hits[0].Episode.ID != e.ID || !strings.Contains(hits[0].Snippet, strings.Fields(tt.words)[0]) {
					t.Errorf("%.10s: hits %+v, %v", tt.words, hits, err)
				}
			}
			once()
			ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success, Verdict: "seen " + strings.Fields(tt.words)[0]}}))
			if n := rows(); n != tt.ended {
				t.Errorf("%.10s: %d rows once it has ended, want %d", tt.words, n, tt.ended)
			}
			once()
			if hits, err := s.Search(t.Context(), "look29", nil); err != nil || len(hits) == 0 {
				t.Errorf("%.10s: the last step is not found: %v", tt.words, err)
			}
			ok(t, s.DeleteEpisode(t.Context(), e.ID))
			if n := number(t, s, "SELECT count(*) FROM search"); n != 0 {
				t.Errorf("%.10s: %d rows are left", tt.words, n)
			}
		}
	})
}
