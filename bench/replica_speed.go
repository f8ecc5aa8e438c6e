package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const (
	replicaEpisodes = 2000
	freshClients    = 3
	deadOpens       = 10
)

// replicaServer is a filled server.
type replicaServer struct {
	*hranatest.Server
	name     string
	episodes []*episodic.Episode
	queries  []string
}

// newReplicaServer fills a server with episodes, and makes queries of words that a few
// in a hundred of them have.
func newReplicaServer(ctx context.Context, b *bench, name string, episodes []*episodic.Episode) (_ *replicaServer, err error) {
	s := &replicaServer{name: name, episodes: episodes}
	words := &tally{}
	for _, e := range episodes {
		if err := words.add(e); err != nil {
			return nil, err
		}
	}
	middling := words.wordsOf(frequencies[1])
	r := rand.New(rand.NewPCG(14, 0))
	for range 200 {
		p := r.Perm(len(middling))
		s.queries = append(s.queries, middling[p[0]]+" "+middling[p[1]]+" "+middling[p[2]])
	}
	if s.Server, err = startServer(b.dir); err != nil {
		return nil, err
	}
	if err := b.fillInParts(ctx, s.URL(), episodes); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// fillInParts imports the episodes, and trains a dictionary of the first half, and another of all.
func (b *bench) fillInParts(ctx context.Context, target string, episodes []*episodic.Episode) error {
	store, err := episodic.Open(ctx, target, direct())
	if err != nil {
		return err
	}
	half := len(episodes) / 2
	err = addAll(ctx, store, episodes[:half])
	if err == nil && !b.short {
		_, err = store.TrainDictionaries(ctx)
	}
	if err == nil {
		err = addAll(ctx, store, episodes[half:])
	}
	if err == nil && !b.short { // or those who open the memory next would begin with it
		_, err = store.TrainDictionaries(ctx)
	}
	return errors.Join(err, store.Close())
}

// likeAirline are episodes of the size of tau-bench's.
func (b *bench) likeAirline() ([]*episodic.Episode, error) {
	data, err := b.repeats()
	if err != nil {
		return nil, err
	}
	n := replicaEpisodes
	if b.short {
		n = 100
	}
	return data.episodes(0, n)
}

func replicaSpeed(ctx context.Context, b *bench) (err error) {
	episodes, err := b.likeAirline()
	if err != nil {
		return err
	}
	server, err := newReplicaServer(ctx, b, "", episodes)
	if err != nil {
		return err
	}
	defer server.Kill()
	path := filepath.Join(b.dir, "replica-beside.db")
	if err := b.fillInParts(ctx, path, episodes); err != nil {
		return err
	}
	m, err := newMachine(b, server.URL(), b.replicaRTT())
	if err != nil {
		return err
	}
	defer m.link.Close()
	if err := m.syncOnce(ctx); err != nil {
		return err
	}

	table := [][]string{{fmt.Sprintf("%d episodes", len(episodes)), "file p50", "p99", "replica p50", "p99", "replica to file, p50", "requests of so many reads"}}
	var verdicts []func()
	for _, cached := range []bool{false, true} {
		// Without any cache every read of a replica would be told to ask for changes.
		opts, name := &episodic.Options{Cache: episodic.Cache{MaxBytes: 64 << 10}}, "64 KiB of cache"
		if cached {
			opts, name = nil, "the usual cache"
		}
		file, err := episodic.Open(ctx, path, opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		far, err := m.open(ctx, true, opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, far.Close()) }()
		for _, read := range server.reads() {
			cells := []*cell{loadCell(read.name+" from the file", 1, read.on(file)), loadCell(read.name+" from the replica", 1, read.on(far))}
			before := m.link.Counts()
			stats := far.Stats().Replica
			begin := time.Now()
			if err := b.interleave(ctx, cells...); err != nil {
				return err
			}
			took := time.Since(begin)
			requests := since(m.link.Counts(), before).Requests
			if now := far.Stats().Replica; now.ServerReads != stats.ServerReads || now.OlderReads != stats.OlderReads {
				return fmt.Errorf("%s: not all reads were the replica's, as new as promised: %+v", read.name, now)
			}
			ratio := slower(cells[1], cells[0])
			reads := cells[1].acknowledged()
			table = append(table, []string{read.name + ", " + name, ms(cells[0].percentile(0.5)), ms(cells[0].percentile(0.99)), ms(cells[1].percentile(0.5)), ms(cells[1].percentile(0.99)),
				percents(ratio), fmt.Sprintf("%d of %d", requests, reads)})
			p50 := cells[1].percentile(0.5)
			verdicts = append(verdicts, func() {
				what := fmt.Sprintf("%s, %s", read.name, name)
				b.judge(ratio.median <= 0.10, what+": p50 at most 1.1 times the file's", "%s", percents(ratio))
				if read.name == "get" {
					b.judge(p50 <= 200*time.Microsecond, what+": p50 within 0.2 ms", "%s", ms(p50))
				}
				// A look every 5 s, its first one, and one more for streams.
				most := 3 * (2 + int(took/(5*time.Second)))
				b.judge(requests <= most, fmt.Sprintf("%s: at most %d requests in %v, however many reads", what, most, took.Round(time.Second)), "%d", requests)
			})
		}
	}
	b.table(table...)
	for _, say := range verdicts {
		say()
	}
	return nil
}

// storeRead is a way to read.
type storeRead struct {
	name string
	on   func(*episodic.Store) op
}

func (s *replicaServer) reads() []storeRead {
	search := func(steps bool) func(*episodic.Store) op {
		return func(store *episodic.Store) op {
			return func(ctx context.Context, _ int) error {
				q := s.queries[rand.IntN(len(s.queries))]
				found, err := store.Search(ctx, q, &episodic.SearchOptions{Steps: steps})
				if err == nil && len(found.Hits) == 0 && !steps { // the words may stand only in descriptions
					err = fmt.Errorf("nothing found for %q", q)
				}
				return err
			}
		}
	}
	return []storeRead{
		{"get", func(store *episodic.Store) op {
			return func(ctx context.Context, _ int) error {
				_, err := store.Episode(ctx, s.episodes[rand.IntN(len(s.episodes))].ID)
				return err
			}
		}},
		{"search", search(false)},
		{"search by step", search(true)},
		{"list 50", func(store *episodic.Store) op {
			return func(ctx context.Context, _ int) error {
				page, err := store.ListEpisodes(ctx, nil, nil)
				if err == nil && len(page.Items) == 0 {
					err = errors.New("the list is empty")
				}
				return err
			}
		}},
	}
}

// replicaFresh measures clients that have nothing yet.
func replicaFresh(ctx context.Context, b *bench) error {
	var kinds []struct {
		name     string
		episodes []*episodic.Episode
	}
	add := func(name string, episodes []*episodic.Episode) {
		kinds = append(kinds, struct {
			name     string
			episodes []*episodic.Episode
		}{name, episodes})
	}
	small, err := b.likeAirline()
	if err != nil {
		return err
	}
	add("tau-bench's size", small)
	coding, err := b.codingRuns(ctx)
	if err != nil {
		return err
	}
	if len(coding) > 0 {
		again := coding
		for b.full && !b.short && len(again) < replicaEpisodes {
			for _, e := range coding[:min(len(coding), replicaEpisodes-len(again))] {
				another := *e
				another.ID = episodic.NewID()
				again = append(again, &another)
			}
		}
		add("a coding agent's size", again)
	}
	for _, k := range kinds {
		server, err := newReplicaServer(ctx, b, k.name, k.episodes)
		if err != nil {
			return err
		}
		err = server.fresh(ctx, b)
		server.Kill()
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return nil
}

// firstUse is what a fresh client took.
type firstUse struct {
	opened, found, complete, cpu time.Duration
	passed                       hranatest.LinkCounts
	toFound                      int // requests until the first search was answered
}

func (s *replicaServer) fresh(ctx context.Context, b *bench) error {
	plain := 0
	for _, e := range s.episodes {
		plain += len(document(e))
	}
	table := [][]string{{fmt.Sprintf("%s: %d episodes, %.1f MB", s.name, len(s.episodes), float64(plain)/1e6), "opened", "first search", "requests until then", "complete", "CPU of the client", "requests", "connections", "MB down", "of the JSON"}}
	worst := make(map[bool][2]time.Duration)
	clients := freshClients
	if b.short {
		clients = 1
	}
	for i := range clients {
		for _, steps := range []bool{false, true} {
			u, err := s.firstUse(ctx, b, steps)
			if err != nil {
				return err
			}
			name := "search"
			if steps {
				name = "search by step"
			}
			table = append(table, []string{fmt.Sprintf("%s, client %d", name, i+1), ms(u.opened), ms(u.found), fmt.Sprint(u.toFound), ms(u.complete), ms(u.cpu),
				fmt.Sprint(u.passed.Requests), fmt.Sprint(u.passed.Accepted), fmt.Sprintf("%.2f", float64(u.passed.BytesDown)/1e6), fmt.Sprintf("%.3f", float64(u.passed.BytesDown)/float64(plain))})
			w := worst[steps]
			worst[steps] = [2]time.Duration{max(w[0], u.found), max(w[1], u.complete)}
		}
	}
	b.table(table...)
	for _, steps := range []bool{false, true} {
		what := "search"
		if steps {
			what = "search by step"
		}
		b.judge(worst[steps][0] <= 2*time.Second, fmt.Sprintf("%s: a fresh client's first %s within 2 s", s.name, what), "the slowest %s", ms(worst[steps][0]))
	}
	complete := max(worst[false][1], worst[true][1])
	b.judge(complete <= 10*time.Second, fmt.Sprintf("%s: complete within 10 s", s.name), "the slowest %s", ms(complete))
	return nil
}

// firstUse opens a Store that has nothing, searches, and waits until everything is there.
// All times count from before Open.
func (s *replicaServer) firstUse(ctx context.Context, b *bench, steps bool) (u firstUse, err error) {
	m, err := newMachine(b, s.URL(), b.replicaRTT())
	if err != nil {
		return u, err
	}
	defer m.link.Close()
	cpu, begin := cpuTime(), time.Now()
	store, err := m.open(ctx, true, nil)
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	u.opened = time.Since(begin)
	// A whole task, which is found as soon as anything is.
	e := s.episodes[len(s.episodes)-1]
	found, err := store.Search(ctx, firstWords(e.Description, 10), &episodic.SearchOptions{Steps: steps})
	if err != nil {
		return u, err
	}
	if len(found.Hits) == 0 {
		return u, fmt.Errorf("nothing is found, %d wait", found.Waiting)
	}
	u.found, u.toFound = time.Since(begin), m.link.Counts().Requests
	if err := store.Sync(ctx, nil); err != nil {
		return u, err
	}
	u.complete, u.cpu = time.Since(begin), cpuTime()-cpu
	st := store.Stats().Replica
	if n, err := store.Counts(ctx); err != nil || int(n.Episodes) != len(s.episodes) || !st.Complete {
		return u, fmt.Errorf("after Sync there are %d of %d episodes: %+v, %w", n.Episodes, len(s.episodes), st, err)
	}
	u.passed = m.link.Counts()
	return u, nil
}

// replicaDead opens Stores whose server cannot be reached.
func replicaDead(ctx context.Context, b *bench) error {
	episodes, err := b.likeAirline()
	if err != nil {
		return err
	}
	server, err := newReplicaServer(ctx, b, "", episodes)
	if err != nil {
		return err
	}
	defer server.Kill()
	m, err := newMachine(b, server.URL(), b.replicaRTT())
	if err != nil {
		return err
	}
	defer m.link.Close()
	if err := m.syncOnce(ctx); err != nil {
		return err
	}
	m.link.Refuse(true)
	m.link.ResetAll()
	opens := deadOpens
	if b.short {
		opens = 2
	}
	table := [][]string{{"the server", "opens", "open and get: least", "p50", "most", "open and search: least", "p50", "most", "the next reads: most"}}
	path := filepath.Join(b.dir, "replica-dead.db")
	if err := b.fillInParts(ctx, path, episodes); err != nil {
		return err
	}
	file, err := server.deadOpens(ctx, opens, false, func() (*episodic.Store, error) { return episodic.Open(ctx, path, nil) })
	if err != nil {
		return fmt.Errorf("of a file: %w", err)
	}
	table = append(table, file.row("none: a plain file"))
	// No read is content with what is here.
	open := func() (*episodic.Store, error) {
		return m.open(ctx, true, &episodic.Options{Cache: episodic.Cache{PollInterval: time.Nanosecond}})
	}
	refused, err := server.deadOpens(ctx, opens, true, open)
	if err != nil {
		return fmt.Errorf("while the server refuses: %w", err)
	}
	table = append(table, refused.row("refuses connections"))
	m.link.Refuse(false)
	m.link.Blackhole(true)
	silent, err := server.deadOpens(ctx, 2, true, open)
	if err != nil {
		return fmt.Errorf("while the server is silent: %w", err)
	}
	table = append(table, silent.row("is silent"))
	b.table(table...)
	b.judge(middle(refused.get) <= 20*time.Millisecond, "from Open to a get while the server refuses within 20 ms", "p50 %s", ms(middle(refused.get)))
	b.judge(middle(refused.search) <= 20*time.Millisecond, "from Open to a search while the server refuses within 20 ms", "p50 %s", ms(middle(refused.search)))
	hang := max(slices.Max(silent.get), slices.Max(silent.search), slices.Max(silent.next))
	b.judge(hang <= time.Second, "no call takes over 1 s while the server is silent", "at most %s", ms(hang))
	return nil
}

// deadTimes is how long programs took that never reached their server.
type deadTimes struct{ get, search, next []time.Duration }

func (d *deadTimes) row(name string) []string {
	return []string{name, fmt.Sprint(len(d.get)), ms(slices.Min(d.get)), ms(middle(d.get)), ms(slices.Max(d.get)),
		ms(slices.Min(d.search)), ms(middle(d.search)), ms(slices.Max(d.search)), ms(slices.Max(d.next))}
}

// deadOpens opens Stores, reads, and closes them. replica says that a replica must answer,
// and tell that the server does not.
func (s *replicaServer) deadOpens(ctx context.Context, times int, replica bool, open func() (*episodic.Store, error)) (*deadTimes, error) {
	d := &deadTimes{}
	reads := s.reads()
	for range times {
		for _, first := range []int{0, 1} { // get, search
			begin := time.Now()
			store, err := open()
			if err != nil {
				return nil, err
			}
			var info episodic.ReadInfo
			err = reads[first].on(store)(episodic.WithReadInfo(ctx, &info), 0)
			took := time.Since(begin)
			if err == nil && replica && (!info.Replica || info.Stale == nil) {
				err = fmt.Errorf("the replica did not answer: %+v", info)
			}
			if first == 0 {
				d.get = append(d.get, took)
			} else {
				d.search = append(d.search, took)
			}
			for _, r := range reads {
				begin := time.Now()
				if err == nil {
					err = r.on(store)(ctx, 0)
				}
				d.next = append(d.next, time.Since(begin))
			}
			if err := errors.Join(err, store.Close()); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}
