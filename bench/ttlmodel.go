package main

import (
	"cmp"
	"container/heap"
	"container/list"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/cache"
)

// The reads of a trace.
const (
	ttlKeys  = 20_000
	ttlReads = 40 // a second
	// Reads of the key of rank k are in proportion to (zipfFrom + k) ** -zipfPower.
	zipfPower, zipfFrom = 1.05, 2
)

// readTrace is what befalls a cache: reads of this process, and writes of others.
type readTrace struct {
	length        time.Duration
	reads, writes []access          // in their order
	writesOf      [][]time.Duration // by key
}

type access struct {
	at  time.Duration
	key int // its rank in reads
}

// writeMix is how often others write.
type writeMix struct {
	name string
	// every is the average time between two writes of a key of a kind, 0 to 1.
	every func(key int, kind float64) time.Duration
}

// newReadTrace returns a trace of a seed. Its reads are the same in every mix.
func newReadTrace(mix writeMix, seed uint64, length time.Duration) *readTrace {
	t := &readTrace{length: length, writesOf: make([][]time.Duration, ttlKeys)}
	r := rand.New(rand.NewPCG(seed, 0))
	zipf := rand.NewZipf(r, zipfPower, zipfFrom, ttlKeys-1)
	for at := random(r, time.Second/ttlReads); at < length; at += random(r, time.Second/ttlReads) {
		t.reads = append(t.reads, access{at, int(zipf.Uint64())})
	}
	r = rand.New(rand.NewPCG(seed, 1))
	for key := range t.writesOf {
		every := mix.every(key, r.Float64())
		for at := random(r, every); at < length; at += random(r, every) {
			t.writesOf[key] = append(t.writesOf[key], at)
			t.writes = append(t.writes, access{at, key})
		}
	}
	slices.SortFunc(t.writes, func(a, b access) int { return cmp.Compare(a.at, b.at) })
	return t
}

// random returns a time between two events that know nothing of each other.
func random(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(r.ExpFloat64() * float64(mean))
}

// ttlRule decides how long entries are kept. It sets expires.
type ttlRule interface {
	loaded(e *kept)
	read(e *kept, now time.Duration)
}

// kept is an entry of a ttlModel.
type kept struct {
	key      int
	version  int // how many writes of the key are in it
	seq      int // how many writes there were when it was loaded
	loadedAt time.Duration

	expires time.Duration

	use   *list.Element // nil: it is no entry
	place int           // among deadlines

	state  cache.State     // of nextTTL
	jitter float64         // of nextTTL
	hits   []time.Duration // of original
}

// fixedTTL keeps every entry for the same time.
type fixedTTL time.Duration

func (r fixedTTL) loaded(e *kept)          { e.expires = e.loadedAt + time.Duration(r) }
func (fixedTTL) read(*kept, time.Duration) {}

// original is the rule of the program that episodic takes the place of.
type original struct{}

func (original) loaded(e *kept) {
	e.expires, e.hits = e.loadedAt+5*time.Minute, e.hits[:0]
}

func (original) read(e *kept, now time.Duration) {
	const many, few, window = 10, 2, 5 * time.Minute
	if len(e.hits) == many {
		e.hits = append(e.hits[:0], e.hits[1:]...)
	}
	e.hits = append(e.hits, now)
	lately := 0
	for _, at := range e.hits {
		if at >= now-window {
			lately++
		}
	}
	ttl := e.expires - e.loadedAt
	switch {
	case lately >= many:
		ttl = ttl * 5 / 4
	case lately <= few:
		ttl = ttl * 3 / 4
	}
	e.expires = e.loadedAt + min(max(ttl, time.Minute), time.Hour)
}

// nextTTL is the rule of package cache, with its jitter.
type nextTTL struct {
	cache.Options
	rand *rand.Rand
}

func newNextTTL(o cache.Options) *nextTTL {
	return &nextTTL{Options: o, rand: rand.New(rand.NewPCG(0, 2))}
}

// maxJitter is what package cache keeps to itself. TestTTLModelIsTheCache fails
// when it changes.
const maxJitter = 0.1

func (r *nextTTL) loaded(e *kept) {
	e.state = e.state.Load(r.Options, e.loadedAt, false)
	e.jitter = (2*r.rand.Float64() - 1) * maxJitter
	e.expires = e.loadedAt + r.jittered(e)
}

func (r *nextTTL) read(e *kept, now time.Duration) {
	e.state = e.state.Touch(r.Options, now)
	e.expires = e.loadedAt + r.jittered(e)
}

func (r *nextTTL) jittered(e *kept) time.Duration {
	longest := float64(r.MaxTTL) * (1 - max(e.jitter, -e.jitter))
	return time.Duration(min(float64(e.state.TTL)*(1+e.jitter), longest))
}

// ttlModel is a cache in virtual time. Loads and polls take none.
type ttlModel struct {
	*readTrace
	rule ttlRule
	feed bool          // there is a change feed
	poll time.Duration // how long a read of the feed is relied on
	room int           // entries; the one that was not read for longest goes first

	now       time.Duration
	entries   []*kept // by key
	deadlines deadlines
	uses      *list.List // of entries, the last one read at the front

	seq      int   // how many writes there were
	versions []int // by key, how many of them
	seen     int   // how many writes the last read of the feed showed
	polled   time.Duration

	ttlOutcome
}

// ttlOutcome is what became of a trace.
type ttlOutcome struct {
	length             time.Duration
	hits, loads, polls int
	stale              []time.Duration // for each hit of another version than the database's, since when that was
	held               time.Duration   // sum over all entries of how long they were kept
}

// entries is how many there were on average.
func (o *ttlOutcome) entries() float64 { return float64(o.held) / float64(o.length) }

// hitShare is the part of all reads that was hits.
func (o *ttlOutcome) hitShare() float64 { return float64(o.hits) / float64(o.hits+o.loads) }

// staleShare is the part of all reads that was stale hits.
func (o *ttlOutcome) staleShare() float64 { return float64(len(o.stale)) / float64(o.hits+o.loads) }

// add makes o the sum of both.
func (o *ttlOutcome) add(p *ttlOutcome) {
	o.length += p.length
	o.hits += p.hits
	o.loads += p.loads
	o.stale = append(o.stale, p.stale...)
	o.held += p.held
}

// simulate makes the accesses of a trace to a cache with room for so many
// entries.
func (t *readTrace) simulate(rule ttlRule, feed bool, poll time.Duration, room int) *ttlOutcome {
	m := &ttlModel{
		readTrace: t, rule: rule, feed: feed, poll: poll, room: room,
		entries: make([]*kept, len(t.writesOf)), uses: list.New(), versions: make([]int, len(t.writesOf)),
		ttlOutcome: ttlOutcome{length: t.length},
	}
	for _, read := range t.reads {
		m.proceed(read.at)
		m.read(read.key)
	}
	m.proceed(t.length)
	return &m.ttlOutcome
}

// proceed lets happen what does until at.
func (m *ttlModel) proceed(at time.Duration) {
	for len(m.deadlines) > 0 && m.deadlines[0].expires <= at {
		m.pass(m.deadlines[0].expires)
		m.remove(m.deadlines[0])
	}
	m.pass(at)
	for m.seq < len(m.writes) && m.writes[m.seq].at <= at {
		m.versions[m.writes[m.seq].key]++
		m.seq++
	}
}

func (m *ttlModel) pass(at time.Duration) {
	// An entry may have expired before now: a read can shorten its TTL.
	m.held += max(0, at-m.now) * time.Duration(len(m.deadlines))
	m.now = max(m.now, at)
}

func (m *ttlModel) read(key int) {
	e := m.entries[key]
	if e == nil || e.use == nil {
		m.loads++
		m.load(key)
		return
	}
	m.rule.read(e, m.now)
	heap.Fix(&m.deadlines, e.place)
	m.uses.MoveToFront(e.use)
	if m.feed && m.now-m.polled > m.poll {
		m.polls++
		m.apply()
	}
	if e.use == nil {
		m.loads++
		m.load(key)
		return
	}
	m.hits++
	if e.version != m.versions[key] {
		m.stale = append(m.stale, m.now-m.writesOf[key][e.version])
	}
}

// apply removes the entries of keys that the feed shows to have changed.
func (m *ttlModel) apply() {
	for ; m.seen < m.seq; m.seen++ {
		if e := m.entries[m.writes[m.seen].key]; e != nil && e.use != nil && e.seq <= m.seen {
			m.remove(e)
		}
	}
	m.polled = m.now
}

func (m *ttlModel) load(key int) {
	if m.feed {
		m.apply()
	}
	e := m.entries[key]
	if e == nil {
		e = &kept{key: key}
		m.entries[key] = e
	}
	e.version, e.seq, e.loadedAt = m.versions[key], m.seq, m.now
	m.rule.loaded(e)
	e.use = m.uses.PushFront(e)
	heap.Push(&m.deadlines, e)
	if len(m.deadlines) > m.room {
		m.remove(m.uses.Back().Value.(*kept))
	}
}

func (m *ttlModel) remove(e *kept) {
	heap.Remove(&m.deadlines, e.place)
	m.uses.Remove(e.use)
	e.use = nil
}

// deadlines are all entries, as a heap: the next one to expire is the first.
type deadlines []*kept

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].expires < d[j].expires }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}
func (d *deadlines) Push(e any) {
	e.(*kept).place = len(*d)
	*d = append(*d, e.(*kept))
}
func (d *deadlines) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}
