package tokens

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCount(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "word": 1, "seventh": 2, "two words": 2, "2026-11-27": 6, `{"a":1}`: 5, "a  b": 3, "one\ntwo\n": 4,
		"é": 1, "日本": 4, "🚀": 3, "\xff": 1, "0196f2e1-7c3a": 11,
	} {
		if got := Count(text); got != want {
			t.Errorf("Count(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`([a-z]{1,12}[ .,\n])*`)).Draw(t, "text")
		most := rapid.IntRange(0, 200).Draw(t, "most")
		cut := Cut(text, most)
		if Count(cut) > most {
			t.Fatalf("%q has %d tokens, more than %d", cut, Count(cut), most)
		}
		if cut != text && cut != "" && !strings.HasPrefix(text, strings.TrimSuffix(cut, ellipsis)) {
			t.Fatalf("%q is no beginning of %q", cut, text)
		}
		if cut == text != (Count(text) <= most) && text != "" {
			t.Fatalf("%d tokens of %d were cut to %q", Count(text), most, cut)
		}
		if !utf8.ValidString(cut) {
			t.Fatalf("%q is no UTF-8", cut)
		}
	})
}
