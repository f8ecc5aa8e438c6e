package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// filled stores so many episodes in a file, and returns its size.
func (c *cli) filled(episodes int) int64 {
	c.t.Helper()
	var list []*episodic.Episode
	for i := range episodes {
		e := sample(1+i%28, fmt.Sprintf("Fix race %d", i))
		e.Steps = []episodic.Step{{Action: fmt.Sprintf("look into the scheduler, part %d", i)}}
		list = append(list, e)
	}
	c.change(putting(c.t, list...))
	info, err := os.Stat(c.env["EPISODIC_DB"])
	if err != nil {
		c.t.Fatal(err)
	}
	return info.Size()
}

// damage changes the file by SQL.
func (c *cli) damage(statement string) {
	c.t.Helper()
	db, err := sql.Open("sqlite", c.env["EPISODIC_DB"])
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := db.Exec(statement); err != nil {
		c.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func TestDoctor(t *testing.T) {
	c := newCLI(t)
	file := c.env["EPISODIC_DB"]
	c.fails(exitNotFound, "there is no memory", "doctor")
	c.filled(3)
	if out := c.ok("doctor"); !strings.HasSuffix(out, "\nnothing is wrong\n") || !strings.Contains(out, "readable  3 items") {
		t.Errorf("printed %q", out)
	}
	if out := c.ok("doctor", "--repair"); !strings.Contains(out, "not repaired: nothing is wrong with it") {
		t.Errorf("printed %q", out)
	}
	c.damage("UPDATE episodes SET payload = x'0201' WHERE seq = 1")
	for _, args := range [][]string{{"doctor"}, {"doctor", file}} {
		got := c.run(args...)
		if got.code != exitFailure || got.stderr != "" || !strings.Contains(got.stdout, "\nfault  payloads (1): ") || !strings.Contains(got.stdout, "\n  repair: leaves them out") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	got := c.run("doctor", "--json")
	if x := decode[episodic.Examination](t, got.stdout); got.code != exitFailure || x.Clean() || x.Items != 2 {
		t.Errorf("%+v", got)
	}
	if out := c.ok("doctor", "--repair"); !strings.Contains(out, "repaired; the original is kept as "+file+".before-repair\n") {
		t.Errorf("printed %q", out)
	}
	c.ok("doctor")
	c.damage("UPDATE episodes SET payload = x'0201' WHERE seq = 2")
	if r := decode[episodic.RepairReport](t, c.ok("doctor", "--repair", "--json")); !r.Repaired || r.Original != file+".before-repair-2" || r.After.Items != 1 {
		t.Errorf("%+v", r)
	}
	c.fails(exitUsage, "is there already", "doctor", "--into", file)
	c.fails(exitUsage, "can't be used together", "doctor", "--repair", "--into", file+".new")
	c.fails(exitUsage, "is a server", "doctor", "http://127.0.0.1:1", "--repair")
	c.fails(exitUsage, "is a server", "doctor", "http://127.0.0.1:1", "--into", file+".new")
}

// What a file still holds whose end is missing is listed and saved; nothing is written to it.
func TestDoctorOfACutFile(t *testing.T) {
	c := newCLI(t)
	file, size := c.env["EPISODIC_DB"], c.filled(40)
	if err := os.Truncate(file, size-4096); err != nil {
		t.Fatal(err)
	}
	cut := fmt.Sprintf("the file is cut: its end is missing, 1 of %d pages", size/4096)
	list := c.run("list", "-n", "100")
	if list.code != exitOK || strings.Count(list.stdout, "\n") != 40 || !strings.Contains(list.stderr, cut+"; the others are read, and nothing is written: episodic doctor "+file+" --into NEW") {
		t.Errorf("%+v", list)
	}
	c.fails(exitFailure, "damaged data: "+cut, "compact")
	got := c.run("doctor")
	if got.code != exitFailure || !strings.Contains(got.stdout, "\nfault  open (1): "+cut) || !strings.Contains(got.stdout, "readable  40 items") {
		t.Errorf("%+v", got)
	}
	saved := filepath.Join(c.home, "saved.db")
	if out := c.ok("doctor", "--into", saved); !strings.Contains(out, ", 1 missing at the end\n") || !strings.Contains(out, "\nsaved     40 episodes, 40 steps, ") {
		t.Errorf("printed %q", out)
	}
	again := decode[episodic.SalvageReport](t, c.ok("doctor", "--json", "--into", saved+"2"))
	if again.Saved.Episodes != 40 || again.MissingPages != 1 || again.To != saved+"2" {
		t.Errorf("%+v", again)
	}
	if now, err := os.Stat(file); err != nil || now.Size() != size-4096 {
		t.Errorf("the file was written: %v, %v", now.Size(), err)
	}
	c.ok("doctor", saved)
	if out := c.ok("doctor", "--repair"); !strings.Contains(out, "it was read page by page:\nread ") {
		t.Errorf("printed %q", out)
	}
	c.ok("doctor")
}

func TestDoctorOfAServer(t *testing.T) {
	c := newCLI(t)
	c.env["EPISODIC_DB"] = hranatest.Start(t).URL()
	c.put(sample(1, "Fix the race"))
	if out := c.ok("doctor"); !strings.HasSuffix(out, "\nnothing is wrong\n") || strings.Contains(out, "\nfile ") {
		t.Errorf("printed %q", out)
	}
	if x := decode[episodic.Examination](t, c.ok("doctor", "--json")); !x.Clean() || x.Items != 1 {
		t.Errorf("%+v", x)
	}
}

// A file that may only be read is examined and salvaged elsewhere, and not repaired.
func TestDoctorOfAReadOnlyFile(t *testing.T) {
	c := newCLI(t)
	dir := testkit.SmallDisk(t, "4m")
	file := filepath.Join(dir, "m.db")
	c.env["EPISODIC_DB"] = file
	c.filled(3)
	c.damage("UPDATE episodes SET payload = x'0201' WHERE seq = 1")
	testkit.ForbidWriting(t, dir)
	if got := c.run("doctor"); got.code != exitFailure || !strings.Contains(got.stdout, "\nfault  payloads (1): ") {
		t.Errorf("%+v", got)
	}
	c.fails(exitFailure, "read-only file system", "doctor", "--repair")
	if out := c.ok("doctor", "--into", filepath.Join(c.home, "saved.db")); !strings.Contains(out, "\nsaved     2 episodes, ") {
		t.Errorf("printed %q", out)
	}
}

// What has no room says so, and leaves nothing half written.
func TestCopiesOnAFullDisk(t *testing.T) {
	c := newCLI(t)
	c.filled(3)
	backup := filepath.Join(c.home, "b.db")
	c.ok("backup", backup)
	dir := testkit.SmallDisk(t, "1m")
	testkit.FillUp(t, filepath.Join(dir, "others"), 200<<10)
	for _, args := range [][]string{
		{"backup", filepath.Join(dir, "b.db")},
		{"backup", "--keep", "2", filepath.Join(dir, "b.db")},
		{"--db", filepath.Join(dir, "m.db"), "restore", backup},
		{"doctor", "--into", filepath.Join(dir, "saved.db")},
	} {
		c.fails(exitFailure, "disk full", args...)
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%q has left %v, %v", args, entries, err)
		}
	}
	c.fails(exitFailure, "disk full", "copy", c.env["EPISODIC_DB"], filepath.Join(dir, "copy.db"))
}
