package confedit

import (
	"errors"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlText is a parsed text whose root is a mapping, nil if there is nothing in it.
type yamlText struct {
	text  string
	lines []string // with their ends
	root  *yaml.Node
	plain map[string]any
}

var yamlPlace = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func parseYAML(text string) (*yamlText, error) {
	y := &yamlText{text: text}
	for line := range strings.Lines(text) {
		y.lines = append(y.lines, line)
	}
	var doc yaml.Node
	err := yaml.Unmarshal([]byte(text), &doc)
	if err == nil && len(doc.Content) > 0 && doc.Content[0].Tag != "!!null" {
		y.root = doc.Content[0]
		if y.root.Kind != yaml.MappingNode {
			return nil, &SyntaxError{y.root.Line, errors.New("the file holds no mapping")}
		}
		err = yaml.Unmarshal([]byte(text), &y.plain)
	}
	if err != nil {
		m := yamlPlace.FindStringSubmatch(err.Error())
		line := 0
		if m != nil {
			line, _ = strconv.Atoi(m[1]) // digits or nothing
		}
		return nil, &SyntaxError{line, errors.New(yamlPlace.ReplaceAllString(err.Error(), ""))}
	}
	return y, nil
}

// find returns the key and the value of a mapping at i and i+1 of its content; i is -1 if there
// is none of that name.
func find(mapping *yaml.Node, name string) (i int) {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return i
		}
	}
	return -1
}

// FindYAML decodes the mapping at a path of two keys; nil if it is not there.
func FindYAML(text, outer, inner string) (map[string]any, error) {
	y, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	return table(y.plain, outer, inner), nil
}

// SetYAML returns the splices that give a text the mapping outer: inner:. Keys that an older one
// has besides those of value stay.
func SetYAML(text string, value map[string]any, order []string, outer, inner string) ([]Splice, error) {
	y, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	want := map[string]any{}
	for key, v := range table(y.plain, outer, inner) {
		want[key] = v
	}
	entry := &yaml.Node{Kind: yaml.MappingNode}
	add := func(key string, v any) error {
		var node yaml.Node
		if err := node.Encode(v); err != nil {
			return err
		}
		entry.Content = append(entry.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, &node)
		return nil
	}
	for _, key := range order {
		if err := add(key, value[key]); err != nil {
			return nil, err
		}
		want[key] = value[key]
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if _, ours := value[key]; !ours {
			if err := add(key, want[key]); err != nil {
				return nil, err
			}
		}
	}
	nl := newline(text)
	block := func(name string, v *yaml.Node, indent string) (string, error) {
		var b strings.Builder
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		err := enc.Encode(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: name}, v}})
		text := indent + strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\n", "\n"+indent)
		return strings.ReplaceAll(text, "\n", nl) + nl, err
	}
	var s Splice
	at := find(y.root, outer)
	switch {
	case at < 0:
		nested := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: inner}, entry}}
		lines, err := block(outer, nested, "")
		if err != nil {
			return nil, err
		}
		s = Splice{At: len(text), Inserted: strings.Repeat(nl, b2i(text != "" && !strings.HasSuffix(text, "\n"))) + lines}
	default:
		in := y.root.Content[at+1]
		if in.Tag != "!!null" && (in.Kind != yaml.MappingNode || in.Style&yaml.FlowStyle != 0) {
			return nil, &ShapeError{"its mapping " + outer + " is in a form that is not edited"}
		}
		indent := "  "
		if in.Kind == yaml.MappingNode && len(in.Content) > 0 {
			indent = strings.Repeat(" ", in.Content[0].Column-1)
		}
		lines, err := block(inner, entry, indent)
		if err != nil {
			return nil, err
		}
		if i := find(in, inner); i >= 0 {
			start, end := y.span(in, i)
			s = Splice{start, text[start:end], lines}
		} else {
			start := y.at(y.root.Content[at].Line + 1)
			s = Splice{At: start, Inserted: strings.Repeat(nl, b2i(start == len(text) && !strings.HasSuffix(text, "\n"))) + lines}
		}
	}
	entries, _ := y.plain[outer].(map[string]any)
	if entries == nil {
		entries = map[string]any{}
	}
	if y.plain == nil {
		y.plain = map[string]any{}
	}
	entries[inner] = want
	y.plain[outer] = entries
	return y.checked([]Splice{s}, outer)
}

// at is where a line begins, counted from 1.
func (y *yamlText) at(line int) (at int) {
	for _, l := range y.lines[:min(line-1, len(y.lines))] {
		at += len(l)
	}
	return at
}

// span is where an entry of a mapping in block style stands, with the end of its last line.
func (y *yamlText) span(in *yaml.Node, i int) (start, end int) {
	first := in.Content[i].Line
	last := first
	indent := in.Content[i].Column - 1
	for n := first + 1; n <= len(y.lines); n++ {
		line := y.lines[n-1]
		content := strings.TrimSpace(line)
		if content == "" || strings.HasPrefix(content, "#") {
			continue
		}
		if len(line)-len(strings.TrimLeft(line, " ")) <= indent {
			break
		}
		last = n
	}
	return y.at(first), y.at(last + 1)
}

// RemoveYAML returns the splices that take out the mapping outer: inner:, and outer if it holds
// nothing else.
func RemoveYAML(text, outer, inner string) ([]Splice, error) {
	y, err := parseYAML(text)
	if err != nil || table(y.plain, outer, inner) == nil {
		return nil, err
	}
	at := find(y.root, outer)
	in := y.root.Content[at+1]
	entries := y.plain[outer].(map[string]any)
	delete(entries, inner)
	start, end := y.span(in, find(in, inner))
	if len(entries) == 0 {
		delete(y.plain, outer)
		start, end = y.span(y.root, at)
	}
	return y.checked([]Splice{{At: start, Removed: text[start:end]}}, outer)
}

// checked returns splices if they make of the text what plain is now.
func (y *yamlText) checked(splices []Splice, outer string) ([]Splice, error) {
	got, err := parseYAML(Apply(y.text, splices))
	if err != nil || !reflect.DeepEqual(plainNumbers(orEmpty(got.plain)), plainNumbers(orEmpty(y.plain))) {
		return nil, &ShapeError{"its mapping " + outer + " is in a form that is not edited"}
	}
	return splices, nil
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
