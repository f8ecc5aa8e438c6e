package episodic

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestRelationsRoundTrip(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		a, b := &Episode{Description: "a"}, &Episode{Description: "b"}
		ok(t, s.PutEpisode(t.Context(), a))
		ok(t, s.PutEpisode(t.Context(), b))
		rapid.Check(t, func(rt *rapid.T) {
			want := &Relation{
				From: a.ID, To: b.ID, Type: rapid.SampledFrom([]RelationType{ParentOf, DependsOn, Follows, Blocks, RelatedTo, Duplicates, References}).Draw(rt, "type"),
				Reason: anyText.Draw(rt, "reason"), Priority: rapid.IntRange(0, 10).Draw(rt, "priority"), By: anyText.Draw(rt, "by"),
				Metadata: metadata(rt), Created: anyTime.Draw(rt, "created"),
			}
			if err := s.PutRelation(t.Context(), want); err != nil {
				rt.Fatal(err)
			}
			got, err := collect(s.Relations(t.Context(), a.ID, &RelationFilter{want.Type, Outgoing}))
			if err != nil || len(got) != 1 {
				rt.Fatalf("%d relations, %v", len(got), err)
			}
			same(rt, got[0], want)
		})
	})
}

func TestRelationsRefuseCyclesWhereTheirTypeForbidsThem(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		var e [5]*Episode
		for i := range e {
			e[i] = &Episode{Description: fmt.Sprint(i)}
			ok(t, s.PutEpisode(t.Context(), e[i]))
		}
		put := func(from int, typ RelationType, to int) error {
			return s.PutRelation(t.Context(), &Relation{From: e[from].ID, Type: typ, To: e[to].ID})
		}
		for _, typ := range []RelationType{ParentOf, DependsOn, Follows, Blocks} {
			ok(t, put(0, typ, 1))
			ok(t, put(1, typ, 2))
			ok(t, put(2, typ, 3))
			ok(t, put(0, typ, 3))
			ok(t, put(0, typ, 1)) // again
			wants(t, put(1, typ, 0), ErrConflict, "close a cycle of "+string(typ))
			wants(t, put(3, typ, 0), ErrConflict, "close a cycle of "+string(typ))
			ok(t, put(3, typ, 4))
		}
		for _, typ := range []RelationType{RelatedTo, Duplicates, References} {
			ok(t, put(0, typ, 1))
			ok(t, put(1, typ, 0))
		}
		wants(t, put(0, RelatedTo, 0), ErrInvalid, "to: is the same episode")

		for _, tt := range []struct {
			typ  RelationType
			dir  Direction
			want int
		}{{"", Both, 4*3 + 3*2}, {"", Outgoing, 4*1 + 3}, {"", Incoming, 4*1 + 3}, {DependsOn, Both, 2}, {Duplicates, Incoming, 1}} {
			want := tt.want
			if tt.dir == Both && tt.typ == "" {
				want = 4*2 + 3*2
			}
			got, err := collect(s.Relations(t.Context(), e[1].ID, &RelationFilter{tt.typ, tt.dir}))
			if err != nil || len(got) != want {
				t.Errorf("%q %q: %d relations, %v; want %d", tt.typ, tt.dir, len(got), err, want)
			}
		}
		ok(t, s.DeleteRelation(t.Context(), e[2].ID, DependsOn, e[3].ID))
		wants(t, s.DeleteRelation(t.Context(), e[2].ID, DependsOn, e[3].ID), ErrNotFound, "depends_on")
		wants(t, put(3, DependsOn, 0), ErrConflict, "cycle") // still 0 -> 3
		ok(t, s.DeleteRelation(t.Context(), e[0].ID, DependsOn, e[3].ID))
		ok(t, put(3, DependsOn, 0))
	})
}

func TestBadRelationsAreRefused(t *testing.T) {
	s := onFile(t)
	a := &Episode{Description: "a"}
	ok(t, s.PutEpisode(t.Context(), a))
	missing := NewID()
	wants(t, s.PutRelation(t.Context(), &Relation{From: a.ID, Type: Follows, To: missing}), ErrNotFound, "no episode "+missing.String())
	wants(t, s.PutRelation(t.Context(), &Relation{From: missing, Type: Follows, To: a.ID}), ErrNotFound, "no episode "+missing.String())
	for field, r := range map[string]*Relation{
		"from": {Type: Follows, To: a.ID}, "to": {From: a.ID, Type: Follows}, "type": {From: a.ID, To: missing, Type: "likes"},
		"priority": {From: a.ID, To: missing, Type: Follows, Priority: 11}, "reason": {From: a.ID, To: missing, Type: Follows, Reason: "\xff"},
	} {
		wants(t, s.PutRelation(t.Context(), r), ErrInvalid, field)
	}
	_, err := s.ListRelations(t.Context(), a.ID, &RelationFilter{Direction: "sideways"}, nil)
	wants(t, err, ErrInvalid, "direction")
}
