package episodic

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxName bounds what is filtered and indexed by: domains, tags, model names.
const maxName = 1000

// maxTags bounds the tags of one episode.
const maxTags = 1000

// check collects the first thing wrong with an input, as an *InvalidError that
// names the field.
type check struct {
	prefix string
	err    error
}

func (c *check) fail(field, format string, args ...any) {
	if c.err == nil {
		c.err = invalid(c.prefix+field, format, args...)
	}
}

// in runs f with fields named below prefix, unless something is wrong already.
func (c *check) in(prefix string, i int, f func()) {
	if c.err != nil {
		return
	}
	outer := c.prefix
	c.prefix += fmt.Sprintf(prefix, i)
	f()
	c.prefix = outer
}

func (c *check) text(field, s string) {
	if !utf8.ValidString(s) {
		c.fail(field, "is not valid UTF-8 at byte %d", len(validPrefix(s)))
	}
}

func validPrefix(s string) string {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size <= 1 {
				return s[:i]
			}
		}
	}
	return s
}

// name checks a short text that rows are filtered by.
func (c *check) name(field, s string) {
	c.text(field, s)
	if len(s) > maxName {
		c.fail(field, "has %d bytes, at most %d are allowed", len(s), maxName)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		c.fail(field, "holds a control character")
	}
}

func (c *check) names(field string, list []string) {
	for i, s := range list {
		c.in(field+"[%d]", i, func() {
			c.name("", s)
			if strings.TrimSpace(s) == "" {
				c.fail("", "is empty")
			}
		})
	}
}

func (c *check) texts(field string, list []string) {
	for i, s := range list {
		c.in(field+"[%d]", i, func() { c.text("", s) })
	}
}

func (c *check) metadata(m map[string]string) {
	for k, v := range m {
		c.text("metadata", k)
		if c.err == nil {
			c.text("metadata."+k, v)
		}
	}
}

// time allows the zero time, which means "not set".
func (c *check) time(field string, t time.Time) {
	if y := t.UTC().Year(); !t.IsZero() && (y < 1 || y > 9999) {
		c.fail(field, "has the year %d; years 1 to 9999 can be stored", y)
	}
	if !t.IsZero() && truncateMicros(t).IsZero() {
		c.fail(field, "lies in the first microsecond of year 1, which stands for no time")
	}
}

func (c *check) notNegative(field string, n int64) {
	if n < 0 {
		c.fail(field, "is negative (%d)", n)
	}
}

func (c *check) finite(field string, f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		c.fail(field, "is %v; only finite numbers can be stored", f)
	}
}

func (c *check) fraction(field string, f float64) {
	if !(f >= 0 && f <= 1) {
		c.fail(field, "is %v; it must lie between 0 and 1", f)
	}
}

func (c *check) oneOf(field, s string, allowed ...any) {
	var list []string
	for _, a := range allowed {
		text := fmt.Sprint(a)
		if s == text {
			return
		}
		if text != "" {
			list = append(list, text)
		}
	}
	c.fail(field, "is %.60q; it must be one of %s", s, strings.Join(list, ", "))
}

// micros is a time as it is stored: whole microseconds since 1970, UTC.
func micros(t time.Time) int64 { return t.UnixMicro() }

// truncateMicros returns t as it is read back: in whole microseconds, UTC.
func truncateMicros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(micros(t)).UTC()
}
