package episodic

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// reading is what a read asks for, as far as it decides where it goes.
type reading struct {
	kind   readingKind
	table  string    // of readItem: where the item is stored
	id     ID        // the item asked for, or whose parts are; zero: none
	cursor string    // of the page before
	steps  bool      // of readBest: a server cannot answer it
	since  time.Time // the changes until then must be in it, if they can be had; zero: as usual
}

type readingKind uint8

const (
	readItem readingKind = iota // an item by its id
	readAll                     // a list or a count: what is not held would be missing
	readBest                    // Search, Brief, Nearest: what is held is useful
)

// readsItem is the reading of an item of a table by its id.
func readsItem(table string, id ID) reading { return reading{kind: readItem, table: table, id: id} }

// readOne reads what may not be there, such as an item, where it is to be read. What a replica
// does not have others may just have stored: only when it has all that the server had at the
// call it is not there.
func readOne[V any](ctx context.Context, s *Store, what reading, read func(context.Context, *Store) (V, error)) (v V, err error) {
	for begun := time.Now(); ; {
		ctx, from, err := s.on(ctx, what)
		if err != nil {
			return v, err
		}
		v, err = read(ctx, from)
		if !errors.Is(err, ErrNotFound) || s == nil || s.replica == nil || from.replica != nil || !what.since.IsZero() {
			return v, err
		}
		what.since = begun
	}
}

// readsPage is the reading of a page of a list, of the parts of an item if id is not zero.
func readsPage(id ID, p *Paging) reading {
	return reading{kind: readAll, id: id, cursor: orZero(p).Cursor}
}

// replicaMark is the first letter of cursors of a replica's lists, which hold numbers that
// only its file has. Others, being the base64 of a JSON array, begin with a W.
const replicaMark = "r"

// replicaView is what is known of a replica when a read begins, or has waited for a pull.
type replicaView struct {
	asOf      time.Time // zero: what is here is no state of one moment
	lastAsOf  time.Time // the last one that there was
	complete  bool      // within the bounds
	since     time.Time // episodes that began before it are not held; zero: all are
	remaining int       // items that are not here yet
	held      bool      // of readItem: the item is here
	few       bool      // there are fewer episodes than searching here is worth
	mine      bool      // this Store has written what is asked for after asOf
	wrote     bool      // this Store has written something after lastAsOf
	unfilled  bool      // nothing was ever fetched
	waited    bool      // the read has waited for a pull
	err       error     // why the server cannot tell of changes
	late      bool      // err is that it has not done so in time
}

// freshness is how new an answer must be.
type freshness struct {
	floor time.Time // the changes until then must be in it
	// strict: no older answer is of use, even if the server cannot be reached.
	strict bool
}

type route uint8

const (
	fromReplica route = iota
	fromServer
	afterPull // and then it is decided again
	fromOlder // from the replica, and the reader is told how old it is
	fromNone  // the read fails with replicaView.err, or errFilling
)

// mustShow reports whether an older answer will not do for a search: this Store has written
// something since, or what is looked for was not found there. For steps there is no other.
func (r *reading) mustShow(v *replicaView) bool { return v.wrote && !r.steps || !r.since.IsZero() }

// decide chooses where a read goes.
func decide(r *reading, v *replicaView, f freshness) route {
	if r.cursor != "" && !strings.HasPrefix(r.cursor, replicaMark) {
		return fromServer // its numbers are the server's
	}
	missing := false
	if (!v.complete || !v.since.IsZero()) && r.cursor == "" {
		switch r.kind {
		case readItem:
			missing = !v.held
		case readAll:
			missing = true
		case readBest:
			missing = !v.complete && v.few && !r.steps || !r.since.IsZero()
		}
	}
	current := !v.asOf.IsZero() && !v.asOf.Before(f.floor)
	switch {
	case refused(v.err) && v.waited:
		return fromNone
	case refused(v.err):
		return afterPull
	case missing && v.err == nil:
		return fromServer
	case current && !missing:
		return fromReplica
	case v.err == nil && !v.waited:
		return afterPull
	case v.err == nil && (r.kind == readBest && !f.strict && !r.mustShow(v) || r.cursor != ""):
		return fromOlder // several pages are to come
	case v.err == nil && r.steps:
		return fromNone // the server cannot answer it either
	case v.err == nil:
		return fromServer
	case !Retryable(v.err) && r.kind != readBest && r.cursor == "":
		return fromServer // the replica is in trouble, not the server
	case !f.strict && !v.mine && !v.unfilled && !(missing && r.kind == readItem) && !(v.late && (v.wrote && r.kind == readAll || !r.since.IsZero())):
		return fromOlder
	case !v.waited:
		return afterPull // nothing else will do, and the server may be back
	case v.late:
		return fromServer
	}
	return fromNone
}

// errFilling says why an answer of a replica may be older than promised, or cannot be given.
var errFilling = &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: errors.New("changes of the server are still being fetched")}

const (
	// leastPatience is how long at least a read waits for a pull.
	leastPatience = 300 * time.Millisecond
	// ownPatience is for a search behind a write of this Store: the server has just answered,
	// and nothing but the replica finds steps.
	ownPatience = 3 * time.Second
)

// on returns the Store that a read goes to, and its context: the replica's, narrowed as s
// is, if that is as new as was promised, and otherwise s. It may wait for a pull.
func (s *Store) on(ctx context.Context, what reading) (context.Context, *Store, error) {
	if s == nil || s.replica == nil || ctx == nil {
		return ctx, s, nil
	}
	r, f := s.replica, s.replica.freshness(ctx)
	if what.since.After(f.floor) {
		f.floor = what.since
	}
	r.readLast.Store(true)
	v, err := r.view(ctx, &what)
	if err != nil {
		return ctx, s, err
	}
	to := decide(&what, v, f)
	if to == afterPull {
		r.waits.Add(1)
		if refused(v.err) {
			f.floor = time.Now() // whether it refuses still
		}
		late, pulled := r.await(ctx, f, &what, v)
		if err := ctx.Err(); err != nil {
			return ctx, s, err
		}
		if v, err = r.view(ctx, &what); err != nil {
			return ctx, s, err
		}
		v.waited, v.err, v.late = true, pulled, late
		to = decide(&what, v, f)
	}
	if to, err = s.queuedRoute(ctx, &what, v, to); err != nil {
		return ctx, s, err
	}
	switch to {
	case fromNone:
		r.failures.Add(1)
		if v.err == nil {
			return ctx, s, errFilling
		}
		return ctx, s, v.err
	case fromServer:
		r.serverReads.Add(1)
		direct := *s
		direct.engine, direct.borrowed = answering{s.engine, r}, true
		return ctx, &direct, nil
	}
	from := replicaRead{asOf: v.lastAsOf, remaining: v.remaining, since: v.since}
	if to == fromOlder {
		from.stale = v.err
		if from.stale == nil {
			from.stale = errFilling
		}
		r.olderReads.Add(1)
		r.pull.Kick()
	}
	r.reads.Add(1)
	from.tell(ctx)
	return context.WithValue(ctx, replicaKey{}, &from), r.narrowed(s.scope), nil
}

// queuedRoute keeps a read in the replica that must show what is queued there, and only there.
func (s *Store) queuedRoute(ctx context.Context, what *reading, v *replicaView, to route) (route, error) {
	if s.queue == nil || to != fromServer && to != fromNone {
		return to, nil
	}
	id := what.id
	if what.kind != readItem && v.complete {
		id = ID{}
	} else if id.IsZero() {
		return to, nil
	}
	pinned, err := s.replica.pins(ctx, id)
	if err == nil && pinned && (what.kind == readItem || to == fromServer) {
		to = fromOlder
	}
	return to, err
}

// freshness is how new a read must be: as Cache.PollInterval promises, or WithFresh, and
// with all that this Store has written, or read from the server.
func (r *localReplica) freshness(ctx context.Context) freshness {
	now := time.Now()
	if ctx.Value(freshKey{}) != nil {
		return freshness{now, true}
	}
	floor := now.Add(-r.interval)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range []time.Time{r.wrote, r.answered} {
		if t.After(floor) {
			floor = t
		}
	}
	return freshness{floor, r.strict}
}

// view looks at the replica for a read.
func (r *localReplica) view(ctx context.Context, what *reading) (*replicaView, error) {
	st := r.pull.Status()
	v := &replicaView{asOf: st.AsOf, lastAsOf: st.LastAsOf, complete: st.Complete, since: st.Since, remaining: int(st.Remaining), err: st.Down}
	v.unfilled = st.LastAsOf.IsZero() && !st.Complete
	v.mine, v.wrote = r.isMine(what.id, v.asOf), r.wroteAfter(v.lastAsOf)
	if v.err == nil {
		v.err = r.late(v.asOf)
		v.late = v.err != nil
	}
	if st.Complete && st.Since.IsZero() || what.cursor != "" {
		return v, nil
	}
	switch what.kind {
	case readItem:
		rows, err := r.inner.engine.Query(ctx, engine.Stmt{SQL: "SELECT 1 FROM " + what.table + " WHERE id = ?", Args: []any{what.id.bytes()}})
		if err != nil {
			return v, err
		}
		v.held = len(rows[0].Rows) > 0
	case readBest:
		rows, err := r.inner.engine.Query(ctx, engine.Stmt{SQL: "SELECT count(*) FROM (SELECT 1 FROM episodes LIMIT ?)", Args: []any{int64(fewEpisodes)}})
		if err != nil {
			return v, err
		}
		n, err := intFrom(rows[0].Rows[0][0])
		if err != nil {
			return v, err
		}
		v.few = n < fewEpisodes
	}
	return v, nil
}

// fewEpisodes is how many there must be in a replica that is being filled before it is
// searched in place of the server.
const fewEpisodes = 200

// await waits for a pull that began after the floor: as long as it takes for a read that
// nothing else can answer, otherwise a little longer than the last one took. Its error is
// why there is none; late, that it took too long.
func (r *localReplica) await(ctx context.Context, f freshness, what *reading, v *replicaView) (late bool, err error) {
	waiting := ctx
	patience := max(leastPatience, 4*r.pull.Status().Took)
	if what.kind == readBest && v.wrote {
		patience = max(patience, ownPatience)
	}
	if !f.strict && (!v.unfilled || !what.steps) {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	_, err = r.pull.Await(waiting, f.floor)
	if late = err != nil && ctx.Err() == nil && waiting.Err() != nil; late {
		err = &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf("the server did not tell of changes within %v", patience)}
		r.mu.Lock()
		r.lateFloor, r.lateErr = f.floor, err
		r.mu.Unlock()
	}
	return late, err
}

// late returns why the last read that waited for a pull gave up, until one has ended that
// would have served it: others do not wait in vain.
func (r *localReplica) late(asOf time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lateErr != nil && !asOf.Before(r.lateFloor) {
		r.lateErr = nil
	}
	return r.lateErr
}

// maxMine bounds how many ids of own writes are remembered.
const maxMine = 4096

// noteWrite notes how a write of items by this Store ended. One that the server has refused
// tells of what is stored there, so that who reads then must see that; one that did not
// reach it tells nothing.
func (r *localReplica) noteWrite(err error, ids []ID) {
	now := time.Now()
	switch {
	case Retryable(err):
		return
	case err != nil && engine.KindOf(err) != engine.KindUnknownOutcome:
		r.noteAnswer()
		r.pullFor(now)
		return
	}
	if err == nil {
		r.pull.Answered()
	}
	r.noteForOthers(now)
	asOf := r.pull.Status().AsOf
	r.mu.Lock()
	r.wrote = now
	for id, at := range r.mine {
		if at.Before(asOf) {
			delete(r.mine, id)
		}
	}
	if len(r.mine)+len(ids) > maxMine {
		clear(r.mine)
		r.allMine = now
	} else {
		for _, id := range ids {
			r.mine[id] = now
		}
	}
	r.mu.Unlock()
	r.pullFor(now)
}

// pullFor has the next read find what was written at a time, if there are reads: one who
// only writes need not fetch all of it again.
func (r *localReplica) pullFor(at time.Time) {
	if r.readLast.Swap(false) {
		r.pull.Wrote(at)
	}
}

// isMine reports whether this Store has written an item after asOf, or may have.
func (r *localReplica) isMine(id ID, asOf time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, found := r.mine[id]
	return !id.IsZero() && (found && !at.Before(asOf) || !r.allMine.IsZero() && !r.allMine.Before(asOf))
}

// wroteAfter reports whether this Store has written anything after asOf.
func (r *localReplica) wroteAfter(asOf time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.wrote.IsZero() && !r.wrote.Before(asOf)
}

// recent is the Store on the replica, narrowed to a scope, if that may have what was
// written last of an item; nil: this Store has written to it since.
func (r *localReplica) recent(scope Scope, id ID) *Store {
	asOf := r.pull.Status().AsOf
	if r.isMine(id, asOf) || asOf.IsZero() {
		return nil
	}
	return r.narrowed(scope)
}

// answering is the server's engine for a read that the replica does not answer: what it
// has answered the replica must not show older afterwards.
type answering struct {
	engine.Engine
	replica *localReplica
}

func (a answering) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	results, err := a.Engine.Query(ctx, stmts...)
	if err == nil {
		a.replica.noteAnswer()
		a.replica.pull.Answered()
	}
	return results, err
}

func (r *localReplica) noteAnswer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered = time.Now()
}

type replicaKey struct{}

// replicaRead is how a read is served that goes to the replica.
type replicaRead struct {
	asOf      time.Time // the last one; zero: there was none
	stale     error
	remaining int       // items that are not here yet
	since     time.Time // see replicaView
}

// tell fills in the ReadInfo of ctx, if there is one.
func (from *replicaRead) tell(ctx context.Context) {
	if info, ok := ctx.Value(readInfoKey{}).(*ReadInfo); ok && info != nil {
		*info = ReadInfo{Replica: true, Stale: from.stale, Age: from.age()}
	}
}

func (from *replicaRead) age() time.Duration { return max(0, time.Since(from.asOf)) }

// tellMissing says in the results of a search what the replica that it went to does not have.
func (r *SearchResults) tellMissing(ctx context.Context) {
	if from, ok := ctx.Value(replicaKey{}).(*replicaRead); ok {
		r.Waiting += from.remaining
		r.Since = from.since
	}
}
