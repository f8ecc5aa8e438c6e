package episodic

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// synonyms is a model to which some words mean the same.
func synonyms() *bag {
	m := newBag("synonyms")
	m.make = func(text string) []float32 {
		return m.vector(strings.NewReplacer("冷蔵庫", "refrigerator", "zorp", "quux").Replace(strings.ToLower(text)))
	}
	return m
}

func TestSearchByAModel(t *testing.T) {
	m := synonyms()
	s := withModel(t, filepath.Join(t.TempDir(), "m.db"), m)
	for i := range 12 {
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: fmt.Sprint("fix the plain thing number ", i), Steps: []Step{{Action: "fix plain thing"}}}))
	}
	e := &Episode{Description: "fix the quux thing number 99", Steps: []Step{{Action: "fix quux thing"}}}
	ok(t, s.PutEpisode(t.Context(), e))
	best := func(steps bool) (ID, string) {
		t.Helper()
		r, err := s.Search(t.Context(), "fix zorp thing", &SearchOptions{Steps: steps, EachRun: true, Explain: true})
		ok(t, err)
		return r.Hits[0].Episode.ID, r.Model
	}
	for _, steps := range []bool{false, true} {
		if _, model := best(steps); model != "" {
			t.Errorf("%q took part without a vector", model)
		}
	}
	ok(t, s.EmbedDocuments(t.Context(), nil))
	for _, steps := range []bool{false, true} {
		if id, model := best(steps); id != e.ID || model != "synonyms" { // and not what the cache has of before
			t.Errorf("steps %v: found %v, want %v; by %q", steps, id, e.ID, model)
		}
	}

	// The same question is embedded once, its next page with it.
	searches := s.Stats().Embedder.Searches
	first, err := s.Search(t.Context(), "fix the thing", &SearchOptions{Limit: 3, EachRun: true})
	ok(t, err)
	second, err := s.Search(t.Context(), "fix the thing", &SearchOptions{Limit: 3, EachRun: true, Cursor: first.Next})
	ok(t, err)
	if n := s.Stats().Embedder.Searches - searches; n != 1 || second.Model != "synonyms" {
		t.Errorf("the model was asked %d times, and took part as %q", n, second.Model)
	}

	// Without the model the answer is that of words and table, and it is tried again later.
	m.first(func(context.Context, []string) error { return errors.New("model is down") })
	r, err := s.Search(t.Context(), "fix number thing", nil)
	ok(t, err)
	if len(r.Hits) == 0 || r.Model != "" {
		t.Errorf("%d hits by %q", len(r.Hits), r.Model)
	}
	m.first(nil)
	s.embedder.rest.Store(0)
	if r, err = s.Search(t.Context(), "fix number thing", nil); err != nil || r.Model != "synonyms" {
		t.Errorf("by %q, %v", r.Model, err)
	}
}
