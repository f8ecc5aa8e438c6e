package episodic

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestChangesTellWhatHappenedInOrder(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		a, b := &Episode{Description: "a", Context: Context{Tags: []string{"x", "y"}}}, &Episode{Description: "b"}
		ok(t, s.StartEpisode(ctx, a))
		ok(t, s.PutEpisode(ctx, b))
		p := &Pattern{ToolSequence: &ToolSequence{Tools: []string{"grep"}}}
		ok(t, s.PutPattern(ctx, p))
		h := &Heuristic{Condition: "x", Action: "y"}
		ok(t, s.PutHeuristic(ctx, h))
		_, err := s.AppendSteps(ctx, a.ID, Step{Tool: "t"})
		ok(t, err)
		ok(t, s.PutRelation(ctx, &Relation{From: b.ID, Type: RelatedTo, To: a.ID}))
		ok(t, s.PutEmbedding(ctx, &Embedding{Kind: ItemPattern, Item: p.ID, Model: "m", Vector: []float32{1}}))
		ok(t, s.DeleteHeuristic(ctx, h.ID))

		names := map[ID]string{a.ID: "a", b.ID: "b", p.ID: "p", h.ID: "h"}
		var last int64
		told := func() (text string) {
			list, err := collect(s.Changes(ctx, last))
			ok(t, err)
			for _, c := range list {
				if c.Seq <= last {
					t.Errorf("change %d after %d", c.Seq, last)
				}
				last = c.Seq
				text += fmt.Sprintf("%s %s %v, ", c.Kind, names[c.ID], c.Deleted)
			}
			return text
		}
		if got, want := told(), "episode b false, pattern p false, episode a false, relations b false, embeddings p false, heuristic h true, "; got != want {
			t.Errorf("told\n%s\nwant\n%s", got, want)
		}
		if got := told(); got != "" {
			t.Errorf("nothing has changed, told %s", got)
		}
		ok(t, s.AddTags(ctx, a.ID, "z"))
		ok(t, s.CompleteEpisode(ctx, b.ID, Completion{Outcome: Outcome{Kind: Success}}))
		ok(t, s.DeleteEpisode(ctx, a.ID))
		if got, want := told(), "episode b false, relations b true, episode a true, "; got != want {
			t.Errorf("told\n%s\nwant\n%s", got, want)
		}
		_, err = collect(s.Changes(ctx, last+1000))
		wants(t, err, ErrHistoryLost, "an older copy")
		_, err = collect(s.Changes(ctx, -1))
		wants(t, err, ErrInvalid, "since")
	})
}

// A watcher hears of its own Store's changes and of another's.
func TestWatch(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		s, other := open(t, target, nil), open(t, target, nil)
		first := &Episode{Description: "first"}
		ok(t, s.PutEpisode(t.Context(), first))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		heard := make(chan ID)
		ended := make(chan error, 1)
		go func() {
			for c, err := range s.Watch(ctx, 0) {
				if err != nil {
					ended <- err
					return
				}
				heard <- c.ID
			}
		}()
		if id := <-heard; id != first.ID {
			t.Errorf("heard of %v, want %v", id, first.ID)
		}
		for _, writer := range []*Store{s, other, s, other} {
			e := &Episode{Description: "next"}
			ok(t, writer.PutEpisode(t.Context(), e))
			if id := <-heard; id != e.ID {
				t.Errorf("heard of %v, want %v", id, e.ID)
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		go func() {
			for _, err := range s.Watch(t.Context(), 0) {
				if err != nil {
					ended <- err
				} else {
					heard <- ID{}
				}
			}
		}()
		for range 5 {
			<-heard
		}
		ok(t, s.Close())
		wants(t, <-ended, ErrClosed, "watch changes")
	})
}
