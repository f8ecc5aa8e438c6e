package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/durability"
)

type benchCmd struct {
	Durability durabilityCmd   `cmd:"" help:"Kill processes that write, and see whether what was acknowledged is there."`
	Process    benchProcessCmd `cmd:"" hidden:"" help:"Be one of the processes that durability starts."`
}

type durabilityCmd struct {
	Target    string         `arg:"" optional:"" help:"A file or a server; left out, a file in the folder for temporary files, or what --sqld starts."`
	Processes int            `default:"8" help:"How many processes write and read; a quarter of them read."`
	Duration  time.Duration  `default:"30s" help:"For how long."`
	KillEvery time.Duration  `default:"500ms" help:"How often a process, or the server of --sqld, is killed (kill -9), on average; 0 for never."`
	CutEvery  *time.Duration `help:"How often all connections to a server at http:// are cut, on average; 0 for never. Default: as --kill-every."`
	FullDisk  bool           `help:"Let every 20th write of a process meet a full disk (a file only)."`
	Seed      uint64         `help:"Of what is chosen at random; 0: another one each time. What the system does is not repeated."`
	SQLD      string         `name:"sqld" placeholder:"PROGRAM" help:"Start this libSQL server with a fresh database, try it, and kill it too."`
	Keep      bool           `help:"Keep what was written; otherwise it is deleted at the end."`
	JSON      bool           `name:"json" help:"Print JSON."`
}

// Help is shown by bench durability --help.
func (*durabilityCmd) Help() string {
	return `Each process writes episodes step by step, whole episodes, tags, heuristics and deletions, each with a receipt, and tries again until it is acknowledged. Afterwards a fresh process verifies all receipts, and looks for steps and items that are stored twice; then the whole memory is examined as by doctor, what others have written included. The exit code is 1 if something was lost or doubled, or is damaged. All is written in a scope of its own (an agent named durability-...), which nothing else in the database is part of. docs/durability.md tells more.`
}

func (c *durabilityCmd) Run(ctx context.Context, a *app) (err error) {
	plan := durability.Plan{
		Target: c.Target, Processes: c.Processes, Duration: c.Duration, KillEvery: c.KillEvery, FullDisk: c.FullDisk, Seed: c.Seed, SQLD: c.SQLD,
		Progress: func(what string) { a.note("%s", what) }, Options: a.options(c.Target),
	}
	if plan.Seed == 0 {
		plan.Seed = uint64(time.Now().UnixNano())
	}
	if plan.Target == "" {
		dir, err := os.MkdirTemp("", "episodic-durability-")
		if err != nil {
			return err
		}
		if c.Keep {
			a.note("what is written is kept in %s", dir)
		} else {
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		}
		if plan.Dir = dir; c.SQLD == "" {
			plan.Target = filepath.Join(dir, "memory.db")
		}
	}
	switch {
	case c.CutEvery != nil:
		plan.CutEvery = *c.CutEvery
	case c.SQLD != "" || strings.HasPrefix(plan.Target, "http://"):
		plan.CutEvery = c.KillEvery
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	plan.Start = func(target string) *exec.Cmd {
		args := []string{"--db", target}
		if a.allowPlaintext {
			args = append(args, "--allow-plaintext")
		}
		return exec.Command(self, append(args, "bench", "process")...)
	}
	report, err := durability.Run(ctx, plan)
	if err != nil {
		return err
	}
	report.Target = shownTarget(report.Target)
	if c.JSON {
		err = a.printJSON(report)
	} else {
		err = report.Print(a.out)
	}
	if err == nil && c.Target != "" && !c.Keep {
		err = c.clear(ctx, a, report.Scope)
	}
	if err == nil && report.Failed() {
		a.complain("%d lost, %d doubled, doctor: %s", report.Lost, report.Doubled, report.Diagnosis())
		err = errReported
	}
	return err
}

// clear deletes what was written in a scope.
func (c *durabilityCmd) clear(ctx context.Context, a *app, scope episodic.Scope) (err error) {
	s, err := a.openDirect(ctx, c.Target, scope)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var episodes, heuristics []episodic.ID
	for e, err := range s.Episodes(ctx, nil) {
		if err != nil {
			return err
		}
		episodes = append(episodes, e.ID)
	}
	for h, err := range s.Heuristics(ctx, nil) {
		if err != nil {
			return err
		}
		heuristics = append(heuristics, h.ID)
	}
	a.note("deleting what was written: %s, %s", count(len(episodes), "episode"), count(len(heuristics), "heuristic"))
	for _, id := range episodes {
		if err := s.DeleteEpisode(ctx, id); err != nil && !errors.Is(err, episodic.ErrNotFound) {
			return err
		}
	}
	for _, id := range heuristics {
		if err := s.DeleteHeuristic(ctx, id); err != nil && !errors.Is(err, episodic.ErrNotFound) {
			return err
		}
	}
	return nil
}

// openDirect opens a memory without a replica or a queue: what is acknowledged is in the database.
func (a *app) openDirect(ctx context.Context, target string, scope episodic.Scope) (*episodic.Store, error) {
	o := a.options(target)
	o.Replica.Disabled, o.Replica.Offline, o.Scope = true, episodic.Through, scope
	return episodic.Open(ctx, target, o)
}

type benchProcessCmd struct{}

func (*benchProcessCmd) Run(ctx context.Context, a *app) (err error) {
	target, err := a.target(false)
	if err != nil {
		return err
	}
	var s *episodic.Store
	defer func() {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := durability.Process(ctx, a.stdin, a.stdout, func(ctx context.Context, scope episodic.Scope) (durability.Memory, error) {
		s, err = a.openDirect(ctx, target, scope)
		return s, err
	}); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}
