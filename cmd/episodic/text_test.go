package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"as it is: é 漢 👩‍💻\n\tx": "as it is: é 漢 👩‍💻\n\tx",
		"\x1b[31m":               "␛[31m",
		"a\r\nb\rc":              "a\r\nb␍c",
		"\x00\x7f":               "␀␡",
		"\u009b \u202e \u2028":   "<U+009B> <U+202E> <U+2028>",
		"bad \x9b byte":          "bad \ufffd byte",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
	if got := oneLine(" a\r\n b\x1b "); got != "a b␛" {
		t.Errorf("oneLine gives %q", got)
	}
}

// JSON means the same without the characters that steer a terminal.
func TestJSONSteersNoTerminal(t *testing.T) {
	for _, text := range []string{"", "plain <b>", "a\x9b\u009b31m\u202e gnp\x7f\u0085é\u2028日本\n\t\x1b[0m"} {
		var b bytes.Buffer
		if err := jsonEncoder(&b).Encode(map[string]string{text: text}); err != nil {
			t.Fatal(err)
		}
		if line, ok := strings.CutSuffix(b.String(), "\n"); !ok || strings.ContainsFunc(line, steers) {
			t.Errorf("%q", b.String())
		}
		var got map[string]string
		if err := json.Unmarshal(b.Bytes(), &got); err != nil || got[strings.ToValidUTF8(text, "\ufffd")] != strings.ToValidUTF8(text, "\ufffd") {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}

func TestCutFitsTheColumns(t *testing.T) {
	for _, tt := range []struct {
		in      string
		columns int
		want    string
	}{
		{"", 5, ""}, {"abcde", 5, "abcde"}, {"abcdef", 5, "abcd…"}, {"漢字漢", 5, "漢字…"}, {"漢字", 4, "漢字"}, {"漢字漢", 4, "漢…"},
		{"e\u0301e\u0301", 2, "e\u0301e\u0301"}, {"abc", 1, "…"}, {"abc", 0, "…"}, {"abc", -3, "…"}, {"\xff\xff\xff", 3, "\xff…"},
	} {
		if got := cut(tt.in, tt.columns); got != tt.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.in, tt.columns, got, tt.want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/tmp/a-b_1.db": "/tmp/a-b_1.db", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$HOME": "'$HOME'", "http://127.0.0.1:80": "http://127.0.0.1:80",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %q, want %q", in, got, want)
		}
	}
}
