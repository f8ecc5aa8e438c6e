package episodic

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// machines are two that queue writes for one server, and one that writes through.
type machines struct {
	t      *testing.T
	server *hranatest.Server
	link   *hranatest.Link // of a
	a, b   *Store
	direct *Store
	lossy  bool // answers to a's pushes get lost
}

func twoMachines(t *testing.T) *machines {
	t.Helper()
	server, link := offline(t)
	return &machines{
		t: t, server: server, link: link,
		a: queueing(t, link.URL(), t.TempDir()), b: queueing(t, server.URL(), t.TempDir()),
		direct: open(t, server.URL(), &Options{Cache: Cache{Disabled: true}}),
	}
}

// synced has both machines show what the server has.
func (m *machines) synced() {
	m.t.Helper()
	for _, s := range []*Store{m.a, m.b} {
		ok(m.t, s.Flush(m.t.Context()))
		synced(m.t, s)
	}
}

// meet has b's write on the server before a's, which was made without knowing of it.
func (m *machines) meet(a, b func(s *Store) error) {
	m.t.Helper()
	release := m.a.queue.hold()
	ok(m.t, a(m.a))
	ok(m.t, b(m.b))
	ok(m.t, m.b.Flush(m.t.Context()))
	if m.lossy {
		m.link.CutAnswer(60)
	}
	release()
	for tries := 0; m.a.Flush(m.t.Context()) != nil; tries++ {
		if tries == 20 {
			m.t.Fatal(m.a.Flush(m.t.Context()))
		}
	}
	m.synced()
}

// same checks that both machines and the server have the same of an episode.
func (m *machines) same(id ID) *Episode {
	m.t.Helper()
	want, err := m.direct.Episode(m.t.Context(), id)
	ok(m.t, err)
	for name, s := range map[string]*Store{"a": m.a, "b": m.b} {
		got, err := s.Episode(m.t.Context(), id)
		if ok(m.t, err); !sameDocument(got, want) || got.Revision != want.Revision {
			m.t.Errorf("%s has %+v, the server %+v", name, got, want)
		}
	}
	for _, s := range []*Store{m.a, m.b} {
		box, err := s.Outbox(m.t.Context())
		if ok(m.t, err); box != (Outbox{}) {
			m.t.Errorf("left in an outbox: %+v", box)
		}
	}
	return want
}

// conflict is the only one there is.
func (m *machines) conflict(kind ConflictKind, fields ...string) Conflict {
	m.t.Helper()
	var lists [2][]Conflict
	for i, s := range []*Store{m.a, m.direct} {
		var err error
		lists[i], err = collect(s.Conflicts(m.t.Context()))
		ok(m.t, err)
	}
	list := lists[0]
	if len(list) != 1 || list[0].Kind != kind || !slices.Equal(list[0].Fields, fields) || list[0].Item.IsZero() || time.Since(list[0].Time).Abs() > time.Hour || len(lists[1]) != 1 {
		m.t.Fatalf("conflicts %+v and %+v, want one of kind %s, %v", list, lists[1], kind, fields)
	}
	if st := m.a.Stats().Replica.Queue; st.Conflicts != 1 || st.Refused != 0 {
		m.t.Errorf("%+v", st)
	}
	return list[0]
}

func (m *machines) none() {
	m.t.Helper()
	list, err := collect(m.direct.Conflicts(m.t.Context()))
	if ok(m.t, err); len(list) > 0 {
		m.t.Errorf("conflicts %+v", list)
	}
}

// shared is an episode that both machines have.
func (m *machines) shared(words string) *Episode {
	m.t.Helper()
	e := &Episode{Description: "shared", Context: Context{Domain: "base", Tags: []string{"base"}}, Steps: stepsOf(words), Metadata: map[string]string{"k": "base"}}
	ok(m.t, m.direct.StartEpisode(m.t.Context(), e))
	m.synced()
	return e
}

// puts returns a write that reads an episode, changes it and stores it.
func puts(t *testing.T, id ID, change func(*Episode)) func(*Store) error {
	return func(s *Store) error {
		e, err := s.Episode(t.Context(), id)
		if err != nil {
			return err
		}
		change(e)
		return s.PutEpisode(t.Context(), e)
	}
}

func moreSteps(t *testing.T, id ID, tools ...string) func(*Store) error {
	return func(s *Store) error {
		for _, tool := range tools {
			if _, err := s.AppendSteps(t.Context(), id, Step{Tool: tool}); err != nil {
				return err
			}
		}
		return nil
	}
}

func completes(t *testing.T, id ID, kind OutcomeKind, metadata map[string]string) func(*Store) error {
	return func(s *Store) error {
		return s.CompleteEpisode(t.Context(), id, Completion{Outcome: Outcome{Kind: kind}, Metadata: metadata})
	}
}

func deletes(t *testing.T, id ID) func(*Store) error {
	return func(s *Store) error { return s.DeleteEpisode(t.Context(), id) }
}

// inTurn carries out several writes.
func inTurn(writes ...func(*Store) error) func(*Store) error {
	return func(s *Store) error {
		for _, w := range writes {
			if err := w(s); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestConflictOfPuts(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	m.lossy = true
	id := m.shared("one two").ID

	m.meet(puts(t, id, func(e *Episode) { e.Description, e.Context.Tags = "ours", []string{"base", "ours"} }),
		inTurn(puts(t, id, func(e *Episode) { e.Context.Domain, e.Context.Tags = "theirs", []string{"base", "theirs"} }), moreSteps(t, id, "theirs")))
	e := m.same(id)
	if e.Description != "ours" || e.Context.Domain != "theirs" || strings.Join(e.Context.Tags, " ") != "base ours theirs" || wordsOf(e.Steps) != "one two theirs" {
		t.Errorf("merged %+v", e)
	}
	m.none()

	m.meet(inTurn(puts(t, id, func(e *Episode) { e.Description = "ours again"; e.Metadata["k"] = "ours" }), puts(t, id, func(e *Episode) { e.Steps = append(e.Steps, Step{Tool: "ours"}); e.StepCount++ })),
		puts(t, id, func(e *Episode) { e.Description = "theirs again"; e.Metadata["l"] = "theirs"; e.Steps[0].Tool = "ONE" }))
	e = m.same(id)
	if e.Description != "ours again" || e.Metadata["k"] != "ours" || e.Metadata["l"] != "theirs" || wordsOf(e.Steps) != "ONE two theirs ours" {
		t.Errorf("merged %+v", e)
	}
	c := m.conflict(ConflictChanged, "description")
	if c.Episode.Description != "theirs again" || c.ItemKind != ItemEpisode || c.Item != id {
		t.Errorf("%+v", c)
	}
	ok(t, m.a.Restore(t.Context(), c.Number))
	m.synced()
	if e = m.same(id); e.Description != "theirs again" || e.Metadata["k"] != "ours" || wordsOf(e.Steps) != "ONE two theirs ours" {
		t.Errorf("restored %+v", e)
	}
	m.none()
	wants(t, m.a.Restore(t.Context(), c.Number), ErrNotFound, "")
	found, err := m.a.Search(t.Context(), "theirs again", nil)
	if ok(t, err); len(found.Hits) != 1 {
		t.Errorf("%d hits", len(found.Hits))
	}
}

func TestConflictOfPutsOverWhateverThereIs(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	id := m.shared("one two").ID
	m.meet(func(s *Store) error {
		return s.PutEpisode(t.Context(), &Episode{ID: id, Description: "ours", Steps: stepsOf("x")})
	},
		moreSteps(t, id, "theirs"))
	if e := m.same(id); e.Description != "ours" || wordsOf(e.Steps) != "x" {
		t.Errorf("stored %+v", e)
	}
	c := m.conflict(ConflictChanged, "context.domain", "context.tags", "description", "metadata.k", "start", "steps")
	ok(t, m.direct.Restore(t.Context(), c.Number))
	m.synced()
	if e := m.same(id); e.Description != "shared" || wordsOf(e.Steps) != "one two theirs" {
		t.Errorf("restored %+v", e)
	}
}

func TestConflictOfLateSteps(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	m.lossy = true
	id := m.shared("one").ID
	m.meet(moreSteps(t, id, "ours", "more"), inTurn(moreSteps(t, id, "theirs"), completes(t, id, Success, nil)))
	if e := m.same(id); e.Running() || wordsOf(e.Steps) != "one theirs ours more" {
		t.Errorf("stored %+v", e)
	}
	list, err := collect(m.direct.Conflicts(t.Context()))
	if ok(t, err); len(list) != 2 || list[0].Kind != ConflictLate || list[0].Late+list[1].Late != 2 {
		t.Fatalf("conflicts %+v", list)
	}
	wants(t, m.direct.Restore(t.Context(), list[0].Number), ErrInvalid, "nothing")
	ok(t, m.direct.keepIndex(t.Context(), false))
}

func TestConflictOfCompletions(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	id := m.shared("one").ID
	m.meet(completes(t, id, Success, nil), completes(t, id, Success, nil))
	m.same(id)
	m.none()

	id = m.shared("one").ID
	m.meet(inTurn(moreSteps(t, id, "ours"), completes(t, id, Success, map[string]string{"o": "ours"})), completes(t, id, Failure, map[string]string{"t": "theirs"}))
	e := m.same(id)
	if e.Outcome.Kind != Success || e.Metadata["o"] != "ours" || e.Metadata["t"] != "theirs" || wordsOf(e.Steps) != "one ours" {
		t.Errorf("merged %+v", e)
	}
	list, err := collect(m.direct.Conflicts(t.Context()))
	if ok(t, err); len(list) != 2 || list[0].Kind != ConflictLate || list[1].Kind != ConflictChanged || list[1].Episode.Outcome.Kind != Failure {
		t.Fatalf("conflicts %+v", list)
	}
	ok(t, m.b.Restore(t.Context(), list[1].Number))
	m.synced()
	if e = m.same(id); e.Outcome.Kind != Failure || e.Metadata["o"] != "ours" || wordsOf(e.Steps) != "one ours" {
		t.Errorf("restored %+v", e)
	}
}

// A completion does not undo what others have made of the running episode.
func TestConflictOfCompletionAndPut(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	id := m.shared("one").ID
	m.meet(func(s *Store) error {
		return s.CompleteEpisode(t.Context(), id, Completion{Outcome: Outcome{Kind: Success}, Reward: &Reward{Total: 1}})
	}, puts(t, id, func(e *Episode) { e.Reward, e.Description = &Reward{Total: 2}, "theirs" }))
	if e := m.same(id); e.Description != "theirs" || e.Reward.Total != 1 || e.Running() {
		t.Errorf("merged %+v", e)
	}
	if c := m.conflict(ConflictChanged, "reward"); c.Episode.Reward.Total != 2 {
		t.Errorf("kept %+v", c.Episode)
	}
}

func TestConflictOfTheSameID(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	m.synced()
	id := NewID()
	m.meet(inTurn(func(s *Store) error {
		return s.StartEpisode(t.Context(), &Episode{ID: id, Description: "ours", Context: Context{Domain: "d"}, Steps: stepsOf("o")})
	}, moreSteps(t, id, "more")), func(s *Store) error {
		return s.StartEpisode(t.Context(), &Episode{ID: id, Description: "theirs", Context: Context{Language: "l"}, Steps: stepsOf("t")})
	})
	if e := m.same(id); e.Description != "ours" || e.Context.Domain != "d" || e.Context.Language != "l" || wordsOf(e.Steps) != "t o more" {
		t.Errorf("merged %+v", e)
	}
	if c := m.conflict(ConflictSameID, "description", "start"); c.Episode.Description != "theirs" {
		t.Errorf("kept %+v", c.Episode)
	}
}

func TestConflictOfAddedEpisodes(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	m.synced()
	id, start := NewID(), time.Now().Add(-time.Hour)
	add := func(id ID, word string) func(*Store) error {
		return func(s *Store) error {
			_, err := s.AddEpisodes(t.Context(), &Episode{ID: id, Start: start, Description: word, Steps: stepsOf(word)})
			return err
		}
	}
	same := NewID()
	m.meet(inTurn(add(id, "ours"), add(same, "same")), inTurn(add(id, "theirs"), add(same, "same")))
	if e := m.same(id); e.Description != "theirs" {
		t.Errorf("stored %+v", e)
	}
	c := m.conflict(ConflictSameID)
	ok(t, m.direct.Restore(t.Context(), c.Number))
	m.synced()
	if e := m.same(id); e.Description != "ours" || wordsOf(e.Steps) != "ours" {
		t.Errorf("restored %+v", e)
	}
}

func TestConflictOfWritesToDeleted(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	for name, write := range map[string]func(ID) func(*Store) error{
		"append": func(id ID) func(*Store) error { return inTurn(moreSteps(t, id, "ours"), moreSteps(t, id, "more")) },
		"put":    func(id ID) func(*Store) error { return puts(t, id, func(e *Episode) { e.Description = "ours" }) },
		"put over": func(id ID) func(*Store) error {
			return func(s *Store) error { return s.PutEpisode(t.Context(), &Episode{ID: id, Description: "ours"}) }
		},
		"tags": func(id ID) func(*Store) error {
			return func(s *Store) error { return s.AddTags(t.Context(), id, "ours") }
		},
		"complete": func(id ID) func(*Store) error {
			return inTurn(moreSteps(t, id, "ours"), completes(t, id, Success, nil))
		},
	} {
		e := m.shared("one")
		var want *Episode
		m.meet(inTurn(write(e.ID), func(s *Store) (err error) { want, err = s.Episode(t.Context(), e.ID); return err }), deletes(t, e.ID))
		for _, s := range []*Store{m.a, m.b, m.direct} {
			_, err := s.Episode(t.Context(), e.ID)
			wants(t, err, ErrNotFound, "")
		}
		list, err := collect(m.a.Conflicts(t.Context()))
		if ok(t, err); len(list) != 1 || list[0].Kind != ConflictGone || list[0].Episode == nil {
			t.Fatalf("%s: conflicts %+v", name, list)
		}
		ok(t, m.a.Restore(t.Context(), list[0].Number))
		m.synced()
		got := m.same(e.ID)
		if !sameDocument(got, want) {
			t.Errorf("%s: restored %+v, it was %+v", name, got, want)
		}
		m.none()
	}
}

func TestConflictOfDeletion(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	m.lossy = true
	e := m.shared("one")
	m.meet(deletes(t, e.ID), moreSteps(t, e.ID, "theirs"))
	_, err := m.direct.Episode(t.Context(), e.ID)
	wants(t, err, ErrNotFound, "")
	c := m.conflict(ConflictDeleted)
	if c.Episode.StepCount != 2 {
		t.Errorf("kept %+v", c.Episode)
	}
	ok(t, m.b.Restore(t.Context(), c.Number))
	m.synced()
	if e := m.same(e.ID); wordsOf(e.Steps) != "one theirs" || e.Context.Domain != "base" {
		t.Errorf("restored %+v", e)
	}
	m.meet(deletes(t, e.ID), deletes(t, e.ID)) // both
	m.none()
}

func TestConflictOfPatternsAndHeuristics(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	ctx := t.Context()
	p := &Pattern{Description: "p", Occurrences: 1, SuccessRate: .5, DecisionPoint: &DecisionPoint{Condition: "c", Action: "a"}}
	h := &Heuristic{Condition: "c", Action: "a", Confidence: .5}
	ok(t, m.direct.PutPattern(ctx, p))
	ok(t, m.direct.PutHeuristic(ctx, h))
	m.synced()
	change := func(word string, own func(*Pattern, *Heuristic)) func(*Store) error {
		return func(s *Store) error {
			p, err := s.Pattern(ctx, p.ID)
			if err != nil {
				return err
			}
			h, err := s.Heuristic(ctx, h.ID)
			if err != nil {
				return err
			}
			p.Description, h.Action = word, word
			own(p, h)
			if err := s.PutPattern(ctx, p); err != nil {
				return err
			}
			return s.PutHeuristic(ctx, h)
		}
	}
	m.meet(change("ours", func(p *Pattern, h *Heuristic) { p.Occurrences, h.Confidence = 2, .6 }),
		change("theirs", func(p *Pattern, h *Heuristic) { p.SuccessRate, h.Condition = .7, "d" }))
	check := func(word string) {
		t.Helper()
		for _, s := range []*Store{m.a, m.b, m.direct} {
			p, err := s.Pattern(ctx, p.ID)
			ok(t, err)
			h, err := s.Heuristic(ctx, h.ID)
			ok(t, err)
			if p.Description != word || p.Occurrences != 2 || p.SuccessRate != .7 || h.Action != word || h.Confidence != .6 || h.Condition != "d" {
				t.Errorf("%+v, %+v", p, h)
			}
		}
	}
	check("ours")
	list, err := collect(m.b.Conflicts(ctx))
	if ok(t, err); len(list) != 2 || list[0].Pattern == nil || list[1].Heuristic == nil {
		t.Fatalf("conflicts %+v", list)
	}
	ok(t, m.b.Restore(ctx, list[0].Number))
	ok(t, m.b.Restore(ctx, list[1].Number))
	m.synced()
	check("theirs")
	m.meet(func(s *Store) error { return s.DeletePattern(ctx, p.ID) }, change("changed", func(*Pattern, *Heuristic) {}))
	_, err = m.direct.Pattern(ctx, p.ID)
	wants(t, err, ErrNotFound, "")
	list, err = collect(m.a.Conflicts(ctx))
	if ok(t, err); len(list) != 1 || list[0].Kind != ConflictDeleted || list[0].Pattern.Description != "changed" {
		t.Fatalf("conflicts %+v", list)
	}
	ok(t, m.a.Restore(ctx, list[0].Number))
	p, err = m.direct.Pattern(ctx, p.ID)
	if ok(t, err); p.Description != "changed" {
		t.Errorf("restored %+v", p)
	}
}

// What cannot be carried out as it is, and what is not of an item, is kept as a write.
func TestConflictOfARelation(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	from, to := m.shared("one"), m.shared("two")
	m.meet(func(s *Store) error {
		return s.PutRelation(t.Context(), &Relation{From: from.ID, Type: Follows, To: to.ID})
	}, deletes(t, to.ID))
	c := m.conflict(ConflictGone)
	if c.Write != "put relation" {
		t.Errorf("%+v", c)
	}
	wants(t, m.a.Restore(t.Context(), c.Number), ErrConflict, "does not fit")
	ok(t, m.direct.PutEpisode(t.Context(), &Episode{ID: to.ID, Description: "again"}))
	ok(t, m.a.Restore(t.Context(), c.Number))
	page, err := m.direct.ListRelations(t.Context(), from.ID, nil, nil)
	if ok(t, err); len(page.Items) != 1 {
		t.Errorf("%d relations", len(page.Items))
	}
}

// Conflicts are those of the scope, and end with the item or after 30 days.
func TestConflictsOfScopesAndTime(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	ctx := t.Context()
	mine := Scope{Project: "mine"}
	a, err := m.a.Scoped(mine)
	ok(t, err)
	e := &Episode{Description: "scoped"}
	ok(t, a.StartEpisode(ctx, e))
	m.synced()
	release := m.a.queue.hold()
	ok(t, puts(t, e.ID, func(e *Episode) { e.Description = "ours" })(a))
	ok(t, puts(t, e.ID, func(e *Episode) { e.Description = "theirs" })(m.direct))
	release()
	ok(t, m.a.Flush(ctx))
	for _, tt := range []struct {
		scope Scope
		want  int
	}{{mine, 1}, {Scope{Project: "other"}, 0}, {Scope{User: "u"}, 0}} {
		s, err := m.direct.Scoped(tt.scope)
		ok(t, err)
		list, err := collect(s.Conflicts(ctx))
		if ok(t, err); len(list) != tt.want {
			t.Errorf("%v lists %+v", tt.scope, list)
		}
		if tt.want == 0 {
			wants(t, s.Restore(ctx, 1), ErrNotFound, "")
		}
	}
	c := m.conflict(ConflictChanged, "description")
	_, err = m.direct.engine.Batch(ctx, stmt("UPDATE conflicts SET at_us = at_us - 31 * 86400 * 1000000"))
	ok(t, err)
	m.none()
	wants(t, m.direct.Restore(ctx, c.Number), ErrNotFound, "")
	old := number(t, m.direct, "SELECT count(*) FROM conflicts")
	ok(t, m.direct.DeleteEpisode(ctx, m.shared("one").ID)) // any deletion clears it away
	if old != 1 {
		t.Errorf("%d are there", old)
	}
	if n := number(t, m.direct, "SELECT count(*) FROM conflicts"); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// What is refused for what it is can be given up, and what waits for it goes on.
func TestDiscard(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	ctx := t.Context()
	e, other := m.shared("one"), m.shared("other")
	release := m.a.queue.hold()
	ok(t, m.a.AddTags(ctx, e.ID, "discarded"))
	for _, id := range []ID{e.ID, other.ID} {
		ok(t, moreSteps(t, id, "ours")(m.a))
	}
	var tags []string
	for i := range maxTags {
		tags = append(tags, fmt.Sprint("t", i))
	}
	ok(t, puts(t, e.ID, func(e *Episode) { e.Context.Tags = tags })(m.direct))
	release()
	wants(t, m.a.Flush(ctx), ErrConflict, "refused 1")
	writes, err := collect(m.a.Queued(ctx))
	if ok(t, err); len(writes) != 2 || !strings.Contains(writes[0].Refused, "more than 1000") {
		t.Fatalf("%+v", writes)
	}
	wants(t, m.a.Discard(ctx, writes[1].Number), ErrConflict, "not refused")
	wants(t, m.a.Discard(ctx, 1<<40), ErrNotFound, "")
	ok(t, m.a.Discard(ctx, writes[0].Number))
	m.synced()
	if e := m.same(e.ID); len(e.Context.Tags) != maxTags || wordsOf(e.Steps) != "one ours" {
		t.Errorf("%d tags, steps %s", len(e.Context.Tags), wordsOf(e.Steps))
	}
	if e := m.same(other.ID); wordsOf(e.Steps) != "other ours" {
		t.Errorf("steps %s", wordsOf(e.Steps))
	}
}

// An outbox that an earlier version has written has no versions that its writes were made over.
func TestConflictsOfOlderOutboxes(t *testing.T) {
	t.Parallel()
	m := twoMachines(t)
	ctx := t.Context()
	id := m.shared("one").ID
	release := m.a.queue.hold()
	ok(t, puts(t, id, func(e *Episode) { e.Description = "ours" })(m.a))
	ok(t, completes(t, id, Success, nil)(m.a))
	n := number(t, &Store{engine: m.a.queue.file}, "SELECT count(*) FROM ops WHERE json_extract(CAST(body AS TEXT), '$.Read') IS NOT NULL")
	_, err := m.a.queue.file.Batch(ctx, stmt("UPDATE ops SET body = CAST(json_remove(CAST(body AS TEXT), '$.Read') AS BLOB)"))
	if ok(t, err); n != 2 {
		t.Errorf("%d operations have noted what they were made over", n)
	}
	ok(t, puts(t, id, func(e *Episode) {
		e.Description = "theirs"
		e.Metadata["k"] = "theirs"
		e.Steps = append(e.Steps, Step{Tool: "theirs"})
		e.StepCount++
	})(m.direct))
	release()
	ok(t, m.a.Flush(ctx))
	m.synced()
	if e := m.same(id); e.Description != "ours" || e.Running() || wordsOf(e.Steps) != "one theirs" {
		t.Errorf("merged %+v", e)
	}
}
