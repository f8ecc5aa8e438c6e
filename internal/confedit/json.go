package confedit

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
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
