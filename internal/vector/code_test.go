package vector

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestCodesKeepAngles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	unit := func() []float32 {
		v := make([]float32, CodeDim)
		for i := range v {
			v[i] = float32(r.NormFloat64()) / float32(math.Sqrt(CodeDim))
		}
		return v
	}
	var squares float64
	const n = 2000
	for range n {
		a, b := unit(), unit()
		part := r.Float32()
		for i := range b {
			b[i] = part*a[i] + (1-part)*b[i]
		}
		x, y := newQuery(a).unit, newQuery(b).unit
		want := 0.0
		for i := range x {
			want += float64(x[i]) * float64(y[i])
		}
		code := CodeOf(b)
		got := NewCodeQuery(a).Cosine(&code)
		squares += (got - want) * (got - want)
	}
	if e := math.Sqrt(squares / n); e > 0.045 {
		t.Errorf("the standard error of a cosine is %.3f", e)
	}
}

func TestOfNothingThereIsNoCode(t *testing.T) {
	none := make([]float32, CodeDim)
	if code := CodeOf(none); code != (Code{}) {
		t.Errorf("a vector of zeros has the code %x", code)
	}
	if NewCodeQuery(none) != nil {
		t.Error("a vector of zeros is near to something")
	}
}

// Codes are stored: the same vector must always have the same one.
func TestCodesStayWhatTheyAre(t *testing.T) {
	v := make([]float32, CodeDim)
	for i := range v {
		v[i] = float32(i%17) - 8
	}
	want := Code{0xca0a6a3e6dbc38c8, 0x408e8a747649770, 0x56ed081638f94e3c, 0x1cf7816aabdf9469}
	if got := CodeOf(v); got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
}

func TestFewerBitsDifferWhereTheCosineIsGreater(t *testing.T) {
	v := make([]float32, CodeDim)
	v[3], v[77] = 1, -2
	q, own := NewCodeQuery(v), CodeOf(v)
	v[3], v[77] = -1, 2
	other := CodeOf(v)
	if a, b := q.Differing(&own), q.Differing(&other); a != 0 || b != CodeDim {
		t.Errorf("%d bits of its own code differ and %d of the opposite one", a, b)
	}
	if a, b := q.Cosine(&own), q.Cosine(&other); math.Abs(a-1) > 0.2 || math.Abs(a+b) > 1e-5 {
		t.Errorf("cosines of %v to itself and %v to the opposite", a, b)
	}
}
