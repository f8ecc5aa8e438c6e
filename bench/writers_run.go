package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/bench/agent"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// crowd is a number of processes that write to one memory.
type crowd struct {
	name     string
	machines int
	each     int // processes on a machine
	callers  int // that write at once in a process; 0: 1
	pause    time.Duration
	bursts   bool
	rtt      time.Duration
	queued   bool   // writes are queued, in a replica of each machine
	whole    bool   // episodes are put as a whole
	counted  bool   // requests are counted where they pass
	onFile   bool   // the memory is a local file
	fault    *fault // nil: none
	program  string // a writer of another commit; "": this program
}

func (c *crowd) processes() int { return c.machines * c.each }

const (
	burstEpisodes = 5
	burstRest     = 2 * time.Second
	callPatience  = 25 * time.Second
	writersHang   = 2 * time.Second // after the window
	// probePatience is how long a question for the write lock waits for it, and stuckAfter
	// for how long it is asked again.
	probePatience = 7 * time.Second
	stuckAfter    = 20 * time.Second
	writerReaders = 16 // that read back what was written
)

// crowdResult is what became of a crowd. Processes that a fault has killed or stopped have no
// part in it, except where it says so.
type crowdResult struct {
	*crowd
	window     time.Duration
	done       int // writes within the window
	perProcess []int
	latencies  []time.Duration
	errs       map[string]int // texts without what differs between calls
	silence    time.Duration  // the longest without a write of anybody, struck or not
	requests   uint64
	passed     int // requests that came to the server until all writers had ended, if they were counted
	stuck      bool
	told       time.Duration // from the last write to the first call that failed with the advice to restart the server
	after      time.Duration // until the server gave a lock once the load was over
	noTurns    bool          // the Store's options have no LockDir

	turned     bool // turns were told
	all, quiet overlap

	// Of all processes: writes that were acknowledged and are not stored; episodes that
	// hold what they must not, or not in order; writes that were told to have an unknown
	// outcome; and those that are stored without an acknowledgement, also of killed ones.
	lost, doubled, unknown, unknownStored int
}

func (o *crowdResult) rate() float64 { return float64(o.done) / o.window.Seconds() }

// slowest is the writes of the slowest process, as a part of the mean.
func (o *crowdResult) slowest() float64 { return leastToMean(o.perProcess) }

// leastToMean is the least of some counts, as a part of their mean; 0 if there are none.
func leastToMean(counts []int) float64 {
	least, sum := 0, 0
	for i, n := range counts {
		if i == 0 || n < least {
			least = n
		}
		sum += n
	}
	return float64(least*len(counts)) / float64(max(sum, 1))
}

func (o *crowdResult) failures() (n int) {
	for _, times := range o.errs {
		n += times
	}
	return n
}

// crowdRun is a crowd at work.
type crowdRun struct {
	*crowd
	window  time.Duration
	dir     string
	target  string            // of the memory
	server  *hranatest.Server // nil for a file
	link    *hranatest.Link   // nil if the server is near
	writers []*writing
}

// writing is a writer's process.
type writing struct {
	*process
	told   []agent.Event
	ended  chan error // after its last event
	killed bool       // by a fault
	struck bool       // by a fault: killed or stopped
}

// run lets the crowd write for the window, and looks at what it has written.
func (c *crowd) run(ctx context.Context, b *bench, window time.Duration) (_ *crowdResult, err error) {
	dir, err := os.MkdirTemp(b.dir, "crowd-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what nobody waits for
	r := &crowdRun{crowd: c, window: window, dir: dir}
	defer func() { err = errors.Join(err, r.end()) }()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	o := &crowdResult{crowd: c, window: window, errs: map[string]int{}}
	for _, w := range r.writers {
		ready, err := w.ready()
		if err != nil {
			return nil, err
		}
		o.noTurns = o.noTurns || !ready.Turns
	}
	begin, before := time.Now(), r.passed()
	for _, w := range r.writers {
		if _, err := io.WriteString(w.input, "begin\n"); err != nil {
			return nil, err
		}
		go w.listen()
	}
	if c.fault != nil && c.fault.do != nil {
		if err := c.fault.do(ctx, r); err != nil {
			return nil, fmt.Errorf("%s: %w", c.fault.name, err)
		}
	}
	if err := rest(ctx, time.Until(begin.Add(window))); err != nil {
		return nil, err
	}
	// A probe is one more that waits for the lock. So it comes when the writers have
	// ended, unless they hang.
	ended := make(chan error, 1)
	go func() { ended <- r.wait(ctx) }()
	select {
	case err := <-ended:
		ended <- err
	case <-time.After(writersHang):
	}
	o.stuck = !r.probe(ctx)
	o.after = time.Since(begin.Add(window))
	if err := <-ended; err != nil {
		return nil, err
	}
	o.passed = r.passed() - before
	if !o.stuck && r.server != nil {
		// A server that loses its lock may give it once more before.
		if err := rest(ctx, min(window, time.Second)); err != nil {
			return nil, err
		}
		o.stuck = !r.probe(ctx)
	}
	o.count(r, begin)
	if o.stuck { // what it has stored can still be looked at
		r.server.Kill()
		if err := r.server.Restart(); err != nil {
			return nil, err
		}
	}
	return o, o.verify(ctx, r)
}

// prepare starts the server and the writers. The first of them creates the memory, and
// the others come when it has.
func (r *crowdRun) prepare(ctx context.Context) (err error) {
	r.target = filepath.Join(r.dir, "memory.db")
	to := r.target
	if !r.onFile {
		if r.server, err = startServer(r.dir); err != nil {
			return err
		}
		r.target = r.server.URL()
		to = r.target
	}
	if r.rtt > 0 || r.counted {
		if r.link, err = hranatest.NewLink(r.target); err != nil {
			return err
		}
		r.link.SetRTT(r.rtt)
		to = r.link.URL()
	}
	if err := r.create(ctx); err != nil {
		return err
	}
	for i := range r.processes() {
		w, err := r.start(ctx, agent.Task{
			Target: to, LockDir: r.lockDir(i % r.machines), Number: i,
			Callers: max(r.callers, 1), Window: r.window, Pause: r.pause, Patience: callPatience,
			Burst: map[bool]int{true: burstEpisodes}[r.bursts], Rest: burstRest,
			Queue: map[bool]string{true: r.lockDir(i % r.machines)}[r.queued], Whole: r.whole,
		})
		if err != nil {
			return err
		}
		r.writers = append(r.writers, w)
	}
	return nil
}

// passed is how many requests have come to the server over the link so far.
func (r *crowdRun) passed() int {
	if r.link == nil {
		return 0
	}
	return r.link.Counts().Requests
}

// create lets a writer of this crowd's kind make the memory. It writes one episode.
func (r *crowdRun) create(ctx context.Context) error {
	w, err := r.start(ctx, agent.Task{Target: r.target, LockDir: r.lockDir(0), Callers: 1, Window: time.Millisecond, Patience: callPatience})
	if err != nil {
		return err
	}
	defer func() { _ = w.cmd.Process.Kill() }() // fails if it is gone
	if _, err := w.ready(); err != nil {
		return err
	}
	if _, err := io.WriteString(w.input, "begin\n"); err != nil {
		return err
	}
	w.listen()
	for _, e := range w.told {
		if e.Error != "" {
			return fmt.Errorf("a writer cannot create the memory: %s", e.Error)
		}
	}
	return <-w.ended
}

// lockDir is the folder of lock files of a machine.
func (r *crowdRun) lockDir(machine int) string {
	if r.fault != nil && r.fault.noFolder {
		return filepath.Join(r.dir, "file", "locks") // there cannot be such a folder; see faults
	}
	return filepath.Join(r.dir, fmt.Sprintf("machine-%d", machine))
}

func (r *crowdRun) start(ctx context.Context, task agent.Task) (*writing, error) {
	program := r.program
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		program = self
	}
	var err error
	if r.fault != nil && r.fault.noFolder {
		err = os.WriteFile(filepath.Join(r.dir, "file"), nil, 0o600)
	} else {
		err = os.MkdirAll(task.LockDir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	return startWriter(ctx, program, task)
}

// startWriter starts a program that is a writer, and tells it its task.
func startWriter(ctx context.Context, program string, task agent.Task) (*writing, error) {
	p, err := startProcess(ctx, program, writerVariable, task)
	if err != nil {
		return nil, fmt.Errorf("a writer: %w", err)
	}
	return &writing{process: p, ended: make(chan error, 1)}, nil
}

// ready waits until the writer has opened its Store.
func (w *writing) ready() (e agent.Event, err error) {
	if err := w.hear(&e); err != nil {
		return e, fmt.Errorf("a writer: %w", err)
	}
	if e.Error != "" {
		return e, fmt.Errorf("a writer cannot open the memory: %s", e.Error)
	}
	return e, nil
}

// listen takes what the writer tells until its end.
func (w *writing) listen() {
	for {
		var e agent.Event
		if err := w.answers.Decode(&e); err != nil {
			break // what is missing then shows in the end of the process
		}
		w.told = append(w.told, e)
	}
	if err := w.cmd.Wait(); err != nil {
		w.ended <- fmt.Errorf("a writer ended: %w: %s", err, w.stderr.Bytes())
		return
	}
	w.ended <- nil
}

// wait waits for the ends of all writers, which take as long as a call may.
func (r *crowdRun) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*callPatience)
	defer cancel()
	for i, w := range r.writers {
		select {
		case err := <-w.ended:
			if err != nil && !w.killed {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("writer %d does not end: %w", i, ctx.Err())
		}
	}
	return nil
}

// end ends what still runs.
func (r *crowdRun) end() error {
	for _, w := range r.writers {
		_ = w.cmd.Process.Kill() // fails if it is gone
	}
	if r.link != nil {
		r.link.Close()
	}
	if r.server != nil {
		r.server.Kill()
	}
	return os.RemoveAll(r.dir)
}

// probe reports whether the server gives its write lock to somebody who asks long
// enough. A file gives it at once, because nothing else has it.
func (r *crowdRun) probe(ctx context.Context) bool {
	if r.server == nil {
		return true
	}
	for begin := time.Now(); ctx.Err() == nil && time.Since(begin) < stuckAfter; {
		if givesLock(ctx, r.server.URL()) {
			return true
		}
		_ = rest(ctx, 200*time.Millisecond) // its end is the loop's
	}
	return false
}

// givesLock asks for the write lock, by nothing but HTTP.
func givesLock(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	const ask = `{"requests":[{"type":"batch","batch":{"steps":[{"stmt":{"sql":"BEGIN IMMEDIATE"}},` +
		`{"condition":{"type":"ok","step":0},"stmt":{"sql":"ROLLBACK"}}]}},{"type":"close"}]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v3/pipeline", strings.NewReader(ask))
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && bytes.Contains(answer, []byte(`"step_errors":[null,null]`))
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var differing = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|:\d+|\d+(\.\d+)?(ms|µs|s)\b`)

// count gathers what the writers have told.
func (o *crowdResult) count(r *crowdRun, begin time.Time) {
	var turns []turn
	var ends []time.Time
	var told time.Time
	end := begin.Add(o.window)
	for _, w := range r.writers {
		n := 0
		for _, e := range w.told {
			if e.Unknown {
				o.unknown++
			}
			write := e.Kind == agent.Started || e.Kind == agent.Appended
			switch {
			case e.Error != "":
				if !w.struck {
					o.errs[differing.ReplaceAllString(e.Error, "…")]++
				}
				if strings.Contains(e.Error, "restart") && (told.IsZero() || e.At.Before(told)) {
					told = e.At
				}
			case e.Kind == agent.Turn:
				turns = append(turns, turn{e.Machine, e.From, e.To})
			case e.Kind == agent.Done:
				o.requests += e.Requests
			case write && !w.struck:
				o.latencies = append(o.latencies, e.Took)
			}
			if write && e.Error == "" {
				ends = append(ends, e.At)
				if e.At.Before(end) {
					n++
				}
			}
		}
		if !w.struck {
			o.perProcess = append(o.perProcess, n)
			o.done += n
		}
	}
	o.turned = len(turns) > 0
	o.all, o.quiet = overlaps(turns)
	o.silence = silence(ends, begin, end)
	for _, t := range ends { // which silence has sorted
		if t.Before(told) {
			o.told = told.Sub(t)
		}
	}
}

// silence is the longest time between begin and end in which no call ended.
func silence(ends []time.Time, begin, end time.Time) (longest time.Duration) {
	slices.SortFunc(ends, time.Time.Compare)
	last := begin
	for _, t := range append(ends, end) {
		if t.After(end) {
			t = end
		}
		longest = max(longest, t.Sub(last))
		last = t
	}
	return longest
}

// verify reads back all that was acknowledged.
func (o *crowdResult) verify(ctx context.Context, r *crowdRun) (err error) {
	store, err := episodic.Open(ctx, r.target, uncached())
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	list := make(chan *written)
	var mu sync.Mutex // guards o and failed
	var failed error
	var wg sync.WaitGroup
	for range writerReaders {
		wg.Go(func() {
			for w := range list {
				e, err := store.Episode(ctx, w.id)
				mu.Lock()
				switch {
				case err == nil:
					o.compare(w, e)
				case !errors.Is(err, episodic.ErrNotFound):
					failed = err
				case w.started:
					o.lost += 1 + w.steps
				}
				mu.Unlock()
			}
		})
	}
	for _, w := range r.writers {
		for _, x := range w.written() {
			list <- x
		}
	}
	close(list)
	wg.Wait()
	if failed != nil {
		return fmt.Errorf("read back: %w", failed)
	}
	return nil
}

// written is what a writer knows of one of its episodes.
type written struct {
	id      episodic.ID
	started bool // acknowledged
	steps   int  // acknowledged
	unknown bool // whether the next write is stored
}

// written returns what the writer knows of its episodes. One that was killed may have
// had a write under way in any of them that was not full.
func (w *writing) written() []*written {
	var list []*written
	byID := map[episodic.ID]*written{}
	for _, e := range w.told {
		if e.Kind != agent.Started && e.Kind != agent.Appended {
			continue
		}
		x := byID[e.Episode]
		if x == nil {
			x = &written{id: e.Episode, unknown: w.killed}
			byID[e.Episode] = x
			list = append(list, x)
		}
		switch {
		case e.Error != "":
			x.unknown = e.Unknown
		case e.Kind == agent.Started:
			x.started = true
			if e.Whole {
				x.steps = agent.StepsEach
			}
		default:
			x.steps++
		}
	}
	return list
}

// compare looks at an episode that is stored.
func (o *crowdResult) compare(w *written, e *episodic.Episode) {
	most := w.steps
	if w.started && w.unknown {
		most++
	}
	ordered := true
	for i, s := range e.Steps {
		ordered = ordered && agent.IsStep(s, i)
	}
	if len(e.Steps) > most || !ordered || !w.started && !w.unknown {
		o.doubled++
	}
	o.lost += max(0, w.steps-len(e.Steps))
	if w.unknown && (!w.started || len(e.Steps) > w.steps) {
		o.unknownStored++
	}
}
