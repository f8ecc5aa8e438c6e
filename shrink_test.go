package episodic

import (
	"context"
	database "database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// rawConn is a connection as another program may have it.
func rawConn(t *testing.T, path string) (exec func(text string)) {
	t.Helper()
	db, err := database.Open("sqlite", "file:"+path) // the driver of the embedded engine
	ok(t, err)
	c, err := db.Conn(t.Context())
	ok(t, err)
	t.Cleanup(func() { ok(t, errors.Join(c.Close(), db.Close())) })
	return func(text string) {
		_, err := c.ExecContext(context.Background(), text)
		ok(t, err)
	}
}

// oldFile makes an empty file that keeps its free pages, as earlier versions did.
func oldFile(t *testing.T, path string) {
	exec := rawConn(t, path)
	exec("CREATE TABLE t(k)")
	exec("DROP TABLE t")
}

// untrained are the options of a Store that takes no time to train dictionaries.
var untrained = &Options{Compression: Compression{DisableDictionaries: true}}

// half deletes the second half.
func half(t *testing.T, s *Store, ids []ID) []ID {
	t.Helper()
	for _, id := range ids[len(ids)/2:] {
		ok(t, s.DeleteEpisode(t.Context(), id))
	}
	return ids[:len(ids)/2]
}

func TestCompactMakesTheFileShorter(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]bool{"new": false, "old": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, path := t.Context(), filepath.Join(t.TempDir(), "m.db")
			size := func() int64 {
				info, err := os.Stat(path)
				ok(t, err)
				return info.Size()
			}
			if old {
				oldFile(t, path)
			}
			s := open(t, path, &Options{Compression: Compression{DisableEpisodes: true}})
			other := open(t, path, untrained)
			ids := put(t, s, 0, testkit.Effort(60, 60, 300))
			ids = half(t, s, ids)
			before, auto := number(t, s, "PRAGMA page_count")*4096, number(t, s, "PRAGMA auto_vacuum")
			if (auto == 2) == old {
				t.Errorf("auto_vacuum is %d", auto)
			}

			// Somebody writes and reads meanwhile.
			errs := make(chan error)
			ended, end := context.WithCancel(ctx)
			go func() {
				for {
					_, err := other.Search(ctx, "flight seats", nil)
					if err = errors.Join(err, other.PutEpisode(ctx, &Episode{Description: "meanwhile"})); err != nil || ended.Err() != nil {
						errs <- err
						return
					}
				}
			}()
			done, err := other.Compact(ctx, nil)
			end()
			ok(t, errors.Join(err, <-errs))
			if done.Freed == 0 || done.NotFreed != "" {
				t.Errorf("compaction: %+v, of a file of %d", done, before)
			}
			readable(t, other, ids)
			if auto := number(t, open(t, path, nil), "PRAGMA auto_vacuum"); auto != 2 {
				t.Errorf("afterwards auto_vacuum is %d", auto)
			}

			page, err := s.ListEpisodes(ctx, nil, &Paging{Limit: 1000})
			for err == nil && len(page.Items) > 0 {
				for _, e := range page.Items {
					ok(t, s.DeleteEpisode(ctx, e.ID))
				}
				page, err = s.ListEpisodes(ctx, nil, &Paging{Limit: 1000})
			}
			ok(t, err)
			done, err = s.Compact(ctx, nil)
			ok(t, err)
			free := number(t, s, "PRAGMA freelist_count")
			if done.Freed == 0 || free != 0 || size() > before/2 {
				t.Errorf("after deleting everything: %+v, %d pages are free, the file had %d bytes and has %d", done, free, before, size())
			}
			r, err := s.engine.Query(ctx, stmt("PRAGMA integrity_check"))
			ok(t, err)
			if whole := r[0].Rows[0][0]; whole != "ok" {
				t.Error(whole)
			}
		})
	}
}

// A file that cannot be written anew is told, and Compact does all the rest.
func TestCompactTellsWhatItCouldNotGiveBack(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes as long as SQLite waits for a lock")
	}
	path := filepath.Join(t.TempDir(), "m.db")
	oldFile(t, path)
	s := open(t, path, &Options{Compression: Compression{DisableEpisodes: true}})
	ids := half(t, s, put(t, s, 0, 40))
	s = open(t, path, untrained)
	exec := rawConn(t, path)
	done, err := s.Compact(t.Context(), func(n, of int64) {
		if n == of {
			exec("BEGIN IMMEDIATE")
		}
	})
	ok(t, err)
	if done.Rewritten == 0 || done.Freed != 0 || !strings.Contains(done.NotFreed, "locked") {
		t.Errorf("compaction: %+v", done)
	}
	exec("ROLLBACK")
	readable(t, s, ids)
	if done, err = s.Compact(t.Context(), nil); err != nil || done.Freed == 0 || done.NotFreed != "" {
		t.Errorf("a second time: %+v, %v", done, err)
	}
}
