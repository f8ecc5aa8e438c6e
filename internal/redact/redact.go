package redact

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind says what a secret is, in a word or two with a hyphen between.
type Kind string

// The kinds of secrets that are told by the name before them, or by where they stand. The
// others are in forms.go.
const (
	Password    Kind = "password"
	Secret      Kind = "secret"
	Token       Kind = "token"
	Key         Kind = "key"
	URLPassword Kind = "url-password" // of a connection string
	PrivateKey  Kind = "private-key"
	AWSSecret   Kind = "aws-secret-key"
	AzureSAS    Kind = "azure-sas"
	Webhook     Kind = "webhook" // the secret part of its address
)

// before and after are what a secret is replaced by, around its kind.
const (
	before = "[redacted:"
	after  = "]"
)

// generic reports whether a kind says less than a form does.
func (k Kind) generic() bool {
	switch k {
	case Password, Secret, Token, Key, URLPassword, bearerToken:
		return true
	}
	return false
}

// Redactor finds secrets. Its zero value leaves none. It is safe for concurrent use.
type Redactor struct {
	allowed  map[string]bool
	patterns []*regexp.Regexp
}

// New returns a Redactor that leaves what is allowed: each text is that of a secret, or a
// regular expression between two slashes that must match the whole of one. The error names
// an expression that is none.
func New(allow []string) (*Redactor, error) {
	r := &Redactor{allowed: make(map[string]bool, len(allow))}
	for _, text := range allow {
		inner, first := strings.CutPrefix(text, "/")
		inner, last := strings.CutSuffix(inner, "/")
		if !first || !last || inner == "" {
			r.allowed[text] = true
			continue
		}
		p, err := regexp.Compile(`^(?:` + inner + `)$`)
		if err != nil {
			return nil, fmt.Errorf("%q is no regular expression: %w", text, err)
		}
		r.patterns = append(r.patterns, p)
	}
	return r, nil
}

func (r *Redactor) allows(secret string) bool {
	return r.allowed[secret] || slices.ContainsFunc(r.patterns, func(p *regexp.Regexp) bool { return p.MatchString(secret) })
}

// Pass redacts the texts of one item, and counts what it replaces.
type Pass struct {
	by *Redactor
	// Found counts the secrets that were replaced, by kind; nil: none.
	Found map[Kind]uint64

	depth int // of JSON in JSON
}

// Pass returns a Pass without findings.
func (r *Redactor) Pass() *Pass { return &Pass{by: r} }

func (p *Pass) add(k Kind) {
	if p.Found == nil {
		p.Found = make(map[Kind]uint64)
	}
	p.Found[k]++
}

// Text returns a text without its secrets. Redacting what it returns changes nothing. A text
// that is JSON, or several values of JSON, stays that, and secrets within its strings are
// found however they are escaped.
func (p *Pass) Text(s string) string {
	if looksLikeJSON(s) {
		if clean, ok := p.json(s); ok {
			return clean
		}
	}
	return p.plain(p.lines(s))
}

// lines redacts the lines of a text that are JSON.
func (p *Pass) lines(s string) string {
	var b strings.Builder
	copied := 0
	for from := 0; from < len(s); {
		end := len(s)
		if n := strings.IndexByte(s[from:], '\n'); n >= 0 {
			end = from + n
		}
		if from < end && (s[from] == '{' || s[from] == '[') {
			if clean, ok := p.json(s[from:end]); ok && clean != s[from:end] {
				b.WriteString(s[copied:from])
				b.WriteString(clean)
				copied = end
			}
		}
		from = end + 1
	}
	if copied == 0 {
		return s
	}
	b.WriteString(s[copied:])
	return b.String()
}

// JSON is Text for a text that is JSON.
func (p *Pass) JSON(s string) string {
	if clean, ok := p.json(s); ok {
		return clean
	}
	return p.plain(s)
}

// Named is Text for the value of a field, whose name may say that it is a secret.
func (p *Pass) Named(name, value string) string {
	if len(value) > maxValue {
		return p.Text(value)
	}
	if c, _ := classOf(name); c != noClass && c.plausible(value, inField) && !p.by.allows(value) {
		kind := c.kindOf(value)
		for _, s := range p.scan(value) {
			if !s.kind.generic() {
				kind = s.kind
			}
		}
		p.add(kind)
		return before + string(kind) + after
	}
	return p.Text(value)
}

// rounds bounds how often a text is read: what stands around a secret may look otherwise once
// that is gone. Two are enough for all but texts that are made for it.
const rounds = 8

// plain redacts a text that is no JSON.
func (p *Pass) plain(s string) string {
	for range rounds {
		spans := p.scan(s)
		if len(spans) == 0 {
			break
		}
		s = p.replace(s, spans)
	}
	return s
}

// span is a secret in a text.
type span struct {
	from, to int
	kind     Kind
}

// replace replaces spans, which may overlap, and counts them.
func (p *Pass) replace(s string, spans []span) string {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	merged := spans[:1]
	for _, next := range spans[1:] {
		last := &merged[len(merged)-1]
		if next.from >= last.to {
			merged = append(merged, next)
			continue
		}
		last.to = max(last.to, next.to)
		if last.kind.generic() {
			last.kind = next.kind
		}
	}
	var b strings.Builder
	b.Grow(len(s))
	at := 0
	for _, m := range merged {
		b.WriteString(s[at:m.from])
		b.WriteString(before)
		b.WriteString(string(m.kind))
		b.WriteString(after)
		p.add(m.kind)
		at = m.to
	}
	b.WriteString(s[at:])
	return b.String()
}
