package pool

import (
	"cmp"
	"fmt"
	"time"
)

// Options configures a pool. The zero value of a field means its default.
type Options struct {
	// MinConns is the number of connections that the pool keeps open after the first
	// Acquire or Warm. Default 2, or MaxConns if that is less.
	MinConns int
	// MaxConns bounds the sum of open connections and dials in flight. Default 10, or
	// MinConns if that is more.
	MaxConns int
	// ScaleUpAt is the utilisation (connections acquired / open, time-weighted over
	// a second) at which the pool grows before callers wait. In (0, 1], default 0.8.
	ScaleUpAt float64
	// ScaleDownAt is the utilisation at or below which the pool shrinks, measured in
	// the busiest of the last 30 seconds. In (0, ScaleUpAt), default 0.3.
	ScaleDownAt float64
	// MaxWaiters bounds the callers waiting in Acquire. Further calls fail with a
	// SaturatedError. Default 256.
	MaxWaiters int
	// MaxLifetime is the age at which a connection is replaced, minus a jitter of up
	// to 10 %, so that connections opened together do not expire together. Default
	// 30 min.
	MaxLifetime time.Duration
	// KeepAlive configures the health checks of idle connections.
	KeepAlive KeepAlive
}

// KeepAlive configures the health checks of idle connections.
type KeepAlive struct {
	// Disabled turns background pings off. Stale connections are still validated
	// before use.
	Disabled bool
	// Interval is the time without successful traffic after which an idle connection
	// is pinged, minus a jitter of up to 10 %. At least 5 s, default 30 s.
	Interval time.Duration
	// StaleAfter is the time without successful traffic after which a connection
	// must answer a ping before its next use. More than Interval, default 60 s, or
	// twice Interval if that is more.
	StaleAfter time.Duration
	// PingTimeout bounds one ping, regardless of callers' deadlines. At most 5 s,
	// default 2 s.
	PingTimeout time.Duration
	// IdleShutdown is the time without a lease after which the pool stops pinging and
	// closes all connections but one, so that an idle server can suspend. Default
	// 10 min.
	IdleShutdown time.Duration
}

const (
	defaultMin          = 2
	defaultMax          = 10
	defaultScaleUpAt    = 0.8
	defaultScaleDownAt  = 0.3
	defaultMaxWaiters   = 256
	defaultMaxLifetime  = 30 * time.Minute
	defaultInterval     = 30 * time.Second
	defaultStaleAfter   = 60 * time.Second
	defaultPingTimeout  = 2 * time.Second
	defaultIdleShutdown = 10 * time.Minute

	minInterval    = 5 * time.Second
	maxPingTimeout = 5 * time.Second
)

// withDefaults returns o with every zero field set.
func (o Options) withDefaults() Options {
	if o.MinConns == 0 {
		o.MinConns = defaultMin
		if o.MaxConns > 0 {
			o.MinConns = min(defaultMin, o.MaxConns)
		}
	}
	o.MaxConns = cmp.Or(o.MaxConns, max(defaultMax, o.MinConns))
	o.ScaleUpAt = cmp.Or(o.ScaleUpAt, defaultScaleUpAt)
	o.ScaleDownAt = cmp.Or(o.ScaleDownAt, defaultScaleDownAt)
	o.MaxWaiters = cmp.Or(o.MaxWaiters, defaultMaxWaiters)
	o.MaxLifetime = cmp.Or(o.MaxLifetime, defaultMaxLifetime)
	k := &o.KeepAlive
	k.Interval = cmp.Or(k.Interval, defaultInterval)
	k.StaleAfter = cmp.Or(k.StaleAfter, max(defaultStaleAfter, 2*k.Interval))
	k.PingTimeout = cmp.Or(k.PingTimeout, defaultPingTimeout)
	k.IdleShutdown = cmp.Or(k.IdleShutdown, defaultIdleShutdown)
	return o
}

// OptionError reports an invalid option.
type OptionError struct {
	Field   string // such as MinConns or KeepAlive.Interval
	Problem string // the value and the allowed range
}

func (e *OptionError) Error() string { return "pool option " + e.Field + " " + e.Problem }

// Validate returns an *OptionError for the first invalid field.
func (o Options) Validate() error {
	o = o.withDefaults()
	k := o.KeepAlive
	bad := func(field, format string, args ...any) error {
		return &OptionError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case o.MinConns < 0:
		return bad("MinConns", "is %d, must be at least 1", o.MinConns)
	case o.MaxConns < o.MinConns:
		return bad("MaxConns", "is %d, must be at least MinConns (%d)", o.MaxConns, o.MinConns)
	case !(o.ScaleUpAt > 0 && o.ScaleUpAt <= 1): // rejects NaN too
		return bad("ScaleUpAt", "is %v, must be over 0 and at most 1", o.ScaleUpAt)
	case !(o.ScaleDownAt > 0 && o.ScaleDownAt < o.ScaleUpAt):
		return bad("ScaleDownAt", "is %v, must be over 0 and less than ScaleUpAt (%v)", o.ScaleDownAt, o.ScaleUpAt)
	case o.MaxWaiters < 0:
		return bad("MaxWaiters", "is %d, must be at least 1", o.MaxWaiters)
	case o.MaxLifetime < 0:
		return bad("MaxLifetime", "is %v, must be positive", o.MaxLifetime)
	case k.Interval < minInterval:
		return bad("KeepAlive.Interval", "is %v, must be at least %v", k.Interval, minInterval)
	case k.StaleAfter <= k.Interval:
		return bad("KeepAlive.StaleAfter", "is %v, must be more than Interval (%v)", k.StaleAfter, k.Interval)
	case k.PingTimeout < 0 || k.PingTimeout > maxPingTimeout:
		return bad("KeepAlive.PingTimeout", "is %v, must be positive and at most %v", k.PingTimeout, maxPingTimeout)
	case k.IdleShutdown < 0:
		return bad("KeepAlive.IdleShutdown", "is %v, must be positive", k.IdleShutdown)
	}
	return nil
}
