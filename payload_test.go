package episodic

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/episodic-memory/episodic/internal/payload"
)

func FuzzEpisodeDocument(f *testing.F) {
	f.Add([]byte(`{"description":"x","steps":[{"tool":"a","parameters":{"b":1}}]}`))
	f.Add([]byte(`{"id":"0198aaaa-0000-7000-8000-000000000001","start":"2026-01-01T00:00:00Z"}`))
	c := payload.New(nil, false, payload.Options{DisableDictionaries: true})
	f.Cleanup(c.Close)
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Episode
		if json.Unmarshal(b, &e) != nil {
			return
		}
		// What can be read can be stored, or is refused by field.
		if _, err := newEpisodeRow(c, &e); err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("%s: %v", b, err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{1, 2}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err == nil {
			if again, err := parseCursor(c.String()); err != nil || again != c {
				t.Fatalf("%q: %v became %v, %v", s, c, again, err)
			}
		} else if !errors.Is(err, ErrInvalid) {
			t.Fatal(err)
		}
	})
}
