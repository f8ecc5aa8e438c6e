package transcript

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPython(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in, want string // "": none
		torn     bool
	}{
		{`{'a': 'b', "it's": [1, -2.5e3, (None, True, False), {}]}`, `{"a":"b","it's":[1,-2.5e3,[null,true,false],{}]}`, false},
		{`{'a': '\n\t\\\'"\x41\u00e9\U0001f600'}`, "{\"a\":\"\\n\\t\\\\'\\\"Aé😀\"}", false},
		{`{1: 'x', (2): 3}`, "", false},
		{`{1: 'x', None: 2}`, `{"1":"x","null":2}`, false},
		{`('a',)`, `["a"]`, false},
		{`{}`, `{}`, false},
		{`{'a': <object>}`, "", false},
		{`{'a': 01}`, "", false},
		{`{'a' 'b'}`, "", false},
		{`{'a': 'b'} x`, "", false},
		{`{'a': 'b`, `{"a":"b"}`, true},
		{`{'a': 'b\`, `{"a":"b"}`, true},
		{`{'a': ['b', `, `{"a":["b"]}`, true},
		{`{'a': Fal`, `{"a":null}`, true},
		{`{'a': 1, 'b`, `{"a":1,"b":null}`, true},
		{strings.Repeat("[", deepest+2), "", false},
	} {
		n, torn, err := parseTorn(test.in)
		if got := n.json(); got != test.want || (err == nil) != (test.want != "") || torn != test.torn && test.want != "" {
			t.Errorf("%s: %s, %v, %v, want %s", test.in, got, torn, err, test.want)
		}
	}
}

// TestPythonCutAnywhere: however much of a value is left, its beginning is read.
func TestPythonCutAnywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z ,:{}'"\\é]{0,12}`)
		repr := func(s string) string {
			return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
		}
		name, value := word.Draw(t, "name"), word.Draw(t, "value")
		text := "{'name': " + repr(name) + ", 'n': " + strconv.Itoa(rapid.IntRange(-99, 99).Draw(t, "n")) + ", 'value': " + repr(value) + "}"
		n, torn, err := parseTorn(text)
		if err != nil || torn || n.str("name") != name || n.str("value") != value {
			t.Fatalf("%s: %s, %v, %v", text, n.json(), torn, err)
		}
		end := rapid.IntRange(1, len(text)-1).Draw(t, "end")
		n, torn, err = parseTorn(strings.ToValidUTF8(text[:end], ""))
		if err != nil || !torn || !strings.HasPrefix(name, n.str("name")) {
			t.Fatalf("%s: %s, %v, %v", text[:end], n.json(), torn, err)
		}
	})
}

func FuzzPython(f *testing.F) {
	for _, text := range []string{`{'a': 'b', "c": [1, (None, True)]}`, `{'a': '\x41\u00e9`, `[1,,]`, `{'a': Fal`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, _, err := parseTorn(text); err == nil {
			if _, err := parse(n.json()); err != nil {
				t.Fatalf("%q became %s: %v", text, n.json(), err)
			}
		}
	})
}
