package cache

import "time"

const (
	// readStep is the least time between two reads of a key that the rule tells apart: closer ones
	// are one, so that a hit of a busy key writes nothing.
	readStep = time.Second

	// grantReads is how many intervals between reads an entry is kept for.
	grantReads = 5

	// A value may be kept for changeShare of the time between two changes or, as long as none was
	// seen, for ageShare of the time that it has been known.
	changeShare = 0.35
	ageShare    = 0.5

	// refreshShare is the part of the longest life after which a hot entry is loaded anew; hot is one
	// that is read at least hotReads times in that life.
	refreshShare = 0.8
	hotReads     = 3

	// averageWeight is the weight of the latest interval in the averages.
	averageWeight = 0.25
)

// State is what the TTL rule knows of a key. It outlives the key's entries. All times are counted
// from one moment, whichever. The zero value is a key that was never loaded.
type State struct {
	Loaded   time.Duration // the last load
	LastRead time.Duration // the last read; a load for a caller is one

	// ReadInterval is the average time between two reads of an entry; 0 is not known yet.
	ReadInterval time.Duration

	LastChange time.Duration // the last load that showed another version, at first the first load
	// ChangeInterval is the average time between two changes; 0 as long as there was one version.
	ChangeInterval time.Duration
	Version        uint64 // of the last load

	TTL    time.Duration // how long after Loaded the entry expires; 0 before the first load
	Grant  time.Duration // what the last read got, BaseTTL before the first
	Read   bool          // there was a read since Loaded
	Unread bool          // there was none in the life of the entry before this one
	// Missing says that the last load found nothing.
	Missing bool
}

// NextTTL is the TTL rule: it returns how long after s.Loaded an entry in state s is to expire, as
// of now. It is a function of the state alone, so that the cache and a simulation cannot drift
// apart; jitter is added by the cache.
//
// A new entry gets BaseTTL. One that is read is kept for five read intervals from that read on,
// within MinTTL and MaxTTL, and a read never shortens what was granted. One that comes back after
// nobody has read it gets half of what it had. No value is kept for longer than is likely to be
// right: 0.35 of the time between its changes or, if it was never seen to change, half of the time
// that it has been known (MinTTL, or BaseTTL, in any case). What was not found is kept for
// NegativeTTL.
//
// So for a key that is read every t, an entry expires clamp(5 t) after its last read.
func NextTTL(o Options, s State, now time.Duration) time.Duration {
	if s.Missing {
		return o.NegativeTTL
	}
	grant := o.BaseTTL
	switch {
	case s.Unread && !s.Read:
		grant = max(o.MinTTL, s.Grant/2)
	case s.ReadInterval > 0:
		grant = max(o.MinTTL, min(o.MaxTTL, grantReads*s.ReadInterval))
	}
	return min(limit(o, s, now), max(s.TTL, now-s.Loaded+grant))
}

// limit returns the longest TTL that an entry in state s may have.
func limit(o Options, s State, now time.Duration) time.Duration {
	known := now - s.LastChange
	if s.ChangeInterval == 0 {
		return min(o.MaxTTL, max(o.BaseTTL, part(known, ageShare)))
	}
	return min(o.MaxTTL, max(o.MinTTL, part(max(s.ChangeInterval, known), changeShare)))
}

// RefreshAfter returns how long after s.Loaded a read is to have the entry loaded anew in the
// background, as of now: at 0.8 of the longest TTL that reads can get it. 0 is never: it is not hot.
func RefreshAfter(o Options, s State, now time.Duration) time.Duration {
	longest := limit(o, s, now)
	if s.Missing || s.ReadInterval == 0 || s.ReadInterval >= longest/hotReads {
		return 0
	}
	return part(longest, refreshShare)
}

// Load returns the state of a key after a load at now.
func (s State) Load(o Options, now time.Duration, version uint64, missing bool) State {
	switch {
	case s.TTL == 0 || s.Missing != missing: // what is known of the other kind says nothing
		s.LastChange, s.ChangeInterval, s.Grant, s.Unread = now, 0, o.BaseTTL, false
	case s.Version != version:
		s.ChangeInterval = average(s.ChangeInterval, now-s.LastChange)
		s.LastChange = now
		fallthrough
	default:
		s.Unread = !s.Read
	}
	s.Loaded, s.LastRead = now, max(s.LastRead, now)
	s.Version, s.Missing, s.Read, s.TTL = version, missing, false, 0
	s.TTL = NextTTL(o, s, now)
	return s
}

// Touch returns the state of a key after a read of its entry at now.
func (s State) Touch(o Options, now time.Duration) State {
	if now-s.LastRead < readStep {
		return s
	}
	s.ReadInterval = average(s.ReadInterval, now-s.LastRead)
	s.LastRead, s.Read = now, true
	s.Grant = max(o.MinTTL, min(o.MaxTTL, grantReads*s.ReadInterval))
	s.TTL = NextTTL(o, s, now)
	return s
}

// average adds d to a weighted mean; 0 is none yet.
func average(mean, d time.Duration) time.Duration {
	if mean == 0 {
		return max(1, d)
	}
	return max(1, mean+part(d-mean, averageWeight))
}

func part(d time.Duration, share float64) time.Duration { return time.Duration(float64(d) * share) }
