package setup

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

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

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
