package episodic

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/codec"
)

func FuzzDecodePayload(f *testing.F) {
	for _, s := range []string{"", "\x01", "\x01[]", "\x01[{\"tool\":\"a\"}]", "\x02[]", "\x01{", "\x01null"} {
		f.Add([]byte(s))
	}
	p := newPacker(Compression{})
	f.Add(p.pack(episodePayloads, []byte("\x01[{\"tool\":\"a\",\"action\":\""+strings.Repeat("b", 100)+"\"}]")))
	p.fetch = func(_ context.Context, id uint32) (*codec.Dictionary, error) { return nil, ErrCorrupt }
	f.Fuzz(func(t *testing.T, b []byte) {
		var steps []Step
		if err := p.decode(t.Context(), b, &steps); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if err := p.decode(t.Context(), b, &episodePayload{}); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

func FuzzEpisodeDocument(f *testing.F) {
	f.Add([]byte(`{"description":"x","steps":[{"tool":"a","parameters":{"b":1}}]}`))
	f.Add([]byte(`{"id":"0198aaaa-0000-7000-8000-000000000001","start":"2026-01-01T00:00:00Z"}`))
	p := newPacker(Compression{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Episode
		if json.Unmarshal(b, &e) != nil {
			return
		}
		// What can be read can be stored, or is refused by field.
		if _, err := newEpisodeRow(p, &e); err != nil && !errors.Is(err, ErrInvalid) {
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
