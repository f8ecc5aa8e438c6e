package redact

import "strings"

// maxGap bounds the spaces around "=" and ":", in bytes.
const maxGap = 8

// assigned adds the value that a secret's name is given by the "=" or ":" at i.
func (sc *scanner) assigned(i int) {
	s := sc.s
	end, quoted := sc.nameEnds(i)
	if end < 2 || !namedEnds[lower(s[end-2])][lower(s[end-1])] {
		return
	}
	from := end
	for from > 0 && end-from < maxName && nameChars[s[from-1]] {
		from--
	}
	c, weak := classOf(s[from:end])
	path := from > 0 && s[from-1] == ':' && s[i] == ':' // of names, as in an ARN
	if c == noClass || path || weak && s[i] == ':' && !quoted || strings.HasSuffix(s[:from], before) {
		return
	}
	at := i + 1
	switch {
	case at < len(s) && s[i] == '=' && s[at] == '>':
		at++
	case at < len(s) && (s[at] == '=' || s[at] == ':' || s[at] == '~'), i > 0 && strings.IndexByte("=!<>+*/%&|^~", s[i-1]) >= 0:
		return // a comparison, or a path of names
	}
	value := at
	for value < len(s) && value-at < maxGap && (s[value] == ' ' || s[value] == '\t') {
		value++
	}
	if value < len(s) && quote(s[value]) && !quoted && from > 0 && s[from-1] == s[value] {
		return // what is in quotes is the name with its "="
	}
	env := s[i] == '=' && end == i && value == at && envName(s[from:end]) && (from == 0 || s[from-1] != '.')
	flag := from >= 2 && s[from-1] == '-' || strings.HasPrefix(s[from:end], "--")
	sc.value(c, value, quoted, env || flag && s[i] == '=', sc.lineBegins(from))
}

var nameChars = chars(letters + digits + "_-.")

// nameEnds is where the name before the "=" or ":" at i ends, and whether it is in quotes.
func (sc *scanner) nameEnds(i int) (end int, quoted bool) {
	s := sc.s
	end = i
	for end > 0 && i-end < maxGap && (s[end-1] == ' ' || s[end-1] == ':' && s[i] == '=') {
		end--
	}
	if end > 1 && s[end-1] == ']' && quote(s[end-2]) {
		end--
	}
	if end > 0 && quote(s[end-1]) {
		end, quoted = end-1, true
		if end > 0 && s[end-1] == '\\' {
			end--
		}
	}
	return end, quoted
}

// lineBegins reports whether a line begins at i, but for spaces and what begins an element of
// a list.
func (sc *scanner) lineBegins(i int) bool {
	for i > 0 && (sc.s[i-1] == ' ' || sc.s[i-1] == '\t' || sc.s[i-1] == '-') {
		i--
	}
	return i == 0 || sc.s[i-1] == '\n'
}

func quote(b byte) bool { return b == '"' || b == '\'' || b == '`' }

// envName reports whether a name is one of a variable of the environment.
func envName(s string) bool {
	for i := range len(s) {
		if s[i] >= 'a' && s[i] <= 'z' || s[i] == '-' || s[i] == '.' {
			return false
		}
	}
	return true
}

// value adds the value of a name of the class that begins at i, if it is a secret. The name may
// be in quotes, or begin a line as in a file of settings, and the value may be given as in an
// environment.
func (sc *scanner) value(c class, i int, nameQuoted, env, line bool) {
	s := sc.s
	if i < len(s)-1 && strings.IndexByte("bfruBFRU", s[i]) >= 0 && quote(s[i+1]) {
		i++
	}
	escaped := i < len(s)-1 && s[i] == '\\' && quote(s[i+1])
	if escaped {
		i++
	}
	at := inCode
	var from, to int
	switch {
	case i >= len(s):
		return
	case quote(s[i]):
		from, at = i+1, inQuote
		window := s[from:min(len(s), from+maxValue+1)]
		n := strings.IndexByte(window, s[i])
		open := n < 0
		if open {
			n = len(window) // it was cut off
		}
		if line := strings.IndexByte(window[:n], '\n'); line >= 0 {
			n, open = line, true
		}
		if open && n > 0 && strings.IndexByte("+),;]}", window[0]) >= 0 {
			return // what is in quotes ended with the name
		}
		if escaped && n > 0 && n < len(window) && window[n-1] == '\\' {
			n--
		}
		to = from + n
		if nameQuoted || env {
			at = inField
		}
	case nameQuoted:
		return // a number or a name: what is in quotes is JSON or code
	default:
		from = i
		stop := notBare
		if env {
			stop, at = notEnv, inField
		}
		to = from
		for to < len(s) && to-from <= maxValue && !stop[s[to]] {
			to++
		}
		for to > from && strings.IndexByte(";,.)", s[to-1]) >= 0 {
			to--
		}
		if c == passwordClass && line && (to == len(s) || s[to] == '\n' || s[to] == '\r') && strings.ContainsAny(s[from:to], digits) && !numberedName(s[from:to]) {
			at = inField
		}
		if to < len(s) && (s[to] == '(' || s[to] == '[') && !env {
			return // it is called
		}
	}
	v := s[from:to]
	if n := schemeBefore(s[from:]); n > 0 {
		from += n
		to = from + token68.run(s[from:min(len(s), from+maxValue)])
		v = s[from:to]
	}
	if c.plausible(v, at) {
		sc.add(from, to, c.kindOf(v))
	}
}

var (
	notBare = chars(" \t\r\n\"'`\\,;&|<>()[]{}")
	notEnv  = chars(" \t\r\n\"'`\\")
)

// schemeBefore is how long the scheme of an Authorization header is that a value begins with,
// if it is one of those that are not forms of their own.
func schemeBefore(s string) int {
	for _, scheme := range []string{"token ", "apikey "} {
		if len(s) > len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			return len(scheme)
		}
	}
	return 0
}

// maxLine bounds how much of a command before a flag is looked at, in bytes.
const maxLine = 256

// flag adds the secret that the flag at i is given as the next word.
func (sc *scanner) flag(i int) {
	s := sc.s
	if s[i+1] == '-' {
		n := nameChars.run(s[i:min(len(s), i+2+maxName)])
		if i+n < len(s)-1 && s[i+n] == ' ' {
			if c, _ := classOf(s[i+2 : i+n]); c != noClass {
				sc.value(c, i+n+1, false, s[i+n+1] != '-', false)
			}
		}
		return
	}
	switch s[i+1] {
	case 'p': // mysql -pPASSWORD, sshpass -p PASSWORD
		from := i + 2
		switch command := sc.command(i); {
		case strings.Contains(command, "sshpass") && s[from] == ' ':
			from++
		case (strings.Contains(command, "mysql") || strings.Contains(command, "mariadb")) && s[from] != ' ':
		default:
			return
		}
		sc.value(passwordClass, from, false, true, false)
	case 'u': // curl -u USER:PASSWORD
		if s[i+2] != ' ' || !strings.Contains(sc.command(i), "curl") {
			return
		}
		from := i + 3
		if from < len(s) && quote(s[from]) {
			from++
		}
		n := 0
		for from+n < len(s) && n < maxValue && !notEnv[s[from+n]] {
			n++
		}
		if user := strings.IndexByte(s[from:from+n], ':'); user >= 0 {
			if v := s[from+user+1 : from+n]; len(v) >= 3 && !placeholder(v) && !reference(v) && !trivial(v) {
				sc.add(from+user+1, from+n, Password)
			}
		}
	}
}

// command is what stands before a place on its line.
func (sc *scanner) command(i int) string {
	line := sc.s[max(0, i-maxLine):i]
	return line[strings.LastIndexByte(line, '\n')+1:]
}
