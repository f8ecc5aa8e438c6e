package confedit

import (
	"errors"
	"reflect"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

func parseTOML(text string) (map[string]any, error) {
	doc := map[string]any{}
	err := toml.Unmarshal([]byte(strings.TrimPrefix(text, bom)), &doc)
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ := bad.Position()
		return nil, &SyntaxError{row, errors.New(strings.TrimPrefix(bad.Error(), "toml: "))}
	}
	if err != nil {
		return nil, &SyntaxError{0, err}
	}
	return doc, nil
}

// FindTOML decodes the table of a path of two keys; nil if it is not there.
func FindTOML(text, outer, inner string) (map[string]any, error) {
	doc, err := parseTOML(text)
	if err != nil {
		return nil, err
	}
	return table(doc, outer, inner), nil
}

func table(doc map[string]any, outer, inner string) map[string]any {
	tables, _ := doc[outer].(map[string]any)
	found, _ := tables[inner].(map[string]any)
	return found
}

// SetTOML returns the splices that give a text the table [outer.inner]. Keys that an older one
// has besides those of value stay, and so do the tables below it.
func SetTOML(text string, value map[string]any, order []string, outer, inner string) ([]Splice, error) {
	doc, err := parseTOML(text)
	if err != nil {
		return nil, err
	}
	want := map[string]any{}
	old := table(doc, outer, inner)
	start, end := tomlTable(text, outer, inner)
	keep := map[string]any{}
	for key, v := range old {
		want[key] = v
		if _, below := v.(map[string]any); !below {
			keep[key] = v
		}
	}
	nl := newline(text)
	var b strings.Builder
	b.WriteString("[" + outer + "." + inner + "]" + nl)
	write := func(v map[string]any) error {
		lines, err := toml.Marshal(v)
		b.WriteString(strings.ReplaceAll(string(lines), "\n", nl))
		return err
	}
	for _, key := range order {
		want[key] = value[key]
		delete(keep, key)
		if err := write(map[string]any{key: value[key]}); err != nil {
			return nil, err
		}
	}
	if err := write(keep); err != nil {
		return nil, err
	}
	table := strings.TrimSuffix(b.String(), nl)
	splice := Splice{At: len(text), Inserted: gap(text, nl) + table + nl}
	if start < end {
		splice = Splice{start, text[start:end], table}
	} else if old != nil {
		return nil, &ShapeError{"it has the table " + outer + "." + inner + " in a form that is not edited"}
	}
	tables, _ := doc[outer].(map[string]any)
	if tables == nil {
		if doc[outer] != nil {
			return nil, &ShapeError{outer + " is no table"}
		}
		tables = map[string]any{}
		doc[outer] = tables
	}
	tables[inner] = want
	return checkedTOML(text, splice, doc, outer)
}

// gap is what stands between the end of a text and a table that is put behind it.
func gap(text, nl string) string {
	switch {
	case strings.Trim(text, bom) == "":
		return ""
	case !strings.HasSuffix(text, "\n"):
		return nl + nl
	case strings.HasSuffix(text, "\n\n"), strings.HasSuffix(text, "\n\r\n"):
		return ""
	}
	return nl
}

// RemoveTOML returns the splices that take out the table [outer.inner] and those below it.
func RemoveTOML(text, outer, inner string) ([]Splice, error) {
	doc, err := parseTOML(text)
	if err != nil || table(doc, outer, inner) == nil {
		return nil, err
	}
	delete(doc[outer].(map[string]any), inner)
	var splices []Splice
	edited := text
	for {
		start, end := tomlTable(edited, outer, inner)
		if start == end {
			if start, end = tomlTable(edited, outer, inner+"."); start == end {
				break
			}
		}
		nl := newline(text)
		end += len(nl) * b2i(strings.HasPrefix(edited[end:], nl))
		for start == 0 && strings.HasPrefix(edited[end:], nl) {
			end += len(nl)
		}
		if before := strings.TrimSuffix(edited[:start], nl); strings.HasSuffix(before, "\n") {
			start = len(before) // the empty line
		}
		s := Splice{At: start, Removed: edited[start:end]}
		splices = append(splices, s)
		edited = Apply(edited, []Splice{s})
	}
	got, err := parseTOML(edited)
	if err != nil || !sameTables(got, doc, outer) {
		return nil, &ShapeError{"its table " + outer + "." + inner + " is in a form that is not edited"}
	}
	return splices, nil
}

// checkedTOML returns a splice if it does what was meant and nothing else.
func checkedTOML(text string, s Splice, want map[string]any, outer string) ([]Splice, error) {
	got, err := parseTOML(Apply(text, []Splice{s}))
	if err != nil || !sameTables(got, want, outer) {
		return nil, &ShapeError{"its table " + outer + " is in a form that is not edited"}
	}
	return []Splice{s}, nil
}

// sameTables compares documents. That one has an empty table outer where the other has none
// makes no difference.
func sameTables(a, b map[string]any, outer string) bool {
	for _, doc := range []map[string]any{a, b} {
		if t, ok := doc[outer].(map[string]any); ok && len(t) == 0 {
			delete(doc, outer)
		}
	}
	return reflect.DeepEqual(plainNumbers(a), plainNumbers(b))
}

// plainNumbers makes int64 of what may be int, and []any of []string.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for key, value := range v {
			m[key] = plainNumbers(value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plainNumbers(v[i])
		}
		return list
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		return list
	case int:
		return int64(v)
	}
	return v
}

var tomlHeader = regexp.MustCompile(`^[ \t]*\[`)

// tomlTable is where the table [outer.inner] stands, without the line end of its last key; with a
// dot behind inner it is the first table below it. It looks at lines only: whoever edits by it
// checks what has come of it. start and end are equal if there is none.
func tomlTable(text, outer, inner string) (start, end int) {
	key := func(s string) string { return `["']?` + regexp.QuoteMeta(s) + `["']?` }
	ending := `\s*\]`
	if name, below := strings.CutSuffix(inner, "."); below {
		inner, ending = name, `\s*\.[^\]]*\]`
	}
	header := regexp.MustCompile(`^[ \t]*\[\s*` + key(outer) + `\s*\.\s*` + key(inner) + ending)
	at, in := 0, false
	for line := range strings.Lines(text) {
		next := at + len(line)
		switch content := strings.TrimSpace(line); {
		case !in && header.MatchString(line):
			in, start, end = true, at, at+len(strings.TrimRight(line, "\r\n"))
		case in && tomlHeader.MatchString(line):
			return start, end
		case in && content != "" && !strings.HasPrefix(content, "#"):
			end = at + len(strings.TrimRight(line, "\r\n"))
		}
		at = next
	}
	return start, end
}
