package episodic

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// Several machines, each with a replica, write to one server and read, while the network,
// the server and programs fail, and their clocks are an hour apart. Every writer numbers what
// it writes: the description of an episode, or a step of one that all share, says who wrote it,
// and its number. It waits for the end of each call, and never writes the same again.

// brokenMachine is a folder with a replica and locks, and a link that fails.
type brokenMachine struct {
	name  string
	clock time.Duration // by which it is fast
	opts  Options
	link  *hranatest.Link
	open  []*Store
}

// idAt is a new ID of a machine whose clock is fast by so much.
func idAt(clock time.Duration) ID {
	id := NewID()
	ms := time.Now().Add(clock).UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

// disaster is the whole of it.
type disaster struct {
	ledger
	direct   *Store // which asks the server itself
	offline  Offline
	server   *hranatest.Server
	shared   []ID
	machines []*brokenMachine
	until    time.Time
	writes   int // of rounds that have ended
	acked    int // of them

	reads, stale, failedReads, failedWrites, faults, kills atomic.Int64
	slowestRead, slowestWrite                              atomic.Int64 // nanoseconds
}

// took notes how long a call took.
func took(slowest *atomic.Int64, begin time.Time) {
	for d := int64(time.Since(begin)); ; {
		if was := slowest.Load(); d <= was || slowest.CompareAndSwap(was, d) {
			return
		}
	}
}

const (
	faultyPoll  = 50 * time.Millisecond
	faultyLimit = 40 * time.Second // no call takes longer
	faultyKeep  = 30               // episodes that a writer leaves there
)

// soakEnv is the environment variable that has each part of TestReplicasThroughFaults go on for
// so long, in rounds. For ten minutes on five machines that write through:
//
//	EPISODIC_LONG=1 EPISODIC_SOAK=10m go test -timeout 30m -v -run 'TestReplicasThroughFaults/5_machines,_through' .
const soakEnv = "EPISODIC_SOAK"

// soakFor is how long at least that is; zero: one round.
func soakFor(t *testing.T) (d time.Duration) {
	if text := os.Getenv(soakEnv); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", soakEnv, err)
		}
	}
	return d
}

func TestReplicasThroughFaults(t *testing.T) {
	t.Parallel()
	round := time.Duration(testkit.Effort(1500, 3000, 30_000)) * time.Millisecond
	for _, machines := range []int{2, 5}[:testkit.Effort(1, 1, 2)] {
		for offline, way := range []string{Through: "through", Queue: "queued"} {
			t.Run(fmt.Sprintf("%d machines, %s", machines, way), func(t *testing.T) {
				t.Parallel()
				d := newDisaster(t, machines, Offline(offline))
				for begun := time.Now(); ; d.clear(t) {
					d.prepare(t)
					d.until = time.Now().Add(round)
					d.run(t)
					d.checkEnd(t)
					if t.Failed() || time.Since(begun) >= soakFor(t) {
						break
					}
				}
			})
		}
	}
}

func newDisaster(t *testing.T, machines int, offline Offline) *disaster {
	d := &disaster{offline: offline, server: hranatest.Start(t)}
	d.direct = open(t, d.server.URL(), &Options{Replica: Replica{Disabled: true}, Cache: Cache{Disabled: true}})
	for i := range machines {
		dir := t.TempDir()
		m := &brokenMachine{name: fmt.Sprintf("m%d", i), clock: time.Hour * time.Duration(i-machines/2), link: newLink(t, d.server.URL()), opts: Options{
			LockDir: dir, CacheDir: dir, StateDir: dir, Replica: Replica{Path: filepath.Join(dir, "replica.db"), Offline: offline}, Cache: Cache{PollInterval: faultyPoll},
		}}
		m.link.SetLoss(float64(testkit.Effort(0, 0, 10)) / 100) // in a few seconds too little would be written
		for range 2 {
			m.open = append(m.open, open(t, m.link.URL(), &m.opts))
		}
		d.machines = append(d.machines, m)
	}
	return d
}

// prepare begins a round: all machines have what is shared.
func (d *disaster) prepare(t *testing.T) {
	d.ledger.writers, d.ledger.counters, d.shared = make(map[string][]*fact), nil, nil
	for range 3 {
		e := &Episode{Description: "shared", Start: time.Now()}
		ok(t, d.direct.StartEpisode(t.Context(), e))
		d.shared = append(d.shared, e.ID)
	}
	for _, m := range d.machines {
		for _, s := range m.open {
			c := &counter{id: NewID(), by: s, on: m}
			ok(t, d.direct.PutHeuristic(t.Context(), &Heuristic{ID: c.id, Condition: "counter", Action: strconv.Itoa(d.next(c))}))
			d.counters = append(d.counters, c)
		}
	}
	for _, m := range d.machines {
		ok(t, m.open[0].Sync(t.Context(), nil))
	}
}

// clear deletes what a round has written, as an SQL shell does.
func (d *disaster) clear(t *testing.T) {
	_, err := d.direct.engine.Batch(t.Context(), stmt("DELETE FROM episodes"), stmt("DELETE FROM heuristics"))
	ok(t, err)
}

func (d *disaster) more(t *testing.T) bool { return !t.Failed() && time.Now().Before(d.until) }

func (d *disaster) run(t *testing.T) {
	var work, faults sync.WaitGroup
	for _, m := range d.machines {
		for i, s := range m.open {
			work.Go(func() { d.write(t, fmt.Sprintf("%sw%d", m.name, i), m, s) })
			work.Go(func() { d.read(t, newReader(s, m)) })
		}
		work.Go(func() { d.processes(t, m) })
		faults.Go(func() { d.breakLink(t, m.link) })
	}
	faults.Go(func() { d.killServer(t) })
	work.Wait()
	faults.Wait()
}

// mayFail reports whether a call may end so while everything fails.
func mayFail(err error) bool { return Retryable(err) || errors.Is(err, ErrUnknownOutcome) }

// write writes as one writer.
func (d *disaster) write(t *testing.T, name string, m *brokenMachine, s *Store) {
	var mine []*fact
	counted := d.counterOf(s)
	for d.more(t) {
		ctx, cancel := context.WithTimeout(t.Context(), faultyLimit)
		begin := time.Now()
		if rand.IntN(3) == 0 {
			counted.put(ctx, t, d)
		} else if f := d.writeOne(ctx, t, name, m, s); f.shared.IsZero() && !f.acked.IsZero() {
			mine = append(mine, f)
			d.readMine(ctx, t, s, f)
		}
		took(&d.slowestWrite, begin)
		if len(mine) > faultyKeep {
			old := mine[0]
			mine = mine[1:]
			d.note(func() { old.dropping = true })
			if err := s.DeleteEpisode(ctx, old.id); err == nil {
				d.note(func() { old.dropped = time.Now() })
			} else if !mayFail(err) && !errors.Is(err, ErrNotFound) {
				t.Errorf("delete: %v", err)
			}
		}
		cancel()
		time.Sleep(rand.N(10 * time.Millisecond))
	}
}

// writeOne stores an episode, or adds a step to a shared one.
func (d *disaster) writeOne(ctx context.Context, t *testing.T, name string, m *brokenMachine, s *Store) *fact {
	f := &fact{id: idAt(m.clock), by: s, on: m}
	if rand.IntN(2) == 0 {
		f.shared = d.shared[rand.IntN(len(d.shared))]
	}
	text, now := said{name, d.begin(name, f)}.String(), time.Now().Add(m.clock)
	var err error
	if f.shared.IsZero() {
		err = s.PutEpisode(ctx, &Episode{ID: f.id, Description: text, Start: now, Outcome: Outcome{Kind: Success}, Steps: []Step{{Action: text}}})
	} else {
		_, err = s.AppendSteps(ctx, f.shared, Step{Action: text, Time: now})
	}
	switch {
	case err == nil:
		d.note(func() { f.acked = time.Now() })
	case !mayFail(err):
		t.Errorf("write %s: %v", text, err)
	default:
		d.failedWrites.Add(1)
	}
	return f
}

func (d *disaster) counterOf(s *Store) *counting {
	for _, c := range d.counters {
		if c.by == s {
			return &counting{counter: c}
		}
	}
	panic("every Store has a counter")
}

// counting puts a counter, over what it has read.
type counting struct {
	*counter
	h *Heuristic // nil: it is not known what is stored
}

func (c *counting) put(ctx context.Context, t *testing.T, d *disaster) {
	unsure := c.h == nil
	if unsure {
		var err error
		if c.h, err = c.by.Heuristic(WithFresh(ctx), c.id); err != nil && d.offline == Queue {
			c.h, err = c.by.Heuristic(ctx, c.id)
		}
		if err != nil {
			if !mayFail(err) {
				t.Errorf("read a counter: %v", err)
			}
			c.h = nil
			return
		}
	}
	version := d.next(c.counter)
	c.h.Action = strconv.Itoa(version)
	err := c.by.PutHeuristic(ctx, c.h)
	switch {
	case err == nil:
		d.note(func() { c.acked[version] = time.Now() })
		return
	case !mayFail(err) && !(unsure && errors.Is(err, ErrConflict)): // a write under way may have come later
		t.Errorf("put version %d of a counter: %v", version, err)
	default:
		d.failedWrites.Add(1)
	}
	c.h = nil
}

// readMine reads what the Store has just written, or fails: it must not be missing.
func (d *disaster) readMine(ctx context.Context, t *testing.T, s *Store, f *fact) {
	if _, err := s.Episode(ctx, f.id); err != nil && !mayFail(err) {
		t.Errorf("read an own write: %v", err)
	}
}

// read reads until the end.
func (d *disaster) read(t *testing.T, r *reader) {
	for d.more(t) {
		begin := time.Now()
		v, err := d.look(t, r.by, rand.IntN(3))
		if err == nil {
			err = d.judge(v, r, faultyPoll, d.offline == Queue)
			d.noteRead(t, &v.info, err, false)
		} else {
			d.noteRead(t, nil, err, true)
		}
		took(&d.slowestRead, begin)
		for range 20 {
			d.readCounter(t, r)
		}
		time.Sleep(rand.N(2 * time.Millisecond))
	}
}

// readCounter reads any counter.
func (d *disaster) readCounter(t *testing.T, r *reader) {
	ctx, cancel := context.WithTimeout(t.Context(), faultyLimit)
	defer cancel()
	c := d.counters[rand.IntN(len(d.counters))]
	var info ReadInfo
	begin := time.Now()
	h, err := r.by.Heuristic(WithReadInfo(ctx, &info), c.id)
	took(&d.slowestRead, begin)
	if err != nil {
		d.noteRead(t, nil, err, true)
		return
	}
	version, err := strconv.Atoi(h.Action)
	if err == nil {
		err = d.judgeVersion(c, version, r, begin, &info, faultyPoll, d.offline == Queue)
	}
	d.noteRead(t, &info, err, false)
}

// noteRead counts a read. An error is that of the read, which then failed, or of what it showed.
func (d *disaster) noteRead(t *testing.T, info *ReadInfo, err error, failed bool) {
	switch {
	case failed && mayFail(err):
		d.failedReads.Add(1)
		return
	case err != nil:
		t.Errorf("read: %v", err)
		return
	}
	if d.reads.Add(1); info.Stale != nil {
		d.stale.Add(1)
	}
}

// look lists the episodes, searches for them, or gets a shared one.
func (d *disaster) look(t *testing.T, s *Store, kind int) (*sight, error) {
	ctx, cancel := context.WithTimeout(t.Context(), faultyLimit)
	defer cancel()
	v := &sight{begin: time.Now(), present: make(map[said]int)}
	ctx = WithReadInfo(ctx, &v.info)
	var texts []string
	switch kind {
	case 0:
		for p := (&Paging{Limit: 1000}); ; {
			page, err := s.ListEpisodes(ctx, &EpisodeFilter{State: StateEnded}, p)
			if err != nil {
				return nil, err
			}
			for _, e := range page.Items {
				texts = append(texts, e.Description)
			}
			if p.Cursor = page.Next; p.Cursor == "" {
				break
			}
			if d.more(t) {
				return d.look(t, s, 2) // pages are not of one moment while others write
			}
		}
	case 1:
		found, err := s.Search(ctx, "valve", &SearchOptions{Limit: 1000, EachRun: true, Filter: EpisodeFilter{State: StateEnded}})
		if err != nil {
			return nil, err
		}
		if found.Waiting > 0 || len(found.Hits) >= 1000 { // no search shows more
			return d.look(t, s, 0)
		}
		for _, h := range found.Hits {
			texts = append(texts, h.Episode.Description)
		}
	default:
		v.shared = d.shared[rand.IntN(len(d.shared))]
		e, err := s.Episode(ctx, v.shared)
		if err != nil {
			return nil, err
		}
		for _, step := range e.Steps {
			texts = append(texts, step.Action)
		}
	}
	for _, text := range texts {
		w, err := saidBy(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		v.present[w]++
	}
	return v, nil
}

// breakLink makes faults, and leaves the link whole.
func (d *disaster) breakLink(t *testing.T, l *hranatest.Link) {
	for d.more(t) {
		d.faults.Add(1)
		switch rand.IntN(6) {
		case 0:
			l.ResetAll()
		case 1:
			l.CutRequest(rand.IntN(2000))
		case 2:
			l.CutAnswer(rand.IntN(2000))
		case 3:
			l.SetRTT(rand.N(30 * time.Millisecond))
		case 4:
			l.Refuse(true)
			time.Sleep(rand.N(200 * time.Millisecond))
			l.Refuse(false)
		case 5:
			l.Blackhole(true)
			time.Sleep(rand.N(400 * time.Millisecond))
			l.Blackhole(false)
			l.ResetAll() // what is lost would be waited for 15 s
		}
		time.Sleep(rand.N(time.Duration(testkit.Effort(200, 300, 2000)) * time.Millisecond))
	}
	l.SetRTT(0)
	l.ResetAll()
}

// killServer kills the server now and then, and leaves it running.
func (d *disaster) killServer(t *testing.T) {
	for d.more(t) {
		time.Sleep(time.Duration(testkit.Effort(1, 1, 2)) * (time.Second + rand.N(2*time.Second)))
		d.server.Kill()
		time.Sleep(rand.N(300 * time.Millisecond))
		if err := d.server.Restart(); err != nil {
			t.Errorf("restart the server: %v", err)
			return
		}
		d.kills.Add(1)
	}
}

// checkEnd compares what is there in the end with what was acknowledged, and all replicas
// with the server.
func (d *disaster) checkEnd(t *testing.T) {
	acked, all := d.counts()
	d.acked, d.writes = d.acked+acked, d.writes+all
	t.Logf("%d machines: %d writes, %d acknowledged; %d reads, of which %d told that they were older; failed: %d writes, %d reads; %d faults, %d kills; slowest write %v, read %v",
		len(d.machines), d.writes, d.acked, d.reads.Load(), d.stale.Load(), d.failedWrites.Load(), d.failedReads.Load(), d.faults.Load(), d.kills.Load(),
		time.Duration(d.slowestWrite.Load()).Round(time.Millisecond), time.Duration(d.slowestRead.Load()).Round(time.Millisecond))
	if acked < testkit.Effort(1, 1, 50) || d.reads.Load() < 20 || d.faults.Load() < 5 || d.kills.Load() < 2 {
		t.Error("too little happened")
	}
	if d.offline == Queue {
		for _, m := range d.machines {
			ctx, cancel := context.WithTimeout(t.Context(), faultyLimit)
			if err := m.open[0].Flush(ctx); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
			if out, err := m.open[0].Outbox(ctx); err != nil || out.Waiting > 0 {
				t.Errorf("%s: %+v, %v", m.name, out, err)
			}
			cancel()
		}
	}
	readers := []*reader{newReader(d.direct, &brokenMachine{name: "the server"})}
	for _, m := range d.machines {
		s := m.open[0]
		ctx, cancel := context.WithTimeout(t.Context(), faultyLimit)
		ok(t, s.Sync(ctx, nil))
		differences, err := s.VerifyReplica(ctx, true)
		cancel()
		if err != nil || len(differences) > 0 {
			t.Errorf("%s: %+v, %v", m.name, differences, err)
		}
		readers = append(readers, newReader(s, m))
		checkIndex(t, s.replica.inner)
	}
	want := digest(t, d.direct.engine)
	for _, r := range readers {
		if s := r.by; s != d.direct {
			if got := digest(t, s.replica.inner.engine); got != want {
				t.Errorf("in the end, on %s: the hash is %s, on the server %s", r.on.name, got, want)
			}
		}
		for kind := range 2 + len(d.shared) {
			if kind == 1 && r.by == d.direct {
				continue // it has no index that is sure to be complete
			}
			_, err := r.by.Counts(WithFresh(t.Context()))
			ok(t, err)
			v, err := d.look(t, r.by, kind)
			ok(t, err)
			if err := errors.Join(d.judge(v, r, 0, false), d.checkWhole(v)); err != nil {
				t.Errorf("in the end: %v", err)
			}
		}
		for _, c := range d.counters {
			var info ReadInfo
			begin := time.Now()
			h, err := r.by.Heuristic(WithReadInfo(t.Context(), &info), c.id)
			ok(t, err)
			version, err := strconv.Atoi(h.Action)
			ok(t, err)
			if err := d.judgeVersion(c, version, r, begin, &info, 0, false); err != nil {
				t.Errorf("in the end: %v", err)
			}
		}
	}
	t.Logf("the hash is %s", want)
}

// digest is a hash of what a memory holds.
func digest(t *testing.T, e engine.Engine) string {
	t.Helper()
	h := sha256.New()
	for _, sql := range []string{"SELECT id, rev, steps, start_us FROM episodes ORDER BY id", "SELECT id, rev FROM heuristics ORDER BY id"} {
		res, err := e.Query(t.Context(), stmt(sql))
		ok(t, err)
		for _, row := range res[0].Rows {
			fmt.Fprintln(h, row...)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
