package episodic

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
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
				if want.Vector, err = vectorFrom(vectorBlob(given.Vector, f), int64(len(given.Vector))); err != nil {
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

func TestVectorsErrNoMoreThanTheirFormatAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := someVector.Draw(t, "vector")
		checkVector(t, v)
	})
}

func TestVectorsOfAMillionNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]float32, maxDimension)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	checkVector(t, v)
	for f, size := range map[VectorFormat]int{Float16: 2_000_001, Float32: 4_000_000, Int8: 1_000_011} {
		if b := vectorBlob(v, f); len(b) != size {
			t.Errorf("as %v they take %d bytes, want %d", f, len(b), size)
		}
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

// checkVector stores a vector in every format and checks what is read of it.
func checkVector(t rapid.TB, v []float32) {
	t.Helper()
	step := (float64(slices.Max(v)) - float64(slices.Min(v))) / 255
	for _, f := range allFormats {
		b := vectorBlob(v, f)
		got, err := vectorFrom(b, int64(len(v)))
		if err != nil {
			t.Fatalf("as %v: %v", f, err)
		}
		var distance, length float64
		for i, x := range v {
			off, allowed := math.Abs(float64(got[i])-float64(x)), 0.
			switch {
			case len(b) == 4*len(v): // exact
			case b[len(b)-1] == endFloat16:
				allowed = max(math.Abs(float64(x))*0x1p-11, 0x1p-25)
			case f == Int8:
				// The step is itself a float32, and so is what is read.
				allowed = step/2 + 255*max(step*0x1p-24, 0x1p-150) + math.Abs(float64(x))*0x1p-23
			}
			if off > allowed {
				t.Fatalf("as %v %g is read as %g, which is off by %g; allowed are %g", f, x, got[i], off, allowed)
			}
			distance += off * off
			length += float64(x) * float64(x)
		}
		if allowed := map[VectorFormat]float64{Float16: 1. / 2048, Int8: 1. / 32}[f]; distance > allowed*allowed*length {
			t.Fatalf("as %v the vector moved by %g of its length", f, math.Sqrt(distance/length))
		}
	}
}

// TestFormatsOfVectors holds what libSQL makes of the same vectors, and files
// written by earlier versions.
func TestFormatsOfVectors(t *testing.T) {
	for _, tt := range []struct {
		format VectorFormat
		v      []float32
		hex    string
		read   []float32 // nil: v
	}{
		{Float32, []float32{1, -2.5, 0x1p-149}, "0000803f 000020c0 01000000", nil},
		{Float16, []float32{1}, "003c 05", nil},
		{Float16, []float32{0.5, -1, 2, 3, 7}, "0038 00bc 0040 0042 0047 05", nil},
		{Float16, []float32{65504, 1e-7, negativeZero}, "ff7b 0200 0080 05", []float32{65504, 0x1p-23, negativeZero}},
		{Float16, []float32{65519, 1}, "ff7b 003c 05", []float32{65504, 1}},
		{Float16, []float32{65520, 1}, "00f07f47 0000803f", nil},
		{Float16, []float32{1e-7, 2e-7}, "95bfd633 95bf5634", nil},
		{Float16, []float32{0, 0}, "0000 0000 05", nil},
		{Int8, []float32{1}, "00000000 00000000 0000803f 000304", nil},
		{Int8, []float32{1, 2}, "00ff0000 8180803b 0000803f 000204", nil},
		{Int8, []float32{1, 2, 3}, "007fff00 8180003c 0000803f 000104", []float32{1, 1.9960785, 3}},
		{Int8, []float32{1, 2, 3, 4}, "0055aaff c1c0403c 0000803f 000004", nil},
		{Int8, []float32{-3, -3, -3}, "00000000 00000000 000040c0 000104", nil},
		{Int8, []float32{0, 0}, "00000000 00000000 00000000 000204", nil},
		{Int8, []float32{65504, 1e-7, 0}, "ff000000 70708043 00000000 000104", []float32{65503.996, 0, 0}},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(tt.hex, " ", ""))
		ok(t, err)
		if b := vectorBlob(tt.v, tt.format); !bytes.Equal(b, want) {
			t.Errorf("%v as %v is % x, want % x", tt.v, tt.format, b, want)
		}
		read := tt.read
		if read == nil {
			read = tt.v
		}
		got, err := vectorFrom(want, int64(len(tt.v)))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(read) { // tells -0 from 0
			t.Errorf("% x reads %v, %v, want %v", want, got, err, read)
		}
	}
}

var negativeZero = float32(math.Copysign(0, -1))

func TestVectorsThatAFormatWouldSpoilAreStoredInTheNextExacterOne(t *testing.T) {
	// 1 and many numbers that are less than half a step of it.
	outlier := make([]float32, 4001)
	for i := range outlier {
		outlier[i] = float32(i%2) * 0.0019
	}
	outlier[0] = 1
	for name, tt := range map[string]struct {
		v    []float32
		size map[VectorFormat]int
	}{
		"ordinary":            {[]float32{0.1, -0.2, 0.3}, map[VectorFormat]int{Float16: 7, Int8: 15}},
		"an outlier":          {outlier, map[VectorFormat]int{Float16: 8003, Int8: 8003}},
		"too large":           {[]float32{1e5, -1, 1}, map[VectorFormat]int{Float16: 12, Int8: 15}},
		"as large as can be":  {[]float32{math.MaxFloat32, -math.MaxFloat32}, map[VectorFormat]int{Float16: 8}},
		"too small":           {[]float32{1e-8, 3e-8, 4e-8}, map[VectorFormat]int{Float16: 12, Int8: 15}},
		"too small for steps": {[]float32{0x1p-149, 0x1p-148}, map[VectorFormat]int{Float16: 8, Int8: 8}},
		"small beside large":  {[]float32{1, 1e-30}, map[VectorFormat]int{Float16: 5, Int8: 15}},
	} {
		for f, want := range tt.size {
			if got := len(vectorBlob(tt.v, f)); got != want {
				t.Errorf("%s: as %v it takes %d bytes, want %d", name, f, got, want)
			}
		}
	}
}

func TestHalvesRoundToTheNearest(t *testing.T) {
	const largest = 0x7bff
	for h := range uint16(largest + 1) {
		x := fromHalf(h)
		if got := toHalf(x); got != h {
			t.Fatalf("%g, the half %#x, becomes the half %#x", x, h, got)
		}
		if got := toHalf(-x); got != h|0x8000 || fromHalf(got) != -x {
			t.Fatalf("%g becomes the half %#x", -x, got)
		}
		next := float32(65536)
		if h < largest {
			next = fromHalf(h + 1)
		}
		if next <= x {
			t.Fatalf("the half after %g is %g", x, next)
		}
		middle := x + (next-x)/2
		if got, even := toHalf(middle), h+h&1; got != even {
			t.Fatalf("%g, between the halves %g and %g, becomes %#x, want %#x", middle, x, next, got, even)
		}
		if got := toHalf(math.Nextafter32(middle, 0)); got != h {
			t.Fatalf("a little less than %g becomes %#x, want %#x", middle, got, h)
		}
		if got := toHalf(math.Nextafter32(middle, next)); got != h+1 {
			t.Fatalf("a little more than %g becomes %#x, want %#x", middle, got, h+1)
		}
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
			rounded, err := vectorFrom(vectorBlob(asked, tt.format), int64(dim))
			ok(t, err)
			text, err := json.Marshal(asked)
			ok(t, err)
			for _, q := range []struct {
				sql        string
				arg        any
				want, near float64
			}{
				{"vector_distance_cos(vector, ?)", vectorBlob(asked, tt.format), cosineDistance(read.Vector, rounded), 1e-6},
				{"vector_distance_cos(vector, " + tt.own + "(?))", string(text), cosineDistance(read.Vector, rounded), tt.near},
				{"vector_distance_cos(vector32(vector), ?)", vectorBlob(asked, Float32), cosineDistance(read.Vector, asked), 1e-6},
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
		"another dimension":   {3, float16Blob([]float32{1, 2})},
		"another end":         {1, []byte{0, 0x3c, 6}},
		"float32, infinite":   {1, []byte{0, 0, 0x80, 0x7f}},
		"float16, infinite":   {1, []byte{0, 0x7c, 5}},
		"int8, infinite step": {1, []byte{1, 0, 0, 0, 0, 0, 0x80, 0x7f, 0, 0, 0, 0, 0, 3, 4}},
	} {
		_, err := s.engine.Batch(t.Context(), stmt(`INSERT INTO embeddings(kind, item, model, dim, vector) VALUES ('episode', ?, ?, ?, ?)`, e.ID.bytes(), name, tt.dim, tt.blob))
		ok(t, err)
		_, err = s.Embedding(t.Context(), ItemEpisode, e.ID, name)
		wants(t, err, ErrCorrupt, "embedding by "+name)
	}
}

// FuzzVectorFrom reads any bytes: the result is an error or a finite vector of
// that dimension, of which storing again in its format keeps every number.
func FuzzVectorFrom(f *testing.F) {
	for _, format := range allFormats {
		for _, v := range [][]float32{{1}, {0.5, -1, 2, 3, 7}, {0, 0, 0}} {
			f.Add(vectorBlob(v, format), int64(len(v)))
		}
	}
	f.Add([]byte{}, int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, b []byte, dim int64) {
		v, err := vectorFrom(b, dim)
		if err != nil {
			if v != nil {
				t.Error("an error and a vector")
			}
			return
		}
		if int64(len(v)) != dim {
			t.Errorf("%d numbers, want %d", len(v), dim)
		}
		if b := vectorBlob(v, Float32); len(b) != 4*len(v) {
			t.Errorf("%d bytes of float32 for %d numbers", len(b), len(v))
		}
		checkVector(t, v)
		if len(b) == 2*len(v)+1 && b[len(b)-1] == endFloat16 && !bytes.Equal(float16Blob(v), b) {
			t.Errorf("% x becomes % x", b, float16Blob(v))
		}
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
