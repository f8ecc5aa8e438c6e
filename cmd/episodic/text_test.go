package main

import "testing"

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
