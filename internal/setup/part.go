package setup

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/confedit"
)

// name is that of the entries in the files of clients.
const name = "episodic"

// part is something of ours in a file of a client.
type part interface {
	// put returns the splices that bring it into a text; none if it is there as it should be.
	put(text string) ([]confedit.Splice, error)
	// cut returns the splices that take out of a text whatever is ours; none if nothing is.
	cut(text string) ([]confedit.Splice, error)
	// snippet is what people paste where put must not edit.
	snippet() string
}

// member is the MCP server's entry in a JSON file: members of its own that people have added stay.
type member struct {
	in    string // the object that it belongs to
	entry entry
}

func (p member) find(text string) (map[string]any, error) {
	v, _, err := confedit.FindJSON(text, p.in, name)
	object, _ := v.(map[string]any)
	return object, err
}

func (p member) put(text string) ([]confedit.Splice, error) {
	old, err := p.find(text)
	if err != nil || p.entry.within(old) {
		return nil, err
	}
	e := slices.Clone(p.entry)
	for _, key := range sortedKeys(old) {
		if !slices.Contains(e.names(), key) {
			e = append(e, field{key, old[key]})
		}
	}
	return confedit.SetJSON(text, e, p.in, name)
}

func (p member) cut(text string) ([]confedit.Splice, error) {
	return confedit.RemoveJSON(text, p.in, name)
}

func (p member) snippet() string {
	b, _ := json.MarshalIndent(entry{{p.in, entry{{name, p.entry}}}}, "", "  ")
	return string(b)
}

// tomlTable is the MCP server's entry in a TOML file.
type tomlTable struct {
	in    string
	entry entry
}

func (p tomlTable) put(text string) ([]confedit.Splice, error) {
	old, err := confedit.FindTOML(text, p.in, name)
	if err != nil || p.entry.within(old) {
		return nil, err
	}
	return confedit.SetTOML(text, p.entry.values(), p.entry.names(), p.in, name)
}

func (p tomlTable) cut(text string) ([]confedit.Splice, error) {
	return confedit.RemoveTOML(text, p.in, name)
}

func (p tomlTable) snippet() string {
	splices, _ := p.put("") // nothing is in the way there
	return confedit.Apply("", splices)
}

// yamlMapping is the MCP server's entry in a YAML file.
type yamlMapping struct {
	in    string
	entry entry
}

func (p yamlMapping) put(text string) ([]confedit.Splice, error) {
	old, err := confedit.FindYAML(text, p.in, name)
	if err != nil || p.entry.within(old) {
		return nil, err
	}
	return confedit.SetYAML(text, p.entry.values(), p.entry.names(), p.in, name)
}

func (p yamlMapping) cut(text string) ([]confedit.Splice, error) {
	return confedit.RemoveYAML(text, p.in, name)
}

func (p yamlMapping) snippet() string {
	splices, _ := p.put("") // nothing is in the way there
	return confedit.Apply("", splices)
}

// block is a block of a Markdown file.
type block string

func (p block) put(text string) ([]confedit.Splice, error) {
	if old, err := confedit.FindBlock(text); err != nil || old == string(p) {
		return nil, err
	}
	return confedit.SetBlock(text, string(p))
}

func (p block) cut(text string) ([]confedit.Splice, error) { return confedit.RemoveBlock(text) }

func (p block) snippet() string { return string(p) }

// mark is in each file that is ours as a whole.
const mark = "Written by episodic setup"

// whole is a file that is ours.
type whole string

var errForeign = errors.New("the file is there, and was not written by episodic; move it away first")

func (p whole) put(text string) ([]confedit.Splice, error) {
	switch {
	case text == string(p):
		return nil, nil
	case text != "" && !strings.Contains(text, mark):
		return nil, errForeign
	}
	return []confedit.Splice{{Removed: text, Inserted: string(p)}}, nil
}

func (p whole) cut(text string) ([]confedit.Splice, error) {
	if !strings.Contains(text, mark) {
		return nil, nil
	}
	return []confedit.Splice{{Removed: text}}, nil
}

func (p whole) snippet() string { return string(p) }
