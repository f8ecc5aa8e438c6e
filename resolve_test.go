package episodic

import (
	"errors"
	"testing"
)

func TestResolveEpisode(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		for _, id := range []string{"0198aaaa-0000-7000-8000-000000000001", "0198aaab-0000-7000-8000-000000000002", "f0000000-0000-7000-8000-000000000003"} {
			parsed, err := ParseID(id)
			ok(t, err)
			ok(t, s.PutEpisode(t.Context(), &Episode{ID: parsed, Description: id}))
		}
		for prefix, want := range map[string]string{
			"f":                                    "f0000000-0000-7000-8000-000000000003",
			"0198AAAA":                             "0198aaaa-0000-7000-8000-000000000001",
			"0198aaab-0000":                        "0198aaab-0000-7000-8000-000000000002",
			"0198aaab-0000-7000-8000-000000000002": "0198aaab-0000-7000-8000-000000000002",
		} {
			if id, err := s.ResolveEpisode(t.Context(), prefix); err != nil || id.String() != want {
				t.Errorf("%s: %v, %v; want %s", prefix, id, err, want)
			}
		}
		for prefix, want := range map[string]error{"e": ErrNotFound, "0198": ErrInvalid, "": ErrInvalid, "xyz": ErrInvalid, "0198aaaa-0000-7000-8000-0000000000011": ErrInvalid} {
			if id, err := s.ResolveEpisode(t.Context(), prefix); !errors.Is(err, want) {
				t.Errorf("%q: %v, %v; want %v", prefix, id, err, want)
			}
		}
	})
}

func TestResolve(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *Store) {
		e := &Episode{ID: ID{0x11}, Description: "e"}
		p := &Pattern{ID: ID{0x12}, ToolSequence: &ToolSequence{Tools: []string{"a", "b"}}}
		h := &Heuristic{ID: ID{0x13}, Condition: "c", Action: "a"}
		ok(t, s.PutEpisode(t.Context(), e))
		ok(t, s.PutPattern(t.Context(), p))
		ok(t, s.PutHeuristic(t.Context(), h))
		for prefix, want := range map[string]resolved{
			"11": {ItemEpisode, e.ID}, "12000000-": {ItemPattern, p.ID}, "13": {ItemHeuristic, h.ID},
		} {
			if kind, id, err := s.Resolve(t.Context(), prefix); err != nil || kind != want.kind || id != want.id {
				t.Errorf("%s: %v %v, %v; want %v", prefix, kind, id, err, want)
			}
		}
		for prefix, want := range map[string]error{"14": ErrNotFound, "1": ErrInvalid, "": ErrInvalid} {
			if kind, id, err := s.Resolve(t.Context(), prefix); !errors.Is(err, want) {
				t.Errorf("%q: %v %v, %v; want %v", prefix, kind, id, err, want)
			}
		}
	})
}
