package episodic

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// fact is what became of a write.
type fact struct {
	shared   ID             // the shared episode that it is a step of; zero: it is an episode
	id       ID             // of the episode
	by       *Store         // nil: of another process
	on       *brokenMachine // where it was written
	acked    time.Time      // zero: under way, or failed
	dropping bool           // its deletion has begun
	dropped  time.Time      // and was acknowledged
}

// counter is a heuristic that one Store puts again and again, each time over what it read.
type counter struct {
	id    ID
	by    *Store
	on    *brokenMachine
	acked []time.Time // of each version, from 0; zero: under way, or failed
}

// ledger is what all writers have done.
type ledger struct {
	mu       sync.Mutex
	writers  map[string][]*fact // the first has number 1
	counters []*counter
}

func (l *ledger) begin(writer string, f *fact) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writers[writer] = append(l.writers[writer], f)
	return len(l.writers[writer])
}

// next begins a version of a counter.
func (l *ledger) next(c *counter) (version int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.acked = append(c.acked, time.Time{})
	return len(c.acked) - 1
}

func (l *ledger) note(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *ledger) counts() (acked, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := func(at time.Time) {
		if all++; !at.IsZero() {
			acked++
		}
	}
	for _, facts := range l.writers {
		for _, f := range facts {
			count(f.acked)
		}
	}
	for _, c := range l.counters {
		for _, at := range c.acked {
			count(at)
		}
	}
	return acked, all
}

// said is who wrote something, and its number.
type said struct {
	writer string
	n      int
}

func (w said) String() string { return fmt.Sprintf("valve %s %d", w.writer, w.n) }

func saidBy(text string) (w said, err error) {
	_, err = fmt.Sscanf(text, "valve %s %d", &w.writer, &w.n)
	return w, err
}

// reader is who reads, and what its reads have shown so far.
type reader struct {
	by       *Store
	on       *brokenMachine
	newest   map[string]int   // of each writer
	versions map[*counter]int // of each counter
}

func newReader(s *Store, on *brokenMachine) *reader {
	return &reader{s, on, make(map[string]int), make(map[*counter]int)}
}

// sight is what a read showed: the episodes, or the steps of a shared one, and how often.
type sight struct {
	shared  ID
	begin   time.Time
	info    ReadInfo
	present map[said]int
}

// asOf is when the server had all that the read shows, at the earliest.
func asOf(begin time.Time, info *ReadInfo, poll time.Duration) time.Time {
	if info.Stale == nil {
		return begin.Add(-poll)
	}
	return begin.Add(-info.Age)
}

// promised reports whether a reader is to see in time what was acknowledged to a writer. While
// writes are queued only the machine on which something was written must show it, until it was
// pushed.
func (r *reader) promised(on *brokenMachine, queued bool) bool { return !queued || on == r.on }

// judge reports what the read should have shown and did not, or the reverse.
//
// What others write to a shared episode is not seen where own steps of it wait. An older
// answer then may lack what comes before what it shows.
func (l *ledger) judge(v *sight, r *reader, poll time.Duration, queued bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	current := v.info.Stale == nil
	as := asOf(v.begin, &v.info, poll) // what was acknowledged before is there
	for writer, facts := range l.writers {
		newest := 0
		for w := range v.present {
			if w.writer == writer {
				newest = max(newest, w.n)
			}
		}
		if current {
			r.newest[writer] = max(r.newest[writer], newest)
			newest = r.newest[writer]
		}
		for i, f := range facts {
			if f.shared != v.shared {
				continue
			}
			promised := r.promised(f.on, queued)
			has, stays := v.present[said{writer, i + 1}], !f.acked.IsZero() && !f.dropping
			wrong := ""
			switch {
			case has > 1:
				wrong = fmt.Sprintf("is there %d times", has)
			case has == 0 && stays && f.acked.Before(as) && promised:
				wrong = "is missing"
			case has == 0 && stays && current && f.by == r.by && f.acked.Before(v.begin):
				wrong = "is missing, though the reader wrote it"
			case has == 0 && stays && i+1 < newest && (promised || v.shared.IsZero()) && !errors.Is(v.info.Stale, errFilling):
				wrong = fmt.Sprintf("is missing, while number %d was seen", newest)
			case has > 0 && !f.dropped.IsZero() && f.dropped.Before(as) && promised:
				wrong = "is there, though it was deleted"
			}
			if wrong != "" {
				return fmt.Errorf("number %d of %s (acknowledged %v before the read) %s; read on %s, %+v", i+1, writer, v.begin.Sub(f.acked), wrong, r.on.name, v.info)
			}
		}
	}
	return nil
}

// judgeVersion reports whether a read showed an older version of a counter than it should.
func (l *ledger) judgeVersion(c *counter, version int, r *reader, begin time.Time, info *ReadInfo, poll time.Duration, queued bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	as := asOf(begin, info, poll)
	for i := len(c.acked) - 1; i > version; i-- {
		at := c.acked[i]
		if !at.IsZero() && (at.Before(as) && r.promised(c.on, queued) || at.Before(begin) && c.by == r.by) {
			return fmt.Errorf("version %d was read on %s, and %d was acknowledged %v before; %+v", version, r.on.name, i, begin.Sub(at), *info)
		}
	}
	if info.Stale == nil && version < r.versions[c] {
		return fmt.Errorf("version %d was read on %s, and %d before; %+v", version, r.on.name, r.versions[c], *info)
	}
	r.versions[c] = max(r.versions[c], version)
	return nil
}

// checkWhole reports what is there that nobody wrote. All writers have ended.
func (l *ledger) checkWhole(v *sight) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range v.present {
		if facts := l.writers[w.writer]; w.n < 1 || w.n > len(facts) || facts[w.n-1].shared != v.shared {
			return fmt.Errorf("number %d of %s is there, and was never written", w.n, w.writer)
		}
	}
	return nil
}
