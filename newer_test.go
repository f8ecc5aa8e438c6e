package episodic

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/schema"
)

// A Store that is open while a newer program upgrades the file is told so, whatever has become of
// the tables, and writes nothing.
func TestUpgradedWhileOpen(t *testing.T) {
	t.Parallel()
	upgrade := stmt("INSERT INTO episodic_migrations VALUES(?, 0)", schema.Newest()+1)
	change := stmt("CREATE TABLE newer(n)") // as each upgrade does something
	for name, more := range map[string]string{
		"more":    "ALTER TABLE episodes ADD COLUMN newer INTEGER",
		"gone":    "DROP TABLE tags",
		"renamed": "ALTER TABLE patterns RENAME TO old_patterns",
		"format":  "UPDATE episodes SET payload = x'77'",
		"empty":   "UPDATE episodes SET payload = x''",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "m.db")
			s := open(t, path, &Options{Cache: Cache{Disabled: true}})
			e := &Episode{Description: "valve"}
			ok(t, s.PutEpisode(t.Context(), e))
			_, err := s.Episode(t.Context(), e.ID)
			ok(t, err)
			newer, err := embedded.Open(t.Context(), embedded.Config{Path: path})
			ok(t, err)
			defer func() { ok(t, newer.Close()) }()
			_, err = newer.Batch(t.Context(), upgrade, change, stmt(more))
			ok(t, err)
			refused := func(what string, err error) {
				t.Helper()
				if wants(t, err, ErrSchema, "use a newer episodic"); err != nil && strings.Contains(err.Error(), "damaged") {
					t.Errorf("%s: %v", what, err)
				}
			}
			// What still reads as it did may be read for another tenth of a second.
			if _, err = s.Episode(t.Context(), e.ID); err != nil || name == "format" || name == "empty" || name == "gone" {
				refused("read at once", err)
			}
			refused("write", s.PutEpisode(t.Context(), &Episode{Description: "x"}))
			if n, err := value(t.Context(), newer, "SELECT count(*) FROM episodes"); err != nil || n != int64(1) {
				t.Errorf("%v episodes, %v", n, err)
			}
		})
	}
}

// So it is on a server, where that is seen when a statement fails.
func TestServerUpgradedWhileOpen(t *testing.T) {
	t.Parallel()
	url := hranatest.Start(t).URL()
	s, shell := open(t, url, &Options{Cache: Cache{Disabled: true}}), open(t, url, nil)
	e := &Episode{Description: "valve"}
	ok(t, s.PutEpisode(t.Context(), e))
	_, err := shell.engine.Batch(t.Context(), stmt("INSERT INTO episodic_migrations VALUES(?, 0)", schema.Newest()+1),
		stmt("ALTER TABLE patterns RENAME TO old_patterns"), stmt("UPDATE episodes SET payload = x'77'"))
	ok(t, err)
	_, err = s.Episode(t.Context(), e.ID)
	wants(t, err, ErrSchema, "use a newer episodic")
	wants(t, s.PutPattern(t.Context(), &Pattern{ToolSequence: &ToolSequence{Tools: []string{"bash"}}}), ErrSchema, "use a newer episodic")
}
