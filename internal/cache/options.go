package cache

import (
	"cmp"
	"fmt"
	"time"
)

// Options say how a cache behaves. The zero value of every field means its
// default.
type Options struct {
	// MaxBytes bounds what the entries cost, as their loads say, with what the
	// cache needs to keep them: about 750 bytes each. At least 64 KiB, default
	// 64 MiB.
	MaxBytes int64
	// BaseTTL is how long a new entry is kept. Default 5 min, within MinTTL and
	// MaxTTL.
	BaseTTL time.Duration
	// MinTTL and MaxTTL bound how long any entry is kept, but for jitter of up to
	// 10 %, which exceeds no MaxTTL. MinTTL is at least 1 s, default 1 min; MaxTTL
	// at least BaseTTL, default 1 h.
	MinTTL, MaxTTL time.Duration
	// NegativeTTL is how long it is remembered that a key has no value. Default
	// 30 s.
	NegativeTTL time.Duration
	// PollInterval is how long a look at the clock is good for: a hit later than
	// that waits for a new one. Default 5 s. Negative means that every hit polls
	// for itself, on its goroutine and with its context: where that costs next to
	// nothing.
	PollInterval time.Duration
	// PollTimeout bounds a poll that is shared. Default 2 s.
	PollTimeout time.Duration
	// StaleIfError is how much longer than PollInterval an entry is served after
	// the last look if polls fail, flagged by Result.Stale. Default 5 min;
	// negative means not at all.
	StaleIfError time.Duration
	// Groups is the number of groups of the clock. Default 1024.
	Groups int
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
	defaultGroups       = 1024

	minMaxBytes = 64 << 10

	// clocklessTTL bounds every TTL where there is no clock.
	clocklessTTL = time.Minute
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
	o.Groups = cmp.Or(o.Groups, defaultGroups)
	return o
}

// Clockless returns o with every TTL bounded to 60 s: what a cache goes by that
// cannot look at the clock.
func (o Options) Clockless() Options {
	for _, ttl := range []*time.Duration{&o.BaseTTL, &o.MinTTL, &o.MaxTTL, &o.NegativeTTL} {
		*ttl = min(*ttl, clocklessTTL)
	}
	return o
}

// OptionError names an option that makes no sense.
type OptionError struct {
	Field   string // such as MinTTL
	Problem string // what is wrong and what would be right
}

func (e *OptionError) Error() string { return "cache option " + e.Field + " " + e.Problem }

// Validate returns an *OptionError for the first field that makes no sense.
func (o Options) Validate() error {
	o = o.WithDefaults()
	bad := func(field, format string, args ...any) error {
		return &OptionError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case o.MaxBytes < minMaxBytes:
		return bad("MaxBytes", "is %d, must be at least %d", o.MaxBytes, minMaxBytes)
	case o.MinTTL < readStep:
		return bad("MinTTL", "is %v, must be at least %v", o.MinTTL, readStep)
	case o.BaseTTL < o.MinTTL:
		return bad("BaseTTL", "is %v, must be at least MinTTL (%v)", o.BaseTTL, o.MinTTL)
	case o.MaxTTL < o.BaseTTL:
		return bad("MaxTTL", "is %v, must be at least BaseTTL (%v)", o.MaxTTL, o.BaseTTL)
	case o.NegativeTTL < 0:
		return bad("NegativeTTL", "is %v, must be positive", o.NegativeTTL)
	case o.PollTimeout < 0:
		return bad("PollTimeout", "is %v, must be positive", o.PollTimeout)
	case o.Groups < 0:
		return bad("Groups", "is %d, must be at least 1", o.Groups)
	}
	return nil
}
