package index

import (
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/rank"
	"github.com/episodic-memory/episodic/internal/vector"
)

func TestNamesAreNoMeaning(t *testing.T) {
	named := Parse("What did Caroline's sister paint?")
	plain := Parse("What did 's sister paint?")
	var d Document
	d.Texts[rank.Text] = "She painted a sunset over the lake."
	code := codeOf(&d)
	a, b := meaning(named.without([]Term{{Word: "caroline"}})), meaning(plain.without(nil))
	if x, y := a.Cosine(&code), b.Cosine(&code); x != y || x < 0.2 {
		t.Errorf("cosines of %v without the name and %v without the word", x, y)
	}
	if q := Parse("Caroline"); meaning(q.without([]Term{{Word: "caroline"}})) != nil {
		t.Error("nothing has a meaning")
	}
}

func TestTelling(t *testing.T) {
	for text, want := range map[string]bool{
		"car": true, "sign in": true, "flight qwertzuiop": true, "qwertzuiop": false, "E1234 x47 car": false,
		`"drive a car"`: false, "the of": false, "2024": false, "": false,
	} {
		if q := Parse(text); q.telling() != want {
			t.Errorf("%q: %v, want %v", text, !want, want)
		}
	}
}

func TestOfNothingThereIsNoCode(t *testing.T) {
	if code := codeOf(&Document{}); code != (vector.Code{}) {
		t.Errorf("%x", code)
	}
}

func BenchmarkCodeOf(b *testing.B) {
	var d Document
	d.Texts[rank.Text] = strings.Repeat("The quick brown fox jumps over the lazy dog. ", 40)
	d.Texts[rank.Result] = d.Texts[rank.Text]
	b.ReportAllocs()
	for b.Loop() {
		codeOf(&d)
	}
}
