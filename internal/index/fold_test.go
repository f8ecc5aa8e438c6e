package index

import (
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestFold(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{"", ""},
		{"ABC-1 x", "abc-1 x"},
		{"ＡＢＣ", "abc"},
		{"ｻｰﾊﾞｰ", "サーバー"},
		{"CAFÉ", "cafe\u0301"},
		{"ΚΌΣΜΟΣ", "κόσμος"},
		{"STRASSE", "straße"},
		{"И\u0306ОД", "йод"},
		{"\u1112\u1161\u11ab", "한"},
		{"ﬁle", "FILE"},
		{"a\xffb", "A\ufffdB"},
	} {
		if Fold(c.a) != Fold(c.b) {
			t.Errorf("Fold(%q) is %q, Fold(%q) is %q", c.a, Fold(c.a), c.b, Fold(c.b))
		}
	}
	for _, c := range []struct{ a, b string }{{"café", "cafe"}, {"и", "й"}, {"ı", "i"}, {"a b", "ab"}, {"get_user", "getUser"}} {
		if Fold(c.a) == Fold(c.b) {
			t.Errorf("Fold makes %q and %q equal: %q", c.a, c.b, Fold(c.a))
		}
	}
}

func FuzzFold(f *testing.F) {
	for _, s := range []string{"Straße", "İ", "\u0345\u0301α", "ᾳ", "ﷺ", "Å", "\xff", "Ǆ", "ΐ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		folded := Fold(s)
		if !utf8.ValidString(folded) {
			t.Fatalf("Fold(%q) is %q", s, folded)
		}
		if again := Fold(folded); again != folded {
			t.Fatalf("Fold(%q) is %q, whose Fold is %q", s, folded, again)
		}
	})
}

// Every alphabet, and some of the rest: each character is something, and is read
// without a panic where it may be misread.
func TestCharacters(t *testing.T) {
	step := rune(testkit.Effort(997, 97, 1))
	var text []byte
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r > 0x0600 && !unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic) {
			r += step - 1
		}
		text = utf8.AppendRune(append(text[:0], 'a'), r)
		text = append(text, 'b')
		AppendTokens(nil, string(text))
		if c := describe(r); (c.class == lower || c.class == upper) && c.folded == "" {
			t.Fatalf("%U folds to nothing", r)
		}
	}
}
