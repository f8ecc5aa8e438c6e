package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fault is what happens to a crowd while it writes.
type fault struct {
	name     string
	noFolder bool // there can be no folder of lock files
	// do makes it happen, within the window; nil: it is there from the beginning.
	do func(ctx context.Context, r *crowdRun) error
}

const (
	frozenFor    = 6 * time.Second
	restartAfter = time.Second
	serverStops  = 20
	serverStop   = 200 * time.Millisecond
	deletions    = 20
)

var (
	halfKilled = &fault{name: "half of them killed", do: func(ctx context.Context, r *crowdRun) error {
		half := r.writers[:len(r.writers)/2]
		for _, w := range half {
			if err := rest(ctx, r.window/time.Duration(len(half)+2)); err != nil {
				return err
			}
			w.killed, w.struck = true, true
			if err := w.cmd.Process.Kill(); err != nil {
				return err
			}
		}
		return nil
	}}
	someFrozen = &fault{name: "some stopped for 6 s", do: func(ctx context.Context, r *crowdRun) error {
		some := r.writers[:len(r.writers)/4+1]
		if err := rest(ctx, r.window/10); err != nil {
			return err
		}
		for _, w := range some {
			w.struck = true
			if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				return err
			}
			if err := rest(ctx, r.window/40); err != nil { // so that they do not all stop at the same point
				return err
			}
		}
		err := rest(ctx, min(frozenFor, r.window/2))
		for _, w := range some {
			err = errors.Join(err, w.cmd.Process.Signal(syscall.SIGCONT))
		}
		return err
	}}
	serverRestarted = &fault{name: "server killed, back after 1 s", do: func(ctx context.Context, r *crowdRun) error {
		if err := rest(ctx, r.window/3); err != nil {
			return err
		}
		r.server.Kill()
		if err := rest(ctx, min(restartAfter, r.window/3)); err != nil {
			return err
		}
		return r.server.Restart()
	}}
	serverStalls = &fault{name: "server stopped 20 times for 200 ms", do: func(ctx context.Context, r *crowdRun) error {
		each := r.window / (serverStops + 1)
		for range serverStops {
			stop := min(serverStop, each/2)
			if err := rest(ctx, each-stop); err != nil {
				return err
			}
			if err := r.server.Signal(syscall.SIGSTOP); err != nil {
				return err
			}
			err := rest(ctx, stop)
			if err := errors.Join(err, r.server.Signal(syscall.SIGCONT)); err != nil {
				return err
			}
		}
		return nil
	}}
	locksDeleted = &fault{name: "lock files deleted 20 times", do: func(ctx context.Context, r *crowdRun) error {
		for range deletions {
			if err := rest(ctx, r.window/(deletions+1)); err != nil {
				return err
			}
			for machine := range r.machines {
				if err := empty(r.lockDir(machine)); err != nil {
					return err
				}
			}
		}
		return nil
	}}
	noLockFolder = &fault{name: "no lock folder possible", noFolder: true}
)

// empty deletes what is in the folder, which others fill at the same time.
func empty(dir string) error {
	list, err := os.ReadDir(dir)
	for _, entry := range list {
		if e := os.RemoveAll(filepath.Join(dir, entry.Name())); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}
