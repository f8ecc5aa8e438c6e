package confedit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

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
