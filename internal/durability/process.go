package durability

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/episodic-memory/episodic"
)

// Role is what a process does.
type Role string

// The roles.
const (
	Writer   Role = "writer"
	Reader   Role = "reader"
	Verifier Role = "verifier"
)

// order is what a process is told on its standard input, in a line of JSON. The process ends
// when its input does.
type order struct {
	Role Role   `json:"role"`
	Run  string `json:"run"` // the agent of the scope of all that is written
	Seed uint64 `json:"seed"`
	// Full makes the disk full for one write in so many; 0: never. Files are those that then have no
	// room.
	Full  int      `json:"full,omitempty"`
	Files []string `json:"files,omitempty"`

	Items []*item `json:"items,omitempty"` // that the verifier looks for
}

// said is a line of JSON on the standard output of a process.
type said struct {
	// Item and Write say that a write begins, or, with Done, that it has ended.
	Item     episodic.ID        `json:"item,omitzero"`
	Write    string             `json:"write,omitempty"`
	Done     bool               `json:"done,omitempty"`
	Deletes  bool               `json:"deletes,omitempty"`
	Began    time.Time          `json:"began,omitzero"` // the first attempt
	Took     time.Duration      `json:"took,omitempty"` // with all attempts
	Receipts []episodic.Receipt `json:"receipts,omitempty"`

	Error  string `json:"error,omitempty"` // the kind of an attempt's error
	Detail string `json:"detail,omitempty"`
	Forced bool   `json:"forced,omitempty"` // the disk had been made full

	Read   int     `json:"read,omitempty"` // episodes
	Result *result `json:"result,omitempty"`
}

// Process does what its standard input orders, as a process that Plan.Start has started, and ends
// with that input. open opens the memory within a scope.
func Process(ctx context.Context, in io.Reader, out io.Writer, open func(context.Context, episodic.Scope) (Memory, error)) error {
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p := &process{order: o, say: json.NewEncoder(out), rand: rand.New(rand.NewPCG(o.Seed, 1)), ended: make(chan struct{})}
	go func() { // ends with the input, or with the process
		_, _ = io.Copy(io.Discard, lines)
		close(p.ended)
	}()
	if p.memory, err = p.open(ctx, open); err != nil {
		return err
	}
	switch o.Role {
	case Writer:
		return p.write(ctx)
	case Reader:
		return p.read(ctx)
	case Verifier:
		r, err := verify(ctx, p.memory, o.Items)
		return errors.Join(err, p.say.Encode(said{Result: r}))
	}
	return fmt.Errorf("the role %q is none", o.Role)
}

// process is one that was started.
type process struct {
	order
	memory Memory
	say    *json.Encoder
	rand   *rand.Rand
	ended  chan struct{} // closed when the process is to end
	n      int           // writes so far
}

// ends reports whether the process is to end, after a moment.
func (p *process) ends(ctx context.Context, moment time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-ctx.Done():
		return true
	case <-time.After(moment):
		return false
	}
}

// open opens the memory, as often as it takes: its server may have been killed.
func (p *process) open(ctx context.Context, open func(context.Context, episodic.Scope) (Memory, error)) (Memory, error) {
	for {
		m, err := open(ctx, episodic.Scope{Agent: p.Run})
		if err == nil || !episodic.Retryable(err) && !errors.Is(err, episodic.ErrUnknownOutcome) {
			return m, err
		}
		if err := p.say.Encode(said{Error: kindOf(err), Detail: err.Error()}); err != nil {
			return nil, err
		}
		if p.ends(ctx, pause) {
			return nil, err
		}
	}
}

// pause is how long a process waits before it tries again.
const pause = 20 * time.Millisecond

// read reads what there is, the newest first.
func (p *process) read(ctx context.Context) error {
	for !p.ends(ctx, time.Millisecond) {
		read := 0
		var err error
		for e, listErr := range p.memory.Episodes(ctx, nil) {
			if err = listErr; err != nil {
				break
			}
			if _, err = p.memory.Episode(ctx, e.ID); errors.Is(err, episodic.ErrNotFound) {
				err = nil // it was deleted meanwhile
			}
			if err != nil {
				break
			}
			if read++; read == 20 {
				break
			}
		}
		s := said{Read: read}
		if err != nil {
			s.Error, s.Detail = kindOf(err), err.Error()
		}
		if err := p.say.Encode(s); err != nil {
			return err
		}
	}
	return nil
}
