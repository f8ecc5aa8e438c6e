package durability

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
)

// Plan says what is to be tried.
type Plan struct {
	// Target is the memory: a file's path or a server's URL. Empty with SQLD.
	Target string
	// Start returns a command that runs Process on a target.
	Start func(target string) *exec.Cmd
	// Options are those by which the memory is examined at the end; nil: the defaults.
	Options *episodic.Options

	Processes int           // at least 1; a quarter of more than one are readers
	Duration  time.Duration // of writing
	// Enough ends the writing earlier, once it says so of what was counted so far; nil: it does not.
	Enough    func(*Report) bool
	KillEvery time.Duration // on average, a process or the server; 0: none is killed
	// CutEvery is how often all connections to a server are cut, on average; 0: never. It needs a
	// Target that begins with http://.
	CutEvery time.Duration
	FullDisk bool   // every 20th write of a process meets a full disk; of a local file only
	Seed     uint64 // of all choices that are not the system's

	SQLD string // the program of a server that is started for Target, and killed too; empty: none
	Dir  string // for the database of SQLD

	Progress func(string) // is told what is done now; nil: nobody
}

// fullEvery is how many writes there are from one full disk to the next.
const fullEvery = 20

func (p *Plan) validate() error {
	bad := func(field, problem string) error { return &episodic.InvalidError{Field: field, Problem: problem} }
	switch server := strings.Contains(p.Target, "://") || p.SQLD != ""; {
	case p.Processes < 1:
		return bad("processes", fmt.Sprintf("are %d; there must be one at least", p.Processes))
	case p.Duration <= 0:
		return bad("duration", fmt.Sprintf("is %v; it must be more than nothing", p.Duration))
	case p.KillEvery < 0:
		return bad("kill-every", fmt.Sprintf("is negative (%v)", p.KillEvery))
	case p.CutEvery < 0:
		return bad("cut-every", fmt.Sprintf("is negative (%v)", p.CutEvery))
	case p.SQLD != "" && p.Target != "":
		return bad("sqld", "starts a server of its own; leave the target out")
	case p.CutEvery > 0 && p.SQLD == "" && !strings.HasPrefix(p.Target, "http://"):
		return bad("cut-every", "needs a server at http://, whose connections can be passed on")
	case p.FullDisk && server:
		return bad("full-disk", "needs a local file")
	case p.FullDisk && !canFill:
		return bad("full-disk", "is not possible on this system")
	}
	return nil
}

// Run carries out a plan. Errors: ErrInvalid for a plan that cannot be; those of starting
// processes. What goes wrong with the memory is in the report.
func Run(ctx context.Context, p Plan) (_ *Report, err error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	if p.Progress == nil {
		p.Progress = func(string) {}
	}
	run := "durability-" + episodic.NewID().String()
	t := &trial{
		Plan: p, run: run, rand: rand.New(rand.NewPCG(p.Seed, 0)), items: make(map[episodic.ID]*item), direct: p.Target, through: p.Target,
		report: Report{Target: p.Target, Scope: episodic.Scope{Agent: run}, Processes: p.Processes, Seed: p.Seed, Kills: make(map[string]int), Errors: make(map[string]int), Details: make(map[string]string)},
	}
	if p.SQLD != "" {
		p.Progress("starting " + p.SQLD)
		if t.server, err = startServer(ctx, p.SQLD, p.Dir); t.server != nil {
			defer t.server.kill()
		}
		if err != nil {
			return nil, err
		}
		t.direct = "http://" + t.server.addr
		t.through, t.report.Target = t.direct, p.SQLD
	}
	if p.CutEvery > 0 {
		u, err := url.Parse(t.direct)
		if err != nil {
			return nil, err
		}
		if t.cutter, err = newCutter(u.Host); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, t.cutter.close()) }()
		u.Host = t.cutter.addr()
		t.through = u.String()
	}
	if err := t.write(ctx); err != nil {
		return nil, err
	}
	p.Progress(fmt.Sprintf("verifying %d receipts in a fresh process", t.report.Receipts))
	if err := t.verify(ctx); err != nil {
		return nil, err
	}
	p.Progress("examining the memory as episodic doctor does")
	if t.report.Doctor, err = episodic.Examine(ctx, t.direct, p.Options); err != nil {
		return nil, err
	}
	return &t.report, nil
}

// trial is a plan that is carried out.
type trial struct {
	Plan
	run             string
	rand            *rand.Rand
	direct, through string // targets of the verifier, and of the others
	server          *server
	cutter          *cutter

	mu     sync.Mutex
	items  map[episodic.ID]*item
	order  []*item
	killed []time.Time // kills after which no write has been acknowledged
	report Report
}

// child is a process that runs.
type child struct {
	role   Role
	cmd    *exec.Cmd
	in     io.WriteCloser
	errs   strings.Builder
	ended  chan struct{} // closed when all that it has said was heard
	killed bool
	err    error
}

// start starts a process.
func (t *trial) start(target string, o order) (*child, error) {
	o.Run, o.Seed = t.run, t.rand.Uint64()
	c := &child{role: o.Role, cmd: t.Start(target), ended: make(chan struct{})}
	c.cmd.Stderr = &c.errs
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process, which stop waits for
		defer close(c.ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<30)
		for lines.Scan() {
			var s said
			if json.Unmarshal(lines.Bytes(), &s) == nil { // a killed process leaves half a line
				t.hear(&s)
			}
		}
		_, _ = io.Copy(io.Discard, out)
		c.err = c.cmd.Wait()
	}()
	_, _ = c.in.Write(append(text, '\n')) // a process that is gone already says why
	return c, nil
}

// kill ends a process at once.
func (c *child) kill() {
	c.killed = true
	_ = c.cmd.Process.Kill() // fails if it is gone
	<-c.ended
}

// stopped is how long a process that is told to end may take.
const stopped = 30 * time.Second

// stop tells a process to end, and returns why it did not end well.
func (c *child) stop() error {
	_ = c.in.Close() // fails if it is gone
	select {
	case <-c.ended:
	case <-time.After(stopped):
		c.kill()
		return fmt.Errorf("a %s did not end within %v", c.role, stopped)
	}
	return c.failed()
}

// failed is why a process that has ended did so, unless it was killed.
func (c *child) failed() error {
	if c.err == nil || c.killed {
		return nil
	}
	return fmt.Errorf("a %s: %w: %s", c.role, c.err, strings.TrimSpace(c.errs.String()))
}

// write has processes write and read, and kills them, for the plan's time.
func (t *trial) write(ctx context.Context) error {
	readers := t.Processes / 4
	start := func(i int) (*child, error) {
		o := order{Role: Writer}
		if i < readers {
			o.Role = Reader
		} else if t.FullDisk {
			o.Full, o.Files = fullEvery, []string{t.direct, t.direct + "-wal"}
		}
		return t.start(t.through, o)
	}
	children := make([]*child, t.Processes)
	defer func() {
		for _, c := range children {
			if c != nil {
				c.kill()
			}
		}
	}()
	for i := range children {
		var err error
		if children[i], err = start(i); err != nil {
			return err
		}
	}
	t.Progress(fmt.Sprintf("%d processes write and read for %v", t.Processes, t.Duration))
	began := time.Now()
	end := time.After(t.Duration)
	kill, cut := t.after(t.KillEvery), t.after(t.CutEvery)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for going := true; going; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			going = false
		case <-look.C: // none may end by itself
			if t.enough() {
				going = false
			}
			for _, c := range children {
				select {
				case <-c.ended:
					if err := c.failed(); err != nil {
						return err
					}
					return fmt.Errorf("a %s ended by itself", c.role)
				default:
				}
			}
		case <-cut:
			n := t.cutter.cut()
			t.mu.Lock()
			t.report.Cuts += n
			t.mu.Unlock()
			cut = t.after(t.CutEvery)
		case <-kill:
			victims := len(children)
			if t.server != nil {
				victims++
			}
			if i := t.rand.IntN(victims); i < len(children) {
				t.note(string(children[i].role))
				children[i].kill()
				var err error
				if children[i], err = start(i); err != nil {
					return err
				}
			} else {
				t.note("server")
				t.server.kill()
				if err := t.server.start(ctx); err != nil {
					return err
				}
			}
			kill = t.after(t.KillEvery)
		}
	}
	t.report.Seconds = time.Since(began).Seconds()
	t.Progress("the processes end")
	var errs []error
	for _, c := range children {
		_ = c.in.Close() // all at once; stop waits for each
	}
	for _, c := range children {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

func (t *trial) enough() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.Enough != nil && t.Enough(&t.report)
}

// after returns a channel for a moment that comes so often, on average; none if that is 0.
func (t *trial) after(every time.Duration) <-chan time.Time {
	if every == 0 {
		return nil
	}
	return time.After(every/2 + time.Duration(t.rand.Int64N(int64(every))))
}

// note notes a kill that comes now.
func (t *trial) note(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Kills[what]++
	t.killed = append(t.killed, time.Now())
}

// hear notes what a process says.
func (t *trial) hear(s *said) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.report
	r.Reads += s.Read
	switch {
	case s.Forced:
		r.FullDisks++
	case s.Error != "":
		r.Errors[s.Error]++
		if r.Details[s.Error] == "" {
			r.Details[s.Error] = s.Detail
		}
	}
	if s.Result != nil {
		r.Verified, r.Lost, r.Doubled = s.Result.Verified, len(s.Result.Lost), len(s.Result.Doubled)
		for _, e := range s.Result.Lost[:min(5, r.Lost)] {
			r.Examples = append(r.Examples, "lost: "+e)
		}
		for _, e := range s.Result.Doubled[:min(5, r.Doubled)] {
			r.Examples = append(r.Examples, "doubled: "+e)
		}
	}
	if s.Write == "" {
		return
	}
	it := t.items[s.Item]
	if it == nil {
		it = &item{ID: s.Item}
		t.items[s.Item], t.order = it, append(t.order, it)
	}
	it.Pending, it.Deletes = !s.Done, it.Deletes || s.Deletes
	if !s.Done {
		return
	}
	r.Acknowledged++
	r.Receipts += len(s.Receipts)
	it.Receipts = append(it.Receipts, s.Receipts...)
	r.LongestWait = max(r.LongestWait, Millis(s.Took))
	waiting := t.killed[:0]
	for _, at := range t.killed {
		if s.Began.Before(at) {
			waiting = append(waiting, at)
			continue
		}
		r.LongestRecovery = max(r.LongestRecovery, Millis(s.Began.Add(s.Took).Sub(at)))
	}
	t.killed = waiting
}

// verify has a fresh process verify all receipts.
func (t *trial) verify(ctx context.Context) error {
	c, err := t.start(t.direct, order{Role: Verifier, Items: t.order})
	if err != nil {
		return err
	}
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.kill()
		return ctx.Err()
	}
	_ = c.in.Close() // it has ended
	if err := c.failed(); err != nil {
		return err
	}
	if t.report.Verified != t.report.Receipts {
		return fmt.Errorf("of %d receipts only %d were verified", t.report.Receipts, t.report.Verified)
	}
	return nil
}
