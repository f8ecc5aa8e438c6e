// Package agent is a process that writes to a memory as an agent does, and tells
// what became of each write. It compiles in the trees of older commits too, whose
// writers can so be measured beside those of this one; see worker.
package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
)

// StepsEach is how many steps an episode gets, each by a call.
const StepsEach = 5

// Task is what a writer is told, as the first line of its standard input. It then
// opens the Store, tells that it is ready, and begins at the second line.
type Task struct {
	Target  string // a server's URL or a path
	LockDir string // the same for all writers of a machine
	Number  int    // of this writer

	Callers  int // that write at once
	Window   time.Duration
	Pause    time.Duration // of a caller between two writes
	Burst    int           // episodes after which a caller rests; 0: it never does
	Rest     time.Duration
	Patience time.Duration // with each call
	// Queue is a folder for the machine's replica and outbox: writes are queued, and pushed
	// before the writer ends. Empty: they go to the server.
	Queue string `json:",omitempty"`
	Whole bool   `json:",omitempty"` // episodes are put when they have ended, with all their steps

	// Episodes is a file of them, each as JSON. If it is set, nothing above but Target and
	// LockDir matters: each further line of the input is an Order.
	Episodes string `json:",omitempty"`
}

// Kind says what an Event is about.
type Kind string

// The kinds of events.
const (
	Ready    Kind = "ready"    // the Store is open, if there is no Error
	Started  Kind = "started"  // an episode
	Appended Kind = "appended" // a step
	Turn     Kind = "turn"     // the Store has used a turn to write
	Stored   Kind = "stored"   // an episode or a step, by an Order
	Obeyed   Kind = "obeyed"   // an Order, after what it has Stored
	Done     Kind = "done"     // the Store is closed
)

// Event is a line of a writer's standard output.
type Event struct {
	Kind  Kind
	Error string `json:",omitempty"`

	// Of Ready: whether Options has a LockDir.
	Turns bool `json:",omitempty"`

	// Of Started and Appended; Took also of Stored.
	Episode episodic.ID
	Step    int           `json:",omitempty"` // from 0
	At      time.Time     `json:",omitzero"`  // of the end of the call
	Took    time.Duration `json:",omitempty"`
	Unknown bool          `json:",omitempty"` // failed, and may be stored all the same
	Whole   bool          `json:",omitempty"` // of Started: with all its steps

	// Of Turn: milliseconds of the server's clock.
	Machine, From, To int64 `json:",omitempty"`

	// Of Obeyed: the processor time of this process meanwhile.
	CPU time.Duration `json:",omitempty"`

	// Of Done: HTTP requests since Ready.
	Requests uint64 `json:",omitempty"`
}

// NewStep is a step of about 300 bytes: of a writer and its episode, with its number in
// that, from 0.
func NewStep(of, episode, number int) episodic.Step {
	return episodic.Step{
		Tool: "run_tests", Parameters: parameters(number),
		Result: &episodic.Result{Kind: episodic.ResultOutput, Text: strings.Repeat(fmt.Sprintf("ok package %d.%d.%d 0.31s; ", of, episode, number), 12)},
	}
}

// IsStep reports whether s is a step of this number.
func IsStep(s episodic.Step, number int) bool { return s.Parameters == parameters(number) }

// parameters tell a step from all others of its episode.
func parameters(number int) episodic.JSON { return episodic.JSON(fmt.Sprintf(`{"step":%d}`, number)) }

// Run does the task on the input and tells on the output.
func Run(ctx context.Context, input io.Reader, output io.Writer) error {
	lines := bufio.NewScanner(input)
	if !lines.Scan() {
		return fmt.Errorf("no task on the standard input: %w", errors.Join(lines.Err(), io.EOF))
	}
	w := &work{out: json.NewEncoder(output)}
	if err := json.Unmarshal(lines.Bytes(), &w.Task); err != nil {
		return err
	}
	opts := &episodic.Options{}
	ready := Event{Kind: Ready, Turns: set(opts, "LockDir", w.LockDir)}
	set(opts, "Logger", slog.New(&turns{w: w}))
	if w.Queue == "" {
		set(opts, "Replica.Disabled", true) // what is measured is writing to the server
	} else if !set(opts, "Replica.Offline", 1) {
		return errors.New("the Store cannot queue writes")
	} else {
		set(opts, "Replica.Path", filepath.Join(w.Queue, "replica.db"))
		set(opts, "StateDir", w.Queue)
	}
	store, err := episodic.Open(ctx, w.Target, opts)
	if err != nil {
		ready.Error = err.Error()
		return w.tell(ready)
	}
	w.store = store
	if err := w.tell(ready); err != nil {
		return errors.Join(err, store.Close())
	}
	if w.Episodes != "" {
		if err := errors.Join(w.obey(ctx, lines), store.Close()); err != nil {
			return err
		}
		return w.tell(Event{Kind: Done})
	}
	if !lines.Scan() {
		return errors.Join(lines.Err(), store.Close()) // not wanted any more
	}
	before := store.Stats().Requests
	var wg sync.WaitGroup
	end := time.Now().Add(w.Window)
	for caller := range w.Callers {
		wg.Go(func() { w.write(ctx, caller, end) })
	}
	wg.Wait()
	err = w.flush(ctx)
	done := Event{Kind: Done, Requests: store.Stats().Requests - before}
	if err := errors.Join(err, store.Close()); err != nil {
		done.Error = err.Error()
	}
	return w.tell(done)
}

// set sets a field that the options of older commits lack, and reports whether it is
// there.
func set(opts *episodic.Options, field string, value any) bool {
	f := reflect.ValueOf(opts).Elem()
	for name := range strings.SplitSeq(field, ".") {
		if f = f.FieldByName(name); !f.IsValid() {
			return false
		}
	}
	f.Set(reflect.ValueOf(value).Convert(f.Type()))
	return true
}

type work struct {
	Task
	store *episodic.Store

	mu  sync.Mutex // guards out
	out *json.Encoder
}

func (w *work) tell(e Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Encode(e)
}

// write writes one episode after the other until end.
func (w *work) write(ctx context.Context, caller int, end time.Time) {
	for n := 0; time.Now().Before(end) && ctx.Err() == nil; n++ {
		if w.Burst > 0 && n > 0 && n%w.Burst == 0 {
			pause(w.Rest, end)
		}
		e := &episodic.Episode{
			ID:          episodic.NewID(),
			Description: fmt.Sprintf("writer %d.%d does task %d with words like reservation and flaky test", w.Number, caller, n),
		}
		if w.Whole {
			e.Outcome.Kind = episodic.Success
			for i := range StepsEach {
				e.Steps = append(e.Steps, NewStep(w.Number, n, i))
			}
			w.call(ctx, Event{Kind: Started, Episode: e.ID, Whole: true}, func(ctx context.Context) error { return w.store.PutEpisode(ctx, e) })
			pause(w.Pause, end)
			continue
		}
		if !w.call(ctx, Event{Kind: Started, Episode: e.ID}, func(ctx context.Context) error { return w.start(ctx, e) }) {
			continue
		}
		for i := range StepsEach {
			pause(w.Pause, end)
			if !time.Now().Before(end) {
				break
			}
			step := NewStep(w.Number, n, i)
			if !w.call(ctx, Event{Kind: Appended, Episode: e.ID, Step: i}, func(ctx context.Context) error {
				_, err := w.store.AppendSteps(ctx, e.ID, step)
				return err
			}) {
				break
			}
		}
		pause(w.Pause, end)
	}
}

// flush waits until what was queued is on the server.
func (w *work) flush(ctx context.Context) error {
	if w.Queue == "" {
		return nil
	}
	s, ok := any(w.store).(interface{ Flush(context.Context) error })
	if !ok {
		return errors.New("the Store cannot flush")
	}
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	return s.Flush(ctx)
}

func pause(d time.Duration, end time.Time) { time.Sleep(min(d, time.Until(end))) }

// start calls the method under the name that this commit has for it.
func (w *work) start(ctx context.Context, e *episodic.Episode) error {
	switch s := any(w.store).(type) {
	case interface {
		StartEpisode(context.Context, *episodic.Episode) error
	}:
		return s.StartEpisode(ctx, e)
	case interface {
		Start(context.Context, *episodic.Episode) error
	}:
		return s.Start(ctx, e)
	}
	return errors.New("the Store cannot start an episode")
}

// call tells what became of f, and reports whether it ended well.
func (w *work) call(ctx context.Context, e Event, f func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	begin := time.Now()
	err := f(ctx)
	e.At = time.Now()
	e.Took = e.At.Sub(begin)
	if err != nil {
		e.Error = err.Error()
		e.Unknown = errors.Is(err, episodic.ErrUnknownOutcome)
	}
	return w.tell(e) == nil && err == nil
}

// turns is a handler that tells of the turns that the Store logs.
type turns struct {
	w    *work
	with []slog.Attr
}

// Enabled implements slog.Handler.
func (*turns) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h *turns) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "turn used" {
		return nil
	}
	e := Event{Kind: Turn}
	take := func(a slog.Attr) bool {
		switch a.Key {
		case "machine":
			e.Machine = whole(a.Value)
		case "from":
			e.From = whole(a.Value)
		case "to":
			e.To = whole(a.Value)
		}
		return true
	}
	for _, a := range h.with {
		take(a)
	}
	r.Attrs(take)
	return h.w.tell(e)
}

// whole is an integer of any type.
func whole(v slog.Value) int64 {
	if v.Kind() == slog.KindUint64 {
		return int64(v.Uint64())
	}
	return v.Int64()
}

// WithAttrs implements slog.Handler.
func (h *turns) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &turns{h.w, append(h.with[:len(h.with):len(h.with)], attrs...)}
}

// WithGroup implements slog.Handler. The turn's attributes are in no group.
func (h *turns) WithGroup(string) slog.Handler { return h }
