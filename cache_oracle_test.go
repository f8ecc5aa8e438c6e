package episodic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// The oracle. Versions of a few items are written by several Stores and by
// strangers. Whoever reads an item must find at least the version that was
// acknowledged lag before, and at least what was written by its own hand.

type written struct {
	version int
	gone    bool
	by      *Store
	at      time.Time // of the acknowledgement; zero: under way
}

type item struct {
	id    ID
	write sync.Mutex // held from before a write until it is acknowledged

	mu      sync.Mutex
	history []written // versions grow
}

func (i *item) begin(by *Store, gone bool) (version int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	version = len(i.history) + 1
	i.history = append(i.history, written{version, gone, by, time.Time{}})
	return version
}

func (i *item) acknowledge() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.history[len(i.history)-1].at = time.Now()
}

func (i *item) gone() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.history) == 0 || i.history[len(i.history)-1].gone
}

// judge checks version (0: none) that s found in a read that began at begin. age is
// for how long it was outdated then.
func (i *item) judge(s *Store, version int, begin time.Time, lag time.Duration) (age time.Duration, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if version > len(i.history) {
		return 0, fmt.Errorf("version %d was never written", version)
	}
	least := 0
	for _, w := range slices.Backward(i.history) {
		if !w.at.IsZero() && (w.at.Before(begin.Add(-lag)) || w.by == s && w.at.Before(begin)) {
			least = w.version
			break
		}
	}
	if version == 0 {
		// The latest one it may have been.
		for _, w := range slices.Backward(i.history[max(0, least-1):]) {
			if w.gone {
				version = w.version
				break
			}
		}
	}
	if version < len(i.history) {
		if next := i.history[version]; !next.at.IsZero() && next.at.Before(begin) {
			age = begin.Sub(next.at)
		}
	}
	if version < least {
		w := i.history[least-1]
		return age, fmt.Errorf("version %d was read, %d was acknowledged %v before (by itself: %v); it was outdated for %v",
			version, least, begin.Sub(w.at), w.by == s, age)
	}
	return age, nil
}

// world is what the oracle writes.
type world struct {
	episodes []*item // versions are the domain or a tag, whichever is newer
	running  []*item // versions are the number of steps
	patterns []*item // versions are the description
}

func newWorld() *world {
	w := &world{}
	for _, items := range []*[]*item{&w.episodes, &w.running, &w.patterns} {
		for range 4 {
			*items = append(*items, &item{id: NewID()})
		}
	}
	return w
}

func (w *world) all() []*item { return slices.Concat(w.episodes, w.running, w.patterns) }

func versionOf(e *Episode) int {
	if e.Context.Domain == "" {
		return e.StepCount + 1 // the first version has no steps
	}
	v, _ := strconv.Atoi(e.Context.Domain)
	for _, tag := range e.Context.Tags {
		n, _ := strconv.Atoi(tag)
		v = max(v, n)
	}
	return v
}

// change writes the next version of i by s, or by SQL through s.
func (w *world) change(t testing.TB, s *Store, i *item, stranger bool) (version int) {
	i.write.Lock()
	defer i.write.Unlock()
	gone, chance := i.gone(), rand.IntN(10)
	isEpisode, isRunning := slices.Contains(w.episodes, i), slices.Contains(w.running, i)
	if stranger && (gone || !isEpisode && !isRunning) || isRunning && stranger {
		return 0
	}
	remove := !gone && !isRunning && chance == 0
	version = i.begin(s, remove)
	word := strconv.Itoa(version)
	var err error
	switch {
	case remove && stranger:
		_, err = s.engine.Batch(t.Context(), stmt("DELETE FROM episodes WHERE id=?", i.id.bytes()))
	case remove && isEpisode:
		err = s.DeleteEpisode(t.Context(), i.id)
	case remove:
		err = s.DeletePattern(t.Context(), i.id)
	case stranger:
		_, err = s.engine.Batch(t.Context(), stmt("INSERT INTO tags SELECT ?,seq,99 FROM episodes WHERE id=?", word, i.id.bytes()))
	case isEpisode && (gone || chance < 7):
		err = s.PutEpisode(t.Context(), &Episode{ID: i.id, Description: "oracle", Context: Context{Domain: word}})
	case isEpisode:
		err = s.AddTags(t.Context(), i.id, word)
	case isRunning && gone:
		err = s.StartEpisode(t.Context(), &Episode{ID: i.id, Description: "oracle"})
	case isRunning:
		_, err = s.AppendSteps(t.Context(), i.id, Step{Tool: "x"})
	default:
		err = s.PutPattern(t.Context(), &Pattern{ID: i.id, Description: word, ToolSequence: &ToolSequence{Tools: []string{"x"}}})
	}
	if err != nil {
		t.Errorf("write %d of %v: %v", version, i.id, err)
	}
	i.acknowledge()
	return version
}

// read returns the versions of some items that one read through s shows.
func (w *world) read(t testing.TB, s *Store, kind int) (items []*item, versions []int) {
	found := map[ID]int{}
	var err error
	episodes := slices.Concat(w.episodes, w.running)
	switch kind {
	case 0:
		var page *Page[*Episode]
		if page, err = s.ListEpisodes(t.Context(), nil, nil); err == nil {
			for _, e := range page.Items {
				found[e.ID] = versionOf(e)
			}
		}
		items = episodes
	case 1:
		var hits []Hit
		hits, err = s.searchHits(t.Context(), "oracle", &SearchOptions{Limit: 100})
		for _, h := range hits {
			found[h.Episode.ID] = versionOf(h.Episode)
		}
		items = episodes
	case 2:
		var page *Page[*Pattern]
		if page, err = s.ListPatterns(t.Context(), nil, nil); err == nil {
			for _, p := range page.Items {
				found[p.ID], _ = strconv.Atoi(p.Description)
			}
		}
		items = w.patterns
	case 3, 4:
		i := w.patterns[rand.IntN(len(w.patterns))]
		var p *Pattern
		if p, err = s.Pattern(t.Context(), i.id); err == nil {
			found[i.id], _ = strconv.Atoi(p.Description)
		}
		items = []*item{i}
	default:
		i := episodes[rand.IntN(len(episodes))]
		var e *Episode
		if e, err = s.Episode(t.Context(), i.id); err == nil {
			found[i.id] = versionOf(e)
		}
		items = []*item{i}
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Errorf("read: %v", err)
		return nil, nil
	}
	for _, i := range items {
		versions = append(versions, found[i.id])
	}
	return items, versions
}

func TestCacheIsNeverOlderThanItSays(t *testing.T) {
	t.Parallel()
	onEveryTarget(t, func(t *testing.T, target string) {
		lag := shortPoll
		if !strings.HasPrefix(target, "http") {
			lag = 0
		}
		neverOlder(t, lag, func(c Cache) *Store { return cachedStore(t, target, c) })
	})
}

func TestReplicaIsNeverOlderThanItSays(t *testing.T) {
	t.Parallel()
	target := hranatest.Start(t).URL()
	paths := []string{filepath.Join(t.TempDir(), "a.db"), filepath.Join(t.TempDir(), "b.db")}
	n := 0
	neverOlder(t, shortPoll, func(c Cache) *Store {
		n++
		c.PollInterval = shortPoll
		return open(t, target, &Options{Cache: c, Replica: Replica{Path: paths[n%2]}})
	})
}

// toldOlder is how often a reader was told that a replica is older than promised.
func toldOlder(s *Store) uint64 {
	if s.replica == nil {
		return 0
	}
	return s.Stats().Replica.OlderReads
}

// neverOlder writes and reads by Stores on one database, whose reads may be so far behind
// others' writes.
func neverOlder(t *testing.T, lag time.Duration, open func(Cache) *Store) {
	checked := testkit.Effort(1000, 4000, 300_000) // reads on each target
	w := newWorld()
	stores := []*Store{open(Cache{}), open(Cache{}), open(Cache{})}
	reader := open(Cache{})
	stranger := open(Cache{Disabled: true})
	for _, i := range w.all() {
		w.change(t, stores[0], i, false)
	}
	var (
		reads, stale, writes atomic.Int64
		oldest               atomic.Int64
		wg                   sync.WaitGroup
	)
	start := time.Now()
	more := func() bool {
		return !t.Failed() && (reads.Load() < int64(checked) || time.Since(start) < 2*time.Second)
	}
	check := func(s *Store, kind int) {
		begin, told := time.Now(), toldOlder(s)
		items, versions := w.read(t, s, kind)
		if toldOlder(s) != told {
			return // a busy machine did not fetch changes in time, and the reader was told
		}
		for n, i := range items {
			age, err := i.judge(s, versions[n], begin, lag)
			if err != nil {
				t.Errorf("read of kind %d: %v", kind, err)
			}
			reads.Add(1)
			if age > 0 {
				stale.Add(1)
			}
			for old := oldest.Load(); int64(age) > old && !oldest.CompareAndSwap(old, int64(age)); old = oldest.Load() {
			}
		}
	}
	for _, s := range append(stores, stranger) {
		all := w.all()
		wg.Go(func() {
			for more() {
				if w.change(t, s, all[rand.IntN(len(all))], s == stranger) > 0 {
					writes.Add(1)
				}
				if s != stranger { // own writes are seen at once
					for kind := range 6 {
						check(s, kind)
					}
				}
				time.Sleep(rand.N(40 * time.Millisecond))
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for more() {
				check(reader, rand.IntN(12))
				time.Sleep(rand.N(time.Millisecond))
			}
		})
	}
	wg.Wait()
	c := reader.Stats().Cache
	t.Logf("%d reads, %d writes in %v: %.2f %% were outdated, by %v at most; the reader hit %d, missed %d, polled %d times",
		reads.Load(), writes.Load(), time.Since(start).Round(time.Millisecond), 100*float64(stale.Load())/float64(reads.Load()),
		time.Duration(oldest.Load()).Round(time.Microsecond), c.Hits, c.Misses, c.Polls)
	if c.Hits == 0 || c.InvalidationsRemote == 0 || writes.Load() < 20 {
		t.Errorf("too little happened: %d writes, %+v", writes.Load(), c)
	}
}
