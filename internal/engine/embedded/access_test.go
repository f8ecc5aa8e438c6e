package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
)

func TestAccessTo(t *testing.T) {
	dir := t.TempDir()
	make := func(name, log, index string) string {
		path := filepath.Join(dir, name)
		for suffix, content := range map[string]string{"": "x", logSuffix: log, indexSuffix: index} {
			if content == "" {
				continue
			}
			if err := os.WriteFile(path+suffix, []byte(strings.Trim(content, "0")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	alone := make("alone.db", "", "")
	used := make("used.db", "log", "index")
	empty := make("empty.db", "0", "")
	cut := make("cut.db", "log", "")
	absent := filepath.Join(dir, "absent.db")
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	notFolder := func(path string) bool { return path != dir }
	notFile := func(path string) bool { return path == dir }
	for _, tt := range []struct {
		path     string
		mayWrite func(string) bool
		want     access
		is       string
	}{
		{alone, all, writable, ""},
		{alone, none, frozen, ""},
		{alone, notFolder, frozen, ""},
		{alone, notFile, frozen, ""},
		{used, none, readOnly, ""},
		{empty, none, frozen, ""},
		{cut, none, "", "its log holds 3 bytes"},
		{cut, all, writable, ""},
		{absent, none, "", "may not be written"},
	} {
		got, err := accessTo(tt.path, tt.mayWrite)
		if got != tt.want || (err == nil) != (tt.is == "") || err != nil && (!strings.Contains(err.Error(), tt.is) || engine.KindOf(err) != engine.KindReadOnly) {
			t.Errorf("%s: %q, %v; want %q, %q", filepath.Base(tt.path), got, err, tt.want, tt.is)
		}
	}
}

// A file that may not be written is read, and nothing is written beside it.
func TestReadOnlyFile(t *testing.T) {
	for name, a := range map[string]access{"nobody uses it": frozen, "others use it": readOnly} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "m.db")
			other := started(t, path)
			if a == frozen {
				if err := other.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				defer other.Close()
			}
			e, err := openEngine(t.Context(), Config{Path: path}, a)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT k FROM t"}); err != nil || r[0].Rows[0][0] != "first" {
				t.Errorf("%v, %v", r, err)
			}
			if _, err := e.DataVersion(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := e.Batch(t.Context(), row("second")); engine.KindOf(err) != engine.KindReadOnly || !strings.Contains(err.Error(), "may not be written") {
				t.Errorf("%v", err)
			}
			if a == readOnly { // it sees what they write
				exec1(t, other, row("second"))
				if r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT k FROM t"}); err != nil || len(r[0].Rows) != 2 {
					t.Errorf("%v, %v", r, err)
				}
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(path + logSuffix); (a == frozen) != errors.Is(err, os.ErrNotExist) {
				t.Errorf("its log: %v", err)
			}
		})
	}
}
