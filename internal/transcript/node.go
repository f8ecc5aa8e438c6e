package transcript

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

// node is a JSON value, or none. What is asked of one that has it otherwise, or not at all,
// is the zero value.
type node struct{ v *fastjson.Value }

// parse reads a JSON value. It takes NaN and Infinity too, which some writers leave behind.
func parse(text string) (node, error) { return parseWith(new(fastjson.Parser), text) }

// parseWith is parse with the memory of a parser, whose last value ends with it.
func parseWith(p *fastjson.Parser, text string) (node, error) {
	v, err := p.Parse(text)
	if err != nil {
		return node{}, err
	}
	return node{v}, nil
}

// get returns the value at a path of keys.
func (n node) get(path ...string) node {
	if n.v == nil {
		return n
	}
	return node{n.v.Get(path...)}
}

// has reports whether there is a value at a key, and it is not null.
func (n node) has(key string) bool { return n.get(key).there() }

// there reports whether there is a value, and it is not null.
func (n node) there() bool { return n.v != nil && n.v.Type() != fastjson.TypeNull }

func (n node) is(t fastjson.Type) bool { return n.v != nil && n.v.Type() == t }

func (n node) isObject() bool { return n.is(fastjson.TypeObject) }
func (n node) isArray() bool  { return n.is(fastjson.TypeArray) }
func (n node) isString() bool { return n.is(fastjson.TypeString) }

// str returns the string at a path.
func (n node) str(path ...string) string {
	if n = n.get(path...); !n.isString() {
		return ""
	}
	return valid(string(n.v.GetStringBytes()))
}

// plain returns what is at a path as text, if it is a string, a number or a boolean.
func (n node) plain(path ...string) string {
	switch n = n.get(path...); {
	case n.isString():
		return n.str()
	case n.is(fastjson.TypeNumber), n.is(fastjson.TypeTrue), n.is(fastjson.TypeFalse):
		return string(n.v.MarshalTo(nil))
	}
	return ""
}

// num returns the number at a path, which may be written as a string.
func (n node) num(path ...string) (float64, bool) {
	text := n.plain(path...)
	if text == "" {
		return 0, false // an error of strconv costs more than the rest
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// integer returns the number at a path as a count: 0 if there is none, or it is negative.
func (n node) integer(path ...string) int64 {
	f, ok := n.num(path...)
	if !ok || f < 0 || f >= math.MaxInt64 {
		return 0
	}
	return int64(math.Round(f))
}

// yes reports whether there is a true at a path.
func (n node) yes(path ...string) bool { return n.get(path...).is(fastjson.TypeTrue) }

// items returns the elements of the array at a path.
func (n node) items(path ...string) []node {
	if n = n.get(path...); !n.isArray() {
		return nil
	}
	var list []node
	for _, v := range n.v.GetArray() {
		list = append(list, node{v})
	}
	return list
}

// field is a member of an object.
type field struct {
	key   string
	value node
}

// fields returns the members of the object at a path, in their order.
func (n node) fields(path ...string) []field {
	if n = n.get(path...); !n.isObject() {
		return nil
	}
	var list []field
	n.v.GetObject().Visit(func(key []byte, v *fastjson.Value) {
		list = append(list, field{valid(string(key)), node{v}})
	})
	return list
}

// json returns the value at a path as JSON without spaces, its numbers as they were written.
func (n node) json(path ...string) string {
	if n = n.get(path...); n.v == nil {
		return ""
	}
	return string(appendJSON(nil, n.v, false))
}

// when returns the time at a path: RFC 3339, with or without a zone, or seconds,
// milliseconds, microseconds or nanoseconds since 1970. A time without a zone is read as UTC.
func (n node) when(path ...string) time.Time {
	text := strings.TrimSpace(n.plain(path...))
	if text == "" {
		return time.Time{}
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return epoch(f, text)
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", time.RFC1123, time.RFC1123Z} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// Times between these are told apart by their size: in which unit they lie in this range.
var earliest, latest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

func epoch(f float64, text string) time.Time {
	for scale := 1.0; scale <= 1e9; scale *= 1e3 {
		if f < float64(earliest.Unix())*scale || f > float64(latest.Unix())*scale {
			continue
		}
		if n, err := strconv.ParseInt(text, 10, 64); err == nil { // a float64 is too coarse for nanoseconds
			return time.Unix(n/int64(scale), n%int64(scale)*int64(1e9/scale)).UTC()
		}
		return time.UnixMicro(int64(math.Round(f / scale * 1e6))).UTC()
	}
	return time.Time{}
}

// seconds is a duration that is given in seconds.
func seconds(f float64) time.Duration {
	if f <= 0 || f > 1e9 {
		return 0
	}
	return time.Duration(math.Round(f*1e6)) * time.Microsecond
}

// valid replaces what is not UTF-8.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

func validBytes(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\ufffd"))
}

// quoted is a text as a JSON string.
func quoted(s string) string { return string(appendQuoted(nil, s)) }

// arguments are the arguments of a call as JSON. Models write some that are none; those
// become a JSON string.
func arguments(text string) string {
	if text == "" || json.Valid([]byte(text)) {
		return text
	}
	return quoted(text)
}

// firstTime is the first time that there is at one of some keys.
func firstTime(n node, keys ...string) time.Time {
	for _, key := range keys {
		if at := n.when(key); !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}
