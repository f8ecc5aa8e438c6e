package episodic

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/vector"
)

var allFormats = []VectorFormat{Float16, Float32, Int8}

// someVector has numbers of like size, as vectors of models do, or of any size.
var someVector = rapid.Custom(func(t *rapid.T) []float32 {
	like := rapid.Float32Range(-1, 1)
	number := rapid.SampledFrom([]*rapid.Generator[float32]{
		like, rapid.Float32().Filter(func(f float32) bool { return f-f == 0 }), rapid.Just[float32](0),
		rapid.Map(like, func(f float32) float32 { return f * 0x1p-20 }), rapid.Map(like, func(f float32) float32 { return f * 70_000 }),
	}).Draw(t, "numbers")
	return rapid.SliceOfN(number, 1, 40).Draw(t, "vector")
})

func TestEmbeddingsOfAnyFormatAreReadWithAnySetting(t *testing.T) {
	t.Parallel()
	onEveryTarget(t, func(t *testing.T, target string) {
		stores := make(map[VectorFormat]*Store)
		for _, f := range allFormats {
			stores[f] = open(t, target, &Options{Compression: Compression{Embeddings: f}})
		}
		e := &Episode{Description: "x"}
		ok(t, stores[Float16].PutEpisode(t.Context(), e))
		rapid.Check(t, func(rt *rapid.T) {
			f := rapid.SampledFrom(allFormats).Draw(rt, "format")
			given := &Embedding{Kind: ItemEpisode, Item: e.ID, Model: someName.Draw(rt, "model"), Vector: someVector.Draw(rt, "vector")}
			want := *given
			if f != Float32 {
				var err error
				if want.Vector, err = vector.Decode(vector.Encode(given.Vector, vector.Format(f)), int64(len(given.Vector))); err != nil {
					rt.Fatal(err)
				}
			}
			if err := stores[f].PutEmbedding(t.Context(), given); err != nil {
				rt.Fatal(err)
			}
			s := stores[rapid.SampledFrom(allFormats).Draw(rt, "reader")]
			got, err := s.Embedding(t.Context(), ItemEpisode, e.ID, given.Model)
			if err != nil {
				rt.Fatal(err)
			}
			same(rt, got, &want)
			if err := s.DeleteEmbedding(t.Context(), ItemEpisode, e.ID, given.Model); err != nil {
				rt.Fatal(err)
			}
		})
	})
}

func TestVectorsOfAMillionNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]float32, vector.MaxDimension)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	s := open(t, hranatest.Start(t).URL(), &Options{Compression: Compression{Embeddings: Float32}})
	e := &Episode{Description: "x"}
	ok(t, s.PutEpisode(t.Context(), e))
	ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: v}))
	got, err := s.Embedding(t.Context(), ItemEpisode, e.ID, "m")
	ok(t, err)
	if !slices.Equal(got.Vector, v) {
		t.Error("another vector came back from the server")
	}
}

func TestServerComputesWithStoredVectors(t *testing.T) {
	target := hranatest.Start(t).URL()
	r := rand.New(rand.NewPCG(3, 4))
	for _, tt := range []struct {
		format VectorFormat
		own    string // libSQL's function for this format
		near   float64
	}{{Float16, "vector16", 1e-6}, {Float32, "vector32", 1e-6}, {Int8, "vector8", 1e-3}} {
		s := open(t, target, &Options{Compression: Compression{Embeddings: tt.format}})
		for _, dim := range []int{1, 2, 3, 4, 5, 11, 384} {
			e := &Episode{Description: "x"}
			ok(t, s.PutEpisode(t.Context(), e))
			stored, asked := make([]float32, dim), make([]float32, dim)
			for i := range dim {
				stored[i] = float32(r.NormFloat64())
				asked[i] = stored[i] + float32(r.NormFloat64())
			}
			ok(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: fmt.Sprint(dim), Vector: stored}))
			read, err := s.Embedding(t.Context(), ItemEpisode, e.ID, fmt.Sprint(dim))
			ok(t, err)
			rounded, err := vector.Decode(vector.Encode(asked, vector.Format(tt.format)), int64(dim))
			ok(t, err)
			text, err := json.Marshal(asked)
			ok(t, err)
			for _, q := range []struct {
				sql        string
				arg        any
				want, near float64
			}{
				{"vector_distance_cos(vector, ?)", vector.Encode(asked, vector.Format(tt.format)), cosineDistance(read.Vector, rounded), 1e-6},
				{"vector_distance_cos(vector, " + tt.own + "(?))", string(text), cosineDistance(read.Vector, rounded), tt.near},
				{"vector_distance_cos(vector32(vector), ?)", vector.Encode(asked, vector.Float32), cosineDistance(read.Vector, asked), 1e-6},
			} {
				r, err := s.engine.Query(t.Context(), stmt("SELECT "+q.sql+" FROM embeddings WHERE item = ?", q.arg, e.ID.bytes()))
				if err != nil {
					t.Errorf("%v of %d numbers: %s: %v", tt.format, dim, q.sql, err)
				} else if got := r[0].Rows[0][0].(float64); math.Abs(got-q.want) > q.near {
					t.Errorf("%v of %d numbers: %s is %g, want %g", tt.format, dim, q.sql, got, q.want)
				}
			}
		}
	}
}

func cosineDistance(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return 1 - ab/math.Sqrt(aa*bb)
}

func TestDamagedVectorsAreErrors(t *testing.T) {
	s := onFile(t)
	e := &Episode{Description: "x"}
	ok(t, s.PutEpisode(t.Context(), e))
	for name, tt := range map[string]struct {
		dim  int64
		blob []byte
	}{
		"nothing":             {1, []byte{}},
		"no numbers":          {0, []byte{}},
		"a negative number":   {-1, []byte{0, 0, 0, 0}},
		"too many":            {1 << 62, []byte{0, 0, 0, 0}},
		"cut":                 {2, []byte{0, 0, 0x80, 0x3f, 0, 0, 0}},
		"another dimension":   {3, vector.Encode([]float32{1, 2}, vector.Float16)},
		"another end":         {1, []byte{0, 0x3c, 6}},
		"float32, infinite":   {1, []byte{0, 0, 0x80, 0x7f}},
		"float16, infinite":   {1, []byte{0, 0x7c, 5}},
		"int8, infinite step": {1, []byte{1, 0, 0, 0, 0, 0, 0x80, 0x7f, 0, 0, 0, 0, 0, 3, 4}},
	} {
		_, err := s.engine.Batch(t.Context(), stmt(`INSERT INTO embeddings(kind, item, model, dim, vector) VALUES ('episode', ?, ?, ?, ?)`, e.ID.bytes(), name, tt.dim, tt.blob))
		ok(t, err)
		_, err = s.Embedding(t.Context(), ItemEpisode, e.ID, name)
		wants(t, err, ErrCorrupt, "by "+name)
	}
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
		list, err := collect(s.Embeddings(t.Context(), ItemEpisode, a.ID))
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
