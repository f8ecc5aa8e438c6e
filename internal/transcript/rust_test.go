package transcript

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestRust(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"a \"b\" \\ \n\r\t\0 \u{7f} \u{1f980} 'c' 日本"`: `"a \"b\" \\ \n\r\t\u0000 ` + "\u007f" + ` 🦀 'c' 日本"`,
		`'\''`: `"'"`,
		`-1.5`: `-1.5`, `1e-7`: `1e-7`, `NaN`: `"NaN"`, `inf`: `"inf"`, `true`: `true`, `None`: `null`, `007`: `"007"`,
		`Some(None)`: `null`, `Some("a")`: `"a"`, `Some(1,)`: `1`, `Moderate`: `"Moderate"`,
		`[]`: `[]`, `[1, 2,]`: `[1,2]`, `(1, "a")`: `[1,"a"]`, `{}`: `{}`, `{"a b": 1, c: [2]}`: `{"a b":1,"c":[2]}`,
		`A { }`: `{"$name":"A"}`, `A(1, B { c: None })`: `{"$name":"A","0":1,"1":{"c":null}}`,
		`A { id: 0190-ab, at: 2025-10-09T08:53:27.1Z, d: TimeDelta { secs: 1, nanos: 5 } }`: `{"$name":"A","id":"0190-ab","at":"2025-10-09T08:53:27.1Z","d":{"secs":1,"nanos":5}}`,
		"A {\n    b: Some(\n        1,\n    ),\n}":                                          `{"$name":"A","b":1}`,
	} {
		if n, err := parseRust(text); err != nil || n.json() != want {
			t.Errorf("%s is %s, %v, want %s", text, n.json(), err, want)
		}
	}
	for _, text := range []string{``, ` `, `"`, `"a`, `"\`, `"\x"`, `"\u{110000}"`, `"\u{zz}"`, `"\u{1`, `[1 2]`, `[1`, `{1}`, `{a 1}`, `A {`, `A { b }`, `A { b: }`, `A(`, `A(1 2)`, `Some()`, `Some(1`, `1 2`, `,`, strings.Repeat("[", 1000)} {
		if n, err := parseRust(text); err == nil {
			t.Errorf("%s is %s", text, n.json())
		}
	}
}

// debug is a text as Rust prints it.
func debug(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c == '\n':
			b.WriteString(`\n`)
		case c == 0:
			b.WriteString(`\0`)
		case !unicode.IsPrint(c):
			fmt.Fprintf(&b, `\u{%x}`, c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String() + `"`
}

// TestRustOfAnyText: whatever texts a pattern has, they are read as they were.
func TestRustOfAnyText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.SliceOf(rapid.String()).Draw(t, "b")
		var list []string
		for _, text := range b {
			list = append(list, debug(text))
		}
		text := "A { a: Some(" + debug(a) + "), b: [" + strings.Join(list, ", ") + "], c: 1.0 }"
		n, err := parseRust(text)
		if err != nil || n.str("a") != a || n.json("c") != "1.0" || len(n.items("b")) != len(b) {
			t.Fatalf("%s: %s, %v", text, n.json(), err)
		}
		for i, v := range n.items("b") {
			if v.str() != b[i] {
				t.Fatalf("%s: %q, want %q", text, v.str(), b[i])
			}
		}
		end := rapid.IntRange(0, len(text)-1).Draw(t, "end")
		if n, err := parseRust(text[:end]); err == nil && end > len("A ") {
			t.Fatalf("%s: %s", text[:end], n.json())
		}
	})
}

func FuzzRust(f *testing.F) {
	for _, text := range []string{`A { b: Some("c\u{7f}"), d: [1, -2.5], e: F(None) }`, `{"a": 'b'}`, `[1,,]`, `A { b: ` + strings.Repeat("Some(", 200), `2025-10-09T08:53:27Z`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseRust(text); err == nil {
			if _, err := parse(n.json()); err != nil {
				t.Fatalf("%q became %s: %v", text, n.json(), err)
			}
		}
	})
}
