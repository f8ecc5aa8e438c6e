package episodic

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
	"github.com/episodic-memory/episodic/internal/vector"
)

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// nearestWorld is a database with embeddings, and what is known of them.
type nearestWorld struct {
	items map[ID]*nearestItem
}

type nearestItem struct {
	scope  Scope
	domain string
	vector []float32 // as stored; nil: none
}

// want is what Nearest must return, by comparing with every vector.
func (w *nearestWorld) want(query []float32, but ID, limit int, matches func(*nearestItem) bool) []Neighbor {
	var all []Neighbor
	for id, it := range w.items {
		if it.vector != nil && id != but && matches(it) {
			all = append(all, Neighbor{id, cosineOf(query, it.vector)})
		}
	}
	slices.SortFunc(all, func(a, b Neighbor) int {
		return cmp.Or(cmp.Compare(b.Similarity, a.Similarity), bytes.Compare(a.Item[:], b.Item[:]))
	})
	return all[:min(limit, len(all))]
}

func cosineOf(a, b []float32) float64 {
	if !nonZero(a) || !nonZero(b) {
		return 0
	}
	return 1 - cosineDistance(a, b)
}

// sameNeighbors compares by similarity, since rounding may exchange equal ones.
func (w *nearestWorld) sameNeighbors(t rapid.TB, got, want []Neighbor, query []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("found %v, want %v", got, want)
	}
	for i, n := range got {
		it := w.items[n.Item]
		if it == nil || it.vector == nil || math.Abs(n.Similarity-want[i].Similarity) > 2e-6 || math.Abs(n.Similarity-cosineOf(query, it.vector)) > 2e-6 {
			t.Fatalf("neighbour %d is %v, want %v", i, n, want[i])
		}
	}
}

// Whatever happens to embeddings and their items, through whichever Store, Nearest finds
// what a comparison with every vector finds, from memory and without.
func TestNearestFindsWhatIsStored(t *testing.T) {
	t.Parallel()
	onFileAndServer(t, func(t *testing.T, target string) {
		stores := []*Store{open(t, target, nil), open(t, target, &Options{Cache: Cache{Disabled: true}}), open(t, target, nil)}
		stores[2].sets.maxBytes = 1
		dim := 3
		scopes := []Scope{{}, {Project: "a"}, {Project: "a", User: "u"}, {Project: "b"}}
		// A server, which computes in float32, takes the squares of very small numbers for 0.
		number := rapid.Map(rapid.Int32Range(-100, 100), func(n int32) float32 { return float32(n) / 16 })
		some := rapid.SliceOfN(number, dim, dim)
		directed := some.Filter(nonZero)
		round, passed, enough := 0, 0, testkit.Effort(15, 25, 100)
		rapid.Check(t, func(rt *rapid.T) {
			if passed == enough {
				return
			}
			round++
			model := fmt.Sprint("model ", round)
			w := &nearestWorld{items: make(map[ID]*nearestItem)}
			ctx := t.Context()
			var ids []ID
			anyItem := func(rt *rapid.T) ID {
				if len(ids) == 0 {
					rt.Skip()
				}
				return rapid.SampledFrom(ids).Draw(rt, "item")
			}
			anyStore := func(rt *rapid.T) *Store { return rapid.SampledFrom(stores).Draw(rt, "store") }
			rt.Repeat(map[string]func(*rapid.T){
				"episode": func(rt *rapid.T) {
					it := &nearestItem{scope: rapid.SampledFrom(scopes).Draw(rt, "scope"), domain: rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "domain")}
					e := &Episode{Description: "x", Scope: it.scope, Context: Context{Domain: it.domain}}
					must(rt, anyStore(rt).PutEpisode(ctx, e))
					w.items[e.ID] = it
					ids = append(ids, e.ID)
				},
				"put": func(rt *rapid.T) {
					id := anyItem(rt)
					v := some.Draw(rt, "vector")
					err := anyStore(rt).PutEmbedding(ctx, &Embedding{Kind: ItemEpisode, Item: id, Model: model, Vector: v})
					if w.items[id] == nil {
						wants(t, err, ErrNotFound, "no such episode")
						return
					}
					must(rt, err)
					w.items[id].vector, err = vector.Decode(vector.Encode(v, vector.Float16), int64(dim))
					must(rt, err)
				},
				"delete": func(rt *rapid.T) {
					id := anyItem(rt)
					err := anyStore(rt).DeleteEmbedding(ctx, ItemEpisode, id, model)
					if it := w.items[id]; it != nil && it.vector != nil {
						must(rt, err)
						it.vector = nil
					}
				},
				"delete episode": func(rt *rapid.T) {
					id := anyItem(rt)
					if w.items[id] != nil {
						must(rt, anyStore(rt).DeleteEpisode(ctx, id))
						delete(w.items, id)
					}
				},
				"move": func(rt *rapid.T) { // by an SQL shell
					id := anyItem(rt)
					if it := w.items[id]; it != nil {
						it.scope = rapid.SampledFrom(scopes[:1]).Draw(rt, "scope")
						_, err := stores[0].engine.Batch(ctx, stmt("UPDATE episodes SET scope = ? WHERE id = ?", it.scope.number(), id.bytes()))
						must(rt, err)
					}
				},
				"nearest": func(rt *rapid.T) {
					s := anyStore(rt)
					outer := rapid.SampledFrom(scopes).Draw(rt, "narrowed to")
					s, err := s.Scoped(outer)
					must(rt, err)
					q := NearestQuery{Kind: ItemEpisode, Model: model, Limit: rapid.IntRange(0, 5).Draw(rt, "limit")}
					query := directed.Draw(rt, "query")
					q.Vector = query
					if rapid.IntRange(0, 3).Draw(rt, "by item") == 0 {
						if id := anyItem(rt); w.items[id] != nil && nonZero(w.items[id].vector) && outer.contains(w.items[id].scope) {
							q.Item, q.Vector, query = id, nil, w.items[id].vector
						}
					}
					q.Filter.Domain = rapid.SampledFrom([]string{"", "", "x", "z"}).Draw(rt, "domain")
					got, err := s.Nearest(ctx, q)
					if !slices.ContainsFunc(ids, func(id ID) bool { return w.items[id] != nil && w.items[id].vector != nil }) {
						wants(t, err, ErrNotFound, "vector by this model")
						return
					}
					must(rt, err)
					want := w.want(query, q.Item, cmp.Or(q.Limit, 10), func(it *nearestItem) bool {
						return outer.contains(it.scope) && (q.Filter.Domain == "" || q.Filter.Domain == it.domain)
					})
					w.sameNeighbors(rt, got, want, query)
				},
			})
			passed++
		})
		last := putVectors(t, stores[0], 1, dim, nil)
		for i, s := range stores {
			got, err := s.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 2, 3}})
			ok(t, err)
			last.sameNeighbors(t, got, last.want([]float32{1, 2, 3}, ID{}, 10, all), []float32{1, 2, 3})
			stats := s.Stats().Vectors
			if stats.Searches == 0 || i == 2 && (stats.Fallbacks != stats.Searches || stats.Loads > 0) || i < 2 && (stats.Fallbacks > 0 || stats.Loads == 0) {
				t.Errorf("store %d: %+v", i, stats)
			}
		}
	})
}

// putVectors stores n episodes with vectors by the model "m".
func putVectors(t testing.TB, s *Store, n, dim int, change func(i int, e *Episode)) *nearestWorld {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), uint64(dim)))
	w := &nearestWorld{items: make(map[ID]*nearestItem)}
	episodes := make([]*Episode, n)
	for i := range episodes {
		episodes[i] = &Episode{ID: NewID(), Description: "x"}
		if change != nil {
			change(i, episodes[i])
		}
	}
	_, err := s.AddEpisodes(t.Context(), episodes...)
	ok(t, err)
	for part := range slices.Chunk(episodes, 200) {
		var sql []engine.Stmt
		for _, e := range part {
			v := make([]float32, dim)
			for k := range v {
				v[k] = float32(r.NormFloat64())
			}
			b := vector.Encode(v, vector.Float16)
			stored, err := vector.Decode(b, int64(dim))
			ok(t, err)
			w.items[e.ID] = &nearestItem{scope: e.Scope, domain: e.Context.Domain, vector: stored}
			sql = append(sql, stmt("INSERT INTO embeddings VALUES('episode', ?, 'm', ?, ?)", e.ID.bytes(), int64(dim), b))
		}
		_, err := s.engine.Batch(t.Context(), sql...)
		ok(t, err)
	}
	return w
}

func all(*nearestItem) bool { return true }

// A filter that holds for one in a hundred, one that holds for more than are looked up, and
// one that holds for few of the nearest.
func TestNearestWithFilters(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, s *Store) {
		const n, dim = maxFiltered + 1000, 4
		domain := func(i int) string {
			if i%100 == 0 {
				return "rare"
			}
			return "common"
		}
		w := putVectors(t, s, n, dim, func(i int, e *Episode) { e.Context.Domain = domain(i) })
		for _, domain := range []string{"", "rare", "common", "none"} {
			query := []float32{1, 2, -3, 1}
			got, err := s.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: "m", Vector: query, Filter: EpisodeFilter{Domain: domain}})
			ok(t, err)
			w.sameNeighbors(t, got, w.want(query, ID{}, 10, func(it *nearestItem) bool { return domain == "" || it.domain == domain }), query)
		}
	})
}

func TestNearestKeepsEqualVectorsApart(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		a, b := &Episode{Description: "a"}, &Episode{Description: "b"}
		for _, e := range []*Episode{a, b} {
			ok(t, s.PutEpisode(t.Context(), e))
			ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: []float32{1, 2}}))
		}
		q := NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 2}}
		both, err := s.Nearest(t.Context(), q)
		if err != nil || len(both) != 2 {
			t.Fatalf("found %v, %v", both, err)
		}
		ok(t, s.DeleteEpisode(t.Context(), a.ID))
		rest, err := s.Nearest(t.Context(), q)
		if err != nil || len(rest) != 1 || rest[0].Item != b.ID || math.Abs(rest[0].Similarity-1) > 1e-6 {
			t.Errorf("found %v, %v", rest, err)
		}
	})
}

func TestNearestRefusesByName(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		h := &Heuristic{Condition: "c", Action: "a"}
		ok(t, s.PutHeuristic(t.Context(), h))
		ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemHeuristic, Item: h.ID, Model: "m", Vector: []float32{1, 2}}))
		good := NearestQuery{Kind: ItemHeuristic, Model: "m", Vector: []float32{1, 2}}
		for name, tt := range map[string]struct {
			change func(q *NearestQuery)
			is     error
			text   string
		}{
			"kind":          {func(q *NearestQuery) { q.Kind = "step" }, ErrInvalid, "kind"},
			"no model":      {func(q *NearestQuery) { q.Model = "" }, ErrInvalid, "model: is empty"},
			"other model":   {func(q *NearestQuery) { q.Model = "other" }, ErrNotFound, "by other: not found: no heuristic has a vector by this model"},
			"other kind":    {func(q *NearestQuery) { q.Kind = ItemPattern }, ErrNotFound, "no pattern has"},
			"dimension":     {func(q *NearestQuery) { q.Vector = []float32{1, 2, 3} }, ErrInvalid, `vector: has 3 numbers, but the vectors of model "m" have 2`},
			"not finite":    {func(q *NearestQuery) { q.Vector[1] = float32(math.NaN()) }, ErrInvalid, "vector[1]"},
			"zeros":         {func(q *NearestQuery) { q.Vector = []float32{0, 0} }, ErrInvalid, "no direction"},
			"nothing":       {func(q *NearestQuery) { q.Vector = nil }, ErrInvalid, "vector: is empty"},
			"both":          {func(q *NearestQuery) { q.Item = h.ID }, ErrInvalid, "item"},
			"unknown item":  {func(q *NearestQuery) { q.Vector, q.Item = nil, NewID() }, ErrNotFound, "has no vector by this model"},
			"limit":         {func(q *NearestQuery) { q.Limit = 1001 }, ErrInvalid, "limit"},
			"filter":        {func(q *NearestQuery) { q.Filter.Domain = "x" }, ErrInvalid, "filter"},
			"filter's tags": {func(q *NearestQuery) { q.Filter.State = "asleep" }, ErrInvalid, "state"},
		} {
			for range 2 { // before and after the vectors are loaded
				q := good
				q.Vector = slices.Clone(q.Vector)
				tt.change(&q)
				_, err := s.Nearest(t.Context(), q)
				if wants(t, err, tt.is, tt.text); t.Failed() {
					t.Fatal(name)
				}
				_, err = s.Nearest(t.Context(), good)
				ok(t, err)
			}
		}
		ok(t, s.Close())
		_, err := s.Nearest(t.Context(), good)
		wants(t, err, ErrClosed, "")
	})
}

// A model can begin anew with another dimension when nothing is left of it, and a set
// that somebody has mixed is refused.
func TestNearestOfAnotherDimension(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		w := putVectors(t, s, 2, 3, nil)
		nearest := func(dim int) ([]Neighbor, error) {
			return s.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: "m", Vector: slices.Repeat([]float32{1}, dim)})
		}
		_, err := nearest(3)
		ok(t, err)
		n := 0
		for id := range w.items {
			if n++; n == 1 {
				ok(t, s.DeleteEmbedding(t.Context(), ItemEpisode, id, "m"))
				continue
			}
			ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: id, Model: "m", Vector: []float32{1, 2}}))
		}
		got, err := nearest(2)
		if err != nil || len(got) != 1 {
			t.Fatalf("found %v, %v", got, err)
		}
		for id := range w.items {
			_, err := s.engine.Batch(t.Context(), stmt("INSERT OR IGNORE INTO embeddings VALUES('episode', ?, 'm', 1, x'0000803f')", id.bytes()))
			ok(t, err)
		}
		_, one := nearest(1)
		_, two := nearest(2)
		if one == nil || two == nil {
			t.Fatalf("vectors of 1 and 2 numbers: %v, %v", one, two)
		}
		wants(t, errors.Join(one, two), ErrCorrupt, "numbers, others of the model have")
	})
}

// Many callers load once, and what one of them gives up the next one goes on with.
func TestNearestLoadsOnce(t *testing.T) {
	onFileAndServer(t, func(t *testing.T, target string) {
		putVectors(t, open(t, target, nil), 1500, 8, nil)
		s := open(t, target, nil)
		q := NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 2, 3, 4, 5, 6, 7, 8}}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Nearest(cancelled, q)
		wants(t, err, context.Canceled, "nearest episode by m")
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				if got, err := s.Nearest(t.Context(), q); err != nil || len(got) != 10 {
					t.Errorf("found %v, %v", got, err)
				}
			})
		}
		callers.Wait()
		if stats := s.Stats().Vectors; stats.Loads != 1 || stats.Searches != 8 || stats.Held != 1500 || stats.Bytes < 1500*16 {
			t.Errorf("%+v", stats)
		}
	})
}

// While others write, every call sees at least what was stored before it.
func TestNearestWhileOthersWrite(t *testing.T) {
	t.Parallel()
	onEveryTarget(t, func(t *testing.T, target string) {
		reader, writer := open(t, target, nil), open(t, target, nil)
		w := putVectors(t, writer, 50, 4, nil)
		ids := make([]ID, 0, len(w.items))
		for id := range w.items {
			ids = append(ids, id)
		}
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(g), 0))
				v := slices.Repeat([]float32{0}, 4)
				v[g] = 1
				for i := range 15 {
					id := ids[g+4*r.IntN(12)] // of this goroutine alone
					s := []*Store{reader, writer}[i%2]
					if err := s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: id, Model: "m", Vector: v}); err != nil {
						t.Error(err)
						return
					}
					got, err := reader.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: "m", Vector: v, Limit: 50})
					if err != nil || !slices.ContainsFunc(got, func(n Neighbor) bool { return n.Item == id && n.Similarity > 1-1e-6 }) {
						t.Errorf("%v is not found: %v", id, err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// Models that do not fit together take turns, one that does not fit alone is not held, and
// one that grows too large is no longer.
func TestNearestKeepsItsBound(t *testing.T) {
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "m.db"), &Options{Vectors: Vectors{MaxBytes: 65_535}})
	wants(t, err, ErrInvalid, "Vectors.MaxBytes: is 65535")
	onFileAndServer(t, func(t *testing.T, target string) {
		s := open(t, target, nil)
		w := putVectors(t, s, 300, 16, nil)
		for _, model := range []string{"n", "large"} {
			_, err := s.engine.Batch(t.Context(), stmt("INSERT INTO embeddings SELECT kind, item, ?, dim, vector FROM embeddings WHERE model = 'm' LIMIT ?", model, map[string]int64{"n": 290, "large": 300}[model]))
			ok(t, err)
		}
		nearest := func(model string) []Neighbor {
			t.Helper()
			got, err := s.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: model, Vector: slices.Repeat([]float32{1}, 16)})
			ok(t, err)
			return got
		}
		nearest("m")
		held := s.Stats().Vectors.Bytes
		s.sets.maxBytes = held + held/2
		nearest("n")
		if stats := s.Stats().Vectors; stats.Held != 290 || stats.Evictions != 1 || stats.Loads != 2 || stats.Fallbacks != 0 {
			t.Errorf("after another model: %+v", stats)
		}
		s.sets.maxBytes = held / 2
		want := w.want(slices.Repeat([]float32{1}, 16), ID{}, 10, all)
		w.sameNeighbors(t, nearest("large"), want, slices.Repeat([]float32{1}, 16))
		if stats := s.Stats().Vectors; stats.Fallbacks != 1 || stats.Loads != 2 {
			t.Errorf("of too much: %+v", stats)
		}
		_, err := s.engine.Batch(t.Context(), stmt("UPDATE embeddings SET vector = vector WHERE model = 'n'"))
		ok(t, err)
		nearest("n")
		if stats := s.Stats().Vectors; stats.Held != 0 || stats.Bytes != 0 || stats.Fallbacks != 2 {
			t.Errorf("of what has grown: %+v", stats)
		}
	})
}

// A database that was replaced by an older copy, and one whose deletions were forgotten,
// are loaded anew.
func TestNearestAfterHistoryWasLost(t *testing.T) {
	onFileAndServer(t, func(t *testing.T, target string) {
		s := open(t, target, nil)
		w := putVectors(t, s, 20, 2, nil)
		q := NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 0}, Limit: 1000}
		got, err := s.Nearest(t.Context(), q)
		ok(t, err)
		gone := got[0].Item
		_, err = s.engine.Batch(t.Context(), stmt("DELETE FROM embeddings WHERE item = ?", gone.bytes()), stmt("DELETE FROM feed WHERE gone_us IS NOT NULL"))
		ok(t, err)
		delete(w.items, gone)
		got, err = s.Nearest(t.Context(), q)
		ok(t, err)
		w.sameNeighbors(t, got, w.want(q.Vector, ID{}, 1000, all), q.Vector)
		if loads := s.Stats().Vectors.Loads; loads != 2 {
			t.Errorf("%d loads", loads)
		}
	})
}

// A search on a server takes one round trip when the vectors are held.
func TestNearestTakesOneRequest(t *testing.T) {
	s := open(t, hranatest.Start(t).URL(), untrained) // so that nothing is asked in the background
	putVectors(t, s, 10, 2, nil)
	q := NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 0}, Filter: EpisodeFilter{Domain: ""}}
	_, err := s.Nearest(t.Context(), q)
	ok(t, err)
	for _, domain := range []string{"", "x"} {
		before := s.Stats().Requests
		q.Filter.Domain = domain
		_, err = s.Nearest(t.Context(), q)
		ok(t, err)
		if n := s.Stats().Requests - before; n != 1 {
			t.Errorf("%d requests with the domain %q", n, domain)
		}
	}
}
