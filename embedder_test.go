package episodic

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/rank"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// bag is an Embedder: a text's vector says which of its words fall on which number.
type bag struct {
	name  string
	dim   int
	calls atomic.Int64
	texts atomic.Int64
	// before, unless nil, points to what is called with the texts of each call, which fails with its error.
	before atomic.Pointer[func(ctx context.Context, texts []string) error]
	// make, unless nil, makes the vector of a text.
	make func(text string) []float32
}

func (b *bag) Name() string { return b.name }
func (b *bag) Dim() int     { return b.dim }

// first has f called first, until it is changed; nil: nothing.
func (b *bag) first(f func(ctx context.Context, texts []string) error) {
	if f == nil {
		b.before.Store(nil)
		return
	}
	b.before.Store(&f)
}

func (b *bag) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	b.calls.Add(1)
	if before := b.before.Load(); before != nil {
		if err := (*before)(ctx, texts); err != nil {
			return nil, err
		}
	}
	b.texts.Add(int64(len(texts)))
	vs := make([][]float32, len(texts))
	for i, text := range texts {
		if b.make != nil {
			vs[i] = b.make(text)
			continue
		}
		vs[i] = b.vector(text)
	}
	return vs, ctx.Err()
}

func (b *bag) vector(text string) []float32 {
	v := make([]float32, b.dim)
	for _, word := range strings.Fields(text) {
		h := fnv.New32a()
		h.Write([]byte(word))
		v[h.Sum32()%uint32(b.dim)]++
	}
	return v
}

func newBag(name string) *bag { return &bag{name: name, dim: 32} }

// withModel opens a memory with a model, which makes no vectors in the background.
func withModel(t testing.TB, path string, m Embedder) *Store {
	t.Helper()
	s := open(t, path, &Options{Embedder: m})
	s.embedder.close()
	return s
}

// runOf is an episode of so many steps.
func runOf(description string, steps int) *Episode {
	e := &Episode{Description: description, Outcome: Outcome{Kind: Success}}
	for i := range steps {
		e.Steps = append(e.Steps, Step{Tool: "tool", Action: fmt.Sprintf("%s step %d", description, i+1), Result: &Result{Kind: ResultOutput, Text: "done"}})
	}
	return e
}

// models returns those of a database by name.
func models(t testing.TB, s *Store) map[string]SearchModel {
	t.Helper()
	list, err := s.SearchModels(t.Context())
	ok(t, err)
	named := make(map[string]SearchModel)
	for _, m := range list {
		named[m.Name] = m
	}
	return named
}

// covered fails unless each document has one vector by the model, that of its own text.
func covered(t testing.TB, s *Store, m *bag) {
	t.Helper()
	for e, err := range s.Episodes(t.Context(), nil) {
		ok(t, err)
		e, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		seq := number(t, s, "SELECT seq FROM episodes WHERE id = ?", e.ID.bytes())
		texts := []string{e.Description}
		for i := range e.Steps {
			texts = append(texts, embeddedText(&e.Steps[i]))
		}
		for i, text := range texts {
			place := seq<<rank.NumberBits + int64(i)
			cosines, model, err := s.rescore(t.Context(), s.engine, text, []int64{place})
			ok(t, err)
			if model != m.name || cosines[0] < .995 {
				t.Errorf("document %d of %q: cosine %v by %q", i, e.Description, cosines, model)
			}
		}
	}
	if got := models(t, s)[m.name]; got.Waiting != 0 {
		t.Errorf("waiting: %+v", got)
	}
	if n := number(t, s, "SELECT count(*) FROM document_vectors WHERE model NOT IN (SELECT id FROM models) OR place >> 24 NOT IN (SELECT seq FROM episodes)"); n > 0 {
		t.Errorf("%d vectors of nothing", n)
	}
}

func TestEmbedDocuments(t *testing.T) {
	m := newBag("a")
	s := withModel(t, filepath.Join(t.TempDir(), "m.db"), m)
	first := runOf("first", 3)
	ok(t, s.PutEpisode(t.Context(), first))
	running := &Episode{Description: "running"}
	ok(t, s.StartEpisode(t.Context(), running))
	var told []int64
	ok(t, s.EmbedDocuments(t.Context(), func(done, all int64) { told = append(told, done, all) }))
	if fmt.Sprint(told) != "[5 5]" {
		t.Errorf("progress %v", told)
	}
	covered(t, s, m)

	// Only what is new is embedded: a step that is appended, and what the end of an episode
	// leaves as it is.
	before := m.texts.Load()
	_, err := s.AppendSteps(t.Context(), running.ID, Step{Tool: "x", Action: "new"})
	ok(t, err)
	ok(t, s.CompleteEpisode(t.Context(), running.ID, Completion{Outcome: Outcome{Kind: Success}}))
	ok(t, s.EmbedDocuments(t.Context(), nil))
	if n := m.texts.Load() - before; n != 1 {
		t.Errorf("%d texts were embedded for one new step", n)
	}
	covered(t, s, m)

	// A put that replaces has new vectors, and fewer.
	first.Steps, first.Description = first.Steps[:2], "otherwise"
	ok(t, s.PutEpisode(t.Context(), first))
	if got := models(t, s)["a"]; got.Embedded != 2 || got.Waiting != 3 {
		t.Errorf("after a replacing put %+v", got)
	}
	ok(t, s.EmbedDocuments(t.Context(), nil))
	covered(t, s, m)

	// An index that is made anew keeps them.
	before = m.texts.Load()
	ok(t, s.Reindex(t.Context()))
	_, err = s.Compact(t.Context(), nil)
	ok(t, err)
	ok(t, s.EmbedDocuments(t.Context(), nil))
	if n := m.texts.Load() - before; n != 0 {
		t.Errorf("%d texts were embedded again", n)
	}
	covered(t, s, m)
	ok(t, s.DeleteEpisode(t.Context(), first.ID))
	if got := models(t, s)["a"]; got.Embedded != 2 || got.Waiting != 0 {
		t.Errorf("after a deletion %+v", got)
	}
	if got := s.Stats().Embedder; got.Embedded != 9 || got.Refused != 0 || got.Failures != 0 || got.Dim != 32 || got.Name != "a" {
		t.Errorf("statistics %+v", got)
	}
}

func TestEmbedDocumentsOfAnyHistory(t *testing.T) {
	t.Parallel()
	m := newBag("a")
	s := withModel(t, filepath.Join(t.TempDir(), "m.db"), m)
	checks := 0
	rapid.Check(t, func(r *rapid.T) {
		if checks++; checks > 10 {
			return // each takes 60 ms
		}
		_, err := s.engine.Batch(t.Context(), stmt("DELETE FROM episodes"))
		ok(t, err)
		var stored []ID
		pick := func() ID { return rapid.SampledFrom(stored).Draw(r, "episode") }
		r.Repeat(map[string]func(*rapid.T){
			"put": func(r *rapid.T) {
				e := runOf(rapid.StringMatching("[a-c]{1,3}").Draw(r, "task"), rapid.SampledFrom([]int{0, 1, 3, 33}).Draw(r, "steps"))
				if len(stored) > 0 && rapid.Bool().Draw(r, "over") {
					e.ID = pick()
				} else {
					e.ID = NewID()
					stored = append(stored, e.ID)
				}
				ok(t, s.PutEpisode(t.Context(), e))
			},
			"start and append": func(r *rapid.T) {
				e := &Episode{Description: "running"}
				ok(t, s.StartEpisode(t.Context(), e))
				_, err := s.AppendSteps(t.Context(), e.ID, runOf("more", rapid.SampledFrom([]int{1, 2, 35}).Draw(r, "steps")).Steps...)
				ok(t, err)
				stored = append(stored, e.ID)
			},
			"append": func(r *rapid.T) {
				if len(stored) > 0 {
					_, err := s.AppendSteps(t.Context(), pick(), Step{Tool: "x", Action: "appended"})
					if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
						t.Fatal(err)
					}
				}
			},
			"delete": func(r *rapid.T) {
				if len(stored) > 0 {
					if err := s.DeleteEpisode(t.Context(), pick()); err != nil && !errors.Is(err, ErrNotFound) {
						t.Fatal(err)
					}
				}
			},
			"interrupted": func(r *rapid.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				calls := rapid.IntRange(1, 3).Draw(r, "calls")
				m.first(func(ctx context.Context, _ []string) error {
					if calls--; calls == 0 {
						cancel()
					}
					return ctx.Err()
				})
				if err := s.EmbedDocuments(ctx, nil); err != nil && !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				m.first(nil)
			},
		})
		ok(t, s.EmbedDocuments(t.Context(), nil))
		covered(t, s, m)
	})
}

// What is written while vectors are made is not mixed up with what was read before.
func TestEmbedDocumentsWhileTheyAreReplaced(t *testing.T) {
	for _, change := range []struct {
		name string
		do   func(t *testing.T, s *Store, e *Episode)
	}{
		{"replaced", func(t *testing.T, s *Store, e *Episode) {
			n := runOf("other", 2)
			n.ID = e.ID
			ok(t, s.PutEpisode(t.Context(), n))
		}},
		{"deleted, another in its place", func(t *testing.T, s *Store, e *Episode) {
			ok(t, s.DeleteEpisode(t.Context(), e.ID))
			ok(t, s.PutEpisode(t.Context(), runOf("another", 4)))
		}},
		{"deleted", func(t *testing.T, s *Store, e *Episode) { ok(t, s.DeleteEpisode(t.Context(), e.ID)) }},
		{"model dropped", func(t *testing.T, s *Store, e *Episode) { ok(t, s.DropSearchModel(t.Context(), "a")) }},
		{"another one stored", func(t *testing.T, s *Store, e *Episode) { ok(t, s.PutEpisode(t.Context(), runOf("besides", 1))) }},
	} {
		t.Run(change.name, func(t *testing.T) {
			t.Parallel()
			m := newBag("a")
			path := filepath.Join(t.TempDir(), "m.db")
			s, other := withModel(t, path, m), open(t, path, nil)
			e := runOf("one", 40) // in two batches
			ok(t, s.PutEpisode(t.Context(), e))
			for _, call := range []int64{1, 2} {
				m.first(func(context.Context, []string) error {
					if m.calls.Load() == call {
						change.do(t, other, e)
					}
					return nil
				})
				m.calls.Store(0)
				ok(t, s.EmbedDocuments(t.Context(), nil))
				m.first(nil)
				covered(t, s, m)
				e = runOf("next", 40)
				ok(t, s.PutEpisode(t.Context(), e))
			}
		})
	}
}

func TestEmbeddingGoesOnAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	m := newBag("a")
	third, block := make(chan struct{}), make(chan struct{})
	m.first(func(ctx context.Context, _ []string) error {
		if m.calls.Load() == 3 {
			close(third)
			<-ctx.Done() // Close cancels it
			close(block)
			return ctx.Err()
		}
		return nil
	})
	s, err := Open(t.Context(), path, &Options{Embedder: m})
	ok(t, err)
	ok(t, s.PutEpisode(t.Context(), runOf("long", 200))) // which wakes the background
	<-third
	ok(t, s.Close())
	<-block // Close has waited
	m.first(nil)
	s = withModel(t, path, m)
	if got := models(t, s)["a"]; got.Embedded != 2*embedAtOnce || got.Waiting != 201-2*embedAtOnce {
		t.Errorf("after Close: %+v", got)
	}
	before := m.texts.Load()
	ok(t, s.EmbedDocuments(t.Context(), nil))
	if n := m.texts.Load() - before; n != 201-2*embedAtOnce {
		t.Errorf("%d texts were embedded to end it", n)
	}
	covered(t, s, m)
}

func TestTwoStoresAndTwoModelsSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	a, b := newBag("a"), &bag{name: "b", dim: 48}
	first, second, third := withModel(t, path, a), withModel(t, path, b), withModel(t, path, a)
	for i := range 20 {
		ok(t, first.PutEpisode(t.Context(), runOf(fmt.Sprint("task ", i), 7)))
	}
	var wg sync.WaitGroup
	for _, s := range []*Store{first, second, third} {
		wg.Go(func() {
			if err := s.EmbedDocuments(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	covered(t, first, a)
	covered(t, second, b)
	if n := first.Stats().Embedder.Embedded + third.Stats().Embedder.Embedded; n != 160 {
		t.Errorf("%d vectors were stored by a, want 160: each once", n)
	}
	ok(t, second.UseSearchModel(t.Context(), "b"))
	if got := models(t, first); got["a"].Used || !got["b"].Used || got["b"].Dim != 48 || got["b"].Bytes != 160*(48+11) {
		t.Errorf("models %+v", got)
	}
	wants(t, first.UseSearchModel(t.Context(), "c"), ErrNotFound, "c")
	if !models(t, first)["b"].Used {
		t.Error("a name that is not known changed the model in use")
	}
	ok(t, first.UseSearchModel(t.Context(), ""))
	if models(t, first)["b"].Used {
		t.Error("b is still used")
	}
	ok(t, first.DropSearchModel(t.Context(), "b"))
	wants(t, first.DropSearchModel(t.Context(), "b"), ErrNotFound, "b")
	if got := models(t, first); len(got) != 1 || got["a"].Embedded != 160 {
		t.Errorf("after b was dropped: %+v", got)
	}
	covered(t, first, a)
}

func TestDropOfManyVectorsCanBeInterrupted(t *testing.T) {
	m := newBag("a")
	s := withModel(t, filepath.Join(t.TempDir(), "m.db"), m)
	ok(t, s.PutEpisode(t.Context(), runOf("long", 120)))
	ok(t, s.EmbedDocuments(t.Context(), nil))
	id := number(t, s, "SELECT id FROM models")
	_, err := s.engine.Batch(t.Context(), stmt(sqlModelUndone, id), stmt(sqlDropVectors, id, int64(50)))
	ok(t, err)
	if n := number(t, s, "SELECT max(place) & 16777215 FROM document_vectors"); n != 70 {
		t.Errorf("the last one left is number %d", n)
	}
	ok(t, s.EmbedDocuments(t.Context(), nil))
	covered(t, s, m)
	ok(t, s.dropSearchModel(t.Context(), "a", 50))
	if n := number(t, s, "SELECT count(*) FROM document_vectors") + number(t, s, "SELECT count(*) FROM models"); n != 0 {
		t.Errorf("%d vectors and models are left", n)
	}
}

func TestModelsThatAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	s := withModel(t, path, newBag("a"))
	ok(t, s.PutEpisode(t.Context(), runOf("one", 1)))
	ok(t, s.EmbedDocuments(t.Context(), nil))
	_, err := Open(t.Context(), path, &Options{Embedder: &bag{name: "a", dim: 16}})
	wants(t, err, ErrInvalid, "16 numbers, but those stored under this name have 32")
	for _, tt := range []struct {
		model *bag
		text  string
	}{
		{&bag{dim: 3}, "has no name"},
		{&bag{name: "a\nb", dim: 3}, "control character"},
		{&bag{name: "a"}, "0 numbers"},
		{&bag{name: "a", dim: 2_000_000}, "2000000 numbers"},
	} {
		_, err := Open(t.Context(), path, &Options{Embedder: tt.model})
		wants(t, err, ErrInvalid, tt.text)
	}
	_, err = Open(t.Context(), hranatest.Start(t).URL(), &Options{Embedder: newBag("a")})
	wants(t, err, ErrInvalid, "server")
	wants(t, onFile(t).EmbedDocuments(t.Context(), nil), ErrInvalid, "Embedder")

	for _, tt := range []struct {
		name string
		make func(string) []float32
		text string
	}{
		{"short", func(string) []float32 { return make([]float32, 31) }, "31 numbers instead of 32"},
		{"nan", func(string) []float32 { v := make([]float32, 32); v[7] = float32(math.NaN()); return v }, "number 7 is NaN"},
		{"infinite", func(string) []float32 { v := make([]float32, 32); v[0] = float32(math.Inf(-1)); return v }, "number 0 is -Inf"},
	} {
		m := newBag(tt.name)
		m.make = tt.make
		s := withModel(t, path, m)
		wants(t, s.EmbedDocuments(t.Context(), nil), ErrInvalid, tt.text)
		wants(t, s.EmbedDocuments(t.Context(), nil), ErrInvalid, `"`+tt.name+`"`)
		if got := s.Stats().Embedder; got.Embedded != 0 || got.Failures != 2 || !strings.Contains(got.LastFailure, tt.text) {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if got := models(t, s)[tt.name]; got.Embedded != 0 || got.Waiting != 2 {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// A text that the model does not take is cut, and left out if that does not help; the others
// get their vectors.
func TestTextsThatTheModelDoesNotTake(t *testing.T) {
	m := newBag("a")
	refuse := errors.New("refused")
	m.first(func(_ context.Context, texts []string) error {
		for _, text := range texts {
			if len(text) > 900 || strings.Contains(text, "poison") {
				return refuse
			}
		}
		return nil
	})
	s := withModel(t, filepath.Join(t.TempDir(), "m.db"), m)
	e := &Episode{Description: "poison", Steps: []Step{{Action: strings.Repeat("long ", 300)}, {Action: "good"}, {Action: "poison"}, {Action: "fine"}}}
	ok(t, s.PutEpisode(t.Context(), e))
	ok(t, s.EmbedDocuments(t.Context(), nil))
	if got := models(t, s)["a"]; got.Embedded != 3 || got.Refused != 2 || got.Waiting != 0 {
		t.Errorf("%+v", got)
	}
	if got := s.Stats().Embedder; got.Embedded != 3 || got.Refused != 2 || got.Failures != 0 {
		t.Errorf("%+v", got)
	}
	seq := number(t, s, "SELECT seq FROM episodes")
	cosines, model, err := s.rescore(t.Context(), s.engine, "good", []int64{seq << 24, seq<<24 + 1, seq<<24 + 2, 77 << 24})
	ok(t, err)
	if model != "a" || !math.IsNaN(cosines[0]) || math.IsNaN(cosines[1]) || cosines[2] < .995 || !math.IsNaN(cosines[3]) {
		t.Errorf("cosines %v by %q", cosines, model)
	}
	calls := m.calls.Load()
	ok(t, s.EmbedDocuments(t.Context(), nil))
	if m.calls.Load() != calls {
		t.Error("what was refused is asked for again")
	}
}

func TestRescoreWithoutVectorsOrModel(t *testing.T) {
	m := newBag("a")
	var records testkit.Log
	s := open(t, filepath.Join(t.TempDir(), "m.db"), &Options{Embedder: m, Logger: records.Logger()})
	s.embedder.close() // nothing is made in the background
	ok(t, s.PutEpisode(t.Context(), runOf("one", 1)))
	none := func(s *Store, query string) {
		t.Helper()
		cosines, model, err := s.rescore(t.Context(), s.engine, query, []int64{1 << 24})
		if cosines != nil || model != "" || err != nil {
			t.Errorf("%q: %v, %q, %v", query, cosines, model, err)
		}
	}
	none(onFile(t), "one")
	none(s, "")
	none(s, "one") // there is no vector yet
	ok(t, s.EmbedDocuments(t.Context(), nil))
	none(s, " ") // of which the model knows nothing

	state := s.embedder.state()
	m.first(func(context.Context, []string) error { return errors.New("model is down") })
	none(s, "one")
	none(s, "one")
	if got := s.Stats().Embedder; got.Searches != 3 || got.Missed != 1 || got.Skipped != 1 {
		t.Errorf("%+v", got)
	}
	if s.embedder.state() == state {
		t.Error("results without the model could be served when it is back")
	}
	if got := records.Take(); strings.Count(got, "search goes on without the embedding model") != 1 || !strings.Contains(got, "model is down") {
		t.Errorf("log: %s", got)
	}
	m.first(nil)
	s.embedder.rest.Store(0) // 15 s later
	cosines, model, err := s.rescore(t.Context(), s.engine, "one", []int64{1 << 24})
	ok(t, err)
	if model != "a" || cosines[0] < .99 {
		t.Errorf("%v by %q", cosines, model)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.rescore(ctx, s.engine, "one", []int64{1 << 24}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestDamagedVectorsAndEpisodes(t *testing.T) {
	m := newBag("a")
	s := withModel(t, filepath.Join(t.TempDir(), "m.db"), m)
	for i := range 3 {
		ok(t, s.PutEpisode(t.Context(), runOf(fmt.Sprint("task ", i), 2)))
	}
	_, err := s.engine.Batch(t.Context(), stmt("UPDATE runs SET payload = x'07' WHERE episode = 2"))
	ok(t, err)
	wants(t, s.EmbedDocuments(t.Context(), nil), ErrCorrupt, "episode number 2")
	if got := models(t, s)["a"]; got.Embedded != 7 || got.Waiting != 2 {
		t.Errorf("the others were kept from their vectors: %+v", got)
	}
	_, err = s.engine.Batch(t.Context(), stmt("UPDATE document_vectors SET vector = x'0102' WHERE place = 1 << 24"))
	ok(t, err)
	before := s.Stats().Damaged
	cosines, _, err := s.rescore(t.Context(), s.engine, "task", []int64{1 << 24, 3 << 24})
	if ok(t, err); len(cosines) != 2 || cosines[0] == cosines[0] || cosines[1] != cosines[1] || s.Stats().Damaged != before+1 {
		t.Errorf("cosines %v, %d damaged", cosines, s.Stats().Damaged-before)
	}
}

func TestEmbedderWaitsLongerEachTime(t *testing.T) {
	for failures, most := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second} {
		if got := embedWait(failures); got > most || got <= most*2/3-1 {
			t.Errorf("after %d failures %v", failures+1, got)
		}
	}
	if got := embedWait(1000); got > mostEmbedWait || got < mostEmbedWait/2 {
		t.Errorf("after many failures %v", got)
	}
}

// The background tells the log once that the model fails, and goes on when it is back.
func TestEmbedderInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newBag("a")
		m.first(func(context.Context, []string) error { return errors.New("model is down") })
		var records testkit.Log
		s, err := Open(t.Context(), filepath.Join(t.TempDir(), "m.db"), &Options{Embedder: m, Logger: records.Logger(), Cache: Cache{Disabled: true}})
		ok(t, err)
		defer s.Close()
		ok(t, s.PutEpisode(t.Context(), runOf("one", 2)))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := s.Stats().Embedder; got.Embedded != 0 || got.Failures < 3 {
			t.Errorf("%+v", got)
		}
		m.first(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := s.Stats().Embedder; got.Embedded != 3 {
			t.Errorf("%+v", got)
		}
		if got := records.Take(); strings.Count(got, "documents not embedded") != 1 {
			t.Errorf("log: %s", got)
		}
	})
}

func TestOpenEmbedder(t *testing.T) {
	const key = "s3cret"
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		if r.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "no access for ", r.Header.Get("Authorization"))
			return
		}
		fmt.Fprint(w, `{"data":[{"embedding":[3,4]}]}`)
	}))
	defer server.Close()
	spec := server.URL + "/v1#tiny"
	t.Setenv(embedderKey, key)
	m, err := OpenEmbedder(t.Context(), spec)
	ok(t, err)
	if m.Name() != "tiny" || m.Dim() != 2 {
		t.Errorf("%s, %d", m.Name(), m.Dim())
	}
	t.Setenv(embedderKey, "wr0ng-key")
	if _, err := OpenEmbedder(t.Context(), spec); err == nil || strings.Contains(err.Error(), "wr0ng") || !strings.Contains(err.Error(), "401") {
		t.Errorf("error %v", err)
	}
	t.Setenv(embedderKey, "")
	t.Setenv(openAIKey, key) // not for other servers
	if _, err := OpenEmbedder(t.Context(), spec); err == nil || got.Get("Authorization") != "" {
		t.Errorf("error %v; sent %q", err, got.Get("Authorization"))
	}
	m, err = OpenEmbedder(t.Context(), "internal/embed/testdata/bert")
	ok(t, err)
	if !strings.HasPrefix(m.Name(), "bert-") || m.Dim() < 1 {
		t.Errorf("%s, %d", m.Name(), m.Dim())
	}
	for spec, text := range map[string]string{
		"": "spec", "ftp://x/y#z": "ftp", server.URL + "/v1": "names no model", "https://#m": "base URL",
		filepath.Join(t.TempDir(), "none"): "none", "http://example.org/v1#m": "unencrypted",
	} {
		if _, err := OpenEmbedder(t.Context(), spec); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}
