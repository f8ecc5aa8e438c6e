package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
)

const (
	lifeSteps    = 5 // of a life, each appended by a call
	lifeRequests = 1 + lifeSteps + 2
	importSize   = 10   // episodes of an import
	grownAtOnce  = 64   // running episodes that appends go to, in turn
	usedUp       = 1000 // episodes a second: where calls use up more, a window ends early
)

// held is what a memory holds, or what is added to it.
type held struct{ Episodes, Steps, Running int }

// add counts what is added so many times.
func (h *held) add(more held, times int) {
	h.Episodes += times * more.Episodes
	h.Steps += times * more.Steps
	h.Running += times * more.Running
}

// operation is something that is done with a memory.
type operation struct {
	name     string
	requests int  // that a call takes on a server, at most
	adds     held // by a call
	do       func(u *user, ctx context.Context, caller int) error
	uses     func(*user) *stock // of which each call uses up an episode; nil: none
}

// operations are in the order in which they are measured first.
var operations = []operation{
	{name: "put", requests: 1, adds: held{1, stepsEach, 0}, do: (*user).put},
	{name: "append", requests: 1, adds: held{0, 1, 0}, do: (*user).append},
	{name: "complete", requests: 2, adds: held{0, 0, -1}, do: (*user).complete, uses: func(u *user) *stock { return &u.running }},
	{name: "life", requests: lifeRequests, adds: held{1, lifeSteps, 0}, do: (*user).life},
	{name: "get", requests: 1, do: (*user).get},
	{name: "list", requests: 1, do: (*user).list},
	{name: "search", requests: 1, do: (*user).search},
	{name: "import", requests: 1, adds: held{importSize, importSize * stepsEach, 0}, do: (*user).imports},
	{name: "delete", requests: 1, adds: held{-1, -stepsEach, 0}, do: (*user).delete, uses: func(u *user) *stock { return &u.ended }},
}

// reads reports whether the operation changes nothing.
func (o *operation) reads() bool { return o.adds == held{} }

// known is what is known of the episodes that a memory is filled with.
type known struct {
	IDs   []episodic.ID
	Words []string // that about one task in fifty has
}

func newKnown(episodes []*episodic.Episode) (k known, err error) {
	words := &tally{}
	for _, e := range episodes {
		k.IDs = append(k.IDs, e.ID)
		if err := words.add(&episodic.Episode{Description: e.Description}); err != nil {
			return k, err
		}
	}
	k.Words = words.wordsOf(frequencies[1])
	return k, nil
}

// user does the operations on a Store.
type user struct {
	store          *episodic.Store
	known          known
	pool           []*episodic.Episode
	next           func() int
	running, ended stock
	grown          []episodic.ID // which are appended to in turn
	prepared       held          // what add has added
}

func newUser(ctx context.Context, store *episodic.Store, c *corpus, k known) (*user, error) {
	u := &user{store: store, known: k, pool: c.episodes(len(k.IDs), putsPool), next: counter(), running: stock{running: true}}
	var err error
	u.grown, err = u.add(ctx, grownAtOnce, true)
	return u, err
}

// fresh returns an episode of the pool as a new one. Its task is one that no other has, because
// a search takes several runs of a task together.
func (u *user) fresh() *episodic.Episode {
	e := *u.pool[u.next()%len(u.pool)]
	e.ID, e.Steps = episodic.ID{}, slices.Clone(e.Steps) // which storing numbers
	e.Description = fmt.Sprintf("%s Ticket %d.", e.Description, rand.Uint32())
	return &e
}

// add stores n episodes besides those that are measured.
func (u *user) add(ctx context.Context, n int, running bool) (ids []episodic.ID, err error) {
	list, what := make([]*episodic.Episode, n), held{Episodes: 1, Steps: stepsEach}
	for i := range list {
		e := u.fresh()
		if running {
			e.End, e.Outcome, e.Reward, e.Reflection = time.Time{}, episodic.Outcome{}, nil, episodic.Reflection{}
			what.Running = 1
		}
		list[i] = e
	}
	if err := addAll(ctx, u.store, list); err != nil {
		return nil, err
	}
	u.prepared.add(what, n)
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids, nil
}

// stock is episodes that are waiting to be used up.
type stock struct {
	running bool // or ended, all of them

	mu  sync.Mutex // guards ids
	ids []episodic.ID
}

func (s *stock) take() (episodic.ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ids) == 0 {
		return episodic.ID{}, errUsedUp
	}
	id := s.ids[len(s.ids)-1]
	s.ids = s.ids[:len(s.ids)-1]
	return id, nil
}

// enough is how many episodes are prepared for a window: one for each call of so many callers that
// takes a round trip, but no more than usedUp a second.
func enough(window time.Duration, callers int, rtt time.Duration) int {
	rate := float64(usedUp)
	if rtt > 0 {
		rate = min(rate, float64(callers)/rtt.Seconds())
	}
	return callers + int(rate*window.Seconds())
}

// prepare stores episodes until there are n for an operation that uses them up.
func (u *user) prepare(ctx context.Context, o *operation, n int) error {
	if o.uses == nil {
		return nil
	}
	s := o.uses(u)
	ids, err := u.add(ctx, max(0, n-len(s.ids)), s.running)
	s.ids = append(s.ids, ids...)
	return err
}

func (u *user) put(ctx context.Context, _ int) error { return u.store.PutEpisode(ctx, u.fresh()) }

func (u *user) append(ctx context.Context, _ int) error {
	i := u.next()
	step := u.pool[i%len(u.pool)].Steps[i%stepsEach]
	step.Number = 0
	_, err := u.store.AppendSteps(ctx, u.grown[i%len(u.grown)], step)
	return err
}

func (u *user) complete(ctx context.Context, _ int) error {
	id, err := u.running.take()
	if err != nil {
		return err
	}
	e := u.fresh()
	return u.store.CompleteEpisode(ctx, id, episodic.Completion{Outcome: e.Outcome, Reward: e.Reward, Reflection: e.Reflection})
}

func (u *user) life(ctx context.Context, _ int) error {
	e := u.fresh()
	e.Steps = e.Steps[:lifeSteps]
	return live(ctx, &ourSide{u.store}, e)
}

func (u *user) get(ctx context.Context, caller int) error {
	return getter(u.store, u.known.IDs)(ctx, caller)
}

func (u *user) list(ctx context.Context, caller int) error { return lister(u.store)(ctx, caller) }

func (u *user) search(ctx context.Context, caller int) error {
	return searcher(u.store, u.known.Words)(ctx, caller)
}

func (u *user) imports(ctx context.Context, _ int) error {
	list := make([]*episodic.Episode, importSize)
	for i := range list {
		list[i] = u.fresh()
	}
	return (&ourSide{u.store}).add(ctx, list)
}

func (u *user) delete(ctx context.Context, _ int) error {
	id, err := u.ended.take()
	if err != nil {
		return err
	}
	return u.store.DeleteEpisode(ctx, id)
}

// checkHolds fails if a memory holds anything else than it should.
func checkHolds(ctx context.Context, store *episodic.Store, want held) error {
	counts, err := store.Counts(ctx)
	if err != nil {
		return err
	}
	got := held{Episodes: int(counts.Episodes), Steps: int(counts.Steps)}
	for _, err := range store.Episodes(ctx, &episodic.EpisodeFilter{State: episodic.StateRunning}) {
		if err != nil {
			return err
		}
		got.Running++
	}
	if got != want {
		return fmt.Errorf("the memory holds %+v, after what was acknowledged it should be %+v", got, want)
	}
	return nil
}
