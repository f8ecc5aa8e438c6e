package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/episodic-memory/episodic"
)

// childVariable makes this program do one task of the scenario rivals in a process
// of its own, instead of measuring.
const childVariable = "EPISODIC_BENCH_CHILD"

// childTask is what a child is told on its standard input: to put an episode if there is
// one, otherwise to get one of those it knows, or, with a window, as many as it can.
type childTask struct {
	Ours   bool
	Server bool // the target is a server's URL, not a path
	Target string
	IDs    []episodic.ID
	Put    *episodic.Episode

	Window   time.Duration
	Callers  int
	Uncached bool
}

// childResult is what it answers on its standard output.
type childResult struct {
	PeakKB int // the most memory that was resident at once, of which file pages are a part
	Gets   int
}

// serve makes what a process does that runChild has started: do is a method of its task.
func serve[Task, Result any](do func(*Task, context.Context) (Result, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		var task Task
		if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
			return err
		}
		result, err := do(&task, ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
}

// run lets a child do the task.
func (t *childTask) run(ctx context.Context) (result childResult, err error) {
	err = runChild(ctx, childVariable, t, &result)
	return result, err
}

// runChild runs this program with a variable set, a task on its standard input, and returns what it
// prints.
func runChild(ctx context.Context, variable string, task, result any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	input, err := json.Marshal(task)
	if err != nil {
		return err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, errs.Bytes())
	}
	return json.Unmarshal(out.Bytes(), result)
}

// startPiped starts a program, and returns its standard input and output.
func startPiped(cmd *exec.Cmd) (in io.WriteCloser, out io.ReadCloser, err error) {
	if in, err = cmd.StdinPipe(); err != nil {
		return nil, nil, err
	}
	if out, err = cmd.StdoutPipe(); err != nil {
		return nil, nil, err
	}
	return in, out, cmd.Start()
}

// process is a program that is told and answers line by line, in JSON.
type process struct {
	cmd     *exec.Cmd
	input   io.WriteCloser
	answers *json.Decoder
	stderr  bytes.Buffer
}

// startProcess starts a program with a variable set, and tells it its task.
func startProcess(ctx context.Context, program, variable string, task any) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, program)}
	p.cmd.Env = append(os.Environ(), variable+"=1")
	p.cmd.Stderr = &p.stderr
	input, output, err := startPiped(p.cmd)
	if err != nil {
		return nil, err
	}
	p.input, p.answers = input, json.NewDecoder(output)
	if err := p.tell(task); err != nil {
		return nil, p.failed(err)
	}
	return p, nil
}

// tell writes to the program's standard input.
func (p *process) tell(what any) error { return json.NewEncoder(p.input).Encode(what) }

// hear reads what the program answers next. If it has ended instead, the error says why.
func (p *process) hear(answer any) error {
	if err := p.answers.Decode(answer); err != nil {
		return p.failed(err)
	}
	return nil
}

// failed ends a program that does not talk any more, and returns err with what it has said
// on its standard error.
func (p *process) failed(err error) error {
	p.end()
	return fmt.Errorf("a process ended: %w: %s", err, p.stderr.Bytes())
}

// end ends the program, if it has not ended itself.
func (p *process) end() {
	_ = p.cmd.Process.Kill() // fails if it is gone
	_ = p.cmd.Wait()         // what it said before is what matters
}

func (t *childTask) do(ctx context.Context) (result childResult, err error) {
	target, err := t.open(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	get := getting(target, t.IDs)
	switch {
	case t.Put != nil:
		return result, target.put(ctx, t.Put)
	case t.Window == 0:
		return childResult{Gets: 1}, get(ctx, 0)
	}
	s := load(ctx, t.Window, t.Callers, get)
	if len(s.errs) > 0 {
		return result, s.errs[0]
	}
	result.Gets = len(s.latencies)
	result.PeakKB, err = peakMemory()
	return result, err
}

// open opens the target as it is, which the rival does without looking at its
// tables.
func (t *childTask) open(ctx context.Context) (side, error) {
	if t.Ours {
		opts := direct()
		if t.Uncached {
			opts = uncached()
		}
		return openOurSide(ctx, t.Target, opts)
	}
	open := openRawFile
	if t.Server {
		open = openRawServer
	}
	r, err := open(t.Target)
	if err != nil {
		return nil, err
	}
	if t.Server && t.Put == nil {
		return r, nil
	}
	if err := r.prepare(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// peakMemory is the most memory of this process that was resident at once, in KB.
// The figure that wait returns would not do: in it the parent has a part.
func peakMemory() (int, error) {
	sizes, err := processMemory(os.Getpid())
	if err != nil {
		return 0, err
	}
	if peak, ok := sizes["VmHWM"]; ok {
		return int(peak >> 10), nil
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}
