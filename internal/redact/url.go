package redact

import "strings"

// maxAuthority bounds what is looked at of a URL, in bytes behind "://".
const maxAuthority = 512

// databases are the schemes whose URLs are connection strings: a password in them may hold
// what others would have to escape.
var databases = []string{"postgres", "postgresql", "mysql", "mariadb", "mongodb", "mongodb+srv", "redis", "rediss", "amqp", "amqps", "mssql", "sqlserver", "clickhouse", "cockroachdb", "libsql", "nats", "kafka", "ldap", "ldaps", "smtp", "smtps", "oracle", "neo4j", "bolt"}

// url adds the secrets of the URL whose "://" is at i.
func (sc *scanner) url(i int) {
	s := sc.s
	begin := i
	for begin > 0 && i-begin < 20 && (alnum[s[begin-1]] || s[begin-1] == '+') {
		begin--
	}
	scheme := s[begin:i]
	if scheme == "" {
		return
	}
	from := i + len("://")
	whole := s[from:min(len(s), from+maxAuthority)]
	if n := strings.IndexAny(whole, " \t\r\n\"'<>\\`"); n >= 0 {
		whole = whole[:n]
	}
	authority := whole
	if n := strings.IndexAny(whole, "/?#"); n >= 0 {
		authority = whole[:n]
	}
	sc.webhook(from, whole, authority)
	database := isDatabase(scheme)
	at := strings.LastIndexByte(authority, '@')
	if at < 0 && database {
		if at = strings.LastIndexByte(whole, '@'); at >= 0 && (at+1 == len(whole) || !alnum[whole[at+1]] && whole[at+1] != '[') {
			at = -1
		}
	}
	if at < 0 {
		return
	}
	colon := strings.IndexByte(whole[:at], ':')
	if colon < 0 {
		return
	}
	password := whole[colon+1 : at]
	if password == "" || placeholder(password) || trivial(password) || password[0] == '$' || password[0] == '{' || password[0] == '%' && !hexEscape(password) {
		return
	}
	if word, _, escaped := strings.Cut(password, "%"); escaped && !database && trivial(word) {
		return
	}
	if database || !nameLike(password) && (passwordLike(password, inQuote) || len(password) >= 12) {
		sc.add(from+colon+1, from+at, URLPassword)
	}
}

func hexEscape(s string) bool {
	return len(s) >= 3 && hexDigits[lower(s[1])] && hexDigits[lower(s[2])]
}

func isDatabase(scheme string) bool {
	for _, d := range databases {
		if strings.EqualFold(scheme, d) {
			return true
		}
	}
	return false
}

// trivial reports whether a password is a word that stands for one.
func trivial(s string) bool {
	switch strings.ToLower(s) {
	case "pass", "pwd", "pw", "password", "passwd", "secret", "user", "username", "token", "test", "foo", "bar", "pass1", "p", "x", "...":
		return true
	}
	return false
}

// webhook adds the secret part of an address that whoever knows it may post to.
func (sc *scanner) webhook(from int, whole, authority string) {
	var path string
	switch {
	case strings.HasSuffix(authority, "hooks.slack.com"):
		path = "/services/"
	case strings.HasSuffix(authority, "discord.com"), strings.HasSuffix(authority, "discordapp.com"):
		path = "/webhooks/"
	default:
		return
	}
	_, rest, found := strings.Cut(whole, path)
	if !found {
		return
	}
	n := chars256.run(rest)
	if secret := rest[:n]; n >= 20 && !placeholder(secret) && traitsOf(secret).digit {
		at := from + len(whole) - len(rest)
		sc.add(at, at+n, Webhook)
	}
}

var chars256 = chars(letters + digits + "_-/")
