package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
)

// gate is a fault that holds a request until it is opened, and then passes it.
type gate struct {
	arrived chan struct{} // closed when the request is there
	open    chan struct{} // to be closed
	gone    chan struct{} // closed if the client has gone before
}

func newGate() *gate {
	return &gate{make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

func (g *gate) fault(x *hranatest.Exchange) {
	close(g.arrived)
	left := make(chan struct{})
	go func() {
		x.Hold()
		close(left)
	}()
	select {
	case <-g.open:
		hranatest.Pass(x)
	case <-left:
		close(g.gone)
	}
}

// openHeld opens an engine with one connection, which a read holds until the
// gate is opened. then is for the request after it.
func openHeld(t *testing.T, then ...hranatest.Fault) (*road, *gate) {
	t.Helper()
	r, held := openRoad(t, pool.Options{MaxConns: 1}), newGate()
	must(t, r.Engine, stmt("CREATE TABLE t(k)"))
	r.proxy.Next(append([]hranatest.Fault{held.fault}, then...)...)
	var holder sync.WaitGroup
	holder.Go(func() {
		if _, err := r.Query(t.Context(), stmt("SELECT 1")); err != nil {
			t.Errorf("held read: %v", err)
		}
	})
	t.Cleanup(holder.Wait)
	<-held.arrived
	return r, held
}

// reply is what a call gave.
type reply struct {
	results []engine.Result
	err     error
}

// together starts reads, and returns when they wait for the one connection.
// Their contexts are ctxs in turn.
func (r *road) together(t *testing.T, ctxs []context.Context, reads ...[]engine.Stmt) []chan reply {
	t.Helper()
	replies := make([]chan reply, len(reads))
	for i, stmts := range reads {
		replies[i] = make(chan reply, 1)
		go func() {
			results, err := r.Query(ctxs[i%len(ctxs)], stmts...)
			replies[i] <- reply{results, err}
		}()
	}
	eventually(t, "waiting together", func() bool {
		r.reads.mu.Lock()
		defer r.reads.mu.Unlock()
		return len(r.reads.queue) == len(reads)
	})
	return replies
}

func TestWaitingReadsShareARequest(t *testing.T) {
	const n = 50
	for _, tt := range []struct {
		name     string
		bad      []engine.Stmt // takes the place of one of the reads
		kind     engine.Kind
		stmt     int
		text     string
		requests int // at most
	}{
		{"all good", nil, 0, 0, "", 1},
		{"a missing table", []engine.Stmt{stmt("SELECT 1"), stmt("SELECT * FROM nowhere")}, engine.KindNoTable, 1, "no such table: nowhere", 1},
		{"a failure at run time", []engine.Stmt{stmt("SELECT 1"), stmt("SELECT 2"), stmt("SELECT json('{')")}, engine.KindOther, 2, "malformed JSON", 1},
		// Two halves, six times, and one request more to find the statement. Each
		// refused one may cost another, which closes its stream.
		{"unparsable", []engine.Stmt{stmt("SELECT 1"), stmt("SELECT FROM WHERE")}, engine.KindOther, 1, "syntax error", 22},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, held := openHeld(t)
			reads := make([][]engine.Stmt, n)
			for i := range reads {
				reads[i] = []engine.Stmt{stmt("SELECT ?", int64(i))}
			}
			bad := -1
			if tt.bad != nil {
				bad = n / 3
				reads[bad] = tt.bad
			}
			replies := r.together(t, []context.Context{t.Context()}, reads...)
			before := r.proxy.Requests("")
			close(held.open)
			for i, c := range replies {
				if got := <-c; i == bad {
					wantError(t, got.err, tt.kind, tt.stmt, tt.text)
				} else if got.err != nil || got.results[0].Rows[0][0] != int64(i) {
					t.Errorf("read %d: %v, %v", i, got.results, got.err)
				}
			}
			if got := r.proxy.Requests("") - before; got > tt.requests {
				t.Errorf("%d requests for %d reads, want %d", got, n, tt.requests)
			}
		})
	}
}

func TestReadsTooBigForOneAnswer(t *testing.T) {
	const n, size = 5, 4_000_000 // bytes; a server's answer ends at 10 MB
	r, held := openHeld(t)
	big := []engine.Stmt{stmt("SELECT zeroblob(?)", int64(size))}
	replies := r.together(t, []context.Context{t.Context()}, slices.Repeat([][]engine.Stmt{big}, n)...)
	close(held.open)
	for i, c := range replies {
		if got := <-c; got.err != nil || len(got.results[0].Rows[0][0].([]byte)) != size {
			t.Errorf("read %d: error %v", i, got.err)
		}
	}
}

func TestCancelledReadsThatTravelTogether(t *testing.T) {
	const n = 5
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all %v", all), func(t *testing.T) {
			batch := newGate()
			r, held := openHeld(t, batch.fault)
			ctxs, cancels := make([]context.Context, n), make([]context.CancelFunc, n)
			for i := range ctxs {
				ctxs[i], cancels[i] = context.WithCancel(t.Context())
				defer cancels[i]()
			}
			replies := r.together(t, ctxs, slices.Repeat([][]engine.Stmt{{stmt("SELECT 1")}}, n)...)
			close(held.open)
			<-batch.arrived
			for i := range ctxs {
				if i > 0 && !all {
					break
				}
				cancels[i]()
				if got := <-replies[i]; !errors.Is(got.err, context.Canceled) { // while the batch is held
					t.Errorf("cancelled read: %v", got.err)
				}
			}
			if all {
				eventually(t, "given up", func() bool {
					select {
					case <-batch.gone:
						return true
					default:
						return false
					}
				})
				count(t, r.Engine, "SELECT 1")
				return
			}
			close(batch.open)
			for i, c := range replies[1:] {
				if got := <-c; got.err != nil || len(got.results) != 1 {
					t.Errorf("read %d: %v, %v", i+1, got.results, got.err)
				}
			}
		})
	}
}
