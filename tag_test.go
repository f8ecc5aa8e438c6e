package episodic

import (
	"fmt"
	"strings"
	"testing"
)

func TestTagsAreAddedRemovedAndCounted(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		a := &Episode{Description: "a", Context: Context{Tags: []string{"old", "日本語"}}}
		b := &Episode{Description: "b"}
		ok(t, s.PutEpisode(t.Context(), a))
		ok(t, s.PutEpisode(t.Context(), b))
		ok(t, s.AddTags(t.Context(), a.ID, "new", "old", "中文标签", "newer"))
		ok(t, s.AddTags(t.Context(), b.ID, "new"))
		ok(t, s.RemoveTags(t.Context(), a.ID, "old", "never had"))

		got, err := s.Episode(t.Context(), a.ID)
		if err != nil || fmt.Sprint(got.Context.Tags) != "[日本語 new 中文标签 newer]" {
			t.Errorf("tags %v, %v", got.Context.Tags, err)
		}
		// On a server they are indexed in the background.
		finds := func(q string, want int) {
			t.Helper()
			if s.server != nil {
				ok(t, s.keepIndex(t.Context(), false))
			}
			if hits, err := s.searchHits(t.Context(), q, nil); err != nil || len(hits) != want {
				t.Errorf("search %q: %d hits, %v; want %d", q, len(hits), err, want)
			}
		}
		for q, want := range map[string]int{"old": 0, "new": 2, "newer": 1, "日本": 1, "标签": 1} {
			finds(q, want)
		}
		if page, err := s.ListEpisodes(t.Context(), &EpisodeFilter{Tags: []string{"new"}}, nil); err != nil || len(page.Items) != 2 {
			t.Errorf("filtered by tag: %v, %v", page, err)
		}
		if tags, err := collect(s.Names(t.Context(), TagNames)); err != nil || fmt.Sprint(tags) != "[{new 2} {newer 1} {中文标签 1} {日本語 1}]" {
			t.Errorf("tags %v, %v", tags, err)
		}
		wants(t, s.AddTags(t.Context(), NewID(), "x"), ErrNotFound, "add tags to episode")
		wants(t, s.RemoveTags(t.Context(), NewID(), "x"), ErrNotFound, "remove tags from episode")
		wants(t, s.AddTags(t.Context(), a.ID, "x", ""), ErrInvalid, "tags[1]: is empty")
		wants(t, s.AddTags(t.Context(), a.ID, "two\nlines"), ErrInvalid, "tags[0]: holds a control character")

		many := &Episode{Description: "many"}
		for i := range 100 {
			many.Context.Tags = append(many.Context.Tags, fmt.Sprintf("tag-%d-%s", i, strings.Repeat("x", 100)))
		}
		ok(t, s.PutEpisode(t.Context(), many))
		ok(t, s.AddTags(t.Context(), many.ID, "zebra"))
		finds("zebra", 1)
		ok(t, s.RemoveTags(t.Context(), many.ID, "zebra"))
		finds("zebra", 0)
	})
}
