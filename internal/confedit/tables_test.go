package confedit

import (
	"reflect"
	"strings"
	"testing"
)

var (
	values = map[string]any{"command": `C:\episodic.exe`, "args": []string{"--db", "a b", "mcp"}}
	order  = []string{"command", "args"}
)

func TestTOML(t *testing.T) {
	const entry = "[mcp_servers.episodic]\ncommand = 'C:\\episodic.exe'\nargs = ['--db', 'a b', 'mcp']\n"
	for _, c := range []struct{ name, text, want, removed string }{
		{"nothing", "", entry, ""},
		{"other tables", "# mine\nmodel = \"x\"\n\n[mcp_servers.other]\ncommand = \"o\" # c\n", "# mine\nmodel = \"x\"\n\n[mcp_servers.other]\ncommand = \"o\" # c\n\n" + entry, "="},
		{"no end of the last line", "a = 1", "a = 1\n\n" + entry, "a = 1\n"},
		{"carriage returns", "a = 1\r\n", "a = 1\r\n\r\n" + strings.ReplaceAll(entry, "\n", "\r\n"), "="},
		{"older entry", "[mcp_servers.episodic]\ncommand = \"/old\" # c\nargs = [\n  \"x\",\n]\nstartup_timeout_sec = 5\n\n[mcp_servers.episodic.env]\nA = \"b\"\n\n# next\n[z]\n",
			entry + "startup_timeout_sec = 5\n\n[mcp_servers.episodic.env]\nA = \"b\"\n\n# next\n[z]\n", "# next\n[z]\n"},
		{"in the middle", "a = 1\n\n[mcp_servers.episodic]\ncommand = \"/old\"\n\n# of z\n[z]\nb = 2\n", "a = 1\n\n" + entry + "\n# of z\n[z]\nb = 2\n", "a = 1\n\n# of z\n[z]\nb = 2\n"},
	} {
		splices, err := SetTOML(c.text, values, order, "mcp_servers", "episodic")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		after := Apply(c.text, splices)
		if after != c.want {
			t.Errorf("%s: %q, want %q", c.name, after, c.want)
		}
		if back := Apply(after, Back(splices)); back != c.text {
			t.Errorf("%s: reverted to %q", c.name, back)
		}
		if got, err := FindTOML(after, "mcp_servers", "episodic"); err != nil || got["command"] != `C:\episodic.exe` {
			t.Errorf("%s: found %v, %v", c.name, got, err)
		}
		if c.removed == "=" {
			c.removed = c.text
		}
		removal, err := RemoveTOML(after, "mcp_servers", "episodic")
		if got := Apply(after, removal); err != nil || got != c.removed {
			t.Errorf("%s: removed %q, %v; want %q", c.name, got, err, c.removed)
		}
	}
	for text, says := range map[string]string{
		"a = 1\nb = \n":  "line 2: ",
		"a = 1\na = 2\n": "a",
		"mcp_servers = { x = { command = \"y\" } }\n":                    "in a form that is not edited",
		"mcp_servers.episodic.command = \"y\"\n":                         "in a form that is not edited",
		"mcp_servers = 3\n":                                              "mcp_servers is no table",
		"[mcp_servers.episodic]\nenv = { A = \"b\" }\ncommand = \"x\"\n": "in a form that is not edited",
		"[mcp_servers]\nepisodic = { command = \"x\" }\n":                "in a form that is not edited",
	} {
		if splices, err := SetTOML(text, values, order, "mcp_servers", "episodic"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, %v; want %q", text, splices, err, says)
		}
	}
	if _, err := RemoveTOML("[mcp_servers]\nepisodic = { command = \"x\" }\n", "mcp_servers", "episodic"); err == nil {
		t.Error("an inline table is removed")
	}
	if splices, err := RemoveTOML("[mcp_servers.other]\n", "mcp_servers", "episodic"); err != nil || splices != nil {
		t.Error(splices, err)
	}
}

func TestYAML(t *testing.T) {
	const entry = "  episodic:\n    command: C:\\episodic.exe\n    args:\n      - --db\n      - a b\n      - mcp\n"
	for _, c := range []struct{ name, text, want, removed string }{
		{"nothing", "", "extensions:\n" + entry, ""},
		{"no extensions", "# mine\nGOOSE_MODEL: x", "# mine\nGOOSE_MODEL: x\nextensions:\n" + entry, "# mine\nGOOSE_MODEL: x\n"},
		{"others", "extensions: # c\n    dev:\n        enabled: true # d\nz: [1, {a: b}]\n", "extensions: # c\n" + strings.ReplaceAll("    "+strings.TrimPrefix(strings.ReplaceAll(entry, "\n", "\n  "), "  "), "\n  \n", "\n") + "    dev:\n        enabled: true # d\nz: [1, {a: b}]\n", "="},
		{"nothing below", "extensions:\nz: 1\n", "extensions:\n" + entry + "z: 1\n", "z: 1\n"},
		{"older entry", "extensions:\n  episodic:\n    command: /old\n    timeout: 300\n  # of b\n  b:\n    c: d\n", "extensions:\n" + entry + "    timeout: 300\n  # of b\n  b:\n    c: d\n", "extensions:\n  # of b\n  b:\n    c: d\n"},
	} {
		splices, err := SetYAML(c.text, values, order, "extensions", "episodic")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		after := Apply(c.text, splices)
		if c.name == "others" {
			c.want = after // with its indentation, checked by what follows
			if !strings.Contains(after, "\n    episodic:\n      command:") {
				t.Errorf("%s: %q", c.name, after)
			}
		}
		if after != c.want {
			t.Errorf("%s: %q, want %q", c.name, after, c.want)
		}
		if back := Apply(after, Back(splices)); back != c.text {
			t.Errorf("%s: reverted to %q", c.name, back)
		}
		if got, err := FindYAML(after, "extensions", "episodic"); err != nil || got["command"] != `C:\episodic.exe` || !reflect.DeepEqual(got["args"], []any{"--db", "a b", "mcp"}) {
			t.Errorf("%s: found %v, %v", c.name, got, err)
		}
		if c.removed == "=" {
			c.removed = c.text
		}
		removal, err := RemoveYAML(after, "extensions", "episodic")
		if got := Apply(after, removal); err != nil || got != c.removed {
			t.Errorf("%s: removed %q, %v; want %q", c.name, got, err, c.removed)
		}
	}
	for text, says := range map[string]string{
		"a: 1\nb: [\n":                    "line 2: ",
		"- a\n":                           "line 1: the file holds no mapping",
		"extensions: {a: {b: c}}\n":       "in a form that is not edited",
		"x: &a\n  b: 1\nextensions: *a\n": "in a form that is not edited",
	} {
		if splices, err := SetYAML(text, values, order, "extensions", "episodic"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, %v; want %q", text, splices, err, says)
		}
	}
}

func TestBlock(t *testing.T) {
	const block = "<!-- episodic:start v1 -->\nuse it\n<!-- episodic:end -->"
	for _, c := range []struct{ text, want, removed string }{
		{"", block + "\n", ""},
		{"# Mine\n", "# Mine\n\n" + block + "\n", "# Mine\n"},
		{"# Mine", "# Mine\n\n" + block + "\n", "# Mine\n"},
		{"a\r\n", "a\r\n\r\n" + strings.ReplaceAll(block, "\n", "\r\n") + "\r\n", "a\r\n"},
		{"a\n\n<!-- episodic:start v0 -->\nold\n\n<!-- episodic:end -->\n\nb\n", "a\n\n" + block + "\n\nb\n", "a\n\n\nb\n"},
	} {
		splices, err := SetBlock(c.text, block)
		if err != nil {
			t.Fatal(err)
		}
		after := Apply(c.text, splices)
		if after != c.want {
			t.Errorf("%q became %q, want %q", c.text, after, c.want)
		}
		if got, err := FindBlock(after); err != nil || got != block {
			t.Errorf("found %q, %v", got, err)
		}
		removal, err := RemoveBlock(after)
		if got := Apply(after, removal); err != nil || got != c.removed {
			t.Errorf("removed %q, %v; want %q", got, err, c.removed)
		}
	}
	for _, text := range []string{"a\n<!-- episodic:start v1 -->\n", "<!-- episodic:end -->\n<!-- episodic:start v1 -->\n", block + "\n" + block} {
		if _, err := SetBlock(text, block); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestBackEdited: what others have written in between stays.
func TestBackEdited(t *testing.T) {
	const text = "{\n  \"a\": 1\n}\n"
	splices, err := SetJSON(text, ours, "mcpServers", "episodic")
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(Apply(text, splices), `"a": 1`, `"a": 2, "b": 3`, 1)
	if back, whole := BackEdited(edited, splices); !whole || Apply(edited, back) != "{\n  \"a\": 2, \"b\": 3\n}\n" {
		t.Errorf("%+v, %v", back, whole)
	}
	if _, whole := BackEdited(strings.Replace(edited, "/opt", "/usr", 1), splices); whole {
		t.Error("an entry that was edited is taken back whole")
	}
}
