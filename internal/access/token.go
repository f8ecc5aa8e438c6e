package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// Token is what is kept of a token.
type Token struct {
	// Name tells it from others: 1 to 64 letters, digits and any of "._@-".
	Name   string `json:"name"`
	Rights Rights `json:"rights"`
	// Scope bounds what can be reached with it. Default: the whole memory.
	Scope   episodic.Scope `json:"scope,omitzero"`
	Created time.Time      `json:"created"`
	// Expires is when it ends. Default: never.
	Expires time.Time `json:"expires,omitzero"`
	// Hash is that of its secret.
	Hash Hash `json:"sha256"`
}

// Expired reports whether the token has ended.
func (t *Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// Rights are what may be done with a token.
type Rights string

const (
	Read    Rights = "read"    // recall and show
	Write   Rights = "write"   // that, and record, learn and correct
	Admin   Rights = "admin"   // that, and delete
	Metrics Rights = "metrics" // nothing but read the server's metrics
)

// Hash is the SHA-256 of a secret. Secrets are random, so that it needs no salt.
type Hash [sha256.Size]byte

// MarshalText returns it in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads what MarshalText returns.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(h) {
		return fmt.Errorf("sha256 is %.80q; it must be %d hexadecimal digits", text, 2*len(h))
	}
	copy(h[:], b)
	return nil
}

func hashOf(secret string) Hash { return sha256.Sum256([]byte(secret)) }

// newSecret returns 130 random bits in letters and digits. It begins so that people, and
// programs that look for leaked secrets, can tell what it is.
func newSecret() string { return "epi_" + rand.Text() }

// find returns the token with a secret, or nil. It takes as long for each that is there.
func find(tokens []Token, secret string) (found *Token) {
	hash := hashOf(secret)
	for i := range tokens {
		if subtle.ConstantTimeCompare(tokens[i].Hash[:], hash[:]) == 1 {
			found = &tokens[i]
		}
	}
	return found
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,64}$`)

// check returns what is wrong with a token.
func (t *Token) check() error {
	switch {
	case !goodName.MatchString(t.Name):
		return fmt.Errorf(`name is %.80q; it must be 1 to 64 letters, digits and any of "._@-"`, t.Name)
	case !slices.Contains([]Rights{Read, Write, Admin, Metrics}, t.Rights):
		return fmt.Errorf("rights are %.80q; they must be read, write, admin or metrics", t.Rights)
	case t.Rights == Metrics && t.Scope != (episodic.Scope{}):
		return fmt.Errorf("rights are metrics, which are of the whole server, but the token is bound to a scope")
	}
	for name, value := range map[string]string{"project": t.Scope.Project, "user": t.Scope.User, "agent": t.Scope.Agent} {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }) {
			return fmt.Errorf("scope.%s is %.80q; it must be without control characters", name, value)
		}
	}
	return nil
}
