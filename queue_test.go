package episodic

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// queueing opens a Store on a server that queues its writes. Its replica and outbox are in dir.
func queueing(t testing.TB, target, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), target, queueOptions(dir))
	ok(t, err)
	t.Cleanup(func() { _ = s.Close() }) // it may be offline
	return s
}

func queueOptions(dir string) *Options {
	return &Options{
		StateDir: dir, LockDir: dir, CacheDir: filepath.Join(dir, "cache"),
		Cache:   Cache{PollInterval: time.Nanosecond},
		Replica: Replica{Path: filepath.Join(dir, "replica.db"), Offline: Queue, PushEvery: time.Millisecond},
	}
}

// life writes an episode with two steps by a Store.
func life(t testing.TB, s *Store, i int) ID {
	t.Helper()
	e := &Episode{Description: fmt.Sprint("task of the queue ", i), Context: Context{Tags: []string{"queued"}}}
	ok(t, s.StartEpisode(t.Context(), e))
	for n := range 2 {
		first, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: "write", Action: fmt.Sprint("step ", i, ".", n)})
		if ok(t, err); first != n+1 {
			t.Errorf("step %d got number %d", n, first)
		}
	}
	ok(t, s.CompleteEpisode(t.Context(), e.ID, Completion{Outcome: Outcome{Kind: Success}, Metadata: map[string]string{"i": fmt.Sprint(i)}}))
	return e.ID
}

// What is written offline is read at once, and on the server once it can be reached.
func TestQueuedOfflineAndPushed(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	link, err := hranatest.NewLink(server.URL())
	ok(t, err)
	t.Cleanup(link.Close)
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	s := queueing(t, link.URL(), t.TempDir())
	synced(t, s)
	link.Refuse(true)
	link.ResetAll()

	var ids []ID
	for i := range 20 {
		ids = append(ids, life(t, s, i))
	}
	ok(t, s.PutRelation(t.Context(), &Relation{From: ids[0], Type: Follows, To: ids[1]}))
	ok(t, s.AddTags(t.Context(), ids[2], "more"))
	ok(t, s.DeleteEpisode(t.Context(), ids[3]))
	ok(t, s.PutPattern(t.Context(), &Pattern{Description: "p", ToolSequence: &ToolSequence{Tools: []string{"a"}}}))
	wants(t, s.DeleteEpisode(t.Context(), NewID()), ErrNotFound, "")
	wants(t, s.StartEpisode(t.Context(), &Episode{ID: ids[0], Description: "again"}), ErrConflict, "")
	_, err = s.AppendSteps(t.Context(), ids[0], Step{Tool: "late"})
	wants(t, err, ErrConflict, "ended")
	read, err := s.Episode(t.Context(), ids[0])
	if ok(t, err); len(read.Steps) != 2 || read.Running() {
		t.Errorf("read %+v", read)
	}
	found, err := s.Search(t.Context(), "queue", &SearchOptions{Limit: 100, EachRun: true})
	if ok(t, err); len(found.Hits) != 19 {
		t.Errorf("%d hits", len(found.Hits))
	}
	read.Description = "another description"
	ok(t, s.PutEpisode(t.Context(), read))
	box, err := s.Outbox(t.Context())
	if ok(t, err); box.Waiting != 20*4+5 || box.Refused != 0 || box.Bytes == 0 || box.Oldest.IsZero() {
		t.Errorf("%+v", box)
	}
	if err := s.Flush(t.Context()); !Retryable(err) {
		t.Errorf("flushed without a server: %v", err)
	}

	link.Refuse(false)
	for err = s.Flush(t.Context()); Retryable(err); err = s.Flush(t.Context()) { // the breaker may be open still
		time.Sleep(10 * time.Millisecond)
	}
	ok(t, err)
	for i, id := range ids {
		e, err := direct.Episode(t.Context(), id)
		if i == 3 {
			wants(t, err, ErrNotFound, "")
			continue
		}
		if ok(t, err); len(e.Steps) != 2 || e.Steps[1].Action != fmt.Sprint("step ", i, ".1") || e.Outcome.Kind != Success || e.Metadata["i"] != fmt.Sprint(i) {
			t.Errorf("on the server: %+v", e)
		}
		if i == 0 && e.Description != read.Description {
			t.Errorf("the put was not pushed: %+v", e)
		}
	}
	box, err = s.Outbox(t.Context())
	if ok(t, err); box != (Outbox{}) {
		t.Errorf("still queued: %+v", box)
	}
	if n := number(t, s.replica.inner, "SELECT count(*) FROM pinned"); n != 0 {
		t.Errorf("%d are pinned", n)
	}
	synced(t, s)
	differences, err := s.VerifyReplica(t.Context(), false)
	ok(t, err)
	t.Logf("%+v %+v %v", s.Stats().Replica.Queue, s.Stats().Replica, differences)
}

// queueWriterEnv makes the test program a process that queues writes for the server it
// names, in the folder behind a space, until it is killed; see crashWriter.
const queueWriterEnv = "EPISODIC_QUEUE_WRITER"

// queueWriter is crashWriter for queued writes.
func queueWriter() bool {
	target, dir, asked := strings.Cut(os.Getenv(queueWriterEnv), " ")
	if !asked {
		return false
	}
	s, err := Open(context.Background(), target, queueOptions(dir))
	if err == nil {
		err = writeAndAcknowledge(context.Background(), s, func(id ID, steps int) { fmt.Println(id, steps) })
	}
	fmt.Println("error", err)
	return true
}

// Processes that queue are killed, two at a time, while answers of the server are lost:
// what they have acknowledged is on the server in the end, once.
func TestKilledQueueLosesNothing(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	link, err := hranatest.NewLink(server.URL())
	ok(t, err)
	t.Cleanup(link.Close)
	dir := t.TempDir()
	first := queueing(t, link.URL(), dir) // with whose replica the others begin
	synced(t, first)
	ok(t, first.Close())
	acknowledged := make(map[ID]int)
	var mu sync.Mutex
	for kill := range testkit.Effort(2, 4, 8) {
		link.CutAnswer(100 + 37*kill)
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				testkit.Killed(t, queueWriterEnv+"="+link.URL()+" "+dir, 5+7*kill+10*i, 50*time.Millisecond, func(line string) {
					var word string
					var steps int
					if _, err := fmt.Sscan(line, &word, &steps); err != nil {
						t.Errorf("the program says %q", line)
						return
					}
					id, err := ParseID(word)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					acknowledged[id] = steps
				})
			})
		}
		both.Wait()
	}
	s := queueing(t, link.URL(), dir)
	for range testkit.Effort(2, 4, 8) { // answers may be left to be cut, more than a call tries again
		if err = s.Flush(t.Context()); err == nil {
			break
		}
	}
	ok(t, err)
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	checkQueued(t, direct, acknowledged)
	synced(t, s)
	checkQueued(t, s.replica.inner, acknowledged)
	differences, err := s.VerifyReplica(t.Context(), false)
	if ok(t, err); len(differences) > 0 {
		t.Errorf("the replica differs: %+v", differences)
	}
	if n := number(t, s.replica.inner, "SELECT count(*) FROM pinned"); n != 0 {
		t.Errorf("%d are pinned", n)
	}
	t.Logf("%d episodes; %+v", len(acknowledged), s.Stats().Replica.Queue)
}

// checkQueued compares what is stored with what was acknowledged.
func checkQueued(t *testing.T, s *Store, acknowledged map[ID]int) {
	t.Helper()
	for id, steps := range acknowledged {
		e, err := s.Episode(t.Context(), id)
		switch {
		case err != nil:
			t.Errorf("an acknowledged episode is lost: %v", err)
		case steps == -1 && (e.Running() || len(e.Steps) != 3), steps > len(e.Steps), len(e.Steps) > 3:
			t.Errorf("episode %v: %d acknowledged; it has %d steps, running %v", id, steps, len(e.Steps), e.Running())
		}
	}
}

// offline makes a link to a server, and one that is cut when the test says so.
func offline(t testing.TB) (server *hranatest.Server, link *hranatest.Link) {
	t.Helper()
	server = hranatest.Start(t)
	link, err := hranatest.NewLink(server.URL())
	ok(t, err)
	t.Cleanup(link.Close)
	return server, link
}

// hold keeps the Store from pushing until the function that it returns is called.
func (q *writeQueue) hold() (release func()) {
	q.turn <- struct{}{}
	return func() { <-q.turn }
}

// An answer that is lost is no reason to push twice.
func TestLostAnswersOfPushes(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	s := queueing(t, link.URL(), t.TempDir())
	synced(t, s)
	e := &Episode{Description: "lost"}
	ok(t, s.StartEpisode(t.Context(), e))
	ok(t, s.Flush(t.Context()))
	const rounds = 6
	for i := range rounds {
		release := s.queue.hold()
		_, err := s.AppendSteps(t.Context(), e.ID, Step{Tool: fmt.Sprint("t", i)})
		ok(t, err)
		release()
		link.CutAnswer(i * 40)
		for s.Flush(t.Context()) != nil {
		}
	}
	got, err := open(t, server.URL(), nil).Episode(t.Context(), e.ID)
	ok(t, err)
	for i := range got.Steps {
		if len(got.Steps) != rounds || got.Steps[i].Tool != fmt.Sprint("t", i) {
			t.Fatalf("stored %+v", got.Steps)
		}
	}
	if st := s.Stats().Replica.Queue; st.Unsure == 0 || st.Pushed+st.Unsure < rounds+1 || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
}

// A request that comes late, after its operations were pushed in other groups, changes
// nothing.
func TestLatePush(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	s := queueing(t, link.URL(), t.TempDir())
	synced(t, s)
	ctx, q := t.Context(), s.queue
	release := q.hold()
	e := &Episode{Description: "late"}
	ok(t, s.StartEpisode(ctx, e))
	_, err := s.AppendSteps(ctx, e.ID, Step{Tool: "one"})
	ok(t, err)
	before, err := q.box.Position(ctx)
	ok(t, err)
	ops, err := q.box.Waiting(ctx, 10)
	ok(t, err)
	late, err := newBatch(ops, nil)
	ok(t, err)
	_, err = s.AppendSteps(ctx, e.ID, Step{Tool: "two"})
	ok(t, err)
	release()
	ok(t, s.Flush(ctx))
	ok(t, s.DeleteEpisode(ctx, e.ID))
	ok(t, s.Flush(ctx))
	if _, err := q.send(ctx, before, late); !strings.Contains(fmt.Sprint(err), "pushed otherwise") {
		t.Errorf("the late request was answered with %v", err)
	}
	_, err = open(t, server.URL(), nil).Episode(ctx, e.ID)
	wants(t, err, ErrNotFound, "")
}

// What the server refuses is kept, and holds back what follows of its item, and no more.
func TestRefusedPush(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	ctx := t.Context()
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	s := queueing(t, link.URL(), t.TempDir())
	e, other := &Episode{Description: "of another scope"}, &Episode{Description: "other"}
	ok(t, s.StartEpisode(ctx, e))
	ok(t, s.StartEpisode(ctx, other))
	ok(t, s.Flush(ctx))
	synced(t, s)
	release := s.queue.hold()
	read, err := s.Episode(ctx, e.ID)
	ok(t, err)
	read.Description = "ours"
	ok(t, s.PutEpisode(ctx, read))
	for _, id := range []ID{other.ID, e.ID, other.ID} {
		_, err := s.AppendSteps(ctx, id, Step{Tool: "t"})
		ok(t, err)
	}
	ok(t, direct.DeleteEpisode(ctx, e.ID))
	ok(t, direct.StartEpisode(ctx, &Episode{ID: e.ID, Description: "theirs", Scope: Scope{Project: "p"}}))
	release()
	for range 2 { // it is tried again by each Flush
		wants(t, s.Flush(ctx), ErrConflict, "refused 1")
		box, err := s.Outbox(ctx)
		if ok(t, err); box.Waiting != 2 || box.Refused != 1 {
			t.Errorf("%+v", box)
		}
	}
	writes, err := collect(s.Queued(ctx))
	if ok(t, err); len(writes) != 2 || !strings.Contains(writes[0].Refused, "another scope") || writes[1].Refused != "" ||
		writes[0].Item != e.ID || writes[1].Write != "append steps" {
		t.Errorf("%+v", writes)
	}
	got, err := direct.Episode(ctx, other.ID)
	if ok(t, err); len(got.Steps) != 2 {
		t.Errorf("the other episode has %d steps", len(got.Steps))
	}
	ok(t, direct.DeleteEpisode(ctx, e.ID))
	ok(t, s.Flush(ctx))
	list, err := collect(s.Conflicts(ctx))
	if ok(t, err); len(list) != 1 || list[0].Kind != ConflictGone || list[0].Episode.Description != "ours" || list[0].Episode.StepCount != 1 {
		t.Errorf("conflicts %+v", list)
	}
	// The replica has what it passed over.
	synced(t, s)
	_, err = s.Episode(ctx, e.ID)
	wants(t, err, ErrNotFound, "")
}

// Steps of two machines are all kept, each machine's in order.
func TestQueuesOfTwoMachines(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	ctx := t.Context()
	a, b := queueing(t, link.URL(), t.TempDir()), queueing(t, server.URL(), t.TempDir())
	e := &Episode{Description: "shared"}
	ok(t, a.StartEpisode(ctx, e))
	ok(t, a.Flush(ctx))
	synced(t, b)
	link.Refuse(true)
	link.ResetAll()
	for i := range 10 {
		for name, s := range map[string]*Store{"a": a, "b": b} {
			_, err := s.AppendSteps(ctx, e.ID, Step{Tool: name, Action: fmt.Sprint(i)})
			ok(t, err)
		}
	}
	ok(t, b.Flush(ctx))
	ok(t, a.CompleteEpisode(ctx, e.ID, Completion{Outcome: Outcome{Kind: Success}}))
	link.Refuse(false)
	for a.Flush(ctx) != nil {
	}
	for _, s := range []*Store{a, b} {
		synced(t, s)
		got, err := s.Episode(ctx, e.ID)
		ok(t, err)
		next := map[string]int{}
		for _, step := range got.Steps {
			if step.Action != fmt.Sprint(next[step.Tool]) {
				t.Errorf("step %d is %s %s", step.Number, step.Tool, step.Action)
			}
			next[step.Tool]++
		}
		if len(got.Steps) != 20 || got.Running() {
			t.Errorf("%d steps, running %v", len(got.Steps), got.Running())
		}
	}
}

// A revision that both sides have after a push means that both have the same: what another
// has written meanwhile is fetched, though the push came after it.
func TestPushOverChangesByOthers(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	ctx := t.Context()
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	s := queueing(t, link.URL(), t.TempDir())
	rev := func(s *Store, id ID) int64 {
		return number(t, s, "SELECT rev FROM episodes WHERE id = ?", id.bytes())
	}
	for _, write := range []struct {
		name string
		do   func(id ID) error
	}{
		{"append", func(id ID) error { _, err := s.AppendSteps(ctx, id, Step{Tool: "queued"}); return err }},
		{"tags", func(id ID) error { return s.AddTags(ctx, id, "queued") }},
		{"complete", func(id ID) error {
			return s.CompleteEpisode(ctx, id, Completion{Outcome: Outcome{Kind: Success}})
		}},
	} {
		for _, others := range []bool{false, true} {
			e := &Episode{Description: write.name}
			ok(t, s.StartEpisode(ctx, e))
			ok(t, s.Flush(ctx))
			synced(t, s)
			release := s.queue.hold()
			ok(t, write.do(e.ID))
			if others {
				_, err := direct.AppendSteps(ctx, e.ID, Step{Tool: "other"})
				ok(t, err)
			}
			here := rev(s.replica.inner, e.ID)
			release()
			ok(t, s.Flush(ctx))
			if there := rev(direct, e.ID); (here == there) == others {
				t.Errorf("%s: revision %d here, %d there; others have changed it: %v", write.name, here, there, others)
			}
			synced(t, s)
			want, err := direct.Episode(ctx, e.ID)
			ok(t, err)
			got, err := s.replica.inner.Episode(ctx, e.ID)
			ok(t, err)
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("%s: the replica has %+v, the server %+v", write.name, got, want)
			}
		}
	}
}

// Two processes that push at once, because one takes the other for stopped, push nothing twice.
func TestTwoPushAtOnce(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	ctx := t.Context()
	s := queueing(t, link.URL(), t.TempDir())
	synced(t, s)
	e := &Episode{Description: "twice"}
	ok(t, s.StartEpisode(ctx, e))
	ok(t, s.Flush(ctx))
	q := s.queue
	release := q.hold()
	for i := range 4 {
		_, err := s.AppendSteps(ctx, e.ID, Step{Tool: fmt.Sprint("t", i)})
		ok(t, err)
	}
	p, err := q.box.Position(ctx)
	ok(t, err)
	ops, err := q.ready(ctx)
	if ok(t, err); len(ops) != 4 {
		t.Fatalf("%d operations are pushed", len(ops))
	}
	other, err := newBatch(ops[:3], nil)
	ok(t, err)
	_, err = q.send(ctx, p, other)
	ok(t, err)
	ok(t, q.box.Stands(ctx, p, ops[2].N, ops[2].Rev))
	ok(t, q.push(ctx, p, ops, nil)) // which has read them before
	release()
	ok(t, s.Flush(ctx))
	got, err := open(t, server.URL(), nil).Episode(ctx, e.ID)
	if ok(t, err); wordsOf(got.Steps) != "t0 t1 t2 t3" {
		t.Errorf("stored %q", wordsOf(got.Steps))
	}
}

// A write whose process was stopped, and which another one pushes, cannot be taken back when the
// process goes on.
func TestStoppedWriterTakesNothingBack(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	ctx := t.Context()
	s := queueing(t, link.URL(), t.TempDir())
	synced(t, s)
	e := &Episode{Description: "stopped"}
	ok(t, s.StartEpisode(ctx, e))
	ok(t, s.Flush(ctx))
	q := s.queue
	release := q.hold()
	_, err := s.AppendSteps(ctx, e.ID, Step{Tool: "one"})
	ok(t, err)
	op, err := queued(&appendSteps{ID: e.ID, Key: []byte("eight by"), Steps: []Step{{Tool: "two"}}, Now: time.Now()}, time.Now().Add(-2*ownerTime))
	ok(t, err)
	ok(t, q.box.Add(ctx, op))
	p, err := q.box.Position(ctx)
	ok(t, err)
	ops, err := q.ready(ctx)
	if ok(t, err); len(ops) != 2 {
		t.Fatalf("%d operations are pushed", len(ops))
	}
	b, err := newBatch(ops, nil)
	ok(t, err)
	_, err = q.send(ctx, p, b) // whose answer is lost
	ok(t, err)
	if taken, err := q.box.Take(ctx, op.Rev); err != nil || taken {
		t.Errorf("taken back: %v, %v", taken, err)
	}
	release()
	ok(t, s.Flush(ctx))
	got, err := open(t, server.URL(), nil).Episode(ctx, e.ID)
	if ok(t, err); wordsOf(got.Steps) != "one two" {
		t.Errorf("stored %q", wordsOf(got.Steps))
	}
}
