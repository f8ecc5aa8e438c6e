package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// workerCall is what a worker is asked for: a JSON object on a line of its standard
// input. It answers each by a workerAnswer on a line of its standard output, and then
// waits for the next. The operations are
//
//   - open, which opens the memory at the target, a folder of its own or the URL of a
//     server, and reads the material;
//   - fill, which stores the first so many episodes of the material as they are;
//   - put, life, get, list and search, each repeated by so many callers until the window
//     is over;
//   - close, after which the worker ends.
//
// The folder of the material has three files of one materialLine a line, fill.jsonl,
// put.jsonl and life.jsonl, and for each number of episodes a file of what is known of
// them, a materialKnown.
type workerCall struct {
	Op       string `json:"op"`
	Target   string `json:"target,omitempty"`
	Data     string `json:"data,omitempty"`
	Episodes int    `json:"episodes,omitempty"`
	Callers  int    `json:"callers,omitempty"`
	WindowMS int64  `json:"window_ms,omitempty"`
}

// workerAnswer says how a call went. An operation that goes on past the window counts as
// done by its part within. The latencies are those of all operations that ended well.
type workerAnswer struct {
	Done        float64 `json:"done"`
	LatenciesUS []int64 `json:"latencies_us"`
	Failed      int     `json:"failed"`
	Error       string  `json:"error"` // of one that failed
}

// err is the error of a call that is done once.
func (a workerAnswer) err() error {
	if a.Failed > 0 {
		return errors.New(brief(a.Error))
	}
	return nil
}

// brief is the begin of a text, on one line.
func brief(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= briefBytes {
		return text
	}
	return strings.ToValidUTF8(text[:briefBytes], "") + "…"
}

const briefBytes = 200

// sample is what the answer says of a window.
func (a workerAnswer) sample(window time.Duration) sample {
	s := sample{window: window, done: a.Done}
	for _, us := range a.LatenciesUS {
		s.latencies = append(s.latencies, time.Duration(us)*time.Microsecond)
	}
	for range a.Failed {
		s.errs = append(s.errs, a.err())
	}
	return s
}

// worker is a process that does what it is told. One call is under way at a time.
type worker struct {
	in      io.Writer
	answers chan workerReply // closed when the output has ended
	// end ends the process and its children at once, and returns what its end tells.
	end  func() error
	dead error // why there are no more answers; nil: there are
	pid  int   // also of its group of processes; 0: it is none
}

type workerReply struct {
	answer workerAnswer
	err    error
}

// newWorker talks to a worker by its input and output. end must end the output.
func newWorker(in io.Writer, out io.Reader, end func() error) *worker {
	w := &worker{in: in, answers: make(chan workerReply), end: end}
	go func() {
		defer close(w.answers)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<30)
		for lines.Scan() {
			line := bytes.TrimSpace(lines.Bytes())
			if !bytes.HasPrefix(line, []byte("{")) {
				continue // packages print
			}
			var r workerReply
			if err := json.Unmarshal(line, &r.answer); err != nil {
				r.err = fmt.Errorf("an answer that cannot be read: %w", err)
			}
			w.answers <- r
		}
	}()
	return w
}

// startWorker starts a worker in a group of processes of its own.
func startWorker(env []string, program string, args ...string) (*worker, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // a child of its may hold the output open
	errs := &tail{}
	cmd.Stderr = errs
	in, out, err := startPiped(cmd)
	if err != nil {
		return nil, err
	}
	w := newWorker(in, out, sync.OnceValue(func() error {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%w: %s", err, errs)
		}
		return nil
	}))
	w.pid = cmd.Process.Pid
	return w, nil
}

// call asks the worker. One that does not answer within the limit is killed, and so is
// one whose answer cannot be read; from then on every call fails with the same error.
func (w *worker) call(ctx context.Context, c workerCall, limit time.Duration) (workerAnswer, error) {
	if w.dead != nil {
		return workerAnswer{}, w.dead
	}
	text, err := json.Marshal(c)
	if err != nil {
		return workerAnswer{}, err
	}
	if _, err := w.in.Write(append(text, '\n')); err != nil {
		return workerAnswer{}, w.kill(fmt.Errorf("%s: %w", c.Op, err))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v, and killed", limit))
	defer cancel()
	select {
	case r, is := <-w.answers:
		if !is {
			return workerAnswer{}, w.kill(fmt.Errorf("%s: %w", c.Op, errGone))
		}
		if r.err != nil {
			return workerAnswer{}, w.kill(fmt.Errorf("%s: %w", c.Op, r.err))
		}
		return r.answer, nil
	case <-ctx.Done():
		return workerAnswer{}, w.kill(fmt.Errorf("%s: %w", c.Op, context.Cause(ctx)))
	}
}

// once makes a call that is no measurement, and fails if what is asked for does.
func (w *worker) once(ctx context.Context, c workerCall, limit time.Duration) (workerAnswer, error) {
	a, err := w.call(ctx, c, limit)
	if err == nil && a.Failed > 0 {
		err = fmt.Errorf("%s: %w", c.Op, a.err())
	}
	return a, err
}

// kill ends the worker for a reason, and returns that.
func (w *worker) kill(reason error) error {
	w.dead = reason
	if err := w.stop(); err != nil && errors.Is(reason, errGone) {
		w.dead = fmt.Errorf("%w: %w", reason, err)
	}
	return w.dead
}

// stop ends the worker, whatever it is doing, and returns when it is gone.
func (w *worker) stop() error {
	err := w.end()
	for range w.answers { // until its reader has ended
	}
	return err
}

// tail keeps the last of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 300

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailBytes):]
	return len(p), nil
}

// String returns it on one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.text)), " ")
}
