package cache

import "time"

const (
	// readStep is the shortest interval between two reads of an entry that the rule
	// tells apart: closer ones count as one, so that a hit of a hot entry writes
	// nothing.
	readStep = time.Second

	// grantReads is how many read intervals an entry is kept for after a read.
	grantReads = 5

	// averageWeight is the weight of the latest interval in the average.
	averageWeight = 0.25
)

// State is what the TTL rule knows of an entry. All times are counted from the
// same arbitrary one.
type State struct {
	Loaded   time.Duration
	LastRead time.Duration // the load, which a caller waited for, is the first
	// ReadInterval is the average time between two reads; 0 before the second.
	ReadInterval time.Duration
	// TTL is how long after Loaded the entry expires.
	TTL time.Duration
	// Missing says that the load found no value.
	Missing bool
}

// NextTTL is the TTL rule: it returns how long after s.Loaded an entry in state s
// is to expire, as of a load or a read at now. It is a pure function, shared with
// the simulator in bench/; the cache adds jitter.
//
// A new entry gets BaseTTL. With every read it is kept for five read intervals
// more, from then on, within MinTTL and MaxTTL; a read never shortens what it had,
// and no entry lives for longer than MaxTTL. So hot entries live long, and those
// that nobody reads again are gone after BaseTTL. Entries without a value get
// NegativeTTL.
//
// How often the value changes does not matter: a change ends the entry.
func NextTTL(o Options, s State, now time.Duration) time.Duration {
	switch {
	case s.Missing:
		return o.NegativeTTL
	case s.ReadInterval == 0:
		return o.BaseTTL
	}
	grant := max(o.MinTTL, min(o.MaxTTL, grantReads*s.ReadInterval))
	return min(o.MaxTTL, max(s.TTL, now-s.Loaded+grant))
}

// Load returns the state of an entry that was loaded at now.
func (State) Load(o Options, now time.Duration, missing bool) State {
	s := State{Loaded: now, LastRead: now, Missing: missing}
	s.TTL = NextTTL(o, s, now)
	return s
}

// Touch returns the state of an entry after a read at now.
func (s State) Touch(o Options, now time.Duration) State {
	interval := now - s.LastRead
	if interval < readStep {
		return s
	}
	if s.ReadInterval == 0 {
		s.ReadInterval = interval
	} else {
		s.ReadInterval += scale(interval-s.ReadInterval, averageWeight)
	}
	s.LastRead = now
	s.TTL = NextTTL(o, s, now)
	return s
}
