package vector

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func ok(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var allFormats = []Format{Float16, Float32, Int8}

// someVector has numbers of like size, as vectors of models do, or of any size.
var someVector = rapid.Custom(func(t *rapid.T) []float32 {
	like := rapid.Float32Range(-1, 1)
	number := rapid.SampledFrom([]*rapid.Generator[float32]{
		like, rapid.Float32().Filter(func(f float32) bool { return f-f == 0 }), rapid.Just[float32](0),
		rapid.Map(like, func(f float32) float32 { return f * 0x1p-20 }), rapid.Map(like, func(f float32) float32 { return f * 70_000 }),
	}).Draw(t, "numbers")
	return rapid.SliceOfN(number, 1, 40).Draw(t, "vector")
})

func TestVectorsErrNoMoreThanTheirFormatAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := someVector.Draw(t, "vector")
		checkVector(t, v)
	})
}

func TestVectorsOfAMillionNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]float32, MaxDimension)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	checkVector(t, v)
	for f, size := range map[Format]int{Float16: 2_000_001, Float32: 4_000_000, Int8: 1_000_011} {
		if b := Encode(v, f); len(b) != size {
			t.Errorf("in format %d they take %d bytes, want %d", f, len(b), size)
		}
	}
}

// checkVector stores a vector in every format and checks what is read of it.
func checkVector(t rapid.TB, v []float32) {
	t.Helper()
	step := (float64(slices.Max(v)) - float64(slices.Min(v))) / 255
	for _, f := range allFormats {
		b := Encode(v, f)
		got, err := Decode(b, int64(len(v)))
		if err != nil {
			t.Fatalf("in format %v: %v", f, err)
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
				t.Fatalf("in format %v %g is read as %g, which is off by %g; allowed are %g", f, x, got[i], off, allowed)
			}
			distance += off * off
			length += float64(x) * float64(x)
		}
		if allowed := map[Format]float64{Float16: 1. / 2048, Int8: 1. / 32}[f]; distance > allowed*allowed*length {
			t.Fatalf("in format %v the vector moved by %g of its length", f, math.Sqrt(distance/length))
		}
	}
}

// TestFormatsOfVectors holds what libSQL makes of the same vectors, and files
// written by earlier versions.
func TestFormatsOfVectors(t *testing.T) {
	for _, tt := range []struct {
		format Format
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
		if b := Encode(tt.v, tt.format); !bytes.Equal(b, want) {
			t.Errorf("%v in format %v is % x, want % x", tt.v, tt.format, b, want)
		}
		read := tt.read
		if read == nil {
			read = tt.v
		}
		got, err := Decode(want, int64(len(tt.v)))
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
		size map[Format]int
	}{
		"ordinary":            {[]float32{0.1, -0.2, 0.3}, map[Format]int{Float16: 7, Int8: 15}},
		"an outlier":          {outlier, map[Format]int{Float16: 8003, Int8: 8003}},
		"too large":           {[]float32{1e5, -1, 1}, map[Format]int{Float16: 12, Int8: 15}},
		"as large as can be":  {[]float32{math.MaxFloat32, -math.MaxFloat32}, map[Format]int{Float16: 8}},
		"too small":           {[]float32{1e-8, 3e-8, 4e-8}, map[Format]int{Float16: 12, Int8: 15}},
		"too small for steps": {[]float32{0x1p-149, 0x1p-148}, map[Format]int{Float16: 8, Int8: 8}},
		"small beside large":  {[]float32{1, 1e-30}, map[Format]int{Float16: 5, Int8: 15}},
	} {
		for f, want := range tt.size {
			if got := len(Encode(tt.v, f)); got != want {
				t.Errorf("%s: in format %v it takes %d bytes, want %d", name, f, got, want)
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

// FuzzDecode reads any bytes: the result is an error or a finite vector of
// that dimension, of which storing again in its format keeps every number.
func FuzzDecode(f *testing.F) {
	for _, format := range allFormats {
		for _, v := range [][]float32{{1}, {0.5, -1, 2, 3, 7}, {0, 0, 0}} {
			f.Add(Encode(v, format), int64(len(v)))
		}
	}
	f.Add([]byte{}, int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, b []byte, dim int64) {
		v, err := Decode(b, dim)
		if err != nil {
			if v != nil {
				t.Error("an error and a vector")
			}
			return
		}
		if int64(len(v)) != dim {
			t.Errorf("%d numbers, want %d", len(v), dim)
		}
		if b := Encode(v, Float32); len(b) != 4*len(v) {
			t.Errorf("%d bytes of float32 for %d numbers", len(b), len(v))
		}
		checkVector(t, v)
		if len(b) == 2*len(v)+1 && b[len(b)-1] == endFloat16 && !bytes.Equal(float16Blob(v), b) {
			t.Errorf("% x becomes % x", b, float16Blob(v))
		}
	})
}
