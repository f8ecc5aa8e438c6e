package redact

import (
	"slices"
	"strings"
)

// formsBy are the forms by their first two bytes, as numbered by formsAt; the longest prefix
// comes first. Number 0 has none.
var (
	formsBy [][]*form
	formsAt [256][256]uint8
)

func init() {
	formsBy = make([][]*form, 1)
	for i := range forms {
		f := &forms[i]
		n := &formsAt[f.prefix[0]][f.prefix[1]]
		if *n == 0 {
			*n = uint8(len(formsBy))
			formsBy = append(formsBy, nil)
		}
		list := formsBy[*n]
		at := 0
		for at < len(list) && len(list[at].prefix) >= len(f.prefix) {
			at++
		}
		formsBy[*n] = slices.Insert(list, at, f)
	}
}

// scanner looks for secrets in a text.
type scanner struct {
	*Redactor
	s     string
	spans []span
}

// scan returns the secrets of a text, in no order; they may overlap.
func (p *Pass) scan(s string) []span {
	sc := scanner{Redactor: p.by, s: s}
	sc.privateKeys()
	for i := 0; i < len(s); {
		switch b := s[i]; {
		case wordDash[b]:
			from := i
			for i++; i < len(s) && wordDash[s[i]]; i++ {
			}
			if i-from > 1 && (formsAt[b][s[from+1]] != 0 || b == '-' || from > 0 && escapes[s[from-1]]) {
				i = sc.word(from, i)
			}
			continue
		case b == '=':
			sc.assigned(i)
		case b == ':':
			if strings.HasPrefix(s[i+1:], "//") {
				sc.url(i)
			} else {
				sc.telegram(i)
				sc.assigned(i)
			}
		}
		i++
	}
	sc.awsSecrets()
	return sc.spans
}

// add adds a secret, unless it is allowed.
func (sc *scanner) add(from, to int, kind Kind) {
	if !sc.allows(sc.s[from:to]) {
		sc.spans = append(sc.spans, span{from, to, kind})
	}
}

// escapes are the bytes behind which an escape begins what looks like a word.
var escapes = chars(`\%[;`)

// word adds the secret that a word begins, if it does, and returns where that or the word
// ends. Behind a backslash or a percent sign, and in the codes of a terminal, a word begins
// after the escape.
func (sc *scanner) word(from, to int) int {
	s := sc.s
	if s[from] == '-' {
		if from+2 < len(s) && (from == 0 || space(s[from-1])) {
			sc.flag(from)
		}
		for from++; from < to && s[from] == '-'; from++ {
		}
	}
	if end := sc.form(from, to); end > 0 || from == 0 {
		return max(to, end)
	}
	switch s[from-1] {
	case '\\':
		return max(to, sc.form(from+1, to))
	case '%':
		return max(to, sc.form(from+2, to))
	case '[', ';':
		n := digitChars.run(s[from:to])
		return max(to, sc.form(from+n+1, to))
	}
	return to
}

// form adds the secret of a form that begins at from, and returns where it ends, or 0. The word
// ends at to.
func (sc *scanner) form(from, to int) int {
	if to-from < 2 {
		return 0
	}
	n := formsAt[sc.s[from]][sc.s[from+1]]
	if n == 0 {
		return 0
	}
	rest := sc.s[from:]
	for _, f := range formsBy[n] {
		if !strings.HasPrefix(rest, f.prefix) {
			continue
		}
		n := f.rest(rest[len(f.prefix):])
		if n < 0 {
			continue
		}
		end := from + len(f.prefix) + n
		if f.kind == bearerToken || f.kind == basicAuth {
			from += len(f.prefix)
			sc.add(from, end, f.kind)
			return from // what it is may have a form of its own
		}
		sc.add(from, end, f.kind)
		return end
	}
	return 0
}

func space(b byte) bool { return b == ' ' || b == '\n' || b == '\t' || b == '\r' }

// telegram adds the token of a bot of Telegram, whose colon is at i.
func (sc *scanner) telegram(i int) {
	s := sc.s
	if !strings.HasPrefix(s[i+1:], "AA") {
		return
	}
	from := i
	for from > 0 && i-from < 12 && s[from-1] >= '0' && s[from-1] <= '9' {
		from--
	}
	n := within(wordDash, 30, 40)(s[i+1:])
	if i-from < 6 || i-from > 11 || n < 0 {
		return
	}
	sc.add(from, i+1+n, telegramToken)
}

// beside is how far from an AWS key id its secret is looked for, in bytes.
const beside = 256

// awsSecrets adds what may be the secrets of the AWS key ids that were found.
func (sc *scanner) awsSecrets() {
	for _, k := range sc.spans[:len(sc.spans):len(sc.spans)] {
		if k.kind == awsKeyID {
			sc.awsSecretsIn(max(0, k.from-beside), k.from)
			sc.awsSecretsIn(k.to, min(len(sc.s), k.to+beside))
		}
	}
}

func (sc *scanner) awsSecretsIn(from, to int) {
	for i := from; i < to; i++ {
		if !base64Chars[sc.s[i]] || sc.s[i] == '=' || i > 0 && base64Chars[sc.s[i-1]] && sc.s[i-1] != '=' {
			continue
		}
		n := base64Chars.run(sc.s[i:min(len(sc.s), i+64)])
		if n == 40 && awsSecretLike(sc.s[i:i+n]) {
			sc.add(i, i+n, AWSSecret)
		}
		i += n
	}
}

// awsSecretLike tells the secret of an AWS key from a hash and from a path.
func awsSecretLike(s string) bool {
	t := traitsOf(s)
	return len(s) == 40 && t.lower && t.upper && t.digit && t.different >= 16 && strings.Count(s, "/") < 6
}
