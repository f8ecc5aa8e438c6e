package episodic

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// docs/operations.md says how to restore a backup, which is how a local memory moves to
// a server.
func TestAFileMovesToAServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.db")
	local, err := Open(t.Context(), file, nil)
	ok(t, err)
	before := &Episode{Description: "written to the file", Steps: []Step{{Tool: "move"}}}
	ok(t, local.PutEpisode(t.Context(), before))
	ok(t, local.Close()) // nothing is left in the WAL

	dir := t.TempDir()
	folder := filepath.Join(dir, "data.sqld", "dbs", "default")
	ok(t, os.MkdirAll(folder, 0o700))
	ok(t, os.Rename(file, filepath.Join(folder, "data")))
	server, err := hranatest.Run(dir)
	if errors.Is(err, hranatest.ErrNoServer) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	ok(t, err)
	t.Cleanup(server.Kill)

	s := open(t, server.URL(), &Options{MustExist: true})
	got, err := s.Episode(t.Context(), before.ID)
	ok(t, err)
	if got.Description != before.Description || len(got.Steps) != 1 {
		t.Errorf("the server has %+v", got)
	}
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "written to the server"}))
	ok(t, s.keepIndex(t.Context(), false))
	for _, words := range []string{"file", "server"} {
		if hits, err := s.searchHits(t.Context(), words, nil); err != nil || len(hits) != 1 {
			t.Errorf("search for %q: %d hits, error %v", words, len(hits), err)
		}
	}
}
