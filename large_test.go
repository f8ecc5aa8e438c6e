package episodic

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// Steps of 12 MB and more go over what one row and one answer may hold.
func TestLargeEpisodes(t *testing.T) {
	t.Parallel()
	large := testkit.Effort(3, 3, 5)
	last := 2*large - 1
	onEveryEngineIfLong(t, func(t *testing.T, s *Store) {
		big := strings.Repeat("0123456789abcde\n", 250_000) // 4 MB
		e := &Episode{Description: "large", Outcome: Outcome{Kind: Success}}
		for i := range large {
			e.Steps = append(e.Steps, Step{Tool: fmt.Sprint("t", i), Result: &Result{Kind: ResultOutput, Text: big}}, Step{Tool: "small"})
		}
		ok(t, s.PutEpisode(t.Context(), e))
		got, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		if len(got.Steps) != last+1 || got.Steps[last-1].Result.Text != big || got.Steps[last-1].Number != last || got.Steps[last].Tool != "small" {
			t.Errorf("read back %d steps", len(got.Steps))
		}

		running := &Episode{Description: "growing"}
		ok(t, s.StartEpisode(t.Context(), running))
		for _, step := range e.Steps {
			if _, err := s.AppendSteps(t.Context(), running.ID, step); err != nil {
				t.Fatal(err)
			}
		}
		ok(t, s.CompleteEpisode(t.Context(), running.ID, Completion{Outcome: Outcome{Kind: Success}}))
		got, err = s.Episode(t.Context(), running.ID)
		ok(t, err)
		if len(got.Steps) != last+1 || got.Steps[last-1].Result.Text != big || got.Outcome.Kind != Success {
			t.Errorf("read back %d steps, outcome %s", len(got.Steps), got.Outcome.Kind)
		}

		// Heads that together exceed one answer come on shorter pages.
		for range 4 {
			ok(t, s.PutEpisode(t.Context(), &Episode{Description: big}))
		}
		var n int
		for _, err := range s.Episodes(t.Context(), nil) {
			ok(t, err)
			n++
		}
		if n != 6 {
			t.Errorf("listed %d episodes, want 6", n)
		}
	})
}

func TestWhatIsStoredCanBeRead(t *testing.T) {
	t.Parallel()
	n := testkit.Effort(1, 1, 6)
	onEveryEngineIfLong(t, func(t *testing.T, s *Store) {
		for _, tt := range []struct{ head, steps, size int }{
			{4_400_000, 1, 4_400_000}, {0, 3, 3_900_000}, {4_400_000, 4, 1_300_000}, {0, 5, 2_000_000}, {0, 2, 4_400_000}, {4_000_000, 2, 3_900_000},
		}[:n] {
			e := &Episode{Description: "zebra " + strings.Repeat("y", tt.head)}
			for range tt.steps {
				e.Steps = append(e.Steps, Step{Tool: "a", Result: &Result{Kind: ResultOutput, Text: strings.Repeat("x", tt.size)}})
			}
			ok(t, s.PutEpisode(t.Context(), e))
			if got, err := s.Episode(t.Context(), e.ID); err != nil || len(got.Steps) != tt.steps {
				t.Errorf("%+v: %v", tt, err)
			}
			if err := s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}}); err != nil {
				t.Errorf("%+v: %v", tt, err)
			}
			if got, err := s.Episode(t.Context(), e.ID); err != nil || len(got.Steps) != tt.steps || got.Running() {
				t.Errorf("%+v, completed: %v", tt, err)
			}
		}
		hits, err := s.searchHits(t.Context(), "zebra", nil)
		if err != nil || len(hits) != n {
			t.Errorf("found %d, %v", len(hits), err)
		}
		seen := make(map[ID]bool)
		for _, h := range hits {
			seen[h.Episode.ID] = true
		}
		if len(seen) != n {
			t.Errorf("found %d different episodes, want %d", len(seen), n)
		}
	})
}

// What searches, briefs and copies read together may be larger than an answer, as screenshots are.
func TestItemsLargerThanAnAnswer(t *testing.T) {
	t.Parallel()
	const size = 4_000_000 // three rows are more than 10 MB, so that there is no fourth in an answer
	long := testkit.Effort(0, 0, 1) == 1
	test := func(t *testing.T, s *Store) {
		metadata := map[string]string{"screenshot": noise(size)}
		var ids []ID
		for i := range 5 {
			e := &Episode{Description: fmt.Sprintf("feed the zebra %d", i), Metadata: metadata, Outcome: Outcome{Kind: Success}}
			for range 4 * (1 - min(i, 1)) {
				e.Steps = append(e.Steps, Step{Tool: "camera", Action: "giraffe", Result: &Result{Kind: ResultOutput, Text: noise(size)}})
			}
			ok(t, s.PutEpisode(t.Context(), e))
			ids = append(ids, e.ID)
		}
		for _, id := range ids[1:] {
			ok(t, s.PutPattern(t.Context(), &Pattern{Description: "feed the zebra", ToolSequence: &ToolSequence{Tools: []string{"camera"}}, Metadata: metadata}))
			ok(t, s.PutHeuristic(t.Context(), &Heuristic{Condition: "feed the zebra", Action: "look", Metadata: metadata}))
			ok(t, s.PutRelation(t.Context(), &Relation{From: ids[0], Type: Follows, To: id, Metadata: metadata}))
		}

		for query, want := range map[string]int{"zebra": len(ids), "giraffe": 1} {
			found, err := s.Search(t.Context(), query, nil)
			if s.server != nil && query == "giraffe" { // it has no index of steps
				continue
			}
			ok(t, err)
			if len(found.Hits) != want {
				t.Errorf("%d hits of %s, want %d", len(found.Hits), query, want)
			}
		}
		brief, err := s.Brief(t.Context(), "feed the zebra", nil)
		ok(t, err)
		if len(brief.Lessons) == 0 {
			t.Errorf("the brief is %+v", brief)
		}
		if !long {
			return
		}
		for i := range 4 {
			ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: ids[0], Model: fmt.Sprint("m", i), Vector: make([]float32, size/4)}))
		}
		done, err := Copy(t.Context(), s.publisher.target, filepath.Join(t.TempDir(), "copy.db"), &CopyOptions{From: &Options{CacheDir: t.TempDir()}})
		ok(t, err)
		if done.Items != 21 || len(done.Different) > 0 || !slices.Equal(done.Source, done.Copy) {
			t.Errorf("%+v", done)
		}
	}
	if long {
		onEveryEngine(t, test)
		return
	}
	test(t, onFile(t))
}

// What is embedded, and the vectors that a search compares, may be larger than an answer too.
func TestVectorsLargerThanAnAnswer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	s := open(t, path, nil)
	const all = 14
	for i := range all {
		e := &Episode{Description: fmt.Sprintf("feed the zebra %d", i)}
		if i < 4 {
			e.Metadata = map[string]string{"screenshot": noise(4_000_000)}
		}
		ok(t, s.PutEpisode(t.Context(), e))
	}
	ok(t, s.Close())
	s = open(t, path, &Options{Embedder: &bag{name: "wide", dim: 1_000_000}})
	ok(t, s.EmbedDocuments(t.Context(), nil))
	found, err := s.Search(t.Context(), "zebra", &SearchOptions{Limit: all})
	ok(t, err)
	if len(found.Hits) != all || found.Model != "wide" {
		t.Errorf("%d hits, with the model %q", len(found.Hits), found.Model)
	}
}
