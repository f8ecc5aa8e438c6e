package episodic

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestEmbeddingsRoundTrip(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{Description: "x"}
		ok(t, s.PutEpisode(t.Context(), e))
		number := rapid.Float32().Filter(func(f float32) bool { return f-f == 0 })
		rapid.Check(t, func(rt *rapid.T) {
			dim := rapid.IntRange(1, 40).Draw(rt, "dim")
			want := &Embedding{Kind: ItemEpisode, Item: e.ID, Model: someName.Draw(rt, "model"), Vector: rapid.SliceOfN(number, dim, dim).Draw(rt, "vector")}
			if err := s.PutEmbedding(t.Context(), want); err != nil {
				rt.Fatal(err)
			}
			got, err := s.Embedding(t.Context(), ItemEpisode, e.ID, want.Model)
			if err != nil {
				rt.Fatal(err)
			}
			same(rt, got, want)
			if err := s.DeleteEmbedding(t.Context(), ItemEpisode, e.ID, want.Model); err != nil {
				rt.Fatal(err)
			}
		})
	})
}

func TestEmbeddingsOfModelsDoNotMix(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		a, b := &Episode{Description: "a"}, &Episode{Description: "b"}
		ok(t, s.PutEpisode(t.Context(), a))
		ok(t, s.PutEpisode(t.Context(), b))
		put := func(item ID, model string, v ...float32) error {
			return s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: item, Model: model, Vector: v})
		}
		ok(t, put(a.ID, "small", 1, 2))
		ok(t, put(a.ID, "large", 1, 2, 3))
		ok(t, put(a.ID, "small", 3, 4))
		ok(t, put(b.ID, "alone", 1))
		ok(t, put(b.ID, "alone", 1, 2)) // nothing else of this model
		wants(t, put(b.ID, "small", 1, 2, 3), ErrConflict, "have 2 dimensions here, this one has 3")
		wants(t, put(NewID(), "small", 1, 2), ErrNotFound, "no such episode")
		list, err := s.Embeddings(t.Context(), ItemEpisode, a.ID)
		if err != nil || len(list) != 2 || list[0].Model != "large" || list[1].Vector[0] != 3 {
			t.Errorf("listed %+v, %v", list, err)
		}
		_, err = s.Embedding(t.Context(), ItemEpisode, b.ID, "small")
		wants(t, err, ErrNotFound, "by small")
		wants(t, s.DeleteEmbedding(t.Context(), ItemEpisode, b.ID, "small"), ErrNotFound, "by small")
	})
}

func TestBadEmbeddingsAreRefusedByField(t *testing.T) {
	s := onFile(t)
	good := Embedding{Kind: ItemEpisode, Item: NewID(), Model: "m", Vector: []float32{1}}
	for field, change := range map[string]func(e *Embedding){
		"kind":      func(e *Embedding) { e.Kind = "episodes; DROP TABLE episodes" },
		"item":      func(e *Embedding) { e.Item = ID{} },
		"model":     func(e *Embedding) { e.Model = "" },
		"vector":    func(e *Embedding) { e.Vector = nil },
		"vector[1]": func(e *Embedding) { e.Vector = []float32{1, float32(math.NaN())} },
	} {
		e := good
		change(&e)
		wants(t, s.PutEmbedding(t.Context(), &e), ErrInvalid, field)
	}
}
