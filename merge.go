package episodic

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// fields are what an item's document says, by name, as JSON. A part of an object that is
// merged by its parts has both names, as in metadata.KEY.
type fields map[string]json.RawMessage

// mergedByParts are the objects whose parts are fields. The others, such as an outcome, mean
// something only as a whole.
var mergedByParts = []string{"context", "metadata", "reflection", "evidence"}

// mergedByElement are the lists in which the elements that either side has added, or removed,
// are added or removed.
var mergedByElement = []string{"context.tags", "applied_patterns", "evidence", "evidence.episodes"}

// unkept are fields of which it is no loss that one side's is replaced.
var unkept = []string{"updated"}

// fieldsOf returns the fields of a document. What is left out for being empty is no field.
func fieldsOf(document any) (fields, error) {
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	all := make(fields)
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	for _, name := range mergedByParts {
		whole, found := all[name]
		if !found || whole[0] != '{' {
			continue
		}
		var parts fields
		if err := json.Unmarshal(whole, &parts); err != nil {
			return nil, err
		}
		delete(all, name)
		for part, value := range parts {
			all[name+"."+part] = value
		}
	}
	return all, nil
}

// documentOf sets a document from its fields.
func documentOf(all fields, document any) error {
	whole := make(map[string]any, len(all))
	for name, value := range all {
		of, part, found := strings.Cut(name, ".")
		if !found {
			whole[name] = value
			continue
		}
		parts, _ := whole[of].(fields)
		if parts == nil {
			parts = make(fields)
			whole[of] = parts
		}
		parts[part] = value
	}
	text, err := json.Marshal(whole)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, document)
}

// mergeFields merges what two sides have made of the same base: of each field the one that
// only one side has changed. Where both have, ours is taken, since it comes to the server
// later, and lost names those in which theirs is replaced; but of some lists the elements are
// merged. Nothing depends on a clock.
func mergeFields(base, ours, theirs fields) (merged fields, lost []string) {
	merged = maps.Clone(ours)
	for name := range allNames(base, theirs) {
		b, o, t := base[name], ours[name], theirs[name]
		switch {
		case bytes.Equal(o, t) || bytes.Equal(b, t):
			continue // ours stays
		case bytes.Equal(b, o):
			merged.set(name, t)
			continue
		}
		if slices.Contains(mergedByElement, name) {
			if list, ok := mergeElements(b, o, t); ok {
				merged.set(name, list)
				continue
			}
		}
		if !slices.Contains(unkept, name) {
			lost = append(lost, name)
		}
	}
	slices.Sort(lost)
	return merged, lost
}

func allNames(a, b fields) map[string]bool {
	names := make(map[string]bool, len(a)+len(b))
	for name := range a {
		names[name] = true
	}
	for name := range b {
		names[name] = true
	}
	return names
}

// set sets a field, or removes it if the value is nil.
func (f fields) set(name string, value json.RawMessage) {
	if value == nil {
		delete(f, name)
		return
	}
	f[name] = value
}

// differing names the fields in which two documents differ, but for those that are no loss.
func (f fields) differing(other fields) (names []string) {
	for name := range allNames(f, other) {
		if !bytes.Equal(f[name], other[name]) && !slices.Contains(unkept, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// mergeElements merges lists by element: ours without what theirs has removed, and behind
// that what theirs has added. It is nil if nothing is left, and not ok unless all are lists.
func mergeElements(base, ours, theirs json.RawMessage) (merged json.RawMessage, ok bool) {
	var lists [3][]json.RawMessage
	for i, text := range []json.RawMessage{base, ours, theirs} {
		if text != nil && json.Unmarshal(text, &lists[i]) != nil {
			return nil, false
		}
	}
	has := func(list []json.RawMessage, element json.RawMessage) bool {
		return slices.ContainsFunc(list, func(e json.RawMessage) bool { return bytes.Equal(e, element) })
	}
	var list []json.RawMessage
	for _, e := range lists[1] {
		if has(lists[2], e) || !has(lists[0], e) {
			list = append(list, e)
		}
	}
	for _, e := range lists[2] {
		if !has(lists[0], e) && !has(list, e) {
			list = append(list, e)
		}
	}
	if list == nil {
		return nil, true
	}
	merged, err := json.Marshal(list)
	return merged, err == nil
}

// bare is the episode as it is stored, without what is not merged by field: whose it is, and
// its steps.
func (e *Episode) bare() Episode {
	c := *e
	c.ID, c.Scope, c.Steps, c.StepCount = ID{}, Scope{}, nil, 0
	c.Start, c.End = truncateMicros(c.Start), truncateMicros(c.End)
	c.Context.Tags = unique(c.Context.Tags)
	return c
}

// bare is the pattern as it is stored, without what is not merged.
func (p *Pattern) bare() Pattern {
	c := *p
	c.ID, c.Scope = ID{}, Scope{}
	c.Created, c.Updated = truncateMicros(c.Created), truncateMicros(c.Updated)
	c.Context.Tags = unique(c.Context.Tags)
	return c
}

// bare is the heuristic as it is stored, without what is not merged.
func (h *Heuristic) bare() Heuristic {
	c := *h
	c.ID, c.Scope = ID{}, Scope{}
	c.Created, c.Updated = truncateMicros(c.Created), truncateMicros(c.Updated)
	return c
}

// mergeItems merges what two sides have made of the same item, by field. prepare makes of
// what is merged an item that can be stored. If it cannot be, as where each side has made it
// one of another kind, it is ours, and lost is all in which theirs differs.
func mergeItems[T any](base, ours, theirs *T, bare func(*T) T, prepare func(*T) error) (merged *T, lost []string, err error) {
	var sides [3]fields
	for i, side := range []*T{base, ours, theirs} {
		if sides[i], err = fieldsOf(bare(side)); err != nil {
			return nil, nil, err
		}
	}
	all, lost := mergeFields(sides[0], sides[1], sides[2])
	merged = new(T)
	if err := documentOf(all, merged); err != nil {
		return nil, nil, err
	}
	if prepare(merged) == nil {
		return merged, lost, nil
	}
	merged = new(T)
	if err := documentOf(sides[1], merged); err != nil {
		return nil, nil, err
	}
	return merged, sides[2].differing(sides[1]), prepare(merged)
}

// differing names the fields in which two items differ.
func differing[T any](a, b *T, bare func(*T) T) ([]string, error) {
	x, err := fieldsOf(bare(a))
	if err != nil {
		return nil, err
	}
	y, err := fieldsOf(bare(b))
	return x.differing(y), err
}
