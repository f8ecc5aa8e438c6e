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

const wireClaim = "Bytes on the socket to a libSQL server, HTTP heads included, per episode, with a bearer token of 280 characters. " +
	"A whole life is a start, a call for each step, a completion, and one fetch by another Store. The plain way rewrites the episode as one JSON text each time, " +
	"by net/http and Hrana 3 in JSON; the better plain way compresses that text with LZ4. Storing an episode at once and fetching it is compared with 16 text columns. " +
	"The dictionary was trained of other tasks in the same database. " +
	"What HTTP needs is request line, Host, Authorization and the head of the server's answer: some 700 bytes a call, whoever makes it. " +
	"Targets, of all bytes: a life of tau-bench's steps at least 88 % below the plain way and 72 % below that with LZ4, where results are of 2 KB or more 95 % and 80 %; stored and fetched 80 % below columns; " +
	"a saved step in at most 310 bytes besides its compressed form and what HTTP needs; ten steps appended together in one request. " +
	"The generated episodes show what text takes in which hardly anything comes twice."

// wireToken is as long as one of Turso Cloud. The server is started without a
// key, so it asks for none.
var wireToken = strings.Repeat("0123456789", 28)

const (
	wireEpisodes = 22
	// retrainAt is the number of episodes in the database at which another dictionary
	// would be trained, of what is measured, unless it is trained of so many at
	// first. So no more agents live at once, and episodes are deleted in the end.
	retrainAt = 60
	// wirePause is what an agent thinks between two calls: longer than a Store waits
	// for the next one before it takes its caller for a busy one.
	wirePause = 260 * time.Millisecond
	// wireQuiet is when a Store has closed the streams that it kept.
	wireQuiet = time.Second
)

// wireGroup is what was measured of some episodes.
type wireGroup struct {
	name     string
	tau      bool // long episodes of tau-bench
	episodes []*episodic.Episode
	least    []float64 // by which part a life is to lie below rewriting, and below that with LZ4; nil: not judged

	life, rewritten, lz4        traffic
	kept, columns, gzipped      traffic
	saved                       []savedStep
	saves, tenRequests, opening int // opening: bytes that two Stores take once
	ten                         traffic
}

// savedStep is a call of AppendSteps with one step.
type savedStep struct {
	exchange
	plain, payload int // bytes of its JSON, and of what is stored of that
}

func wire(ctx context.Context, b *bench) error {
	n, pause := wireEpisodes, wirePause
	if b.short {
		n, pause = 2, 0
	}
	list, err := b.materials(n)
	if err != nil {
		return err
	}
	var groups []*wireGroup
	for _, m := range list {
		here := []*wireGroup{{name: m.name, episodes: m.long}}
		if m.real {
			here[0].name, here[0].tau, here[0].least = fmt.Sprintf("%s, %d steps", m.name, longSteps), true, []float64{0.88, 0.72}
			here = append(here, &wireGroup{name: m.name + ", results joined to 2 KB or more", episodes: m.joined, least: []float64{0.95, 0.80}})
			if !b.short {
				here = append(here, &wireGroup{name: m.name + ", as they are", episodes: m.test[:wireEpisodes]})
			}
		}
		if err := measureWire(ctx, b, m, pause, here); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		groups = append(groups, here...)
	}
	b.printf("\nAgents think for %v between calls. All figures are means over the episodes of a kind.\n", pause)
	b.lives(groups)
	b.keeping(groups)
	b.steps(groups)
	return nil
}

// wireServer is a server with a database in which a dictionary was trained.
type wireServer struct {
	*hranatest.Server
	direct     *episodic.Store
	trained    int // episodes it was trained of
	dictionary uint32
	pause      time.Duration
	// writing is held while somebody writes: of several clients that write at once
	// some make the server lock up.
	writing sync.Mutex
}

func (s *wireServer) write(f func() error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return f()
}

func measureWire(ctx context.Context, b *bench, m *material, pause time.Duration, groups []*wireGroup) (err error) {
	server, err := startServer(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	s := &wireServer{Server: server, trained: len(m.train), pause: pause}
	if s.direct, err = episodic.Open(ctx, server.URL(), direct()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.direct.Close()) }()
	if s.dictionary, err = train(ctx, s.direct, m.train); err != nil {
		return err
	}
	plain := newPlainClient(server.URL(), true)
	defer plain.close()
	for _, sql := range plainTables {
		if _, err := plain.execute(ctx, sql); err != nil {
			return err
		}
	}
	for _, g := range groups {
		if err := g.measure(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

// train stores the episodes, and returns the dictionary that was trained of them.
func train(ctx context.Context, store *episodic.Store, episodes []*episodic.Episode) (uint32, error) {
	const ownIDs = 256 // below are those of built-in ones
	if _, err := store.AddEpisodes(ctx, episodes...); err != nil {
		return 0, err
	}
	trained, err := store.TrainDictionaries(ctx)
	if err != nil {
		return 0, err
	}
	id := store.Stats().Compression.Episodes.Dictionary
	if id < ownIDs {
		return 0, fmt.Errorf("no dictionary came of %d episodes: %+v", len(episodes), trained)
	}
	return id, nil
}

func (g *wireGroup) measure(ctx context.Context, s *wireServer) (err error) {
	if g.life, err = g.agents(ctx, s, (*pair).live); err != nil {
		return err
	}
	if g.kept, err = g.agents(ctx, s, (*pair).keep); err != nil {
		return err
	}
	for _, way := range []struct {
		to           *traffic
		gzip         bool
		pack, unpack func(string) (string, error)
		work         func(*plainMemory, context.Context, *episodic.Episode) error
	}{
		{&g.rewritten, true, asIs, asIs, (*plainMemory).live},
		{&g.lz4, true, lz4Text, fromLZ4Text, (*plainMemory).live},
		{&g.columns, false, asIs, asIs, (*plainMemory).keep},
		{&g.gzipped, true, asIs, asIs, (*plainMemory).keep},
	} {
		l, err := newLine(s.URL())
		if err != nil {
			return err
		}
		defer l.close()
		m := &plainMemory{newPlainClient(l.url(), way.gzip), way.pack, way.unpack}
		defer m.close()
		for _, e := range g.episodes {
			if err := way.work(m, ctx, e); err != nil {
				return fmt.Errorf("the plain way: %w", err)
			}
			if _, err := l.take(); err != nil { // frees its memory
				return err
			}
		}
		if *way.to, err = l.sum(); err != nil {
			return err
		}
	}
	return g.appendTen(ctx, s)
}

// pair is an agent's Store, and one that fetches what the agent stored.
type pair struct {
	server                *wireServer
	agent, reader         *episodic.Store
	agentLine, readerLine *line
	saves                 int
	saved                 []savedStep
}

// openPair opens Stores that know the dictionary. The agent's has written, and so
// looked for a dictionary, before.
func openPair(ctx context.Context, s *wireServer) (_ *pair, err error) {
	p := &pair{server: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.agentLine, p.agent, err = s.open(ctx); err != nil {
		return nil, err
	}
	if p.readerLine, p.reader, err = s.open(ctx); err != nil {
		return nil, err
	}
	first := &episodic.Episode{Description: "x"}
	if err := p.agent.PutEpisode(ctx, first); err != nil {
		return nil, err
	}
	return p, s.direct.DeleteEpisode(ctx, first.ID)
}

func (s *wireServer) open(ctx context.Context) (*line, *episodic.Store, error) {
	l, err := newLine(s.URL())
	if err != nil {
		return nil, nil, err
	}
	store, err := episodic.Open(ctx, l.url(), &episodic.Options{AuthToken: episodic.StaticToken(wireToken), Replica: episodic.Replica{Disabled: true}})
	if err != nil {
		l.close()
		return nil, nil, err
	}
	_, err = store.TrainDictionaries(ctx) // it is not time to, but it looks for the one in use
	if got := store.Stats().Compression.Episodes.Dictionary; err == nil && got != s.dictionary {
		err = fmt.Errorf("a Store writes with dictionary %d, want %d", got, s.dictionary)
	}
	return l, store, err
}

func (p *pair) lines() []*line { return []*line{p.agentLine, p.readerLine} }

// close closes the Stores, which may still send something, and then the lines.
func (p *pair) close() (err error) {
	for _, s := range []*episodic.Store{p.agent, p.reader} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	for _, l := range p.lines() {
		if l != nil {
			l.close()
		}
	}
	return err
}

// sum is what passed on both lines.
func (p *pair) sum() (t traffic, err error) {
	for _, l := range p.lines() {
		part, lineErr := l.sum()
		t, err = t.plus(part), errors.Join(err, lineErr)
	}
	return t, err
}

// agents lets several agents do the work for all episodes, each at its own pace,
// and returns what they sent and got, what opening took not included.
func (g *wireGroup) agents(ctx context.Context, s *wireServer, work func(*pair, context.Context, *episodic.Episode) (episodic.ID, error)) (traffic, error) {
	var pairs []*pair
	n := len(g.episodes)
	if s.trained < retrainAt {
		n = min(n, retrainAt-1-s.trained)
	}
	for range n {
		p, err := openPair(ctx, s)
		if err != nil {
			return traffic{}, err
		}
		defer p.close() // a second time, if all goes well
		pairs = append(pairs, p)
	}
	if err := pauseFor(ctx, wireQuiet); err != nil {
		return traffic{}, err
	}
	var before, after traffic
	for _, p := range pairs {
		t, err := p.sum()
		if err != nil {
			return traffic{}, err
		}
		before = before.plus(t)
	}
	g.opening = int(before.total()) / len(pairs)

	var wg sync.WaitGroup
	errs := make([]error, len(pairs))
	next := counter()
	for i, p := range pairs {
		wg.Go(func() {
			for n := next(); n < len(g.episodes) && errs[i] == nil; n = next() {
				id, err := work(p, ctx, g.episodes[n])
				if err == nil {
					err = s.write(func() error { return s.direct.DeleteEpisode(ctx, id) })
				}
				errs[i] = err
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return traffic{}, err
	}
	for _, p := range pairs {
		if err := errors.Join(p.agent.Close(), p.reader.Close()); err != nil {
			return traffic{}, err
		}
		t, err := p.sum()
		if err != nil {
			return traffic{}, err
		}
		after = after.plus(t)
		g.saves += p.saves
		g.saved = append(g.saved, p.saved...)
	}
	return after.minus(before), nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// live is the whole life of an episode.
func (p *pair) live(ctx context.Context, e *episodic.Episode) (episodic.ID, error) {
	running := begun(e)
	if err := p.server.write(func() error { return p.agent.StartEpisode(ctx, &running) }); err != nil {
		return running.ID, err
	}
	for _, step := range e.Steps {
		if err := pauseFor(ctx, p.server.pause); err != nil {
			return running.ID, err
		}
		if err := p.save(ctx, running.ID, step); err != nil {
			return running.ID, err
		}
	}
	if err := pauseFor(ctx, p.server.pause); err != nil {
		return running.ID, err
	}
	done := episodic.Completion{Outcome: e.Outcome, End: e.End, Reward: e.Reward, Reflection: e.Reflection}
	if err := p.server.write(func() error { return p.agent.CompleteEpisode(ctx, running.ID, done) }); err != nil {
		return running.ID, err
	}
	return running.ID, p.fetch(ctx, running.ID, e)
}

// save appends a step, and notes what that took if nothing else was under way.
func (p *pair) save(ctx context.Context, id episodic.ID, step episodic.Step) error {
	if _, err := p.agentLine.take(); err != nil {
		return err
	}
	size, err := compressing(p.agent, func() error {
		return p.server.write(func() error {
			_, err := p.agent.AppendSteps(ctx, id, step)
			return err
		})
	})
	if err != nil {
		return err
	}
	list, err := p.agentLine.take()
	p.saves++
	if len(list) == 1 {
		p.saved = append(p.saved, savedStep{list[0], int(size.PlainBytes), int(size.StoredBytes)})
	}
	return err
}

// fetch lets the other Store read the episode, which must be the same.
func (p *pair) fetch(ctx context.Context, id episodic.ID, want *episodic.Episode) error {
	if err := pauseFor(ctx, p.server.pause); err != nil {
		return err
	}
	got, err := p.reader.Episode(ctx, id)
	if err != nil {
		return err
	}
	got.ID, got.StepCount = want.ID, want.StepCount
	for i := range got.Steps {
		got.Steps[i].Number = 0
	}
	if document(got) != document(want) {
		return errChanged
	}
	return nil
}

// keep stores an episode at once.
func (p *pair) keep(ctx context.Context, e *episodic.Episode) (episodic.ID, error) {
	if err := pauseFor(ctx, p.server.pause); err != nil {
		return episodic.ID{}, err
	}
	whole := *e
	whole.Steps = slices.Clone(e.Steps)
	if err := p.server.write(func() error { return p.agent.PutEpisode(ctx, &whole) }); err != nil {
		return episodic.ID{}, err
	}
	return whole.ID, p.fetch(ctx, whole.ID, e)
}

// appendTen appends ten steps by one call.
func (g *wireGroup) appendTen(ctx context.Context, s *wireServer) (err error) {
	e := g.episodes[0]
	if len(e.Steps) < 10 {
		return nil
	}
	p, err := openPair(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	running := begun(e)
	if err := p.agent.StartEpisode(ctx, &running); err != nil {
		return err
	}
	if err := pauseFor(ctx, wireQuiet); err != nil {
		return err
	}
	if _, err := p.agentLine.take(); err != nil {
		return err
	}
	before := p.agent.Stats().Requests
	if _, err := p.agent.AppendSteps(ctx, running.ID, e.Steps[:10]...); err != nil {
		return err
	}
	g.tenRequests = int(p.agent.Stats().Requests - before)
	list, err := p.agentLine.take()
	if err != nil {
		return err
	}
	g.ten.add(list...)
	return s.direct.DeleteEpisode(ctx, running.ID)
}
