package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/hook"
	"github.com/episodic-memory/episodic/internal/transcript"
)

type hookCmd struct {
	Event  string `arg:"" optional:"" help:"What has happened, as the agent program calls it: SessionStart, PostToolUse. What its payload says counts."`
	Client string `placeholder:"NAME" help:"Whose payload it is: ${clients}. Left out, that is told by what it holds."`
	Silent bool   `help:"Record only: tell the model nothing."`
}

// Help is shown by hook --help.
func (*hookCmd) Help() string {
	return `Agent programs run it at each of their events, with what has happened as JSON on its standard input. It keeps the session's episode up to date, and prints what is worth telling the model, in the program's own form; otherwise nothing.

It always ends with exit code 0, within about a second. What goes wrong stands in hook.log in the user's state folder. What the memory cannot take at once waits there too, until the next hook or capture.`
}

const (
	// hookWait is how long a hook works, of which SessionEnd has 1.5 s.
	hookWait = time.Second
	// hookGrace is how much longer it may take to stop.
	hookGrace = 300 * time.Millisecond
	// sweptSessions is how many others a hook looks after when its session begins or ends.
	sweptSessions = 64
	// mostPayload bounds what is read of the payload, in bytes.
	mostPayload = 16 << 20
)

// Run never fails: a hook that does would stop its agent.
func (c *hookCmd) Run(ctx context.Context, a *app) error {
	a.stderr = hookLogger{a}
	wait := cmp.Or(a.hookWait, hookWait)
	ctx, stop := context.WithTimeout(ctx, wait)
	defer stop()
	type answer struct {
		text []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		var got answer
		defer func() {
			if p := recover(); p != nil {
				got = answer{err: fmt.Errorf("panic: %v", p)}
			}
			done <- got
		}()
		got.text, got.err = c.answer(ctx, a)
	}()
	late := time.NewTimer(wait + hookGrace)
	defer late.Stop()
	select {
	case got := <-done:
		if got.err != nil {
			a.logHook(fmt.Errorf("%s: %w", c.Event, got.err))
			return nil
		}
		_, _ = a.out.Write(got.text) // of a buffer; nobody hears of what flushing it says
	case <-late.C: // the process ends, and with it what hangs
		a.logHook(fmt.Errorf("%s: given up after %v", c.Event, wait+hookGrace))
	}
	return nil
}

// answer records an event, and returns what is to be printed.
func (c *hookCmd) answer(ctx context.Context, a *app) ([]byte, error) {
	payload, err := io.ReadAll(io.LimitReader(a.stdin, mostPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read the payload: %w", err)
	}
	if len(payload) > mostPayload {
		return nil, fmt.Errorf("the payload has more than %d bytes, and is lost", mostPayload)
	}
	e, err := clients.Decode(c.Event, clients.Client(c.Client), payload)
	if err != nil {
		return nil, err
	}
	r, err := a.recorder(nil)
	if err != nil {
		return nil, err
	}
	r.Silent = c.Silent
	text, err := r.Record(ctx, &e)
	if e.Kind == clients.Start || e.Kind == clients.End {
		err = errors.Join(err, r.Sweep(ctx, sweptSessions))
	}
	if err != nil {
		return nil, err
	}
	return e.Answer(text), nil
}

// clientNames are those that --client takes.
func clientNames() string {
	var names []string
	for _, c := range clients.All {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

// hookDir is the folder of what hooks have not stored yet, and of their log.
func (a *app) hookDir() string { return filepath.Join(a.stateHome, "episodic", "hooks") }

// recorder records sessions in an open memory, or else in the one that the command line names.
func (a *app) recorder(open *episodic.Store) (*hook.Recorder, error) {
	target, err := a.target(true)
	if err != nil {
		return nil, err
	}
	redact, err := a.redact.Redactor()
	if err != nil {
		return nil, err
	}
	return &hook.Recorder{
		Dir:    a.hookDir(),
		Remote: isServer(target) && a.offline == episodic.Through,
		Open: func(ctx context.Context) (*episodic.Store, func() error, error) {
			if open != nil {
				return open, func() error { return nil }, nil
			}
			return a.openBare(ctx, target)
		},
		Scope: func(ctx context.Context, store *episodic.Store, format, key, folder string) (episodic.Scope, error) {
			scope, err := a.sessionScope(ctx, store, session{format, key, folder}, nil)
			if err == nil && scope.Project == "" {
				a.logHook(fmt.Errorf("session %s in folder %q has no project: nothing is told there; EPISODIC_PROJECT names one", key, folder))
			}
			return scope, err
		},
		Hash:   func(run *transcript.Run) []byte { return hashOf(run, "", nil, new(transcript.Options)) },
		Redact: redact,
	}, nil
}

// openBare opens the memory without an embedding model, which would take longer to load than a
// hook may take. What is stored gets its vectors when the model is there.
func (a *app) openBare(ctx context.Context, target string) (*episodic.Store, func() error, error) {
	scope, err := a.scope()
	if err != nil {
		return nil, nil, err
	}
	store, err := episodic.Open(ctx, target, a.options(target))
	if err != nil {
		return nil, nil, err
	}
	narrow, err := store.Scoped(scope)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return narrow, store.Close, nil
}

// Names of the commands that agent programs start.
const (
	hookName = "hook"
	mcpName  = "mcp"
)

// asHook reports whether an error is that of a command line for a hook, which must not fail even
// if it is wrong.
func asHook(err error) bool {
	wrong, ok := errors.AsType[*kong.ParseError](err)
	return ok && wrong.Context != nil && wrong.Context.Selected() != nil && wrong.Context.Selected().Name == hookName
}
