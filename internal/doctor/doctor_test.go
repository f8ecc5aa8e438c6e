package doctor

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
)

var things = Table{Name: "things", Columns: []Column{
	{Name: "n", Type: "INTEGER", NotNull: true, Rowid: true}, {Name: "name", Type: "TEXT", NotNull: true},
	{Name: "weight", Type: "REAL"}, {Name: "data", Type: "BLOB", NotNull: true}, {Name: "later", Type: "INTEGER", Default: int64(7)},
}}

var pairs = Table{Name: "pairs", Index: true, Columns: []Column{{Name: "a", Type: "TEXT", NotNull: true}, {Name: "b", Type: "INTEGER", NotNull: true}}}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made is a file with rows of things and pairs, long ones among them, its log, and what is in it.
func made(t testing.TB, rows int) (path string, want map[string][][]any) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.db")
	e, err := embedded.Open(t.Context(), embedded.Config{Path: path})
	ok(t, err)
	run := func(sql string, args ...any) {
		t.Helper()
		_, err := e.Batch(t.Context(), engine.Stmt{SQL: sql, Args: args})
		ok(t, err)
	}
	run("CREATE TABLE other(x TEXT)")
	run("CREATE TABLE things(n INTEGER PRIMARY KEY, name TEXT NOT NULL, weight REAL, data BLOB NOT NULL)")
	run("CREATE TABLE pairs(a TEXT NOT NULL, b INTEGER NOT NULL, PRIMARY KEY(a, b)) WITHOUT ROWID")
	want = map[string][][]any{}
	for i := range int64(rows) {
		size := 10
		if i%10 == 3 {
			size = 3000 + 977*int(i)
		}
		data := []byte(strings.Repeat(fmt.Sprintf("%d-", i), size/2+1)[:size])
		row := []any{i*3 - 5, fmt.Sprintf("thing %d é", i), float64(i) / 2, data}
		run("INSERT INTO things VALUES(?, ?, ?, ?)", row...)
		want["things"] = append(want["things"], append(row, int64(7)))
		pair := []any{fmt.Sprintf("pair %03d %s", i, strings.Repeat("x", int(i))), i}
		run("INSERT INTO pairs VALUES(?, ?)", pair...)
		want["pairs"] = append(want["pairs"], pair)
	}
	run("ALTER TABLE things ADD COLUMN later INTEGER DEFAULT 7")
	run("INSERT INTO things VALUES(1000000, 'gone', 1, x'00', 1)")
	run("DELETE FROM things WHERE n = 1000000")
	ok(t, copied(path, path+"2"))
	ok(t, e.Close())
	return path + "2", want
}

func copied(from, to string) error {
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(from + suffix)
		if err == nil {
			err = os.WriteFile(to+suffix, data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rowsOf reads the rows of things and pairs, in their order.
func rowsOf(t testing.TB, path string) (map[string][][]any, Found) {
	t.Helper()
	f, err := Open(path)
	ok(t, err)
	defer f.Close()
	a, err := f.Chart([]Table{things, pairs})
	ok(t, err)
	got := map[string][][]any{}
	for i, name := range []string{"things", "pairs"} {
		for row, err := range a.Rows(i) {
			ok(t, err)
			got[name] = append(got[name], row)
		}
	}
	slices.SortFunc(got["things"], func(a, b []any) int { return int(a[0].(int64) - b[0].(int64)) })
	slices.SortFunc(got["pairs"], func(a, b []any) int { return int(a[1].(int64) - b[1].(int64)) })
	return got, a.Found
}

func TestEverythingIsReadOfAnUndamagedFile(t *testing.T) {
	t.Parallel()
	path, want := made(t, 60)
	got, found := rowsOf(t, path)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %d things and %d pairs, want %d and %d", len(got["things"]), len(got["pairs"]), len(want["things"]), len(want["pairs"]))
	}
	if !found.Header || !found.Schema || found.Missing+found.Unreadable+found.Stray+found.Rows+found.BadFrames > 0 || found.LogFrames == 0 {
		t.Errorf("found %+v", found)
	}
}

// checkpointed has the log written into the file.
func checkpointed(t *testing.T, path string) {
	t.Helper()
	e, err := embedded.Open(t.Context(), embedded.Config{Path: path})
	ok(t, err)
	_, err = e.Batch(t.Context(), engine.Stmt{SQL: "INSERT INTO other VALUES('x')"})
	ok(t, err)
	ok(t, e.Close())
}

// Pages that lie behind the end are counted, also those that no tree leads to.
func TestMissingPages(t *testing.T) {
	t.Parallel()
	path, _ := made(t, 60)
	checkpointed(t, path)
	info, err := os.Stat(path)
	ok(t, err)
	ok(t, os.Truncate(path, info.Size()-5*4096-1))
	if _, found := rowsOf(t, path); found.Missing != 5 || found.Pages != info.Size()/4096 {
		t.Errorf("found %+v of %d pages", found, info.Size()/4096)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(file []byte) []byte{
		"header":     func(b []byte) []byte { clear(b[:100]); return b },
		"first page": func(b []byte) []byte { clear(b[:4096]); return b },
		"magic":      func(b []byte) []byte { b[3] ^= 4; return b },
	} {
		t.Run(name, func(t *testing.T) {
			path, want := made(t, 60)
			checkpointed(t, path)
			data, err := os.ReadFile(path)
			ok(t, err)
			ok(t, os.WriteFile(path, damage(data), 0o600))
			got, found := rowsOf(t, path)
			if !reflect.DeepEqual(got, want) || found.Header {
				t.Errorf("got %d things and %d pairs; found %+v", len(got["things"]), len(got["pairs"]), found)
			}
		})
	}
	t.Run("cut", func(t *testing.T) {
		path, want := made(t, 60)
		checkpointed(t, path)
		info, err := os.Stat(path)
		ok(t, err)
		for size := info.Size(); size > 1000; size -= 7777 {
			ok(t, os.Truncate(path, size))
			f, err := Open(path)
			if err != nil {
				t.Fatalf("cut to %d: %v", size, err)
			}
			ok(t, f.Close())
			got, _ := rowsOf(t, path)
			for _, row := range got["things"] {
				if i := (row[0].(int64) + 5) / 3; !reflect.DeepEqual(row, want["things"][i]) {
					t.Fatalf("cut to %d: row %v is wrong", size, row[0])
				}
			}
		}
	})
}

func TestLogWithADamagedFrame(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(log []byte) []byte{
		"header":   func(b []byte) []byte { clear(b[:32]); return b },
		"one page": func(b []byte) []byte { b[32+24+len(b)/2/4120*4120+100] ^= 1; return b },
		"end":      func(b []byte) []byte { return b[:len(b)-100] },
	} {
		t.Run(name, func(t *testing.T) {
			path, want := made(t, 60)
			log, err := os.ReadFile(path + "-wal")
			ok(t, err)
			ok(t, os.WriteFile(path+"-wal", damage(log), 0o600))
			got, found := rowsOf(t, path)
			if n := len(got["things"]); n < len(want["things"])*9/10 || name != "end" && found.BadFrames != 1 {
				t.Errorf("got %d things of %d; found %+v", n, len(want["things"]), found)
			}
			for _, row := range got["things"] {
				if i := (row[0].(int64) + 5) / 3; i < 60 && !reflect.DeepEqual(row[:4], want["things"][i][:4]) {
					t.Fatalf("row %v is wrong", row[0])
				}
			}
		})
	}
}

func TestRowidsAscend(t *testing.T) {
	t.Parallel()
	cells := func(ids ...int64) (list []cell) {
		for _, id := range ids {
			list = append(list, cell{rowid: id})
		}
		return list
	}
	for _, c := range []struct{ of, want []cell }{
		{nil, nil}, {cells(1, 2, 3), cells(1, 2, 3)}, {cells(1, 90, 3, 4), cells(1, 3, 4)}, {cells(5, 1, 6, 7), cells(1, 6, 7)}, {cells(1, 1), cells(1)},
	} {
		if got := ascending(c.of); !reflect.DeepEqual(got, c.want) && len(got)+len(c.want) > 0 {
			if len(got) != len(c.want) || got[len(got)-1].rowid != c.want[len(c.want)-1].rowid {
				t.Errorf("of %v: %v", c.of, got)
			}
		}
	}
}

func TestNoDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "text")
	ok(t, os.WriteFile(path, []byte(strings.Repeat("no database at all\n", 1000)), 0o600))
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), ErrNoDatabase.Error()) {
		t.Errorf("error %v", err)
	}
}

// Whatever is in a page and a log, reading ends, and does not fail otherwise than by saying
// that it is no database.
func FuzzPages(f *testing.F) {
	path, _ := made(f, 25)
	data, err := os.ReadFile(path)
	ok(f, err)
	log, err := os.ReadFile(path + "-wal")
	ok(f, err)
	const size = 4096
	for at := 0; at < len(data); at += size {
		f.Add(data[at:at+size], uint32(at/size+1))
	}
	for at := 32; at < min(len(log), 20*4120); at += 4120 {
		f.Add(log[at+24:at+4120], binary.BigEndian.Uint32(log[at:]))
	}
	f.Fuzz(func(t *testing.T, page []byte, n uint32) {
		path := filepath.Join(t.TempDir(), "b.db")
		damaged := slices.Clone(data)
		if at := int(n-1) % (len(data)/size + 1) * size; at >= 0 && at < len(damaged) {
			copy(damaged[at:], page)
		}
		damaged = append(damaged, page...)
		ok(t, os.WriteFile(path, damaged, 0o600))
		file, err := Open(path)
		if err != nil {
			return
		}
		defer file.Close()
		a, err := file.Chart([]Table{things, pairs})
		ok(t, err)
		for i := range 2 {
			for _, err := range a.Rows(i) {
				ok(t, err)
			}
		}
	})
}
