package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
)

func TestSole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	if err := Sole(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	e, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"CREATE TABLE x(n)", "INSERT INTO x VALUES(7)"} {
		if _, err := e.Batch(t.Context(), engine.Stmt{SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sole(t.Context(), path); engine.KindOf(err) != engine.KindBusy {
		t.Errorf("a file that is open: %v", err)
	}
	if _, err := e.Batch(t.Context(), engine.Stmt{SQL: "INSERT INTO x VALUES(8)"}); err != nil {
		t.Errorf("the other one, afterwards: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Sole(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "moved.db")
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if e, err = Open(t.Context(), Config{Path: moved, MustExist: true}); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT sum(n) FROM x"}); err != nil || r[0].Rows[0][0] != int64(15) {
		t.Errorf("%v, %v", r, err)
	}
}
