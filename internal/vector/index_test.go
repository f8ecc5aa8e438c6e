package vector

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func id(n int) (id ID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func newIndex(t testing.TB, dim int) *Index {
	t.Helper()
	x, err := NewIndex(dim)
	ok(t, err)
	return x
}

// entry is what a model of an Index knows of a vector.
type entry struct {
	label  uint32
	vector []float32 // as it is read
}

// brute is what Search must return, from cosines in float64.
func brute(model map[ID]entry, query []float32, limit int, f Filter) []Hit {
	var hits []Hit
	for id, e := range model {
		if f.allows(e.label) && (f.IDs == nil || slices.Contains(f.IDs, id)) {
			hits = append(hits, Hit{id, cosine(query, e.vector)})
		}
	}
	slices.SortFunc(hits, compareHits)
	return hits[:min(limit, len(hits))]
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	if ab == 0 {
		return 0
	}
	return ab / math.Sqrt(aa) / math.Sqrt(bb)
}

// sameHits compares hits by their cosines: those that are equal but for rounding may
// come in any order.
func sameHits(t rapid.TB, got, want []Hit, model map[ID]entry, query []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d hits, want %d", len(got), len(want))
	}
	seen := make(map[ID]bool)
	for i, h := range got {
		if math.Abs(h.Cosine-want[i].Cosine) > 2e-6 || math.Abs(h.Cosine-cosine(query, model[h.ID].vector)) > 2e-6 {
			t.Fatalf("hit %d is %v, want %v; its cosine is %v", i, h, want[i], cosine(query, model[h.ID].vector))
		}
		if i > 0 && compareHits(got[i-1], h) >= 0 || seen[h.ID] {
			t.Fatalf("hit %d, %v, comes after %v", i, h, got[i-1])
		}
		seen[h.ID] = true
	}
}

func TestIndexFindsWhatBruteForceFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim := rapid.IntRange(1, 12).Draw(t, "dim")
		x, err := NewIndex(dim)
		ok(t, err)
		model := make(map[ID]entry)
		number := rapid.OneOf(rapid.Float32Range(-1, 1), rapid.SampledFrom([]float32{0, 1, -1, 1e-30, 3e38, -3e38}))
		some := rapid.SliceOfN(number, dim, dim)
		some = rapid.OneOf(some, rapid.Just(slices.Repeat([]float32{1}, dim)))
		ids := rapid.Map(rapid.IntRange(0, 20), id)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				e := entry{label: uint32(rapid.IntRange(0, 3).Draw(t, "label"))}
				b := Encode(some.Draw(t, "vector"), rapid.SampledFrom(allFormats).Draw(t, "format"))
				e.vector, _ = Decode(b, int64(dim))
				id := ids.Draw(t, "id")
				ok(t, x.Put(id, e.label, b))
				model[id] = e
			},
			"delete": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				x.Delete(id)
				delete(model, id)
			},
			"search": func(t *rapid.T) {
				var f Filter
				if rapid.Bool().Draw(t, "by label") {
					f.Labels = rapid.SliceOfN(rapid.Bool(), 0, 4).Draw(t, "labels")
				}
				if rapid.Bool().Draw(t, "by id") {
					f.IDs = append([]ID{}, rapid.SliceOfNDistinct(ids, 0, 9, rapid.ID).Draw(t, "ids")...)
				}
				query := some.Filter(func(v []float32) bool { return inverseLength(v) > 0 }).Draw(t, "query")
				limit := rapid.IntRange(0, 25).Draw(t, "limit")
				sameHits(t, x.Search(query, limit, f), brute(model, query, limit, f), model, query)
			},
			"": func(t *rapid.T) {
				if x.Len() != len(model) {
					t.Fatalf("%d vectors, want %d", x.Len(), len(model))
				}
				for id, e := range model {
					if v, label, known := x.Vector(id); !known || label != e.label || !slices.Equal(v, e.vector) {
						t.Fatalf("%v reads %v, %v, %v, want %v", id, v, label, known, e)
					}
				}
			},
		})
	})
}

// clusters are vectors around random centres, 40 around each, as texts gather
// around topics.
func clusters(r *rand.Rand, dim, n int) [][]float32 {
	var all [][]float32
	var centre []float32
	for i := range n {
		if i%40 == 0 {
			centre = gaussian(r, dim)
		}
		v := gaussian(r, dim)
		for k := range v {
			v[k] = centre[k] + v[k]/2
		}
		all = append(all, v)
	}
	return all
}

func gaussian(r *rand.Rand, dim int) []float32 {
	v := make([]float32, dim)
	for k := range v {
		v[k] = float32(r.NormFloat64() / math.Sqrt(float64(k+1)))
	}
	return v
}

// With sketches, and puts and deletions after they were made, nearly all of the nearest
// are found, and with a filter all.
func TestSketchesFindTheNearest(t *testing.T) {
	for _, dim := range []int{64, 384} {
		r := rand.New(rand.NewPCG(uint64(dim), 1))
		vectors := clusters(r, dim, 3000)
		x, model := newIndex(t, dim), make(map[ID]entry)
		put := func(i int) {
			e := entry{label: uint32(i % 100)}
			b := Encode(vectors[i], allFormats[i%len(allFormats)])
			e.vector, _ = Decode(b, int64(dim))
			ok(t, x.Put(id(i), e.label, b))
			model[id(i)] = e
		}
		for i := range 2100 {
			put(i)
		}
		x.Settle()
		if x.sketcher == nil {
			t.Fatal("no sketches")
		}
		for i := 2100; i < 3000; i++ {
			put(i)
		}
		for i := 0; i < 3000; i += 3 {
			x.Delete(id(i))
			delete(model, id(i))
		}
		for i := 0; i < 600; i += 3 { // and some again, in another format
			put(i)
		}
		const queries = 20
		found := 0
		for range queries {
			q := vectors[r.IntN(len(vectors))]
			want := brute(model, q, 10, Filter{})
			for _, h := range x.sketchSearch(newQuery(q), 10, x.shortlist(10), &Filter{}) {
				if h.Cosine >= want[9].Cosine-2e-6 {
					found++
				}
			}
			f := Filter{Labels: make([]bool, 8)}
			f.Labels[7] = true
			sameHits(t, x.sketchSearch(newQuery(q), 10, x.shortlist(10), &f), brute(model, q, 10, f), model, q)
		}
		if recall := float64(found) / 10 / queries; recall < 0.99 {
			t.Errorf("%d dimensions: recall %.4f", dim, recall)
		}
	}
}

func TestEqualVectorsAreKeptApart(t *testing.T) {
	v := slices.Repeat([]float32{3, 4}, 50)
	x := newIndex(t, len(v))
	b := Encode(v, Float16)
	for i := range 3000 {
		ok(t, x.Put(id(i), 0, b))
	}
	x.Settle()
	x.Delete(id(1))
	hits := x.Search(v, 3, Filter{})
	want := []ID{id(0), id(2), id(3)}
	for i, h := range hits {
		if h.ID != want[i] || math.Abs(h.Cosine-1) > 1e-6 {
			t.Errorf("hit %d is %v, want %v with 1", i, h, want[i])
		}
	}
	if len(hits) != 3 {
		t.Errorf("%d hits", len(hits))
	}
}

func TestDamagedVectorsAreNotPut(t *testing.T) {
	x := newIndex(t, 2)
	for _, b := range [][]byte{nil, {1, 2, 3}, {0, 0x7c, 0, 0, 5}, Encode([]float32{1}, Float32)} {
		if err := x.Put(id(1), 0, b); err == nil || x.Len() > 0 {
			t.Errorf("% x: %v, %d vectors", b, err, x.Len())
		}
	}
	for _, dim := range []int{-1, 0, MaxDimension + 1} {
		if _, err := NewIndex(dim); err == nil {
			t.Errorf("an index of %d dimensions", dim)
		}
	}
}

func TestRotationKeepsAngles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim := rapid.IntRange(1, 200).Draw(t, "dim")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		v, w := gaussian(r, dim), gaussian(r, dim)
		want, length := cosine(v, w), inverseLength(v)
		rotation, scratch := newRotation(dim, 7), make([]float32, dim)
		rotation.rotate(v, scratch)
		rotation.rotate(w, scratch)
		if got := cosine(v, w); math.Abs(got-want) > 1e-5 || math.Abs(inverseLength(v)/length-1) > 1e-5 {
			t.Errorf("cosine %v becomes %v, length %v becomes %v", want, got, length, inverseLength(v))
		}
	})
}

// Bytes is what the garbage collector finds.
func TestBytesAreThoseOfTheHeap(t *testing.T) {
	for _, n := range []int{4_000, 9_000} {
		heap := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		b := Encode(gaussian(rand.New(rand.NewPCG(1, 1)), 64), Float16)
		before := heap()
		x := newIndex(t, 64)
		for i := range n {
			ok(t, x.Put(id(i), 0, b))
		}
		x.Settle()
		got, want := x.Bytes(), heap()-before
		if ratio := float64(got) / float64(want); ratio < 0.9 || ratio > 1.15 {
			t.Errorf("%d vectors: %d bytes, the heap grew by %d", n, got, want)
		}
		if ratio := float64(EstimateBytes(int64(n), 64, len(b))) / float64(want); ratio < 0.8 || ratio > 1.2 {
			t.Errorf("%d vectors: estimated %d bytes, the heap grew by %d", n, EstimateBytes(int64(n), 64, len(b)), want)
		}
		runtime.KeepAlive(x)
	}
}
