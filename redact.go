package episodic

import (
	"context"
	"log/slog"
	"maps"
	"sync"

	"github.com/episodic-memory/episodic/internal/redact"
)

// Redact says what becomes of secrets in what is to be stored: well-known forms of keys and
// tokens, private keys, passwords in connection strings, and values whose name says that they
// are secret. Each becomes [redacted:KIND] before it is stored, queued, indexed or given to an
// Embedder; docs/security.md lists the kinds. The item that was given to be stored then has
// it too, but nothing that it shares with others is changed. A name that says whom an item
// belongs to (Scope) or by which it is found (the model of an Embedding) is never changed: one
// with a secret in it is ErrInvalid.
type Redact struct {
	// Disabled stores everything as it is.
	Disabled bool
	// Allow are texts that are no secrets, exactly as they stand, or regular expressions
	// between two slashes, each of which must match the whole of one: /test_[a-z]+/. With a
	// name or an address around it, only the secret itself is compared.
	Allow []string
}

// Redactor returns what makes of a text what a Store with these settings stores of it, for what is
// kept elsewhere until it is stored. It may be called concurrently. Errors: ErrInvalid for an
// Allow that is no regular expression.
func (r Redact) Redactor() (func(text string) string, error) {
	by, err := newRedactor(&Options{Redact: r})
	if err != nil {
		return nil, err
	}
	return (&Store{redactor: by}).Redact, nil
}

// redactor redacts what a Store is to store, and counts. A nil one does nothing.
type redactor struct {
	by       *redact.Redactor
	disabled bool
	log      *slog.Logger // nil: none

	mu    sync.Mutex
	found map[string]uint64
}

func newRedactor(o *Options) (*redactor, error) {
	by, err := redact.New(o.Redact.Allow)
	if err != nil {
		return nil, invalid("Redact.Allow", "%v", err)
	}
	return &redactor{by: by, disabled: o.Redact.Disabled, log: o.Logger, found: make(map[string]uint64)}, nil
}

// works reports whether what is to be stored is redacted.
func (r *redactor) works() bool { return r != nil && !r.disabled }

// clean redacts an item by do, and counts what was found. The error is an *InvalidError for a
// scope that holds a secret.
func (s *Store) clean(ctx context.Context, scope Scope, do func(*cleaning)) error {
	if !s.redactor.works() {
		return nil
	}
	c := &cleaning{s.redactor.by.Pass()}
	do(c)
	s.redactor.done(ctx, c)
	return s.redactor.keepScope(scope)
}

// done counts what was found.
func (r *redactor) done(ctx context.Context, c *cleaning) {
	if c.Found == nil {
		return
	}
	r.mu.Lock()
	for kind, n := range c.Found {
		r.found[string(kind)] += n
	}
	r.mu.Unlock()
	if r.log != nil {
		r.log.DebugContext(ctx, "secrets were redacted", "kinds", c.counts())
	}
}

// counts returns how many secrets were replaced, by kind.
func (r *redactor) counts() map[string]uint64 {
	if r == nil {
		return map[string]uint64{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.found)
}

// Redact returns a text as the Store would store it: for texts that are compared with what is
// stored, or written elsewhere. What it replaces is not counted.
func (s *Store) Redact(text string) string {
	if s == nil || !s.redactor.works() {
		return text
	}
	return s.redactor.by.Pass().Text(text)
}
