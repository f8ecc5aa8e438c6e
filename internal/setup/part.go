package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
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

// field is a member of an object, in order.
type field struct {
	name  string
	value any
}

// entry is an object whose members keep their order.
type entry []field

// MarshalJSON writes the members in their order.
func (e entry) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, f := range e {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, v := range []any{f.name, f.value} {
			text, err := marshal(v)
			if err != nil {
				return nil, err
			}
			if j > 0 {
				b.WriteByte(':')
			}
			b.WriteString(text)
		}
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

func marshal(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// plain is a value as decoding its JSON gives it.
func plain(v any) (decoded any) {
	text, err := marshal(v)
	if err == nil {
		err = json.Unmarshal([]byte(text), &decoded)
	}
	if err != nil {
		panic(fmt.Sprintf("setup: %v", err)) // values are of this package
	}
	return decoded
}

func (e entry) names() (names []string) {
	for _, f := range e {
		names = append(names, f.name)
	}
	return names
}

func (e entry) values() map[string]any {
	m := map[string]any{}
	for _, f := range e {
		m[f.name] = f.value
	}
	return m
}

// within reports whether an object has all members of e, with the same values.
func (e entry) within(object map[string]any) bool {
	for _, f := range e {
		if !reflect.DeepEqual(plain(f.value), plain(object[f.name])) {
			return false
		}
	}
	return object != nil
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

// runsHook tells a command line of episodic hook, of any version.
var runsHook = regexp.MustCompile(`(?:^|[\\/"'\s])episodic(?:\.exe|\.test)?["']?\s(?:.*\s)?hook\s`)

// isHook reports whether an element of a list of hooks is one of ours.
func isHook(element any) bool {
	object, _ := element.(map[string]any)
	if list, ok := object["hooks"].([]any); ok {
		return len(list) > 0 && !slices.ContainsFunc(list, func(e any) bool { return !isHook(e) })
	}
	line := ""
	for _, key := range []string{"command", "bash", "powershell"} {
		if s, ok := object[key].(string); ok {
			line += s + " "
		}
	}
	if args, ok := object["args"].([]any); ok {
		for _, arg := range args {
			line += fmt.Sprint(arg) + " "
		}
	}
	return runsHook.MatchString(line)
}

// event is what is run at an event of a client.
type event struct {
	name    string
	element any
}

// hooks are ours in the member "hooks" of a JSON file, which has a list for each event.
type hooks struct {
	version bool // the file says that it is of version 1
	events  []event
}

// lists are the lists of a text by the names of their events.
func (p hooks) lists(text string) (map[string]any, error) {
	v, _, err := confedit.FindJSON(text, "hooks")
	lists, _ := v.(map[string]any)
	return lists, err
}

// ours returns what tells an element of an event's list that is ours: of any version, or as it is
// to be, whatever the program is called.
func (p hooks) ours(event string) func(element any) bool {
	return func(element any) bool {
		if isHook(element) {
			return true
		}
		for _, e := range p.events {
			if e.name == event && reflect.DeepEqual(element, plain(e.element)) {
				return true
			}
		}
		return false
	}
}

func (p hooks) ready(lists map[string]any) bool {
	want := map[string]any{}
	for _, e := range p.events {
		want[e.name] = plain(e.element)
	}
	got := map[string]any{}
	for name, v := range lists {
		list, _ := v.([]any)
		ours := p.ours(name)
		for _, element := range list {
			if ours(element) {
				if got[name] != nil {
					return false // twice
				}
				got[name] = element
			}
		}
	}
	return reflect.DeepEqual(got, want)
}

func (p hooks) put(text string) (splices []confedit.Splice, err error) {
	lists, err := p.lists(text)
	if err != nil || p.ready(lists) {
		return nil, err
	}
	if splices, err = p.cut(text); err != nil {
		return nil, err
	}
	edited := confedit.Apply(text, splices)
	do := func(more []confedit.Splice, err error) error {
		if err == nil {
			splices, edited = append(splices, more...), confedit.Apply(edited, more)
		}
		return err
	}
	if _, there, err := confedit.FindJSON(edited, "version"); err != nil {
		return nil, err
	} else if p.version && !there {
		if err := do(confedit.SetJSON(edited, 1, "version")); err != nil {
			return nil, err
		}
	}
	for _, e := range p.events {
		if err := do(confedit.AppendJSON(edited, e.element, "hooks", e.name)); err != nil {
			return nil, err
		}
	}
	return splices, nil
}

func (p hooks) cut(text string) (splices []confedit.Splice, err error) {
	lists, err := p.lists(text)
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(lists) {
		more, err := confedit.RemoveElementsJSON(text, p.ours(name), "hooks", name)
		if err != nil {
			return nil, err
		}
		splices, text = append(splices, more...), confedit.Apply(text, more)
	}
	return splices, nil
}

func (p hooks) snippet() string {
	splices, _ := p.put("") // nothing is in the way there
	return confedit.Apply("", splices)
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
