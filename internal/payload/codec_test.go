package payload

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "\x01", "\x01[]", "\x01[{\"tool\":\"a\"}]", "\x02[]", "\x01{", "\x01null", "\x03", "\x03[]", "\x03null....", "\x02\x40\x00\x02....[]...."} {
		f.Add([]byte(s))
	}
	m := open(f, filepath.Join(f.TempDir(), "m.db"), Options{})
	f.Add(m.EncodeJSON(Episodes, 0, []byte("[{\"tool\":\"a\",\"action\":\""+strings.Repeat("b", 100)+"\"}]")))
	f.Add(m.EncodeJSON(Episodes, 0, []byte("[]")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var steps []step
		if err := m.Decode(t.Context(), b, 0, &steps); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if err := m.Decode(t.Context(), b, 0, &head{}); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

func TestTooLargeValues(t *testing.T) {
	m := onFile(t)
	_, err := m.Encode(Episodes, 0, strings.Repeat("x", MaxSize))
	if large, ok := errors.AsType[*TooLargeError](err); !ok || large.Max != MaxSize || large.Size <= MaxSize {
		t.Errorf("error is %v", err)
	}
}
