package hrana

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// redacted takes the place of a secret.
const redacted = "[redacted]"

// minSecret is the length from which a token is masked wherever it stands. A shorter
// one is part of words by chance; behind the name of its header it is masked as well.
const minSecret = 4

// secrets are the forms in which credentials stand in texts, with what takes their
// place. They are compiled when the first text is cleaned: most programs clean none.
var secrets = sync.OnceValue(func() []secret {
	var all []secret
	for _, s := range []struct{ form, mask string }{
		// A header that is repeated: Authorization: Bearer x, "authorization":"Basic x".
		{`(?i)(\b(?:proxy-)?authorization\\?["']?\s*[:=]\s*\\?["']?)(?:(?:bearer|basic|digest|negotiate)\s+)?[^\s"',;<>\\]+`, "${1}" + redacted},
		// A credential by itself. The shortest word that is no secret but may follow is
		// "authentication".
		{`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{16,}`, "${1}" + redacted},
		// A JSON web token.
		{`\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*`, redacted},
		// The user of a URL.
		{`(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#"'<>]*@`, "${1}"},
		// A parameter of a URL, or a field, that is named after what it holds.
		{`(?i)([?&;][^=&\s"'<>]*(?:token|secret|passw|pwd|key|jwt|auth|sig|credential)[^=&\s"'<>]*=)[^&\s"'<>#;]*`, "${1}" + redacted},
		{`(?i)(\bauth_?token\\?["']?\s*[:=]\s*\\?["']?)[^\s"'&,;<>\\]+`, "${1}" + redacted},
	} {
		all = append(all, secret{regexp.MustCompile(s.form), s.mask})
	}
	return all
})

type secret struct {
	form *regexp.Regexp
	mask string
}

// Clean masks the credentials in a text that a server, or what stands before it, has
// sent: token, which went with the request, and whatever else looks like a token, an
// Authorization header, or the credentials of a URL. Gateways repeat what they were
// sent.
func Clean(text, token string) string {
	for _, secret := range append(basicAuth(token), token) {
		if len(secret) >= minSecret {
			text = strings.ReplaceAll(text, secret, redacted)
			text = strings.ReplaceAll(text, url.QueryEscape(secret), redacted)
		}
	}
	for _, s := range secrets() {
		text = s.form.ReplaceAllString(text, s.mask)
	}
	return text
}

// basicAuth returns what a token of HTTP basic authentication stands for, the user with
// the password and the password; nothing for another token.
func basicAuth(token string) []string {
	plain, err := base64.StdEncoding.DecodeString(token)
	_, password, found := strings.Cut(string(plain), ":")
	if err != nil || !found || !utf8.Valid(plain) {
		return nil
	}
	return []string{string(plain), password}
}

// clean cleans all texts of an answer or of an error, one of which is nil.
func clean(a *Answer, err error, token string) error {
	if a != nil {
		for _, r := range a.Results {
			r.Err.clean(token)
			if r.Batch == nil {
				continue
			}
			for _, s := range r.Batch.Steps {
				s.Err.clean(token)
			}
		}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		e.clean(token)
	}
	if t, ok := errors.AsType[*TransportError](err); ok {
		if text := t.Err.Error(); Clean(text, token) != text {
			t.Err = &cleanedError{Clean(text, token), t.Err}
		}
	}
	return err
}

// clean cleans the texts of e, which may be nil, and bounds that of a refusal: not
// before, because of a token that is cut in two half would be left.
func (e *Error) clean(token string) {
	if e == nil {
		return
	}
	e.Code, e.Message, e.Location = Clean(e.Code, token), Clean(e.Message, token), Clean(e.Location, token)
	if e.Status != http.StatusOK && len(e.Message) > maxRefusalText {
		e.Message = strings.ToValidUTF8(e.Message[:maxRefusalText], "") + "..."
	}
}

// cleanedError is an error whose text quoted a secret. It does not unwrap, because the
// errors below quote it too.
type cleanedError struct {
	text string
	err  error
}

func (e *cleanedError) Error() string { return e.text }

// Is makes the end of a context known.
func (e *cleanedError) Is(target error) bool { return errors.Is(e.err, target) }
