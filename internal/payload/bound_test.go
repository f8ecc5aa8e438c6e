package payload

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/codec"
)

// No changed byte of a payload, and no other columns beside it, is another value.
func TestEveryChangedByteIsFound(t *testing.T) {
	t.Parallel()
	db := onFile(t).engine
	columns := []any{[]byte{1, 2}, "pay", int64(7), nil, 0.5}
	text := `{"description":"pay 100 dollars"}`
	long := `{"description":"` + strings.Repeat("pay 100 dollars, and pay 200 dollars. ", 9) + `"}`
	for _, o := range []Options{{}, {Codec: codec.LZ4}, {Codec: codec.Gzip}, {Codec: codec.None}, {Codec: codec.Zstd, Level: codec.Better, DisableDictionaries: true}} {
		m := New(db, true, o)
		for _, text := range []string{text, long} {
			payload := m.EncodeJSON(Episodes, Bind(columns...), []byte(text))
			want := decoded(t, m, payload, columns...)
			for i := range payload {
				for change := 1; change < 256; change++ {
					if change&(change-1) != 0 && len(payload) > 100 {
						continue // of a long one the bits are enough
					}
					payload[i] ^= byte(change)
					var h head
					if err := m.Decode(t.Context(), payload, Bind(columns...), &h); err == nil && h.Description != want || err != nil && !errors.Is(err, ErrCorrupt) && !IsDictionaryGone(err) {
						t.Fatalf("codec %v: byte %d of %d changed by %#x: %q, %v", o.Codec, i, len(payload), change, h.Description, err)
					}
					payload[i] ^= byte(change)
				}
			}
			for n := range len(payload) {
				if err := m.Decode(t.Context(), payload[:n], Bind(columns...), new(head)); !errors.Is(err, ErrCorrupt) {
					t.Errorf("codec %v: cut to %d of %d bytes: %v", o.Codec, n, len(payload), err)
				}
			}
		}
		m.Close()
	}
}

func decoded(t *testing.T, m *Codec, payload []byte, columns ...any) string {
	t.Helper()
	var h head
	ok(t, m.Decode(t.Context(), payload, Bind(columns...), &h))
	return h.Description
}

func TestPayloadsAreBoundToColumns(t *testing.T) {
	t.Parallel()
	all := [][]any{
		{}, {nil}, {int64(0)}, {int64(1)}, {0.0}, {""}, {[]byte{}}, {"a", "b"}, {"ab"}, {"", "ab"}, {"ab", ""}, {[]byte("ab")}, {[]byte("b"), []byte("a")}, {nil, nil},
	}
	m := New(nil, true, Options{})
	defer m.Close()
	for _, text := range []string{`{"description":"x"}`, `{"description":"` + strings.Repeat("x", 500) + `"}`} {
		for i, with := range all {
			payload := m.EncodeJSON(Episodes, Bind(with...), []byte(text))
			for j, read := range all {
				if err := m.Decode(t.Context(), payload, Bind(read...), new(head)); (err == nil) != (i == j) {
					t.Errorf("stored with %v, read with %v: %v", with, read, err)
				}
			}
		}
	}
}

// Payloads of earlier versions have no checksum; what holds nothing is damaged in all forms.
func TestPayloadsWithoutASeal(t *testing.T) {
	t.Parallel()
	m := New(nil, true, Options{})
	defer m.Close()
	text := []byte(`{"description":"` + strings.Repeat("old ", 100) + `"}`)
	for _, payload := range [][]byte{encode(nil, seal{}, text), encode(m.builtin.Encoder, seal{}, text)} {
		if got := decoded(t, m, payload, "any"); !strings.HasPrefix(got, "old old") {
			t.Errorf("%x: %q", payload[:1], got)
		}
	}
	for _, text := range []string{"", "null"} {
		for _, payload := range [][]byte{encode(nil, seal{}, []byte(text)), m.EncodeJSON(Episodes, 0, []byte(text)), codec.Seal(m.builtin.Encode(nil, []byte(text)), Bound(0).over([]byte(text)).sum)} {
			if err := m.Decode(t.Context(), payload, 0, new(head)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "holds nothing") {
				t.Errorf("%x: %v", payload, err)
			}
		}
	}
}

// Compressing again keeps the checksum, or that there is none.
func TestCompactKeepsSeals(t *testing.T) {
	t.Parallel()
	m := onFile(t)
	text := `{"description":"` + strings.Repeat("a long text ", 100) + `"}`
	id := make([]byte, 16)
	for i, payload := range [][]byte{
		encode(nil, Bind(id).over([]byte(text)), []byte(text)), encode(nil, seal{}, []byte(text)), m.EncodeJSON(Patterns, Bind(id), []byte(text)),
	} {
		id[0] = 0
		m.exec(t, "INSERT INTO patterns(seq, id, kind, domain, success_rate, created_us, payload) VALUES(?, ?, '', '', 0, 0, ?)", int64(i+1), []byte{byte(i)}, payload)
	}
	done, err := m.Compact(t.Context(), nil)
	ok(t, err)
	r, err := m.engine.Query(t.Context(), stmt("SELECT payload FROM patterns ORDER BY seq"))
	ok(t, err)
	var sealed []bool
	for _, row := range r[0].Rows {
		payload := row[0].([]byte)
		if payload[0] != formatFrame || !strings.HasPrefix(decoded(t, m.Codec, payload, id), "a long text") {
			t.Errorf("payload %x", payload[:8])
		}
		sealed = append(sealed, sealOf(payload).is)
	}
	if done.Rewritten < 2 || !slices.Equal(sealed, []bool{true, false, true}) {
		t.Errorf("%+v, sealed: %v", done, sealed)
	}
	if again, err := m.Compact(t.Context(), nil); err != nil || again.Rewritten != 0 {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

// The checksum is to cost no more than a twentieth of encoding.
func BenchmarkSeal(b *testing.B) {
	columns := []any{make([]byte, 16), "debugging", "web", "go", "success", int64(1), nil}
	for _, n := range []int{20, 1000, 13000} {
		text := []byte(`{"description":"` + strings.Repeat("a word ", n/7) + `"}`)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Bind(columns...).over(text)
			}
		})
	}
}
