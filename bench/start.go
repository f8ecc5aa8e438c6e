package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const startClaim = "From the start of the process to the first answer: `episodic search` of a rare, a middling and a common word in a filled local file, " +
	"against `episodic version`, which only starts and ends. Warm. Target: p50 of the search below 50 ms.\n\n" +
	"`episodic hook PostToolUse` as an agent program runs it after each call of a tool, its process included: with that file, with a server whose " +
	"port is closed, and with one that accepts and never answers. The session's first events, which wait for the memory, are not measured. Target: " +
	"p99 of the hook below 30 ms in each case."

const (
	startRuns      = 30
	startRunsShort = 3
	hookRuns       = 100
	hookRunsShort  = 5
)

func start(ctx context.Context, b *bench) error {
	program := filepath.Join(b.dir, "episodic")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/episodic")
	build.Dir = ".." // of the folder of this module
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the command: %w\n%s", err, out)
	}
	path, words, err := filledFile(ctx, b)
	if err != nil {
		return err
	}
	var found [][]string
	for _, f := range frequencies {
		found = append(found, words.wordsOf(f))
	}

	runs, calls := startRuns, hookRuns
	if b.short {
		runs, calls = startRunsShort, hookRunsShort
	}
	measure := func(args func(i int) []string) func(context.Context, time.Duration) (sample, error) {
		i := 0
		return func(ctx context.Context, _ time.Duration) (sample, error) {
			if i == 0 {
				if err := answer(ctx, program, args(0)); err != nil { // warms up
					return sample{}, err
				}
			}
			s := repeat(ctx, (runs+b.rounds-1)/b.rounds, func(ctx context.Context, _ int) error {
				i++
				return answer(ctx, program, args(i))
			})
			return s, errors.Join(s.errs...)
		}
	}
	search := &cell{name: "episodic search", measure: measure(func(i int) []string {
		args := []string{"search", "--db", path}
		for _, list := range found {
			args = append(args, list[i%len(list)])
		}
		return args
	})}
	version := &cell{name: "episodic version", measure: measure(func(int) []string { return []string{"version"} })}
	closed, stop, err := deafServers()
	if err != nil {
		return err
	}
	defer stop()
	var hooks []*cell
	for _, h := range []struct{ name, db string }{{"the file", path}, {"a server that is down", closed[0]}, {"a server that never answers", closed[1]}} {
		caller := &hookCaller{program: program, dir: filepath.Join(b.dir, "hooks", h.name), db: h.db}
		hooks = append(hooks, &cell{name: "hook PostToolUse, " + h.name, measure: func(ctx context.Context, _ time.Duration) (sample, error) {
			if err := caller.begin(ctx); err != nil {
				return sample{}, err
			}
			s := repeat(ctx, (calls+b.rounds-1)/b.rounds, func(ctx context.Context, _ int) error { return caller.call(ctx) })
			return s, errors.Join(s.errs...)
		}})
	}
	cells := append([]*cell{version, search}, hooks...)
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}

	table := [][]string{{"", "runs", "p50", "p95", "p99"}}
	for _, c := range cells {
		table = append(table, []string{c.name, fmt.Sprint(c.acknowledged()), ms(c.percentile(0.5)), ms(c.percentile(0.95)), ms(c.percentile(0.99))})
	}
	b.table(table...)
	p50 := search.percentile(0.5)
	b.judge(p50 < 50*time.Millisecond, "search below 50 ms", "p50 %s", ms(p50))
	for _, c := range hooks {
		p99 := c.percentile(0.99)
		b.judge(p99 < 30*time.Millisecond, c.name+" below 30 ms", "p50 %s, p99 %s", ms(c.percentile(0.5)), ms(p99))
	}
	return nil
}

// deafServers returns the addresses of a server that is down and of one that accepts connections
// and never answers, until stop is called.
func deafServers() (urls [2]string, stop func(), err error) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // what comes waits in the backlog
	if err != nil {
		return urls, nil, err
	}
	down, err := hranatest.NewLink(silent.Addr().String())
	if err != nil {
		return urls, nil, errors.Join(err, silent.Close())
	}
	down.Refuse(true)
	return [2]string{down.URL(), "http://" + silent.Addr().String()}, func() { _ = silent.Close(); down.Close() }, nil
}

// hookCaller runs hooks as an agent program does, in a session of its own.
type hookCaller struct {
	program, dir, db string
	calls            int
}

// begin tells what people said. The memory may be away: the hook's log has that.
func (h *hookCaller) begin(ctx context.Context) error {
	return h.run(ctx, "UserPromptSubmit", map[string]any{"prompt": "mend the pump", "prompt_id": fmt.Sprint("p", h.calls)})
}

func (h *hookCaller) call(ctx context.Context) error {
	h.calls++
	return h.run(ctx, "PostToolUse", map[string]any{
		"tool_name": "Bash", "tool_use_id": fmt.Sprint("t", h.calls), "tool_input": map[string]any{"command": "make"},
		"tool_response": map[string]any{"stdout": strings.Repeat("the pump runs\n", 60), "stderr": ""}, "duration_ms": 40,
	})
}

func (h *hookCaller) run(ctx context.Context, event string, payload map[string]any) error {
	payload["session_id"], payload["cwd"], payload["hook_event_name"] = "bench", h.dir, event
	text, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, h.program, "--allow-plaintext", "--db", h.db, "--project", "bench", "hook", event)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+h.dir)
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err == nil && len(out) > 0 && event == "PostToolUse" {
		err = errors.New("it printed something")
	}
	if err != nil {
		return fmt.Errorf("hook %s: %w: %s", event, err, out)
	}
	return nil
}

// answer runs the command, which must print something.
func answer(ctx context.Context, program string, args []string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err == nil && len(out) == 0 {
		err = errors.New("it printed nothing")
	}
	if err != nil {
		return fmt.Errorf("episodic %v: %w: %s", args, err, out)
	}
	return nil
}

func filledFile(ctx context.Context, b *bench) (path string, words *tally, err error) {
	store, path, err := b.openFile(ctx, "start.db")
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	words = &tally{}
	return path, words, b.batches(ctx, func(batch []*episodic.Episode) error {
		for _, e := range batch {
			if err := words.add(e); err != nil {
				return err
			}
		}
		_, err := store.AddEpisodes(ctx, batch...)
		return err
	})
}
