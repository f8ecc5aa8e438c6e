package confedit

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type server struct {
	Command string   `json:"command"`
	Args    []string `json:"args"`
}

var ours = server{"/opt/episodic", []string{"mcp"}}

// set carries out SetJSON.
func set(t rapid.TB, text string) string {
	t.Helper()
	splices, err := SetJSON(text, ours, "mcpServers", "episodic")
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return Apply(text, splices)
}

func TestSetJSON(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "{\n  \"mcpServers\": {\n    \"episodic\": {\n      \"command\": \"/opt/episodic\",\n      \"args\": [\n        \"mcp\"\n      ]\n    }\n  }\n}\n"},
		{"empty object", "{}\n", "{\n  \"mcpServers\": {\n    \"episodic\": {\n      \"command\": \"/opt/episodic\",\n      \"args\": [\n        \"mcp\"\n      ]\n    }\n  }\n}\n"},
		{"tabs and a comment behind the last", "{\n\t\"a\": 1 // one\n}", "{\n\t\"a\": 1, // one\n\t\"mcpServers\": {\n\t\t\"episodic\": {\n\t\t\t\"command\": \"/opt/episodic\",\n\t\t\t\"args\": [\n\t\t\t\t\"mcp\"\n\t\t\t]\n\t\t}\n\t}\n}"},
		{"trailing comma", "{\n    \"mcpServers\": {\n        \"x\": {}, // x\n    },\n}", "{\n    \"mcpServers\": {\n        \"x\": {}, // x\n        \"episodic\": {\n            \"command\": \"/opt/episodic\",\n            \"args\": [\n                \"mcp\"\n            ]\n        },\n    },\n}"},
		{"carriage returns", "{\r\n  \"mcpServers\": {\r\n    \"x\": {}\r\n  }\r\n}\r\n", "{\r\n  \"mcpServers\": {\r\n    \"x\": {},\r\n    \"episodic\": {\r\n      \"command\": \"/opt/episodic\",\r\n      \"args\": [\r\n        \"mcp\"\r\n      ]\r\n    }\r\n  }\r\n}\r\n"},
		{"one line", `{"mcpServers":{"x":{"env":{"TOKEN":"t"}}}}`, `{"mcpServers":{"x":{"env":{"TOKEN":"t"}},"episodic":{"command":"/opt/episodic","args":["mcp"]}}}`},
		{"older entry", "{\n  \"mcpServers\": {\n    \"episodic\": {\"command\": \"/old\"}\n  }\n}", "{\n  \"mcpServers\": {\n    \"episodic\": {\n      \"command\": \"/opt/episodic\",\n      \"args\": [\n        \"mcp\"\n      ]\n    }\n  }\n}"},
		{"comment alone", "{\n  // none yet\n}", "{\n  // none yet\n  \"mcpServers\": {\n    \"episodic\": {\n      \"command\": \"/opt/episodic\",\n      \"args\": [\n        \"mcp\"\n      ]\n    }\n  }\n}"},
		{"mark of byte order", "\ufeff{\n \"a\": []\n}", "\ufeff{\n \"a\": [],\n \"mcpServers\": {\n  \"episodic\": {\n   \"command\": \"/opt/episodic\",\n   \"args\": [\n    \"mcp\"\n   ]\n  }\n }\n}"},
	} {
		if got := set(t, c.text); got != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.name, got, c.want)
		}
	}
	for text, says := range map[string]string{
		"{\n  \"a\": 1,\n  b\n}": "line 3: ",
		"[]":                     "line 1: the file holds no JSON object",
		"{\"mcpServers\": []}":   `line 1: "mcpServers" is no object`,
		"{\"mcpServers\": {},\n\"mcpServers\": {\"a\":1}}": `line 2: there is a second "mcpServers"`,
		"{\"a\": 1": "line 1: parsing object after value",
	} {
		if _, err := SetJSON(text, ours, "mcpServers", "episodic"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

// gen makes texts with an object as people write it.
func gen() *rapid.Generator[string] {
	space := rapid.SampledFrom([]string{"", " ", "\n", "\n\t", "\r\n  ", "  ", " // c\n", " /* c */ ", "/* a\n b */"})
	names := rapid.SampledFrom([]string{"a", "b", "mcpServers", "hooks", "episodic", "Stop", "x y"})
	var object func(depth int) *rapid.Generator[string]
	value := func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			switch kind := rapid.IntRange(0, 6).Draw(t, "kind"); {
			case kind < 3 && depth > 0:
				return object(depth-1).Draw(t, "object")
			case kind == 3 && depth > 0:
				list := rapid.SliceOfN(rapid.SampledFrom([]string{"1", `"s"`, "null", "{}", `{"command": "/opt/episodic hook X"}`}), 0, 3).Draw(t, "list")
				text := "["
				for i, e := range list {
					text += space.Draw(t, "s") + e + space.Draw(t, "s")
					if i < len(list)-1 || rapid.Bool().Draw(t, "comma") {
						text += ","
					}
				}
				return text + space.Draw(t, "s") + "]"
			}
			return rapid.SampledFrom([]string{"1", "true", `"a // b"`, `"é\""`}).Draw(t, "literal")
		})
	}
	object = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			keys := rapid.SliceOfNDistinct(names, 0, 4, rapid.ID[string]).Draw(t, "keys")
			text := "{"
			for i, key := range keys {
				text += space.Draw(t, "s") + `"` + key + `"` + space.Draw(t, "s") + ":" + space.Draw(t, "s") + value(depth).Draw(t, "v") + space.Draw(t, "s")
				if i < len(keys)-1 || rapid.Bool().Draw(t, "comma") {
					text += ","
				}
			}
			return text + space.Draw(t, "s") + "}"
		})
	}
	return rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"", "\ufeff", "// head\n"}).Draw(t, "head") + object(3).Draw(t, "root") + space.Draw(t, "s") + rapid.SampledFrom([]string{"", "// end"}).Draw(t, "end")
	})
}

// without is a decoded document without a member, and without what holds nothing then.
func without(v any, path ...string) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	if len(path) == 1 {
		delete(m, path[0])
	} else if in, ok := m[path[0]].(map[string]any); ok {
		without(in, path[1:]...)
		if len(in) == 0 {
			delete(m, path[0])
		}
	}
	return m
}

func decoded(t rapid.TB, text string) any {
	t.Helper()
	v, ok, err := FindJSON(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if !ok {
		return map[string]any{}
	}
	return v
}

// edits carries out each edit of a text: nothing but what it is about changes, and reverting it
// restores the bytes. It returns whether there was one that could be.
func edits(t rapid.TB, text string) (done bool) {
	t.Helper()
	hook := map[string]any{"command": "/opt/episodic hook Stop"}
	isHook := func(e any) bool {
		m, _ := e.(map[string]any)
		return strings.HasPrefix(stringOf(m["command"]), "/opt/episodic")
	}
	for name, edit := range map[string]struct {
		path []string
		do   func(string) ([]Splice, error)
		want any
	}{
		"set":    {[]string{"mcpServers", "episodic"}, func(s string) ([]Splice, error) { return SetJSON(s, ours, "mcpServers", "episodic") }, map[string]any{"command": "/opt/episodic", "args": []any{"mcp"}}},
		"remove": {[]string{"mcpServers", "episodic"}, func(s string) ([]Splice, error) { return RemoveJSON(s, "mcpServers", "episodic") }, nil},
		"append": {[]string{"hooks", "Stop"}, func(s string) ([]Splice, error) { return AppendJSON(s, hook, "hooks", "Stop") }, hook},
		"take":   {[]string{"hooks", "Stop"}, func(s string) ([]Splice, error) { return RemoveElementsJSON(s, isHook, "hooks", "Stop") }, nil},
	} {
		splices, err := edit.do(text)
		if err != nil {
			continue
		}
		done = true
		after := Apply(text, splices)
		if back := Apply(after, Back(splices)); back != text {
			t.Fatalf("%s: %q: reverted to %q", name, text, back)
		}
		before := decoded(t, text)
		if list, ok := lookUp(before, edit.path).([]any); ok && (name == "append" || name == "take") {
			left := []any{}
			for _, e := range list {
				if !isHook(e) || name == "append" {
					left = append(left, e)
				}
			}
			got, _ := lookUp(decoded(t, after), edit.path).([]any)
			if name == "append" {
				left = append(left, hook)
			}
			if len(left) != len(got) || len(left) > 0 && !reflect.DeepEqual(got, left) {
				t.Fatalf("%s: %q became %q", name, text, after)
			}
		} else if got := lookUp(decoded(t, after), edit.path); name == "set" && !reflect.DeepEqual(got, edit.want) || name == "remove" && got != nil {
			t.Fatalf("%s: %q became %q", name, text, after)
		}
		if !reflect.DeepEqual(without(before, edit.path...), without(decoded(t, after), edit.path...)) {
			t.Fatalf("%s: %q became %q: something else has changed", name, text, after)
		}
	}
	return done
}

func stringOf(v any) string { s, _ := v.(string); return s }

func lookUp(v any, path []string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func TestEditsChangeNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { edits(t, gen().Draw(t, "text")) })
}

// TestCommentsStay: no edit loses or doubles a comment.
func TestCommentsStay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := gen().Draw(t, "text")
		splices, err := SetJSON(text, ours, "mcpServers", "added")
		if err != nil {
			return
		}
		after := Apply(text, splices)
		count := func(s string) int { return strings.Count(s, "// ") + strings.Count(s, "/*") }
		if count(text) != count(after) {
			t.Fatalf("%q became %q", text, after)
		}
		removal, err := RemoveJSON(after, "mcpServers", "added")
		if err != nil || count(Apply(after, removal)) != count(text) {
			t.Fatalf("%q became %q, %v", after, Apply(after, removal), err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, text := range []string{"{}", "{\"hooks\": {\"Stop\": [{\"command\": \"/opt/episodic\"}, 1,]}} // e", "{\n\t\"mcpServers\": {\"episodic\": 1, \"b\": 2},\r\n}", "\ufeff{/**/}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { edits(t, text) })
}
