package redact

import "strings"

// class says which values of a name are secrets.
type class uint8

const (
	noClass        class = iota
	passwordClass        // what a person may have thought of
	secretClass          // the same, but longer
	tokenClass           // what a machine has made
	keyClass             // the same, and it may look like an id
	signatureClass       // of a URL that gives access
)

// kindOf is the kind of a secret that has a name of this class.
func (c class) kindOf(value string) Kind {
	switch c {
	case passwordClass:
		return Password
	case secretClass:
		return Secret
	case keyClass:
		if awsSecretLike(value) {
			return AWSSecret
		}
		return Key
	case signatureClass:
		return AzureSAS
	}
	return Token
}

// named are the ends of names that say that a value is secret, in small letters without what
// joins words.
var named = []struct {
	end   string
	class class
	whole bool // it must be the whole of a word: what ends in "pass" may be a bypass
}{
	{"password", passwordClass, false},
	{"passwords", passwordClass, false},
	{"passwd", passwordClass, false},
	{"passphrase", passwordClass, false},
	{"passcode", passwordClass, false},
	{"pwd", passwordClass, false},
	{"pass", passwordClass, true},
	{"pw", passwordClass, true},
	{"secret", secretClass, false},
	{"secrets", secretClass, false},
	{"token", tokenClass, false},
	{"tokens", tokenClass, false},
	{"auth", tokenClass, true},
	{"authorization", tokenClass, false},
	{"credential", tokenClass, false},
	{"credentials", tokenClass, false},
	{"apikey", keyClass, false},
	{"apikeys", keyClass, false},
	{"accesskey", keyClass, false},
	{"secretkey", keyClass, false},
	{"privatekey", keyClass, false},
	{"authkey", keyClass, false},
	{"accountkey", keyClass, false},
	{"signingkey", keyClass, false},
	{"encryptionkey", keyClass, false},
	{"masterkey", keyClass, false},
	{"servicekey", keyClass, false},
	{"rolekey", keyClass, false},
	{"sharedkey", keyClass, false},
	{"storagekey", keyClass, false},
	{"subscriptionkey", keyClass, false},
	{"functionskey", keyClass, false},
	{"appkey", keyClass, false},
	{"deploykey", keyClass, false},
	{"keybase64", keyClass, false},
	{"sig", signatureClass, true},
}

// notNamed are parts of names whose values are no secrets, or are one for a moment only.
var notNamed = []string{"csrf", "xsrf", "page", "next", "continuation", "cursor", "cancel", "public", "placeholder", "hint", "label", "help", "max", "syntax"}

// namedEnds are the last two letters of the names.
var namedEnds = func() (ends [256][256]bool) {
	for _, n := range named {
		ends[n.end[len(n.end)-2]][n.end[len(n.end)-1]] = true
	}
	return ends
}()

// maxName bounds what is looked at of a name, in bytes from its end.
const maxName = 40

// classOf tells what a name says of its value. A weak one is a word that means something else
// as well: it counts where fields are named, and not before a colon in a sentence.
func classOf(name string) (c class, weak bool) {
	if name == "PWD" || name == "OLDPWD" { // the folder that a shell is in
		return noClass, false
	}
	if len(name) < 2 || !namedEnds[lower(name[len(name)-2])][lower(name[len(name)-1])] {
		return noClass, false
	}
	var buf [maxName]byte
	var starts [maxName + 1]bool // whether a word begins there in what is kept
	at := maxName
	for i := len(name) - 1; i >= 0 && at > 0; i-- {
		b := name[i]
		if !alnum[b] {
			starts[at] = true
			continue
		}
		at--
		buf[at] = lower(b)
		starts[at] = b != buf[at] && (i == 0 || name[i-1] >= 'a' && name[i-1] <= 'z') // camelCase
		if i == 0 {
			starts[at] = true
		}
	}
	kept := string(buf[at:]) // which does not escape
	for _, n := range named {
		if !strings.HasSuffix(kept, n.end) || n.whole && !starts[maxName-len(n.end)] {
			continue
		}
		for _, no := range notNamed {
			if strings.Contains(kept, no) {
				return noClass, false
			}
		}
		return n.class, n.whole && len(n.end) == len(kept)
	}
	return noClass, false
}

// place is how a value was given to a name: that tells how likely it is the value itself, and
// not an expression that gives it.
type place uint8

const (
	inCode  place = iota // name = value, name: value
	inQuote              // the same, in quotes
	inField              // a field of JSON, a line of an environment, a flag
)

// Bounds of values, in bytes.
const (
	minValue = 6
	maxValue = 2 << 10
)

// plausible reports whether the value of a name of this class is a secret itself.
func (c class) plausible(value string, at place) bool {
	if c == keyClass && awsSecretLike(value) {
		return true
	}
	if len(value) < minValue || len(value) > maxValue || placeholder(value) || nameLike(value) {
		return false
	}
	if reference(value) || at == inCode && expression(value) {
		return false
	}
	switch c {
	case passwordClass:
		return passwordLike(value, at)
	case secretClass:
		return len(value) >= 8 && passwordLike(value, at) || tokenLike(value, 12)
	case signatureClass:
		return len(value) >= 40 && tokenLike(value, 16)
	}
	least := 16
	if at == inField {
		least = 12
	}
	if c == tokenClass && uuid(strings.TrimPrefix(value, "urn:uuid:")) {
		return false
	}
	return tokenLike(value, least)
}

// passwordLike reports whether a value is made of more than words.
func passwordLike(s string, at place) bool {
	t := traitsOf(s)
	if t.different < 4 || hashed(s) {
		return false
	}
	if t.letter() && (t.digit || t.symbol) || t.digit && t.symbol {
		return true
	}
	if at != inField {
		return false
	}
	if t.letter() {
		return len(s) >= 12 && t.different >= 6
	}
	return len(s) >= 8 && t.different >= 5
}

// hashed reports whether a password is a hash already.
func hashed(s string) bool {
	for _, prefix := range []string{"$2", "$1$", "$5$", "$6$", "$argon2", "$pbkdf2", "$scrypt", "pbkdf2_", "argon2", "bcrypt", "scrypt", "sha1$", "sha256$", "md5$", "{SSHA", "{SHA", "{CRYPT", "{MD5"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// tokenLike reports whether a value was made by a machine: letters and digits are mixed within
// its parts, not only between them.
func tokenLike(s string, least int) bool {
	if t := traitsOf(s); len(s) < least || t.different < 8 || !t.digit || !t.letter() {
		return false
	}
	mixed := 0
	for from := 0; from < len(s); {
		n := alnum.run(s[from:])
		if part := s[from : from+n]; n >= 3 {
			t := traitsOf(part)
			switch {
			case !t.digit || !t.letter() || endsInNumber(part):
			case n >= 10:
				return true
			default:
				mixed++
			}
		}
		from += n + 1
	}
	return mixed >= 2
}

// endsInNumber reports whether a word is letters and then at most four digits, as sha256 and
// version2024.
func endsInNumber(s string) bool {
	n := len(s)
	for n > 0 && s[n-1] >= '0' && s[n-1] <= '9' {
		n--
	}
	for i := range n {
		if s[i] >= '0' && s[i] <= '9' {
			return false
		}
	}
	return len(s)-n <= 4
}

func uuid(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return false
			}
		} else if !hexDigits[lower(s[i])] {
			return false
		}
	}
	return true
}

// notValues are parts of values that stand for a secret, or say where it comes from.
var notValues = []string{
	before, "xxxx", "****", "....", "your", "example", "placeholder", "changeme", "change-me", "change_me", "redacted", "process.env",
	"environ", "getenv", "dummy", "insert", "replace", "todo", "<", ">", "${", "$(", "{{", "%(", "hidden", "masked", "sample", "undefined", "secrets.",
}

// placeholder reports whether a value only shows where a secret would be.
func placeholder(s string) bool {
	if len(s) > 64 && !strings.Contains(s, before) {
		s = s[:64]
	}
	var buf [256]byte
	small := buf[:0]
	same := true
	for i := range min(len(s), len(buf)) {
		small = append(small, lower(s[i]))
		same = same && s[i] == s[0]
	}
	if same {
		return true
	}
	for _, no := range notValues {
		if strings.Contains(string(small), no) {
			return true
		}
	}
	return strings.Contains(s, before)
}

// nameLike reports whether a value is a name in place of a value, such as db_password.
func nameLike(s string) bool {
	if t := traitsOf(s); t.digit || t.symbol {
		return false
	}
	small := strings.ToLower(s)
	for _, name := range []string{"password", "passwd", "secret", "token"} {
		if strings.Contains(small, name) {
			return true
		}
	}
	return false
}

// reference reports whether a value says where a secret is: a variable, a path, an address, a
// format, or several words.
func reference(s string) bool {
	if strings.ContainsAny(s, " \t\n") || strings.Contains(s, "://") {
		return true
	}
	switch s[0] {
	case '/', '~':
		return true
	case '.':
		return strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
	case '$', '@', '&', '%', '!':
		return word.run(s[1:]) == len(s)-1 // $NAME, @file, %NAME
	case '{', '[', '(':
		return true
	}
	return strings.Contains(s, "%s") && len(s) < 20 || strings.Count(s, "{") > 0 && strings.Contains(s, "}")
}

// numberedName reports whether a value without quotes is code, or a variable that is called
// what its value is, such as password2.
func numberedName(s string) bool {
	switch strings.ToLower(strings.ReplaceAll(strings.TrimRight(s, digits), "_", "")) {
	case "pass", "passwd", "password", "pwd", "pw", "secret", "newpassword", "oldpassword", "userpassword":
		return true
	}
	return strings.ContainsAny(s, "()[]{}.")
}

// expression reports whether a value without quotes is code: a name, a call, a type.
func expression(s string) bool {
	if strings.ContainsAny(s, "()[]{}") {
		return true
	}
	if small := strings.ToLower(strings.ReplaceAll(s, "_", "")); alnum.run(small) == len(small) {
		for _, name := range []string{"password", "secret", "token", "apikey", "privatekey"} {
			if strings.Contains(small, name) {
				return true
			}
		}
	}
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '.' || r == '_' }) {
		if alnum.run(part) < len(part) || !endsInNumber(part) {
			return false
		}
	}
	return true
}
