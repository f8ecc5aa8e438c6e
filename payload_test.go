package episodic

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

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
		err := e.prepare(time.Now())
		if err == nil {
			_, err = newEpisodeRow(c, &e, newRevision())
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("%s: %v", b, err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(cursorOf([]any{int64(1), "x", int64(-2)}))
	f.Add("")
	f.Add("WzEsIngiLG51bGxd")
	f.Fuzz(func(t *testing.T, s string) {
		keys, err := parseCursor(s, "iti")
		if err == nil {
			if again, err := parseCursor(cursorOf(keys), "iti"); err != nil || !reflect.DeepEqual(again, keys) {
				t.Fatalf("%q: %v became %v, %v", s, keys, again, err)
			}
		} else if !errors.Is(err, ErrInvalid) {
			t.Fatal(err)
		}
	})
}
