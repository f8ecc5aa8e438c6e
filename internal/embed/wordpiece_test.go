package embed

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The expected tokens are those of the Python package tokenizers 0.23.3 with
// the tokenizer.json of all-MiniLM-L6-v2.
func TestWordPieceAgreesWithTheReference(t *testing.T) {
	var cases []struct {
		Text   string
		Tokens []string
	}
	readJSONs(t, map[string]any{"wordpiece.json": &cases})
	if len(cases) < 50 {
		t.Fatalf("only %d cases", len(cases))
	}
	words := builtinTable().words
	for _, c := range cases {
		got := []string{}
		for _, id := range words.appendTokens(nil, c.Text) {
			got = append(got, words.vocab.tokens[id])
		}
		if !slices.Equal(got, c.Tokens) {
			t.Errorf("%q:\ngot  %q\nwant %q", c.Text, got, c.Tokens)
		}
	}
}

func TestVocabularyFindsEachToken(t *testing.T) {
	v := builtinTable().words.vocab
	for i, token := range v.tokens {
		if id, ok := v.lookup(token); !ok || int(id) != i {
			t.Fatalf("token %d %q is found at %d, %v", i, token, id, ok)
		}
	}
	for _, s := range []string{"", "no such token", "##", "[unused1]"} {
		if id, ok := v.lookup(s); ok && s != "##" {
			t.Errorf("%q is found at %d", s, id)
		}
	}
}

// The tokens of a text are its letters: lower case, without accents and spaces.
func FuzzWordPiece(f *testing.F) {
	for _, s := range []string{"", "Hello, World!", "cafe\u0301", "北京", "\xff\xfe", "a\x00b", strings.Repeat("a", 101), "\u0345\u0301"} {
		f.Add(s)
	}
	words := builtinTable().words
	f.Fuzz(func(t *testing.T, text string) {
		ids := words.appendTokens(nil, text)
		known, letters := true, ""
		for _, id := range ids {
			known = known && id != words.unknown
			letters += strings.TrimPrefix(words.vocab.tokens[id], "##")
		}
		if again := words.appendTokens(nil, strings.ToUpper(text)); isASCII(text) && !slices.Equal(again, ids) {
			t.Errorf("%q has other tokens in upper case: %v, %v", text, ids, again)
		}
		if !utf8.ValidString(letters) {
			t.Errorf("%q has tokens that are not UTF-8: %q", text, letters)
		}
		if want := strings.ToLower(strings.Join(strings.Fields(text), "")); known && isASCII(text) && !strings.ContainsFunc(text, isControl) && !strings.Contains(text, "##") && letters != want {
			t.Errorf("%q has the letters %q", text, letters)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}
