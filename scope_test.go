package episodic

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var anyScope = rapid.Custom(func(t *rapid.T) Scope {
	name := func(label string) string { return anyName.Draw(t, label) }
	scope, err := Scope{name("project"), name("user"), name("agent")}.within(Scope{})
	if err != nil {
		t.Fatal(err)
	}
	return scope
})

func TestScopeWithin(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	for _, tt := range []struct {
		scope, outer, want Scope
		field              string // that is refused
	}{
		{Scope{}, Scope{}, Scope{}, ""},
		{Scope{User: "u"}, Scope{Project: "p"}, Scope{Project: "p", User: "u"}, ""},
		{Scope{Project: "p"}, Scope{Project: "p"}, Scope{Project: "p"}, ""},
		{Scope{Project: "Cafe\u0301"}, Scope{Project: "Caf\u00e9"}, Scope{Project: "Caf\u00e9"}, ""},
		{Scope{Project: "q"}, Scope{Project: "p"}, Scope{}, "scope.project"},
		{Scope{Agent: "b"}, Scope{Agent: "a"}, Scope{}, "scope.agent"},
		{Scope{User: "a\nb"}, Scope{}, Scope{}, "scope.user"},
		{Scope{User: "\xff"}, Scope{}, Scope{}, "scope.user"},
		{Scope{Project: long}, Scope{}, Scope{}, "scope.project"},
	} {
		got, err := tt.scope.within(tt.outer)
		if tt.field != "" {
			wants(t, err, ErrInvalid, tt.field)
		} else if err != nil || got != tt.want {
			t.Errorf("%q within %q: %q, %v; want %q", tt.scope, tt.outer, got, err, tt.want)
		}
	}
}

func TestScopeTexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyScope.Draw(t, "scope"), anyScope.Draw(t, "other")
		text := a.text()
		if a == (Scope{}) {
			text = "" // as the statements say it
		}
		if got, err := scopeFrom(text); err != nil || got != a {
			t.Fatalf("%q reads as %q, %v", text, got, err)
		}
		if (a.number() == b.number()) != (a == b) || (a.number() == 0) != (a == Scope{}) || a.number() < 0 {
			t.Fatalf("%q is %d, %q is %d", a, a.number(), b, b.number())
		}
	})
}

// An unscoped Store sends the statements that it would send if there were no scopes.
func TestGuardedStatements(t *testing.T) {
	for _, tt := range []struct{ sql, want string }{
		{"DELETE FROM episodes WHERE id = ?", "DELETE FROM episodes WHERE scope IN (SELECT n FROM scopes WHERE project = ?2) AND id = ?1"},
		{"SELECT ?2, ? FROM a WHERE x AND a.id = ?1", "SELECT ?2, ?3 FROM a WHERE x AND a.scope IN (SELECT n FROM scopes WHERE project = ?4) AND a.id = ?1"},
		{"SELECT n FROM feed WHERE id > ?", "SELECT n FROM feed WHERE id > ?"},
	} {
		st := stmt(tt.sql, make([]any, strings.Count(tt.sql, "?"))...)
		if got := (Scope{Project: "p"}).guardOne(st); got.SQL != tt.want || len(got.Args) != strings.Count(tt.want, "?") {
			t.Errorf("%s becomes\n%s with %d arguments, want\n%s", tt.sql, got.SQL, len(got.Args), tt.want)
		}
		if got := (Scope{}).guardOne(st); got.SQL != tt.sql {
			t.Errorf("%s becomes %s without a scope", tt.sql, got.SQL)
		}
	}
}

// populated is a scope with something of everything in it.
type populated struct {
	store          *Store
	running, ended *Episode
	pattern        *Pattern
	heuristic      *Heuristic
	relation       *Relation
	embedding      *Embedding
	conflict       int64
}

func populate(t *testing.T, root *Store, scope Scope) *populated {
	t.Helper()
	s, err := root.Scoped(scope)
	ok(t, err)
	x := &populated{
		store: s, running: &Episode{Description: "running words", Context: Context{Domain: "d", Tags: []string{"tag-" + scope.Project}}},
		ended:   &Episode{Description: "ended words", Outcome: Outcome{Kind: Success}},
		pattern: &Pattern{ToolSequence: &ToolSequence{Tools: []string{"grep"}}}, heuristic: &Heuristic{Condition: "c", Action: "a"},
	}
	ctx := t.Context()
	ok(t, s.StartEpisode(ctx, x.running))
	_, err = s.AppendSteps(ctx, x.running.ID, Step{Tool: "one"})
	ok(t, err)
	ok(t, s.PutEpisode(ctx, x.ended))
	ok(t, s.PutPattern(ctx, x.pattern))
	ok(t, s.PutHeuristic(ctx, x.heuristic))
	x.relation = &Relation{From: x.running.ID, Type: Follows, To: x.ended.ID}
	ok(t, s.PutRelation(ctx, x.relation))
	x.embedding = &Embedding{Kind: ItemEpisode, Item: x.ended.ID, Model: "m", Vector: []float32{1, 2}}
	ok(t, s.PutEmbedding(ctx, x.embedding))
	lost := *x.ended
	stmts, err := s.noteConflict(&settlement{kind: ConflictChanged, itemKind: ItemEpisode, rev: 1, kept: kept{Episode: &lost}}, x.ended.ID, []byte("o"))
	ok(t, err)
	_, err = s.engine.Batch(ctx, stmts...)
	ok(t, err)
	conflicts, err := collect(s.Conflicts(ctx))
	if ok(t, err); len(conflicts) != 1 || conflicts[0].Item != x.ended.ID {
		t.Fatalf("conflicts %+v", conflicts)
	}
	x.conflict = conflicts[0].Number
	return x
}

// seen is what a Store shows, with the items' own Scope fields.
func (x *populated) seen(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	for _, id := range []ID{x.running.ID, x.ended.ID} {
		if e, err := s.Episode(t.Context(), id); !errors.Is(err, ErrNotFound) {
			ok(t, err)
			fmt.Fprintf(&b, "%v %d %d %v %q %d\n", e.ID, e.StepCount, len(e.Steps), e.Context.Tags, e.Scope, e.Revision)
		}
	}
	counts, err := s.Counts(t.Context())
	ok(t, err)
	fmt.Fprintf(&b, "%+v\n", counts)
	changes, err := collect(s.Changes(t.Context(), 0))
	ok(t, err)
	for _, c := range changes {
		fmt.Fprintf(&b, "%+v\n", c)
	}
	return b.String()
}

// notFound is what a call outside of the scope must say.
func notFound(t *testing.T, method string, err error) {
	t.Helper()
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("%s outside of the scope: %v, want %v", method, err, ErrNotFound)
	}
}

// nothing reports items that were found outside of the scope.
func nothing[T any](t *testing.T, method string, items []T, err error) {
	t.Helper()
	if err != nil || len(items) > 0 {
		t.Errorf("%s shows %d items of another scope, %v", method, len(items), err)
	}
}

func pageOf[T any](t *testing.T, method string, page *Page[T], err error) {
	t.Helper()
	ok(t, err)
	nothing(t, method, page.Items, nil)
}

// outside calls each method of s that concerns items with those of x, which must be
// outside of the scope of s. The keys are the names of the methods.
var outside = map[string]func(t *testing.T, s *Store, x *populated){
	"GC": func(t *testing.T, s *Store, x *populated) {
		done, err := s.GC(t.Context(), &GCOptions{Outcomes: []OutcomeKind{Success, Failure, ""}})
		if ok(t, err); done.Episodes+done.Left != 0 {
			t.Errorf("GC outside of the scope: %+v", done)
		}
	},
	"PutEpisode": func(t *testing.T, s *Store, x *populated) {
		e := x.ended.clone()
		e.Scope, e.Revision = Scope{}, 0
		wants(t, s.PutEpisode(t.Context(), e), ErrConflict, "another scope")
		e.Revision = x.ended.Revision
		wants(t, s.PutEpisode(t.Context(), e), ErrConflict, "another scope")
		wants(t, s.PutEpisode(t.Context(), x.ended.clone()), ErrInvalid, "scope.project")
	},
	"AddEpisodes": func(t *testing.T, s *Store, x *populated) {
		e := x.ended.clone()
		e.Scope = Scope{}
		if n, err := s.AddEpisodes(t.Context(), e); n != 0 || err != nil {
			t.Errorf("added %d, %v", n, err)
		}
		_, err := s.AddEpisodes(t.Context(), x.ended.clone())
		wants(t, err, ErrInvalid, "scope.project")
	},
	"StartEpisode": func(t *testing.T, s *Store, x *populated) {
		e := x.running.clone()
		e.Scope, e.Steps, e.StepCount = Scope{}, nil, 0
		wants(t, s.StartEpisode(t.Context(), e), ErrConflict, "")
	},
	"AppendSteps": func(t *testing.T, s *Store, x *populated) {
		_, err := s.AppendSteps(t.Context(), x.running.ID, Step{Tool: "t"})
		notFound(t, "AppendSteps", err)
	},
	"AppendStepsOnce": func(t *testing.T, s *Store, x *populated) {
		_, err := s.AppendStepsOnce(t.Context(), x.running.ID, "k", Step{Tool: "t"})
		notFound(t, "AppendStepsOnce", err)
	},
	"CompleteEpisode": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "CompleteEpisode", s.CompleteEpisode(t.Context(), x.running.ID, Completion{Outcome: Outcome{Kind: Success}}))
	},
	"Episode": func(t *testing.T, s *Store, x *populated) {
		_, err := s.Episode(t.Context(), x.running.ID)
		notFound(t, "Episode", err)
	},
	"ResolveEpisode": func(t *testing.T, s *Store, x *populated) {
		_, err := s.ResolveEpisode(t.Context(), x.running.ID.String())
		notFound(t, "ResolveEpisode", err)
	},
	"Resolve": func(t *testing.T, s *Store, x *populated) {
		for _, id := range []ID{x.running.ID, x.pattern.ID, x.heuristic.ID} {
			_, _, err := s.Resolve(t.Context(), id.String())
			notFound(t, "Resolve", err)
		}
	},
	"DeleteEpisode": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "DeleteEpisode", s.DeleteEpisode(t.Context(), x.running.ID))
	},
	"ListEpisodes": func(t *testing.T, s *Store, x *populated) {
		page, err := s.ListEpisodes(t.Context(), nil, nil)
		pageOf(t, "ListEpisodes", page, err)
		_, err = s.ListEpisodes(t.Context(), &EpisodeFilter{Scope: x.store.scope}, nil)
		wants(t, err, ErrInvalid, "scope.project")
	},
	"Episodes": func(t *testing.T, s *Store, x *populated) {
		all, err := collect(s.Episodes(t.Context(), nil))
		nothing(t, "Episodes", all, err)
		_, err = collect(s.Episodes(t.Context(), &EpisodeFilter{Scope: x.store.scope}))
		wants(t, err, ErrInvalid, "scope.project")
	},
	"Search": func(t *testing.T, s *Store, x *populated) {
		hits, err := s.searchHits(t.Context(), "words", nil)
		nothing(t, "Search", hits, err)
		_, err = s.Search(t.Context(), "words", &SearchOptions{Filter: EpisodeFilter{Scope: x.store.scope}})
		wants(t, err, ErrInvalid, "scope.project")
	},
	"Nearest": func(t *testing.T, s *Store, x *populated) {
		near, err := s.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: "m", Vector: []float32{1, 2}})
		nothing(t, "Nearest", near, err)
		_, err = s.Nearest(t.Context(), NearestQuery{Kind: ItemEpisode, Model: "m", Item: x.ended.ID})
		notFound(t, "Nearest", err)
	},
	"Brief": func(t *testing.T, s *Store, x *populated) {
		for _, task := range []string{x.ended.Description, strings.Join(heuristicTexts(x.heuristic), " "), strings.Join(patternTexts(x.pattern), " ")} {
			mine, err := x.store.Brief(t.Context(), task, nil)
			ok(t, err)
			b, err := s.Brief(t.Context(), task, nil)
			if mine.Text() == "" || err != nil || b.Text() != "" {
				t.Errorf("Brief of %q is %q within the scope, and outside of it %q, %v", task, mine.Text(), b.Text(), err)
			}
		}
	},
	"AddTags": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "AddTags", s.AddTags(t.Context(), x.running.ID, "new"))
	},
	"RemoveTags": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "RemoveTags", s.RemoveTags(t.Context(), x.running.ID, x.running.Context.Tags...))
	},
	"PutPattern": func(t *testing.T, s *Store, x *populated) {
		p := x.pattern.clone()
		p.Scope, p.Revision = Scope{}, 0
		wants(t, s.PutPattern(t.Context(), p), ErrConflict, "another scope")
		p.Revision = x.pattern.Revision
		wants(t, s.PutPattern(t.Context(), p), ErrConflict, "another scope")
	},
	"Pattern": func(t *testing.T, s *Store, x *populated) {
		_, err := s.Pattern(t.Context(), x.pattern.ID)
		notFound(t, "Pattern", err)
	},
	"ListPatterns": func(t *testing.T, s *Store, x *populated) {
		page, err := s.ListPatterns(t.Context(), nil, nil)
		pageOf(t, "ListPatterns", page, err)
	},
	"Patterns": func(t *testing.T, s *Store, x *populated) {
		all, err := collect(s.Patterns(t.Context(), nil))
		nothing(t, "Patterns", all, err)
	},
	"DeletePattern": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "DeletePattern", s.DeletePattern(t.Context(), x.pattern.ID))
	},
	"PutHeuristic": func(t *testing.T, s *Store, x *populated) {
		h := x.heuristic.clone()
		h.Scope, h.Revision = Scope{}, 0
		wants(t, s.PutHeuristic(t.Context(), h), ErrConflict, "another scope")
	},
	"Heuristic": func(t *testing.T, s *Store, x *populated) {
		_, err := s.Heuristic(t.Context(), x.heuristic.ID)
		notFound(t, "Heuristic", err)
	},
	"ListHeuristics": func(t *testing.T, s *Store, x *populated) {
		page, err := s.ListHeuristics(t.Context(), nil, nil)
		pageOf(t, "ListHeuristics", page, err)
	},
	"Heuristics": func(t *testing.T, s *Store, x *populated) {
		all, err := collect(s.Heuristics(t.Context(), nil))
		nothing(t, "Heuristics", all, err)
	},
	"DeleteHeuristic": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "DeleteHeuristic", s.DeleteHeuristic(t.Context(), x.heuristic.ID))
	},
	"PutRelation": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "PutRelation", s.PutRelation(t.Context(), &Relation{From: x.running.ID, Type: RelatedTo, To: x.ended.ID}))
	},
	"ListRelations": func(t *testing.T, s *Store, x *populated) {
		page, err := s.ListRelations(t.Context(), x.running.ID, nil, nil)
		pageOf(t, "ListRelations", page, err)
	},
	"Relations": func(t *testing.T, s *Store, x *populated) {
		all, err := collect(s.Relations(t.Context(), x.ended.ID, nil))
		nothing(t, "Relations", all, err)
	},
	"DeleteRelation": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "DeleteRelation", s.DeleteRelation(t.Context(), x.relation.From, x.relation.Type, x.relation.To))
	},
	"PutEmbedding": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "PutEmbedding", s.PutEmbedding(t.Context(), &Embedding{Kind: ItemPattern, Item: x.pattern.ID, Model: "m", Vector: []float32{3, 4}}))
	},
	"Embedding": func(t *testing.T, s *Store, x *populated) {
		_, err := s.Embedding(t.Context(), ItemEpisode, x.ended.ID, "m")
		notFound(t, "Embedding", err)
	},
	"ListEmbeddings": func(t *testing.T, s *Store, x *populated) {
		page, err := s.ListEmbeddings(t.Context(), ItemEpisode, x.ended.ID, nil)
		pageOf(t, "ListEmbeddings", page, err)
	},
	"Embeddings": func(t *testing.T, s *Store, x *populated) {
		all, err := collect(s.Embeddings(t.Context(), ItemEpisode, x.ended.ID))
		nothing(t, "Embeddings", all, err)
	},
	"DeleteEmbedding": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "DeleteEmbedding", s.DeleteEmbedding(t.Context(), ItemEpisode, x.ended.ID, "m"))
	},
	"ListNames": func(t *testing.T, s *Store, x *populated) {
		for kind := range namesBy {
			page, err := s.ListNames(t.Context(), kind, nil)
			pageOf(t, "ListNames of "+string(kind), page, err)
		}
	},
	"Names": func(t *testing.T, s *Store, x *populated) {
		all, err := collect(s.Names(t.Context(), TagNames))
		nothing(t, "Names", all, err)
	},
	"Counts": func(t *testing.T, s *Store, x *populated) {
		if n, err := s.Counts(t.Context()); err != nil || n != (Counts{}) {
			t.Errorf("counted %+v, %v", n, err)
		}
	},
	"Import": func(t *testing.T, s *Store, x *populated) {
		r := recordOf(x.ended.ID, "another's")
		results, err := s.Import(t.Context(), []Record{r})
		if ok(t, err); !errors.Is(results[0].Err, ErrConflict) {
			t.Errorf("Import over an episode of another scope: %+v", results[0])
		}
	},
	"Conflicts": func(t *testing.T, s *Store, x *populated) {
		all, err := collect(s.Conflicts(t.Context()))
		nothing(t, "Conflicts", all, err)
	},
	"Restore": func(t *testing.T, s *Store, x *populated) {
		notFound(t, "Restore", s.Restore(t.Context(), x.conflict))
		if all, err := collect(x.store.Conflicts(t.Context())); err != nil || len(all) != 1 {
			t.Errorf("conflicts %+v, %v", all, err)
		}
	},
	"Changes": func(t *testing.T, s *Store, x *populated) {
		all, err := collect(s.Changes(t.Context(), 0))
		nothing(t, "Changes", all, err)
	},
	"Watch": func(t *testing.T, s *Store, x *populated) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		heard := make(chan Change, 10)
		go func() {
			defer close(heard)
			for c, err := range s.Watch(ctx, 0) {
				if err != nil {
					return
				}
				heard <- c
			}
		}()
		// Of two changes, the first outside of the scope, only the second is heard of.
		ok(t, x.store.PutEmbedding(t.Context(), x.embedding))
		h := &Heuristic{Condition: "c", Action: "a"}
		ok(t, s.PutHeuristic(t.Context(), h))
		if c := <-heard; c.ID != h.ID || c.Scope != s.scope {
			t.Errorf("heard of %+v", c)
		}
		ok(t, s.DeleteHeuristic(t.Context(), h.ID))
		for c := range heard {
			if c.ID != h.ID {
				t.Errorf("heard of %+v", c)
			}
			if c.Deleted {
				cancel()
			}
		}
	},
	"RedactStored": func(t *testing.T, s *Store, x *populated) { // see TestRedactStoredWithinScope
		all, err := collect(s.RedactStored(t.Context(), false))
		nothing(t, "RedactStored", all, err)
	},
	"Verify": func(t *testing.T, s *Store, x *populated) {
		hash, err := tagsHash(x.running.Context.Tags)
		ok(t, err)
		e, err := x.store.Episode(t.Context(), x.running.ID)
		ok(t, err)
		r := Receipt{Write: wroteTags, Kind: ItemEpisode, ID: e.ID, Hash: hash, Revision: e.Revision}
		wantStatus(t, x.store, r, WriteKept)
		wantStatus(t, s, r, WriteMissing)
	},
	"Scoped": func(t *testing.T, s *Store, x *populated) {
		_, err := s.Scoped(x.store.scope)
		wants(t, err, ErrInvalid, "scope.project")
	},
}

// wholeDatabase are the methods that no scope narrows.
var wholeDatabase = []string{
	"Close", "Compact", "CompactSecurely", "Redact", "PublishStats", "Reindex", "Scope", "Stats", "StorageStats", "Sync", "Flush", "Outbox", "Queued", "Discard", "VerifyReplica", "TrainDictionaries", "Warm", "Probe",
	"EmbedDocuments", "SearchModels", "UsedSearchModel", "UseSearchModel", "DropSearchModel", "Backup", "Snapshot", "Notices",
}

// Two Stores of different scopes on one database see and change nothing of each
// other, whatever the method.
func TestScopesAreApart(t *testing.T) {
	for method := range reflect.TypeFor[*Store]().Methods() {
		if _, tested := outside[method.Name]; !tested && !strings.Contains(" "+strings.Join(wholeDatabase, " ")+" ", " "+method.Name+" ") {
			t.Errorf("no test tells what %s does outside of its Store's scope", method.Name)
		}
	}
	onEveryEngine(t, func(t *testing.T, root *Store) {
		x := populate(t, root, Scope{Project: "a", User: "u"})
		before := x.seen(t, x.store)
		if got := x.seen(t, root); got != before {
			t.Errorf("an unscoped Store sees\n%s\nof\n%s", got, before)
		}
		other, err := root.Scoped(Scope{Project: "b"})
		ok(t, err)
		for name, call := range outside {
			if name != "Watch" { // it writes
				t.Run(name, func(t *testing.T) { call(t, other, x) })
			}
		}
		if got := x.seen(t, x.store); got != before {
			t.Errorf("after the calls of the other Store\n%s\nbefore\n%s", got, before)
		}
		t.Run("Watch", func(t *testing.T) { outside["Watch"](t, other, x) })
		ok(t, other.Close())
		_, err = x.store.Episode(t.Context(), x.ended.ID)
		ok(t, err)
	})
}

// Within its scope a narrowed Store does what any does.
func TestNarrowedStoreWorks(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, root *Store) {
		ctx := t.Context()
		populate(t, root, Scope{Project: "b"})
		x := populate(t, root, Scope{Project: "a", User: "u"})
		s, err := root.Scoped(Scope{Project: "a"})
		ok(t, err)
		_, err = s.AppendSteps(ctx, x.running.ID, Step{Tool: "two"})
		ok(t, err)
		ok(t, s.AddTags(ctx, x.running.ID, "more"))
		ok(t, s.RemoveTags(ctx, x.running.ID, "tag-a"))
		ok(t, s.CompleteEpisode(ctx, x.running.ID, Completion{Outcome: Outcome{Kind: Success}}))
		e, err := s.Episode(ctx, x.running.ID)
		ok(t, err)
		if e.Scope != (Scope{Project: "a", User: "u"}) || e.StepCount != 2 || len(e.Context.Tags) != 1 || e.Context.Tags[0] != "more" {
			t.Errorf("read %+v", e)
		}
		ok(t, s.PutEpisode(ctx, e)) // by its revision
		e.Revision, e.Scope = 0, Scope{}
		ok(t, s.PutEpisode(ctx, e)) // keeps the user
		e, err = s.Episode(ctx, e.ID)
		ok(t, err)
		if e.Scope.User != "u" {
			t.Errorf("after a put without one the user is %q", e.Scope.User)
		}
		e.Scope.User, e.Revision = "v", 0
		wants(t, s.PutEpisode(ctx, e), ErrConflict, "another scope")
		x.pattern.Occurrences = 7
		ok(t, s.PutPattern(ctx, x.pattern))
		counts, err := s.Counts(ctx)
		ok(t, err)
		if want := (Counts{Episodes: 2, Steps: 2, Patterns: 1, Heuristics: 1, Embeddings: 1, Relations: 1, Tags: 1}); counts != want {
			t.Errorf("counted %+v, want %+v", counts, want)
		}
		for kind, want := range map[NameKind]string{TagNames: "[{more 1}]", DomainNames: "[{d 1}]", ProjectNames: "[{a 2}]", UserNames: "[{u 2}]", AgentNames: "[]"} {
			if names, err := collect(s.Names(ctx, kind)); err != nil || fmt.Sprint(names) != want {
				t.Errorf("%s: %v, %v; want %s", kind, names, err, want)
			}
		}
		if names, err := collect(root.Names(ctx, ProjectNames)); err != nil || fmt.Sprint(names) != "[{a 2} {b 2}]" {
			t.Errorf("all projects: %v, %v", names, err)
		}
		for filter, want := range map[Scope]int{{}: 2, {User: "u"}: 2, {User: "w"}: 0, {Agent: "x"}: 0} {
			page, err := s.ListEpisodes(ctx, &EpisodeFilter{Scope: filter}, nil)
			ok(t, err)
			hits, err := s.searchHits(ctx, "words", &SearchOptions{Filter: EpisodeFilter{Scope: filter}})
			ok(t, err)
			if len(page.Items) != want || len(hits) != want {
				t.Errorf("%+v lists %d and finds %d, want %d", filter, len(page.Items), len(hits), want)
			}
		}
		// What is stored again elsewhere is told as gone where it was.
		ok(t, s.DeleteEpisode(ctx, x.ended.ID))
		x.ended.Scope, x.ended.Revision = Scope{Project: "c"}, 0
		ok(t, root.PutEpisode(ctx, x.ended))
		var last Change
		for c, err := range s.Changes(ctx, 0) {
			if ok(t, err); c.Kind == ChangedEpisode && c.ID == x.ended.ID {
				last = c
			}
		}
		if !last.Deleted {
			t.Errorf("of an episode that moved was told %+v", last)
		}
	})
}
