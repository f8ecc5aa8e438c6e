package payload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	// refreshEvery is how often a Codec that is written with reads which dictionary
	// is active.
	refreshEvery = 3 * time.Minute
	// readyWait bounds how long Ready waits for the first refresh.
	readyWait = 100 * time.Millisecond
	// minImprovement is how much smaller a new dictionary must make payloads that it
	// was not trained with, to be used.
	minImprovement = 0.97
)

// errDictionaryGone says that a dictionary is not in the database.
var errDictionaryGone = errors.New("not in the database")

// IsDictionaryGone reports whether a read or a write failed because a payload
// names a dictionary that was deleted. A reader then reads the row again, which was
// recompressed meanwhile. A writer calls Reset, and encodes again.
func IsDictionaryGone(err error) bool {
	return errors.Is(err, errDictionaryGone) || engine.KindOf(err) == engine.KindConstraint && bytes.Contains([]byte(err.Error()), []byte("dictionary gone"))
}

// dictionaries finds, trains and activates the dictionaries of a Codec.
type dictionaries struct {
	engine engine.Engine
	codec  *Codec
	local  bool
	log    *slog.Logger

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	wait   sync.WaitGroup
	busy   chan struct{} // holds one while somebody refreshes or trains
	first  chan struct{} // closed when the first refresh is over, or was waited for

	mu                         sync.Mutex // guards the fields below
	closed, running, firstOver bool
	next                       time.Time // when to refresh again
	trainings, failures        uint64
	lastFailure                string
}

func newDictionaries(e engine.Engine, c *Codec, local bool) *dictionaries {
	d := &dictionaries{engine: e, codec: c, local: local, log: c.options.Logger, busy: make(chan struct{}, 1), first: make(chan struct{})}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

func (d *dictionaries) close() {
	d.mu.Lock()
	d.closed = true
	d.releaseWaiters()
	d.mu.Unlock()
	d.cancel()
	d.wait.Wait()
}

// releaseWaiters lets those go on who wait for the first refresh. d.mu is held.
func (d *dictionaries) releaseWaiters() {
	if !d.firstOver {
		d.firstOver = true
		close(d.first)
	}
}

// Ready is called before a write encodes. On a local file the first calls wait up
// to 100 ms for the first refresh, so that a program that ends soon encodes with
// the active dictionary; otherwise Ready does nothing.
func (c *Codec) Ready(ctx context.Context) {
	d := c.dictionaries
	if !d.local || !c.options.trains(Episodes) && !c.options.trains(Patterns) {
		return
	}
	select {
	case <-d.first:
		return
	default:
	}
	c.Maintain()
	timer := time.NewTimer(readyWait)
	defer timer.Stop()
	select {
	case <-d.first:
	case <-ctx.Done():
	case <-timer.C:
		d.mu.Lock()
		d.releaseWaiters() // later ones do not wait for it again
		d.mu.Unlock()
	}
}

// Maintain is called after a write. It starts one refresh in the background if the
// last one was started three minutes ago or more, and there trains what is due.
func (c *Codec) Maintain() {
	d := c.dictionaries
	if !c.options.trains(Episodes) && !c.options.trains(Patterns) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.closed || d.running || now.Before(d.next) {
		return
	}
	d.next, d.running = now.Add(refreshEvery), true
	d.wait.Go(func() {
		_, err := d.train(d.ctx, inBackground)
		d.mu.Lock()
		defer d.mu.Unlock()
		if err != nil && d.ctx.Err() == nil {
			d.failures++
			d.lastFailure = err.Error()
			d.log.Warn("dictionary training failed", "error", loggable(err))
		}
		d.running = false
		d.releaseWaiters()
	})
}

// loggable describes err without what a server said, which may repeat what it was
// sent.
func loggable(err error) string {
	if _, ok := errors.AsType[*engine.Error](err); !ok {
		return err.Error()
	}
	switch engine.KindOf(err) {
	case engine.KindBusy, engine.KindUnavailable:
		return "database unavailable"
	}
	return "database error"
}

// Reset makes the Codec encode with the built-in dictionary until the next refresh,
// which the next Maintain starts.
func (c *Codec) Reset() {
	for k := range c.kinds {
		if c.kinds[k].active.Load() != nil {
			c.kinds[k].active.Store(c.builtin)
		}
	}
	d := c.dictionaries
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = time.Time{}
}

// refresh activates the newest open dictionaries of the database, and returns the
// state of each kind.
func (d *dictionaries) refresh(ctx context.Context) (states [kinds]dictionaryState, err error) {
	r, err := d.engine.Query(ctx, engine.Stmt{SQL: sqlDictionaryState})
	if err != nil {
		return states, err
	}
	for _, row := range r[0].Rows {
		k, s, err := stateFrom(row)
		if err != nil {
			return states, err
		}
		states[k] = s
		err = d.activate(ctx, k, s)
		switch {
		case errors.Is(err, ErrCorrupt): // the active one stays active
			d.mu.Lock()
			d.failures++
			d.lastFailure = err.Error()
			d.mu.Unlock()
			d.log.Warn("dictionary unusable", "id", s.id, "error", loggable(err))
		case err != nil:
			return states, err
		}
	}
	return states, nil
}

// activate makes the Codec encode with the dictionary of the state, or with the
// built-in one if there is none.
func (d *dictionaries) activate(ctx context.Context, k Kind, s dictionaryState) error {
	c := d.codec
	use := c.kinds[k].active.Load()
	switch {
	case !c.options.trains(k) || s.id == use.dictionary:
		return nil
	case s.id == 0:
		c.kinds[k].active.Store(c.builtin)
		return nil
	}
	dict, err := d.fetch(ctx, s)
	if err != nil {
		return err
	}
	if err := d.switchTo(k, dict, s.ratio); err != nil {
		return err
	}
	d.log.Info("dictionary adopted", "kind", k.String(), "id", s.id, "ratio", s.ratio)
	return nil
}

// fetch reads the dictionary of a state, from the copy of the database if that has it.
func (d *dictionaries) fetch(ctx context.Context, s dictionaryState) (*codec.Dictionary, error) {
	if d.codec.options.Copy != nil {
		dict, err := readDictionary(ctx, d.codec.options.Copy, s.id)
		if err == nil {
			if sum := sha256.Sum256(dict.Bytes()); string(sum[:]) == string(s.sum) {
				return dict, nil
			}
		} else if ctx.Err() != nil {
			return nil, err
		}
	}
	return readDictionary(ctx, d.engine, s.id)
}

// active returns the dictionary that the Codec encodes with; nil for none.
func (d *dictionaries) active(ctx context.Context, k Kind) (*codec.Dictionary, error) {
	switch id := d.codec.kinds[k].active.Load().dictionary; id {
	case 0:
		return nil, nil
	case codec.Builtin().ID():
		return codec.Builtin(), nil
	default:
		return readDictionary(ctx, d.engine, id)
	}
}

// probeText is long and dull enough to be compressed by any encoder.
var probeText = bytes.Repeat([]byte(`{"description":"a frame that must be readable","metadata":{"a":"b"}}`), 30)

// switchTo makes the Codec encode with a dictionary that has been read from the
// database, after it has seen that what is written with it can be read.
func (d *dictionaries) switchTo(k Kind, dict *codec.Dictionary, ratio float64) error {
	use := d.codec.newEncoder(dict, ratio)
	reader := codec.NewDecoder(maxPlain)
	if err := reader.Learn(dict); err != nil {
		return err
	}
	if text, err := reader.Decode(nil, use.Encode(nil, probeText)); err != nil || !bytes.Equal(text, probeText) {
		return fmt.Errorf("dictionary %d does not read what it wrote: %w", dict.ID(), err)
	}
	if err := d.codec.decoder.Learn(dict); err != nil {
		return err
	}
	d.codec.kinds[k].active.Store(use)
	return nil
}
