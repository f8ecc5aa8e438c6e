package confedit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// bom may stand before a text, of programs of Windows.
const bom = "\ufeff"

// white is the white space of JSON.
const white = " \t\r\n"

// jsonText is a parsed text with comments and trailing commas. Its root is an object, nil if
// there is nothing in the text.
type jsonText struct {
	text   string
	offset int // of what was parsed
	root   *hujson.Value
	unit   string // of indentation
	dense  bool   // all of it stands on one line
}

var unitPattern = regexp.MustCompile(`\{[ \t]*(?://[^\n]*)?\r?\n([ \t]+)["/]`)

func parseJSON(text string) (*jsonText, error) {
	j := &jsonText{text: text, unit: "  "}
	if strings.HasPrefix(text, bom) {
		j.offset = len(bom)
	}
	rest := text[j.offset:]
	if strings.Trim(rest, white) == "" {
		return j, nil
	}
	// A line comment at the end needs its line end.
	root, err := hujson.Parse([]byte(rest + "\n"))
	if err != nil {
		return nil, jsonSyntax(err, rest)
	}
	if root.Value.Kind() != '{' {
		return nil, &SyntaxError{Line: 1 + strings.Count(rest[:root.StartOffset], "\n"), Err: errors.New("the file holds no JSON object")}
	}
	j.root = &root
	if m := unitPattern.FindStringSubmatch(rest); m != nil {
		j.unit = m[1]
	}
	j.dense = len(j.items(&root)) > 0 && !strings.Contains(strings.Trim(rest, white), "\n")
	return j, nil
}

var jsonPlace = regexp.MustCompile(`^hujson: line (\d+), column \d+: `)

func jsonSyntax(err error, of string) error {
	line := 0
	text := err.Error()
	if m := jsonPlace.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1]) // it is digits
		text = text[len(m[0]):]
	}
	lines := 1 + strings.Count(strings.TrimRight(of, white), "\n") // without the line end that was added
	return &SyntaxError{Line: min(line, lines), Err: errors.New(text)}
}

// item is a member of an object or an element of an array.
type item struct {
	name       string // of a member
	around     string // its name and its value: comments and white space
	value      *hujson.Value
	start, end int // in the text
	comma      int // after the comma behind it; 0: there is none
}

// items are those of an object or an array.
func (j *jsonText) items(v *hujson.Value) (list []item) {
	last := func(i, n int, value *hujson.Value) int {
		if i == n-1 && value.AfterExtra == nil {
			return 0
		}
		return j.offset + value.EndOffset + len(value.AfterExtra) + 1
	}
	switch v := v.Value.(type) {
	case *hujson.Object:
		for i := range v.Members {
			m := &v.Members[i]
			list = append(list, item{m.Name.Value.(hujson.Literal).String(), string(m.Name.AfterExtra) + string(m.Value.BeforeExtra) + string(m.Value.AfterExtra), &m.Value, j.offset + m.Name.StartOffset, j.offset + m.Value.EndOffset, last(i, len(v.Members), &m.Value)})
		}
	case *hujson.Array:
		for i := range v.Elements {
			e := &v.Elements[i]
			list = append(list, item{"", "", e, j.offset + e.StartOffset, j.offset + e.EndOffset, last(i, len(v.Elements), e)})
		}
	}
	return list
}

// member finds a member of an object. It fails if there are two of that name.
func (j *jsonText) member(v *hujson.Value, name string) (*item, error) {
	var found *item
	for _, m := range j.items(v) {
		if m.name != name {
			continue
		}
		if found != nil {
			return nil, &ShapeError{fmt.Sprintf("line %d: there is a second %q", j.line(m.start), name)}
		}
		found = &m
	}
	return found, nil
}

func (j *jsonText) line(at int) int { return 1 + strings.Count(j.text[:at], "\n") }

// walk goes down a path of members as far as it is there.
func (j *jsonText) walk(path []string) (found []*item, err error) {
	v := j.root
	for i, name := range path {
		m, err := j.member(v, name)
		if err != nil || m == nil {
			return found, err
		}
		found = append(found, m)
		if v = m.value; i < len(path)-1 && v.Value.Kind() != '{' {
			return found, &ShapeError{fmt.Sprintf("line %d: %q is no object", j.line(m.start), name)}
		}
	}
	return found, nil
}

// plainValue is a value as encoding/json decodes it.
func plainValue(v *hujson.Value) (plain any) {
	c := v.Clone()
	c.Standardize()
	c.BeforeExtra, c.AfterExtra = nil, nil
	_ = json.Unmarshal(c.Pack(), &plain) // it was parsed
	return plain
}

// FindJSON decodes the value at a path of members. ok is false if it is not there.
func FindJSON(text string, path ...string) (value any, ok bool, err error) {
	j, err := parseJSON(text)
	if err != nil || j.root == nil {
		return nil, false, err
	}
	found, err := j.walk(path)
	if err != nil || len(found) < len(path) {
		return nil, false, err
	}
	if len(path) == 0 {
		return plainValue(j.root), true, nil
	}
	return plainValue(found[len(found)-1].value), true, nil
}

// SetJSON returns the splices that give the member at a path a value. Objects on the way are
// made; what an older value has stood there is replaced.
func SetJSON(text string, value any, path ...string) ([]Splice, error) {
	j, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	if j.root == nil {
		return []Splice{{At: len(text), Inserted: j.format(nest(value, path), "", "\n") + "\n"}}, nil
	}
	found, err := j.walk(path)
	if err != nil {
		return nil, err
	}
	if n := len(found); n == len(path) {
		m := found[n-1]
		start := j.offset + m.value.StartOffset
		return []Splice{{start, j.text[start:m.end], j.format(value, indentAt(j.text, m.start), newline(j.text))}}, nil
	}
	in := j.root
	if n := len(found); n > 0 {
		in = found[n-1].value
	}
	return j.insert(in, path[len(found)], nest(value, path[len(found)+1:])), nil
}

// AppendJSON returns the splices that put an element at the end of the array at a path, which is
// made if it is not there.
func AppendJSON(text string, element any, path ...string) ([]Splice, error) {
	j, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	if j.root != nil {
		found, err := j.walk(path)
		if err != nil {
			return nil, err
		}
		if n := len(found); n == len(path) {
			if found[n-1].value.Value.Kind() != '[' {
				return nil, &ShapeError{fmt.Sprintf("line %d: %q is no array", j.line(found[n-1].start), path[n-1])}
			}
			return j.insert(found[n-1].value, "", element), nil
		}
	}
	return SetJSON(text, []any{element}, path...)
}

// nest puts a value below a path.
func nest(value any, path []string) any {
	for _, name := range slices.Backward(path) {
		value = map[string]any{name: value}
	}
	return value
}

// format writes a value for a line with this indentation.
func (j *jsonText) format(value any, indent, newline string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if !j.dense {
		enc.SetIndent(indent, j.unit)
	}
	if err := enc.Encode(value); err != nil {
		panic(fmt.Sprintf("confedit: %v", err)) // values are of this program
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\n", newline)
}

// insert puts an item at the end of an object or an array.
func (j *jsonText) insert(in *hujson.Value, name string, value any) []Splice {
	items := j.items(in)
	start, end := j.offset+in.StartOffset+1, j.offset+in.EndOffset-1 // within the brackets
	nl, base := newline(j.text), indentAt(j.text, j.offset+in.StartOffset)
	if len(items) == 0 {
		if j.dense {
			return []Splice{{At: end, Inserted: j.item(name, value, "", true)}}
		}
		inside := j.text[start:end]
		text := nl + base + j.unit + j.item(name, value, base+j.unit, false)
		comment := strings.TrimRight(inside, white)
		switch {
		case comment == "":
			return []Splice{{start, inside, text + nl + base}}
		case strings.Contains(inside[len(comment):], "\n"):
			return []Splice{{At: start + len(comment), Inserted: text}}
		}
		return []Splice{{At: start + len(comment), Inserted: text + nl + base}}
	}
	last := items[len(items)-1]
	at := j.afterComment(cmp.Or(last.comma, last.end), end)
	text := ""
	switch first := items[0].start; {
	case strings.Contains(j.text[start:first], "\n"):
		indent := base + j.unit
		if before := j.text[lineStart(j.text, first):first]; strings.Trim(before, " \t") == "" {
			indent = before
		}
		text = nl + indent + j.item(name, value, indent, false)
	case at > cmp.Or(last.comma, last.end): // the comment may last until the end of the line
		text = nl + base + j.unit + j.item(name, value, base+j.unit, false)
	case j.dense:
		text = j.item(name, value, "", true)
	default:
		text = " " + j.item(name, value, "", true)
	}
	if last.comma > 0 {
		return []Splice{{At: at, Inserted: text + ","}}
	}
	if at > last.end {
		return []Splice{{At: at, Inserted: text}, {At: last.end, Inserted: ","}}
	}
	return []Splice{{At: last.end, Inserted: "," + text}}
}

// item writes a member, or an element without a name, for a line with this indentation.
func (j *jsonText) item(name string, value any, indent string, line bool) string {
	style := *j
	style.dense = j.dense || line
	text := style.format(value, indent, newline(j.text))
	if name == "" {
		return text
	}
	colon := ": "
	if j.dense {
		colon = ":"
	}
	return style.format(name, "", "") + colon + text
}

// afterComment is the end of the comments that follow byte at on its line; at if there are none.
func (j *jsonText) afterComment(at, end int) int {
	rest := j.text[at:end]
	line, _, _ := strings.Cut(rest, "\n")
	switch trimmed := strings.TrimLeft(line, " \t"); {
	case strings.HasPrefix(trimmed, "//"):
		return at + len(strings.TrimRight(line, "\r"))
	case strings.HasPrefix(trimmed, "/*"):
		skip := len(line) - len(trimmed)
		if n := strings.Index(rest[skip:], "*/"); n >= 0 {
			return j.afterComment(at+skip+n+len("*/"), end)
		}
	}
	return at
}

// RemoveJSON returns the splices that take out the member at a path, and the objects on the way
// that hold nothing then. There are none if it is not there.
func RemoveJSON(text string, path ...string) ([]Splice, error) {
	j, err := parseJSON(text)
	if err != nil || j.root == nil {
		return nil, err
	}
	found, err := j.walk(path)
	if err != nil || len(found) < len(path) {
		return nil, err
	}
	for n := len(found) - 1; ; n-- {
		in := j.root
		if n > 0 {
			in = found[n-1].value
		}
		items := j.items(in)
		if n > 0 && len(items) == 1 && !j.comments(in, items[0]) && strings.Trim(found[n-1].around, white) == "" {
			continue
		}
		return j.remove(in, slices.IndexFunc(items, func(m item) bool { return m.name == path[n] })), nil
	}
}

// comments reports whether there are any in an object or array beside its only item.
func (j *jsonText) comments(in *hujson.Value, only item) bool {
	around := j.text[j.offset+in.StartOffset+1:only.start] + j.text[only.end:j.offset+in.EndOffset-1]
	return strings.Trim(around, " \t\r\n,") != ""
}

// remove takes out the item i of an object or array.
func (j *jsonText) remove(in *hujson.Value, i int) []Splice {
	items := j.items(in)
	it := items[i]
	start, end := j.offset+in.StartOffset+1, j.offset+in.EndOffset-1
	if len(items) == 1 && !j.comments(in, it) {
		return []Splice{{At: start, Removed: j.text[start:end]}}
	}
	floor := start
	if i > 0 {
		floor = items[i-1].comma
	}
	until := cmp.Or(it.comma, it.end)
	from := floor + len(strings.TrimRight(j.text[floor:it.start], white))
	if at := strings.IndexByte(j.text[from:it.start], '\n'); at >= 0 && from > floor { // a comment, perhaps with the line
		if after := strings.TrimLeft(j.text[until:], " \t\r"); after != "" && after[0] != '\n' {
			from += at + 1
		}
	}
	if it.comma > 0 || i == 0 {
		return []Splice{{At: from, Removed: j.text[from:until]}}
	}
	if from == floor {
		from-- // the comma before it
		return []Splice{{At: from, Removed: j.text[from:it.end]}}
	}
	return []Splice{{At: from, Removed: j.text[from:it.end]}, {At: floor - 1, Removed: ","}}
}

// RemoveElementsJSON returns the splices that take those elements out of the arrays at a path
// that are ours. An array that holds nothing then goes too, and the objects on the way to it.
func RemoveElementsJSON(text string, ours func(element any) bool, path ...string) (splices []Splice, err error) {
	for {
		j, err := parseJSON(text)
		if err != nil || j.root == nil {
			return splices, err
		}
		found, err := j.walk(path)
		if err != nil || len(found) < len(path) {
			return splices, err
		}
		in := found[len(path)-1].value
		if in.Value.Kind() != '[' {
			return splices, nil
		}
		items := j.items(in)
		i := slices.IndexFunc(items, func(e item) bool { return ours(plainValue(e.value)) })
		if i < 0 {
			return splices, nil
		}
		more := j.remove(in, i)
		if len(items) == 1 && !j.comments(in, items[0]) {
			if more, err = RemoveJSON(text, path...); err != nil {
				return splices, err
			}
		}
		splices = append(splices, more...)
		text = Apply(text, more)
	}
}
