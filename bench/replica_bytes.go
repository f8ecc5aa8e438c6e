package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const (
	codingLives  = 6
	airlineLives = 22
	importRuns   = 100 // that are imported
	byteWays     = 4   // without a replica, with one, and with queued writes in two ways
	fewSteps     = 8   // that travel together where steps do not wait for the end of the episode
)

// byteRun is a kind of episodes that one machine writes and another fetches, with or
// without replicas.
type byteRun struct {
	name                string
	replica, queue      bool
	pushEvery           time.Duration // of queued writes
	most                float64       // of the JSON; 0: no more than without a replica
	train, lives, whole []*episodic.Episode

	plain, steps  int // of the lives: bytes of their JSON, steps
	wholePlain    int
	writer, other hranatest.LinkCounts // for the lives
	parts         episodic.ServerStats // of what the writer sent and got
	imported      hranatest.LinkCounts
	importFetched hranatest.LinkCounts
}

func replicaBytes(ctx context.Context, b *bench) error {
	var runs []*byteRun
	add := func(name string, most float64, train, lives, whole []*episodic.Episode) {
		for way := range byteWays {
			r := &byteRun{name: name, replica: way > 0, queue: way > 1, most: most, train: train, lives: lives, whole: whole}
			if way == 2 {
				r.pushEvery = fewSteps * wirePause
			}
			runs = append(runs, r)
		}
	}
	coding, err := b.codingRuns(ctx)
	if err != nil {
		return err
	}
	if n := len(coding); n > 0 {
		lives, imports := codingLives, importRuns
		if b.short {
			lives, imports = 1, 10
		}
		add("coding agent", 0.30, coding[n/2:min(n, n/2+retrainAt)], coding[:lives], coding[lives:lives+imports])
	}
	test, train, err := b.airlineEpisodes()
	if err != nil {
		return err
	}
	if len(test) > 0 {
		lives, imports := airlineLives, min(importRuns, len(test)-airlineLives)
		if b.short {
			lives, imports, train = 1, 10, train[:10]
		}
		add("tau-bench", 0, train, test[:lives], test[lives:lives+imports])
	}
	if len(runs) == 0 {
		episodes := b.corpus.episodes(0, retrainAt+22)
		for _, e := range episodes {
			e.Context.Tags = slices.Compact(e.Context.Tags) // as they are stored
		}
		add("generated", 0, episodes[22:], episodes[:2], episodes[2:22])
	}

	var all sync.WaitGroup
	errs := make([]error, len(runs))
	for i, r := range runs {
		all.Go(func() {
			if err := r.measure(ctx, b); err != nil {
				errs[i] = fmt.Errorf("%s, replica %v: %w", r.name, r.replica, err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.byteTables(runs)
	return nil
}

func (r *byteRun) measure(ctx context.Context, b *bench) (err error) {
	server, err := startServer(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	// A server that finds steps without replicas has an index of them.
	direct, err := episodic.Open(ctx, server.URL(), &episodic.Options{IndexSteps: !r.replica, Replica: episodic.Replica{Disabled: true}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, direct.Close()) }()
	if err := addAll(ctx, direct, r.train); err != nil {
		return err
	}
	if !b.short { // otherwise the writer would, and fetch what it trains of
		if _, err := direct.TrainDictionaries(ctx); err != nil {
			return err
		}
	}
	var machines [2]*machine
	for i := range machines {
		m, err := newMachine(b, server.URL(), 0)
		if err != nil {
			return err
		}
		defer m.link.Close()
		machines[i] = m
		if r.replica { // it has what there was before
			if err := m.syncOnce(ctx); err != nil {
				return err
			}
		}
	}
	writer, other := machines[0], machines[1]

	var ids []episodic.ID
	r.writer, err = r.session(ctx, writer, func(store *episodic.Store) error {
		for _, e := range r.lives {
			id, err := r.live(ctx, b, store, e)
			if err != nil {
				return err
			}
			ids = append(ids, id)
			r.plain += len(document(e))
			r.steps += len(e.Steps)
		}
		r.parts = *store.Stats().Server
		return r.searchStep(ctx, store, r.lives[0])
	})
	if err != nil {
		return fmt.Errorf("lives: %w", err)
	}
	r.other, err = r.session(ctx, other, func(store *episodic.Store) error {
		for i, id := range ids {
			if err := sameEpisode(ctx, store, id, r.lives[i]); err != nil {
				return err
			}
		}
		return r.searchStep(ctx, store, r.lives[0])
	})
	if err != nil {
		return fmt.Errorf("fetch lives: %w", err)
	}

	for _, e := range r.whole {
		r.wholePlain += len(document(e))
	}
	r.imported, err = r.session(ctx, writer, func(store *episodic.Store) error { return addAll(ctx, store, r.whole) })
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	r.importFetched, err = r.session(ctx, other, func(store *episodic.Store) error {
		for _, e := range r.whole {
			if err := sameEpisode(ctx, store, e.ID, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("fetch what was imported: %w", err)
	}
	return nil
}

// session opens a Store of a machine for f, and returns what passed until it was closed.
func (r *byteRun) session(ctx context.Context, m *machine, f func(*episodic.Store) error) (c hranatest.LinkCounts, err error) {
	before, err := m.passed(ctx)
	if err != nil {
		return c, err
	}
	opts := &episodic.Options{IndexSteps: !r.replica, StateDir: m.dir}
	if r.queue {
		opts.Replica.Offline, opts.Replica.PushEvery = episodic.Queue, r.pushEvery
	}
	store, err := m.open(ctx, r.replica, opts)
	if err != nil {
		return c, err
	}
	if r.replica { // what others wrote less than PollInterval ago would not be here
		err = store.Sync(ctx, nil)
	}
	if err == nil {
		err = f(store)
	}
	if err == nil && r.queue {
		err = store.Flush(ctx)
	}
	if err := errors.Join(err, store.Close()); err != nil {
		return c, err
	}
	c, err = m.passed(ctx)
	return since(c, before), err
}

// live is the whole life of an episode. The agent thinks between its calls.
func (r *byteRun) live(ctx context.Context, b *bench, store *episodic.Store, e *episodic.Episode) (episodic.ID, error) {
	think := func() error {
		if b.short {
			return nil
		}
		return rest(ctx, wirePause)
	}
	running := begun(e)
	if err := store.StartEpisode(ctx, &running); err != nil {
		return running.ID, err
	}
	for _, step := range e.Steps {
		if err := think(); err != nil {
			return running.ID, err
		}
		if _, err := store.AppendSteps(ctx, running.ID, step); err != nil {
			return running.ID, err
		}
	}
	if err := think(); err != nil {
		return running.ID, err
	}
	done := episodic.Completion{Outcome: e.Outcome, End: e.End, Reward: e.Reward, Reflection: e.Reflection}
	if err := store.CompleteEpisode(ctx, running.ID, done); err != nil {
		return running.ID, err
	}
	return running.ID, think()
}

// sameEpisode reads an episode, which must be as it was stored but for its id.
func sameEpisode(ctx context.Context, store *episodic.Store, id episodic.ID, want *episodic.Episode) error {
	got, err := store.Episode(ctx, id)
	if err != nil {
		return err
	}
	whole := *want
	whole.Steps = slices.Clone(want.Steps)
	for _, e := range []*episodic.Episode{got, &whole} {
		e.ID, e.Revision, e.StepCount = episodic.ID{}, 0, 0
		for i := range e.Steps {
			e.Steps[i].Number = 0
		}
	}
	if document(got) != document(&whole) {
		return errChanged
	}
	return nil
}

// searchStep searches for what a step in the middle of an episode says.
func (r *byteRun) searchStep(ctx context.Context, store *episodic.Store, e *episodic.Episode) error {
	if !r.replica {
		return nil // a server finds episodes by their steps, and shows none
	}
	s := e.Steps[len(e.Steps)/2]
	words := firstWords(s.Action+" "+s.Tool, 12)
	found, err := store.Search(ctx, words, &episodic.SearchOptions{Steps: true})
	if err != nil {
		return err
	}
	for _, h := range found.Hits {
		if len(h.Steps) > 0 {
			return nil
		}
	}
	return fmt.Errorf("no step is found for %q, %d wait for the index", strings.ToValidUTF8(words, "?"), found.Waiting)
}

func (b *bench) byteTables(runs []*byteRun) {
	share := func(n int64, of int) string { return fmt.Sprintf("%.3f", float64(n)/float64(of)) }
	lives := [][]string{{"whole lives, of their JSON", "replica", "lives, steps, JSON KB", "requests", "up", "down", "fetched by another: requests", "up", "down", "**all**"}}
	parts := [][]string{{"the writer's bytes for each step", "replica", "writes up", "writes down", "pulls up", "pulls down", "reads up", "reads down", "upkeep"}}
	imports := [][]string{{"import, of the JSON", "replica", "episodes, JSON KB", "requests", "up", "down", "fetched by another: requests", "up", "down"}}
	for _, r := range runs {
		has := r.how()
		lives = append(lives, []string{r.name, has, fmt.Sprintf("%d, %d, %d", len(r.lives), r.steps, r.plain/1000), fmt.Sprint(r.writer.Requests), share(r.writer.BytesUp, r.plain), share(r.writer.BytesDown, r.plain),
			fmt.Sprint(r.other.Requests), share(r.other.BytesUp, r.plain), share(r.other.BytesDown, r.plain), fmt.Sprintf("**%.3f**", r.all())})
		each := func(n uint64) string { return fmt.Sprint(int(n) / r.steps) }
		p := r.parts
		parts = append(parts, []string{r.name, has, each(p.WriteBytes.Sent), each(p.WriteBytes.Received), each(p.PullBytes.Sent), each(p.PullBytes.Received), each(p.ReadBytes.Sent), each(p.ReadBytes.Received), each(p.UpkeepBytes.Sent + p.UpkeepBytes.Received)})
		imports = append(imports, []string{r.name, has, fmt.Sprintf("%d, %d", len(r.whole), r.wholePlain/1000), fmt.Sprint(r.imported.Requests), share(r.imported.BytesUp, r.wholePlain), share(r.imported.BytesDown, r.wholePlain),
			fmt.Sprint(r.importFetched.Requests), share(r.importFetched.BytesUp, r.wholePlain), share(r.importFetched.BytesDown, r.wholePlain)})
	}
	b.table(lives...)
	b.table(parts...)
	b.table(imports...)
	b.printf("Agents think for %v between calls. Without a replica the server has an index of steps. Opening and closing the Stores is part of all figures.\n\n", wirePause)
	for i, r := range runs {
		switch {
		case !r.replica:
		case r.most > 0:
			if r.queue && r.pushEvery == 0 {
				up := float64(r.writer.BytesUp) / float64(r.plain)
				b.judge(up <= r.most, fmt.Sprintf("%s: queued lives at most %.2f of the JSON up", r.name, r.most), "%.3f, down %.3f, fetched by another %.3f", up, float64(r.writer.BytesDown)/float64(r.plain), float64(r.other.BytesDown)/float64(r.plain))
			}
			up := float64(r.imported.BytesUp) / float64(r.wholePlain)
			b.judge(up <= 0.25, r.what()+": an import at most 0.25 of the JSON up", "%.3f", up)
		default:
			today := runs[i-i%byteWays].all()
			b.judge(r.all() <= today, r.what()+": lives, fetched once, no more than without a replica", "%.3f of the JSON, without one %.3f", r.all(), today)
		}
	}
}

// all is what passed for the lives, as a part of their JSON.
func (r *byteRun) all() float64 {
	return float64(r.writer.BytesUp+r.writer.BytesDown+r.other.BytesUp+r.other.BytesDown) / float64(r.plain)
}

func (r *byteRun) what() string {
	if r.queue {
		return r.name + ", " + r.how()
	}
	return r.name
}

// how says how the machines use replicas.
func (r *byteRun) how() string {
	switch {
	case !r.replica:
		return "no"
	case !r.queue:
		return "yes"
	case r.pushEvery > 0:
		return fmt.Sprintf("writes queued, %d steps at a time", fewSteps)
	}
	return "writes queued"
}
