package cache

import (
	"cmp"
	"fmt"
	"time"
)

// Options configure a cache. The zero value of every field means its default.
type Options struct {
	// MaxBytes bounds the memory that entries take: the sum of Loaded.Size and about
	// 400 bytes for each. In bytes, at least 64 KiB, default 64 MiB.
	MaxBytes int64
	// BaseTTL is how long a new entry is kept. Within MinTTL and MaxTTL, default
	// 5 min.
	BaseTTL time.Duration
	// MinTTL is the least that a read keeps an entry for. At least 1 s, default
	// 1 min. MaxTTL is the longest that any entry is kept. At least BaseTTL, default
	// 1 h. Jitter of up to 10 % is added, but never exceeds MaxTTL.
	MinTTL, MaxTTL time.Duration
	// NegativeTTL is how long it is remembered that a key has no value. Default
	// 30 s.
	NegativeTTL time.Duration
	// PollInterval is how long hits rely on a read of the feed; a later one polls
	// first. Default 5 s.
	PollInterval time.Duration
	// PollEveryHit makes every hit poll for itself, on its own goroutine and with its
	// own context: for a feed that costs next to nothing. PollInterval is then 0.
	PollEveryHit bool
	// LoadInCaller runs a load on the goroutine of the caller who begins it, who then
	// waits for it as long as others do, even if its own context has ended: for loads that
	// take no longer than handing them over.
	LoadInCaller bool
	// PollTimeout bounds a poll that is shared. Default 2 s.
	PollTimeout time.Duration
	// StaleIfError is how long beyond PollInterval entries are served while the
	// server cannot be reached, flagged by Result.Stale. Default 5 min.
	StaleIfError time.Duration
	// DisableStale serves no entries while polls fail.
	DisableStale bool
	// Unreachable reports whether the error of a poll means that the server cannot
	// be reached, so that StaleIfError applies. A PollTimeout always does. Nil: no
	// other error does.
	Unreachable func(error) bool
	// Refused reports whether the error of a poll or a load means that nothing may be
	// read any more, or that the database is gone: then everything is forgotten. Nil: no
	// error does.
	Refused func(error) bool
}

const (
	defaultMaxBytes     = 64 << 20
	defaultBaseTTL      = 5 * time.Minute
	defaultMinTTL       = time.Minute
	defaultMaxTTL       = time.Hour
	defaultNegativeTTL  = 30 * time.Second
	defaultPollInterval = 5 * time.Second
	defaultPollTimeout  = 2 * time.Second
	defaultStaleIfError = 5 * time.Minute

	minMaxBytes = 64 << 10

	// feedlessTTL bounds every TTL of a cache without a feed.
	feedlessTTL = time.Minute
)

// WithDefaults returns o with every zero field set.
func (o Options) WithDefaults() Options {
	o.MaxBytes = cmp.Or(o.MaxBytes, defaultMaxBytes)
	o.MaxTTL = cmp.Or(o.MaxTTL, max(defaultMaxTTL, o.BaseTTL, o.MinTTL))
	o.MinTTL = cmp.Or(o.MinTTL, min(defaultMinTTL, cmp.Or(o.BaseTTL, o.MaxTTL), o.MaxTTL))
	o.BaseTTL = cmp.Or(o.BaseTTL, min(o.MaxTTL, max(o.MinTTL, defaultBaseTTL)))
	o.NegativeTTL = cmp.Or(o.NegativeTTL, defaultNegativeTTL)
	o.PollInterval = cmp.Or(o.PollInterval, defaultPollInterval)
	o.PollTimeout = cmp.Or(o.PollTimeout, defaultPollTimeout)
	o.StaleIfError = cmp.Or(o.StaleIfError, defaultStaleIfError)
	return o
}

// WithoutFeed returns o with every TTL bounded to 60 s: what a cache without a
// feed goes by.
func (o Options) WithoutFeed() Options {
	for _, ttl := range []*time.Duration{&o.BaseTTL, &o.MinTTL, &o.MaxTTL, &o.NegativeTTL} {
		*ttl = min(*ttl, feedlessTTL)
	}
	return o
}

// OptionError names an option that is out of bounds.
type OptionError struct {
	Field   string // such as MinTTL
	Problem string // what is wrong and what would be right
}

func (e *OptionError) Error() string { return "cache option " + e.Field + " " + e.Problem }

// Validate returns an *OptionError for the first field that is out of bounds.
func (o Options) Validate() error {
	o = o.WithDefaults()
	bad := func(field, format string, args ...any) error {
		return &OptionError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	if o.MaxBytes < minMaxBytes {
		return bad("MaxBytes", "is %d, must be at least %d", o.MaxBytes, minMaxBytes)
	}
	switch {
	case o.MinTTL < readStep:
		return bad("MinTTL", "is %v, must be at least %v", o.MinTTL, readStep)
	case o.BaseTTL < o.MinTTL:
		return bad("BaseTTL", "is %v, must be at least MinTTL (%v)", o.BaseTTL, o.MinTTL)
	case o.MaxTTL < o.BaseTTL:
		return bad("MaxTTL", "is %v, must be at least BaseTTL (%v)", o.MaxTTL, o.BaseTTL)
	}
	for _, field := range []struct {
		name  string
		value time.Duration
	}{{"NegativeTTL", o.NegativeTTL}, {"PollInterval", o.PollInterval}, {"PollTimeout", o.PollTimeout}, {"StaleIfError", o.StaleIfError}} {
		if field.value < 0 {
			return bad(field.name, "is %v, must be positive, or 0 for the default", field.value)
		}
	}
	return nil
}
