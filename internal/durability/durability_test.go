package durability

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// Environment variables that make the test program a process on a target.
const (
	targetEnv = "EPISODIC_DURABILITY_TARGET"
	faultEnv  = "EPISODIC_DURABILITY_FAULT"
)

func TestMain(m *testing.M) {
	target := os.Getenv(targetEnv)
	if target == "" {
		os.Exit(m.Run())
	}
	err := Process(context.Background(), os.Stdin, os.Stdout, func(ctx context.Context, scope episodic.Scope) (Memory, error) {
		s, err := episodic.Open(ctx, target, &episodic.Options{Scope: scope, Replica: episodic.Replica{Disabled: true}})
		return &faulty{Store: s, fault: os.Getenv(faultEnv)}, err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// faulty acknowledges some writes that it forgets or makes twice.
type faulty struct {
	*episodic.Store
	fault string
}

func (f *faulty) CompleteEpisode(ctx context.Context, id episodic.ID, done episodic.Completion) error {
	if err := f.Store.CompleteEpisode(ctx, id, done); err != nil {
		return err
	}
	switch f.fault {
	case "forgets":
		return f.Store.DeleteEpisode(context.Background(), id)
	case "doubles":
		twin, err := f.Store.Episode(context.Background(), id)
		if err != nil {
			return err
		}
		twin.ID, twin.Revision = episodic.NewID(), 0
		return f.Store.PutEpisode(context.Background(), twin)
	case "old":
		return f.Store.PutEpisode(context.Background(), &episodic.Episode{ID: id, Description: "an older state"})
	case "refuses":
		return &episodic.InvalidError{Field: "x", Problem: "is refused"}
	}
	return nil
}

func (f *faulty) AppendStepsOnce(ctx context.Context, id episodic.ID, key string, steps ...episodic.Step) (int, error) {
	if f.fault == "repeats" {
		if _, err := f.Store.AppendSteps(context.Background(), id, steps...); err != nil {
			return 0, err
		}
	}
	return f.Store.AppendStepsOnce(ctx, id, key, steps...)
}

// Verify damages the file after it has verified.
func (f *faulty) Verify(ctx context.Context, receipts ...episodic.Receipt) ([]episodic.Verdict, error) {
	verdicts, err := f.Store.Verify(ctx, receipts...)
	if err != nil || f.fault != "damages" {
		return verdicts, err
	}
	db, err := sql.Open("sqlite", os.Getenv(targetEnv))
	if err != nil {
		return nil, err
	}
	_, err = db.Exec("DELETE FROM feed WHERE rowid IN (SELECT rowid FROM feed LIMIT 3)")
	return verdicts, errors.Join(err, db.Close())
}

// plan is for a trial of a target whose processes have a fault, until enough was done, or for
// long at long effort.
func plan(target, fault string, enough func(*Report) bool) Plan {
	p := Plan{
		Target: target, Processes: 4, Duration: 2 * time.Minute, KillEvery: 50 * time.Millisecond, Seed: 1,
		Start: func(target string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), targetEnv+"="+target, faultEnv+"="+fault)
			return cmd
		},
		Enough: enough,
	}
	if fault == "" && testkit.Effort(0, 0, 1) == 1 {
		p.Duration, p.Enough = 10*time.Second, nil
	}
	return p
}

func run(t *testing.T, p Plan) *Report {
	t.Helper()
	r, err := Run(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if r.Acknowledged == 0 || r.Receipts == 0 || r.Receipts > r.Acknowledged || r.Verified != r.Receipts {
		t.Errorf("%d acknowledged, %d receipts, %d verified", r.Acknowledged, r.Receipts, r.Verified)
	}
	var table strings.Builder
	if err := r.Print(&table); err != nil || !strings.Contains(table.String(), fmt.Sprintf("\nlost              %d\n", r.Lost)) ||
		!strings.Contains(table.String(), "\ndoctor            "+r.Diagnosis()+"; ") {
		t.Errorf("%v: %s", err, table.String())
	}
	return r
}

func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	r := run(t, plan(filepath.Join(t.TempDir(), "m.db"), "", func(r *Report) bool {
		return r.Acknowledged > 50 && r.Kills["writer"] > 2 && r.Kills["reader"] > 0 && r.LongestRecovery > 0
	}))
	if r.Failed() || len(r.Errors) > 0 || r.LongestWait == 0 || r.Reads == 0 {
		t.Errorf("%+v", r)
	}
}

func TestNothingIsLostByAFullDisk(t *testing.T) {
	t.Parallel()
	if !canFill {
		t.Skip("the size of files cannot be bounded here")
	}
	p := plan(filepath.Join(t.TempDir(), "m.db"), "", func(r *Report) bool { return r.FullDisks > 5 })
	p.FullDisk, p.KillEvery = true, time.Second
	if r := run(t, p); r.Failed() || len(r.Errors) > 0 {
		t.Errorf("%+v, %s: %+v", r, r.Diagnosis(), r.Doctor.Findings)
	}
}

// The server is killed, and connections are cut.
func TestNothingIsLostByAServer(t *testing.T) {
	t.Parallel()
	sqld := hranatest.Program(t)
	p := plan("", "", func(r *Report) bool { return r.Acknowledged > 50 && r.Kills["server"] > 0 && r.Cuts > 3 })
	p.SQLD, p.Dir, p.CutEvery, p.Processes = sqld, t.TempDir(), 50*time.Millisecond, 2
	p.KillEvery = 200 * time.Millisecond
	if r := run(t, p); r.Failed() || r.Errors["locked"] > 0 {
		t.Errorf("%+v", r)
	}
}

// A memory that forgets, doubles or goes back is found out.
func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]func(r *Report) bool{
		"forgets": func(r *Report) bool { return r.Lost > 0 && r.Doubled == 0 },
		"old":     func(r *Report) bool { return r.Lost > 0 },
		"doubles": func(r *Report) bool { return r.Lost == 0 && r.Doubled > 0 },
		"repeats": func(r *Report) bool { return r.Doubled > 0 },
		"damages": func(r *Report) bool { return r.Lost == 0 && r.Doubled == 0 && r.Diagnosis() == "feed (3)" },
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			p := plan(filepath.Join(t.TempDir(), "m.db"), fault, func(r *Report) bool { return r.Acknowledged > 100 })
			p.KillEvery = 0
			r := run(t, p)
			if !want(r) || !r.Failed() || len(r.Examples) == 0 && r.Doctor.Clean() {
				t.Errorf("%+v", r)
			}
		})
	}
}

// What ends a process unasked ends the trial, with what it says.
func TestProcessesThatFail(t *testing.T) {
	t.Parallel()
	for fault, says := range map[string]string{"refuses": "complete episode: x: is refused"} {
		p := plan(filepath.Join(t.TempDir(), "m.db"), fault, nil)
		if _, err := Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", fault, err)
		}
	}
	p := plan("", "", nil)
	p.Start = func(string) *exec.Cmd { return exec.Command(filepath.Join(t.TempDir(), "none")) }
	p.Target = "m.db"
	if _, err := Run(t.Context(), p); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	p.Target, p.SQLD, p.Dir = "", filepath.Join(t.TempDir(), "none"), t.TempDir()
	if _, err := Run(t.Context(), p); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	for field, change := range map[string]func(*Plan){
		"processes":  func(p *Plan) { p.Processes = 0 },
		"duration":   func(p *Plan) { p.Duration = 0 },
		"kill-every": func(p *Plan) { p.KillEvery = -1 },
		"cut-every":  func(p *Plan) { p.CutEvery = 1 },
		"sqld":       func(p *Plan) { p.SQLD = "sqld" },
		"full-disk":  func(p *Plan) { p.Target, p.FullDisk = "http://127.0.0.1:1", true },
	} {
		p := plan("m.db", "", nil)
		change(&p)
		_, err := Run(t.Context(), p)
		if invalid, ok := errors.AsType[*episodic.InvalidError](err); !ok || invalid.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// What is cut is reset at both ends, and new connections are passed on.
func TestCutter(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	c, err := newCutter(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		conn, err := net.Dial("tcp", c.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		b := make([]byte, 1)
		for range 2 {
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, b); err != nil || b[0] != 'x' {
				t.Fatalf("%q, %v", b, err)
			}
		}
		if n := c.cut(); n != 1 {
			t.Errorf("%d connections were cut", n)
		}
		if _, err := conn.Read(b); err == nil {
			t.Error("the connection goes on")
		}
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", c.addr()); err == nil {
		t.Error("a closed one accepts connections")
	}
}
