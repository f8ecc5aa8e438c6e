package confedit

import "testing"

// FuzzTables: an edit of TOML, YAML or Markdown changes nothing else, and what it has put in can be
// taken out again.
func FuzzTables(f *testing.F) {
	for _, text := range []string{"[mcp_servers.episodic]\na = 1\n[x]\n", "extensions:\n  a: {}\n# c\n", "a: |\n  [mcp_servers.episodic]\n", "# h\r\n<!-- episodic:start v1 -->\n<!-- episodic:end -->"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range []struct {
			set, remove func(string) ([]Splice, error)
			find        func(string) (bool, error)
		}{
			{func(s string) ([]Splice, error) { return SetTOML(s, values, order, "mcp_servers", "episodic") },
				func(s string) ([]Splice, error) { return RemoveTOML(s, "mcp_servers", "episodic") },
				func(s string) (bool, error) { v, err := FindTOML(s, "mcp_servers", "episodic"); return v != nil, err }},
			{func(s string) ([]Splice, error) { return SetYAML(s, values, order, "extensions", "episodic") },
				func(s string) ([]Splice, error) { return RemoveYAML(s, "extensions", "episodic") },
				func(s string) (bool, error) { v, err := FindYAML(s, "extensions", "episodic"); return v != nil, err }},
			{func(s string) ([]Splice, error) {
				return SetBlock(s, "<!-- episodic:start v1 -->\n<!-- episodic:end -->")
			},
				RemoveBlock,
				func(s string) (bool, error) { v, err := FindBlock(s); return v != "", err }},
		} {
			splices, err := format.set(text)
			if err != nil {
				continue
			}
			after := Apply(text, splices)
			if found, err := format.find(after); err != nil || !found {
				t.Fatalf("%q became %q: %v", text, after, err)
			}
			if back := Apply(after, Back(splices)); back != text {
				t.Fatalf("%q became %q", text, back)
			}
			removal, err := format.remove(after)
			if err != nil {
				continue // it is refused, and nothing was changed
			}
			if found, err := format.find(Apply(after, removal)); err != nil || found {
				t.Fatalf("%q: removed to %q: %v", after, Apply(after, removal), err)
			}
		}
	})
}
