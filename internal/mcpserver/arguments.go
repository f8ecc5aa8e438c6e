package mcpserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// argument describes an argument of a tool, both for its schema and for reading it.
type argument struct {
	name     string
	kind     argumentKind
	required bool
	enum     []string
	// least, most and usual belong to whole numbers. One that lies outside is moved inside.
	least, most, usual int
	about              string
}

type argumentKind string

const (
	textArgument   argumentKind = "string"
	numberArgument argumentKind = "integer"
	flagArgument   argumentKind = "boolean"
	tagsArgument   argumentKind = "tags"  // a list of texts
	stepsArgument  argumentKind = "steps" // a list of stepInput
)

// schema returns the JSON Schema of arguments, in that part of the language that every client
// takes: one type each, no references.
func schema(list []argument) json.RawMessage {
	type object map[string]any
	properties, required := object{}, []string{}
	for _, a := range list {
		p := object{"type": a.kind}
		switch a.kind {
		case numberArgument:
			p["minimum"], p["maximum"], p["default"] = a.least, a.most, a.usual
		case tagsArgument:
			p["type"], p["items"] = "array", object{"type": textArgument}
		case stepsArgument:
			p["type"], p["items"] = "array", object{"type": "object", "required": []string{"tool"}, "properties": object{
				"tool":   object{"type": textArgument, "description": "tool, or what was done"},
				"input":  object{"type": textArgument},
				"result": object{"type": textArgument},
				"failed": object{"type": flagArgument},
			}}
		}
		if a.enum != nil {
			p["enum"] = a.enum
		}
		if a.about != "" {
			p["description"] = a.about
		}
		properties[a.name] = p
		if a.required {
			required = append(required, a.name)
		}
	}
	text, err := json.Marshal(object{"type": "object", "properties": properties, "required": required})
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	return text
}

// badArgument is what is wrong with a call, in a sentence for the model that made it.
type badArgument struct{ text string }

func (e *badArgument) Error() string { return e.text }

func bad(format string, args ...any) error { return &badArgument{fmt.Sprintf(format, args...)} }

// arguments are those of a call, by name: a string, an int, a bool, []string or []stepInput.
type arguments map[string]any

func (a arguments) text(name string) string { s, _ := a[name].(string); return s }
func (a arguments) number(name string) int  { n, _ := a[name].(int); return n }
func (a arguments) flag(name string) bool   { b, _ := a[name].(bool); return b }

// read reads the arguments of a call as leniently as they have one meaning: null is none,
// "3" is 3, "maxTokens" is max_tokens, and what is not known is left out. Errors name the
// argument.
func read(list []argument, raw json.RawMessage) (arguments, error) {
	given, err := object(raw)
	if err != nil {
		return nil, err
	}
	values := arguments{}
	var unknown []string
	for name, value := range given {
		i := slices.IndexFunc(list, func(a argument) bool { return folded(a.name) == folded(name) })
		if i < 0 {
			unknown = append(unknown, fmt.Sprintf("%.40q", name))
			continue
		}
		if string(value) == "null" {
			continue
		}
		if values[list[i].name], err = list[i].read(value); err != nil {
			return nil, err
		}
	}
	for _, a := range list {
		if a.kind == numberArgument {
			if _, there := values[a.name]; !there {
				values[a.name] = a.usual
			}
		}
		if !a.required {
			continue
		}
		if v, there := values[a.name]; !there || v == "" {
			problem := fmt.Sprintf("%s is missing", a.name)
			if len(unknown) > 0 {
				slices.Sort(unknown)
				problem += fmt.Sprintf("; there is no argument %s", strings.Join(unknown[:min(len(unknown), 5)], ", "))
			}
			return nil, bad("%s", problem)
		}
	}
	return values, nil
}

// object reads a JSON object, which may be within a string.
func object(raw json.RawMessage) (fields map[string]json.RawMessage, err error) {
	raw = unquoted(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, bad("arguments must be a JSON object")
	}
	return fields, nil
}

// unquoted is the JSON within a JSON string, or raw.
func unquoted(raw json.RawMessage) json.RawMessage {
	var text string
	if json.Unmarshal(raw, &text) == nil && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return raw
}

// folded is a name in any of the ways in which names are written.
func folded(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

func (a *argument) read(raw json.RawMessage) (any, error) {
	switch a.kind {
	case numberArgument:
		var n float64
		if json.Unmarshal(unquoted(raw), &n) != nil || n != float64(int(n)) {
			return nil, bad("%s is %.40s; it must be a whole number from %d to %d", a.name, raw, a.least, a.most)
		}
		return min(max(int(n), a.least), a.most), nil
	case flagArgument:
		b, err := readFlag(raw)
		if err != nil {
			return nil, bad("%s is %.40s; it must be true or false", a.name, raw)
		}
		return b, nil
	case tagsArgument:
		return a.list(raw)
	case stepsArgument:
		return a.steps(raw)
	}
	text, err := readText(raw)
	if err != nil {
		return nil, bad("%s must be a text", a.name)
	}
	if a.enum == nil {
		return text, nil
	}
	for _, word := range a.enum {
		if folded(word) == folded(strings.TrimSpace(text)) {
			return word, nil
		}
	}
	if strings.TrimSpace(text) == "" && !a.required {
		return "", nil
	}
	return nil, bad("%s is %.40q; it must be one of %s", a.name, text, strings.Join(a.enum, ", "))
}

func readFlag(raw json.RawMessage) (bool, error) {
	return strconv.ParseBool(strings.ToLower(strings.Trim(string(raw), `"`)))
}

// readText reads a text, or a number or flag as the text that it is written with.
func readText(raw json.RawMessage) (text string, err error) {
	if bytes.IndexByte([]byte(`{[`), raw[0]) >= 0 {
		return "", fmt.Errorf("it is no text")
	}
	if raw[0] != '"' {
		return string(raw), nil
	}
	err = json.Unmarshal(raw, &text)
	return text, err
}

// list reads a list of texts; one text is a list of those between commas.
func (a *argument) list(raw json.RawMessage) (texts []string, err error) {
	if json.Unmarshal(unquoted(raw), &texts) == nil {
		return texts, nil
	}
	text, err := readText(raw)
	if err != nil {
		return nil, bad("%s must be a list of texts", a.name)
	}
	for _, t := range strings.Split(text, ",") {
		if t = strings.TrimSpace(t); t != "" {
			texts = append(texts, t)
		}
	}
	return texts, nil
}
