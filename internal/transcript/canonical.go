package transcript

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"github.com/valyala/fastjson"
)

// hash is the SHA-256 of a value, whatever its spelling: spaces, the order of keys, escapes,
// and how numbers are written make no difference.
func (n node) hash() [sha256.Size]byte {
	return sha256.Sum256(appendJSON(nil, n.v, true))
}

// appendJSON appends a value as JSON without spaces. If canonical, keys are sorted, the last
// of equal ones counts, and numbers that are equal as float64 are written alike.
func appendJSON(b []byte, v *fastjson.Value, canonical bool) []byte {
	switch v.Type() {
	case fastjson.TypeObject:
		return appendObject(b, v.GetObject(), canonical)
	case fastjson.TypeArray:
		b = append(b, '[')
		for i, e := range v.GetArray() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, e, canonical)
		}
		return append(b, ']')
	case fastjson.TypeString:
		return appendQuoted(b, validBytes(v.GetStringBytes()))
	case fastjson.TypeNumber:
		return appendNumber(b, string(v.MarshalTo(nil)), canonical)
	}
	return v.MarshalTo(b) // true, false, null
}

// member is a member of an object, whose key is in the parser's memory.
type member struct {
	key   []byte
	value *fastjson.Value
}

func appendObject(b []byte, o *fastjson.Object, canonical bool) []byte {
	var room [16]member
	members := room[:0]
	o.Visit(func(key []byte, v *fastjson.Value) { members = append(members, member{validBytes(key), v}) })
	if canonical {
		slices.SortStableFunc(members, func(a, b member) int { return bytes.Compare(a.key, b.key) })
	}
	b = append(b, '{')
	first := true
	for i, m := range members {
		if canonical && i+1 < len(members) && bytes.Equal(members[i+1].key, m.key) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendQuoted(b, m.key), ':')
		b = appendJSON(b, m.value, canonical)
	}
	return append(b, '}')
}

func appendNumber(b []byte, text string, canonical bool) []byte {
	if isDigits(text) {
		return append(b, text...)
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || math.IsNaN(f) || math.IsInf(f, 0) || !json.Valid([]byte(text)):
		return appendQuoted(b, text) // NaN, and the like
	case !canonical:
		return append(b, text...)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return strconv.AppendInt(b, n, 10) // also beyond 2^53
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.AppendInt(b, int64(f), 10)
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

// isDigits reports whether a number is written as a count that an int64 holds, as most are.
func isDigits(text string) bool {
	if text == "" || len(text) > 18 || text[0] == '0' && len(text) > 1 {
		return false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends a text as a JSON string.
func appendQuoted[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}
