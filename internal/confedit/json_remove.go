package confedit

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

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
