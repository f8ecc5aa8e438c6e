package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/capture"
	"github.com/episodic-memory/episodic/internal/transcript"
)

type captureCmd struct {
	Paths   []string      `arg:"" name:"path" optional:"" help:"Folders with session files. Left out, the agents' own folders are followed."`
	From    []string      `placeholder:"AGENT" help:"Whose sessions: ${sources}; several divided by commas. Left out, all of them."`
	Since   string        `placeholder:"TIME" default:"24h" help:"What is read at the start: files that were changed since; a date, a time, or how long ago, such as 7d or 12h. Earlier ones are read once they change."`
	Idle    time.Duration `placeholder:"DURATION" default:"2h" help:"How long a file must rest for its session to have ended. One that is taken up again goes on."`
	Once    bool          `help:"Look once, store what has changed, and end, as for cron."`
	Verbose bool          `short:"v" help:"Say what is stored, while it is."`

	Install   bool `xor:"service" help:"Make it a service of this user (systemd, launchd), which starts now and with each login. What is to be written is shown, and asked for."`
	Uninstall bool `xor:"service" help:"Stop the service, and remove it."`
	Status    bool `xor:"service" help:"Say whether the service is installed and running, and when the last step was stored."`
	Yes       bool `help:"Do not ask."`
}

// Help is shown by capture --help.
func (*captureCmd) Help() string {
	return `Each step of a session is stored within two seconds after the agent has written it down, and its episode is running until the session ends. The memory has no more of a session than import would make of it, and importing it later adds nothing.

It can be interrupted or killed at any moment, and run twice: nothing is lost or stored twice. When it starts it goes on with what has changed in the last day, and with the sessions that are running in the memory. For what is older there is import --from AGENT.`
}

func (c *captureCmd) Run(ctx context.Context, a *app) error {
	if c.Status {
		return c.status(ctx, a)
	}
	if c.Uninstall {
		return c.uninstall(a)
	}
	folders, err := c.folders(a)
	if err != nil {
		return err
	}
	since, err := sinceTime(c.Since, time.Now())
	switch {
	case err != nil:
		return err
	case c.Idle < time.Minute:
		return invalid("--idle", "is %v; it must be 1m or more", c.Idle)
	case c.Install:
		return c.install(a)
	}
	run := &captureRun{captureCmd: c, app: a, options: capture.Options{Folders: folders, Since: since, Idle: c.Idle}}
	for told := false; ; told = true {
		err := a.withStore(ctx, func(store *episodic.Store) error { return run.with(ctx, store) })
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return nil
		}
		if run.opened || c.Once || !episodic.Retryable(err) {
			return err
		}
		if !told {
			a.complain("%v; waiting until it can be opened", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(openWait):
		}
	}
}

// openWait is how long capture waits before it tries to open the memory again.
const openWait = 5 * time.Second

// unfollowed is the agent that keeps its sessions in a database only.
const unfollowed = "opencode"

// folders are those that are followed.
func (c *captureCmd) folders(a *app) (folders []capture.Folder, err error) {
	for _, name := range c.From {
		if name == unfollowed {
			return nil, invalid("--from", "%s keeps its sessions in a database, which is not followed; episodic import --from %s reads it", name, name)
		}
		if !slices.Contains(transcript.Sources(), name) {
			return nil, invalid("--from", "is %.40q; known are %s", name, strings.Join(transcript.Sources(), ", "))
		}
	}
	if len(c.Paths) > 0 {
		format := ""
		if len(c.From) == 1 {
			format = c.From[0]
		} else if len(c.From) > 1 {
			return nil, invalid("--from", "names several; with a path it must be one, or none")
		}
		for _, path := range c.Paths {
			path, err := filepath.Abs(home(path))
			if err != nil {
				return nil, err
			}
			if _, err := os.Stat(path); err != nil {
				return nil, err
			}
			folders = append(folders, capture.Folder{Path: path, Format: format})
		}
		return folders, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	names := c.From
	if len(names) == 0 {
		names = slices.DeleteFunc(transcript.Sources(), func(name string) bool { return name == unfollowed })
	}
	for _, name := range names {
		for _, path := range transcript.Folders(name, a.getenv, home, runtime.GOOS) {
			folders = append(folders, capture.Folder{Path: path, Format: name})
		}
	}
	return folders, nil
}

// captureRun is a capture that goes on.
type captureRun struct {
	*captureCmd
	*app
	options capture.Options
	opened  bool // the memory was
}

func (r *captureRun) with(ctx context.Context, store *episodic.Store) error {
	r.opened = true
	r.publish(store)
	o := r.options
	o.Hash = func(run *transcript.Run) []byte { return hashOf(run, "", nil, &o.Read) }
	o.Scope = func(ctx context.Context, run *transcript.Run) (episodic.Scope, error) {
		return r.sessionScope(ctx, store, sessionOf(run))
	}
	o.Tell = func(text string) { r.complain("%s", short(text)) }
	o.Began = r.began
	if r.Verbose {
		o.Stored = r.stored
	}
	hooks, err := r.recorder(store)
	if err != nil {
		return err
	}
	if err := hooks.Sweep(ctx, 0); err != nil {
		r.complain("%v", err)
	}
	c := capture.New(store, o)
	if r.Once {
		err = c.Once(ctx)
		if ctx.Err() != nil {
			err = errInterrupted
		}
	} else {
		err = c.Run(ctx)
	}
	r.finish(c.Stats())
	return err
}

func (r *captureRun) began(files, recent int, since time.Time) {
	there := 0
	for _, f := range r.options.Folders {
		if _, err := os.Stat(f.Path); err == nil {
			r.printf("%s\n", plain(f.Path))
			there++
		}
	}
	if there == 0 {
		r.complain("none of the agents' folders is there; they are followed once they are")
	}
	r.printf("%s; %d changed since %s are read", count(files, "session file"), recent, since.Local().Format(time.DateTime))
	if recent < files {
		r.printf(", the others once they change (import --from AGENT reads all)")
	}
	r.printf("\n")
	r.flush()
}

func (r *captureRun) stored(u capture.Update) {
	what := "updated"
	if u.Steps > 0 {
		what = count(u.Steps, "step")
	}
	if u.Ended {
		what += ", ended"
	}
	r.printf("%s  %v  %s  %s\n", time.Now().Format(time.TimeOnly), u.ID, what, oneLine(u.Path))
	r.flush()
}

// flush shows what was printed: this command may go on for days. What it fails with fails
// again at the end.
func (r *captureRun) flush() { _ = r.out.Flush() }

func (r *captureRun) finish(s capture.Stats) {
	r.printf("stored %s of %s; %d ended; %s\n", count(s.Steps, "step"), count(s.Sessions, "session"), s.Ended, count(s.Problems, "problem"))
	if s.Deleted > 0 {
		r.printf("%s deleted from the memory, and stay so\n", count(s.Deleted, "session"))
	}
	if len(s.Left) > 0 {
		var parts []string
		for _, what := range slices.Sorted(maps.Keys(s.Left)) {
			parts = append(parts, fmt.Sprintf("%d x %s", s.Left[what], what))
		}
		r.printf("left out: %s\n", strings.Join(parts, ", "))
	}
}
