package episodic

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// What makes a copy beside a file says that there is no room for it, and leaves all as it was.
func TestFullDiskBesideTheFile(t *testing.T) {
	t.Parallel()
	dir := testkit.SmallDisk(t, "2m")
	sound, damaged := filepath.Join(dir, "m.db"), filepath.Join(dir, "damaged.db")
	ok(t, copyDatabase(sick(t), sound))
	ok(t, copyDatabase(sick(t, "UPDATE episodes SET payload = x'0201' WHERE seq = 1"), damaged))
	before, err := os.ReadFile(damaged)
	ok(t, err)
	testkit.FillUp(t, filepath.Join(dir, "others"), 100<<10)

	_, err = Repair(t.Context(), damaged, nil)
	wants(t, err, ErrFull, "")
	if after, err := os.ReadFile(damaged); err != nil || !bytes.Equal(before, after) {
		t.Errorf("Repair has changed the file (%v)", err)
	}
	s, err := Open(t.Context(), sound, &Options{})
	ok(t, err)
	_, err = s.Snapshot(t.Context(), "gc")
	wants(t, err, ErrFull, "")
	ok(t, s.Close())
	alone(t, dir, "damaged.db", "m.db", "others")
}
