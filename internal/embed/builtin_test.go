package embed

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func cosine(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// The expected vectors are those of testdata/reference.py.
func TestBuiltinAgreesWithTheReference(t *testing.T) {
	var texts []struct{ Text string }
	var want [][]float32 // the first numbers
	readJSONs(t, map[string]any{"wordpiece.json": &texts, "builtin.json": &want})
	for i, c := range texts {
		if got := (Builtin{}).Append(nil, c.Text)[:len(want[i])]; !near([][]float32{got}, want[i:i+1], 2e-5) {
			t.Errorf("%q has the vector %v, want %v", c.Text, got, want[i])
		}
	}
}

func TestBuiltinKnowsMeanings(t *testing.T) {
	for _, test := range []struct{ text, near, far string }{
		{"a cat sits on the mat", "the kitten rests on a rug", "quarterly tax filing"},
		{"the database refuses connections", "cannot connect to postgres", "the cake needs more sugar"},
		{"we went hiking in the mountains", "a walk up the hill", "the compiler prints a warning"},
		{"my daughter's birthday party", "celebrating with the kids", "a deadlock between two threads"},
		{"fix the failing unit test", "the test suite is broken", "a trip to the beach"},
	} {
		vs, err := Builtin{}.Embed(t.Context(), []string{test.text, test.near, test.far})
		if err != nil {
			t.Fatal(err)
		}
		if near, far := cosine(vs[0], vs[1]), cosine(vs[0], vs[2]); near < far+0.1 {
			t.Errorf("%q is %.2f near %q and %.2f near %q", test.text, near, test.near, far, test.far)
		}
	}
}

func TestBuiltinVectorsHaveLengthOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		v := Builtin{}.Append(nil, text)
		if n := cosine(v, v); len(v) != (Builtin{}).Dim() || n != 0 && math.Abs(n-1) > 1e-5 {
			t.Errorf("%d numbers, length² %v", len(v), n)
		}
		if upper := (Builtin{}).Append(nil, strings.ToUpper(text)); isASCII(text) && cosine(upper, upper) != 0 && cosine(v, upper) < 1-1e-5 {
			t.Errorf("cosine to the same text in upper case %v", cosine(v, upper))
		}
	})
}

func TestBuiltinGivesTheZeroVectorWhereItKnowsNothing(t *testing.T) {
	for _, text := range []string{"", " \n", "\x00", "𓀀"} {
		if v := (Builtin{}).Append(nil, text); cosine(v, v) != 0 {
			t.Errorf("%q has the vector %v", text, v)
		}
	}
}

func TestBuiltinAppendsWithoutAllocating(t *testing.T) {
	dst := make([]float32, 1, 1+Builtin{}.Dim())
	dst[0] = 7
	n := testing.AllocsPerRun(100, func() { (Builtin{}).Append(dst, text35) })
	if n != 0 || dst[0] != 7 {
		t.Errorf("%v allocations, first number %v", n, dst[0])
	}
}

func TestBuiltinStopsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if vs, err := (Builtin{}).Embed(ctx, []string{"a"}); vs != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", vs, err)
	}
}

func TestHalf(t *testing.T) {
	for h, want := range map[uint16]float32{
		0x0000: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0400: 6.103515625e-05, 0x0001: 5.9604644775390625e-08,
		0x03ff: 6.097555160522461e-05, 0x3555: 0.333251953125, 0x7c00: float32(math.Inf(1)), 0xfc00: float32(math.Inf(-1)), 0x8001: -5.9604644775390625e-08,
	} {
		if got := half(h); got != want {
			t.Errorf("%#04x: %v, want %v", h, got, want)
		}
	}
	if f := half(0x7e00); f == f {
		t.Errorf("not a number is %v", f)
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte(smallTable))
	f.Add([]byte(tableMagic))
	f.Add([]byte(tableMagic + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, file []byte) {
		tab, err := parseTable(string(file))
		if err != nil {
			return
		}
		for _, text := range []string{"a", "?", string(file)} {
			if v := tab.append(nil, text); len(v) != tab.dim {
				t.Fatalf("%d numbers, want %d", len(v), tab.dim)
			}
		}
	})
}

// smallTable has a token a, whose row is 2 in the first place and 6 in the ninth, and b with 1
// and -3, both times 1/32.
const smallTable = tableMagic + "\x10\x00\x00\x00\x03\x00\x00\x00\x06\x00\x00\x00?\na\nb\n\x00\x28\x00\x2c\x00\x28" +
	"\x88\x88\x88\x88\x88\x88\x88\x88" + "\xb9\x88\x88\x88\x88\x88\x88\x88" + "\x59\x88\x88\x88\x88\x88\x88\x88"

func TestTableAddsRows(t *testing.T) {
	tab, err := parseTable(smallTable)
	if err != nil {
		t.Fatal(err)
	}
	many := strings.Repeat("a ", 3*addAtOnce+1)
	for text, want := range map[string][2]float32{
		"a": {0.31622776, 0.94868329}, "b": {0.31622776, -0.94868329}, "a b?": {0.70710678, 0.70710678}, "c": {}, many: {0.31622776, 0.94868329},
	} {
		all := make([]float32, 16)
		all[0], all[8] = want[0], want[1]
		if got := tab.append(nil, text); !near([][]float32{got}, [][]float32{all}, 1e-6) {
			t.Errorf("%.10q: %v, want %v", text, got, all)
		}
	}
}

// The sums that add makes in integers are those of the rows.
func TestTableAddsWhatIsInRows(t *testing.T) {
	tab, dim := builtinTable(), builtinDim
	n := uint32(len(tab.scales) / 2)
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SliceOfN(rapid.Uint32Range(0, n-1), 0, addAtOnce).Draw(t, "tokens")
		got, want := make([]float32, dim), make([]float64, dim)
		tab.add(got, tokens)
		for _, id := range tokens {
			scale := float64(half(uint16(tab.scales[2*id])|uint16(tab.scales[2*id+1])<<8)) * oneScale
			for i := range dim / 2 {
				b := tab.rows[int(id)*dim/2+i]
				want[i] += scale * float64(int(b&15)-8)
				want[dim/2+i] += scale * float64(int(b>>4)-8)
			}
		}
		for i := range want {
			if float64(got[i]) != float64(float32(want[i])) {
				t.Fatalf("number %d is %v, want %v", i, got[i], want[i])
			}
		}
	})
}

func TestTableRefusesScalesThatSumsHaveNoRoomFor(t *testing.T) {
	for _, scale := range []string{"\x01\x2c", "\x00\x7c", "\x00\x7e", "\x00\xa8"} {
		if _, err := parseTable(strings.Replace(smallTable, "\x00\x2c", scale, 1)); err == nil || !strings.Contains(err.Error(), "of token 1") {
			t.Errorf("%x: %v", scale, err)
		}
	}
}

// text35 has 35 tokens.
const text35 = "The server refused the connection because its certificate had expired, so I renewed it with certbot, " +
	"restarted nginx and checked that the health endpoint answers again."

func BenchmarkBuiltin(b *testing.B) {
	dst := make([]float32, 0, Builtin{}.Dim())
	b.ReportAllocs()
	for b.Loop() {
		Builtin{}.Append(dst, text35)
	}
	b.ReportMetric(float64(len(builtinTable().words.appendTokens(nil, text35))), "tokens")
}

func BenchmarkTokens(b *testing.B) {
	var room [256]uint32
	words := builtinTable().words
	for b.Loop() {
		words.appendTokens(room[:0], text35)
	}
}

func BenchmarkFirstUse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseTable(tableFile); err != nil {
			b.Fatal(err)
		}
	}
}
