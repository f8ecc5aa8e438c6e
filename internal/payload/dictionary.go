package payload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	// lookEvery is how often a Store that writes looks which dictionary to write
	// with.
	lookEvery = 3 * time.Minute
	// useFor is how long after a look a dictionary may be written with: it may have
	// been retired since.
	useFor = 24 * time.Hour
	// firstWait is how long payloads wait for the first look into a local file.
	firstWait = 100 * time.Millisecond
	// firstLook is the number of payloads written at which a Store looks again
	// whether it is time to train, as at twice as many, and so on.
	firstLook = 20
	// minImprovement is how much smaller a new dictionary must make what it was not made
	// from, to be used.
	minImprovement = 0.97
)

// dictionaries finds, trains and adopts dictionaries for a Store that writes.
// What it does in the background ends with close.
type dictionaries struct {
	engine engine.Engine
	codec  *Codec
	local  bool // asking the engine is as quick as writing: no network is between

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	// busy holds one while somebody looks or trains.
	busy chan struct{}

	next    atomic.Int64  // Unix time in ns from which on to look again
	encoded atomic.Uint64 // payloads so far
	first   chan struct{} // closed when the first look is over, or was waited for

	mu                      sync.Mutex // guards the fields below
	closed, looking, looked bool
	trainings, failures     uint64
	lastFailure             string
}

func newDictionaries(e engine.Engine, p *Codec, local bool) *dictionaries {
	d := &dictionaries{engine: e, codec: p, local: local, busy: make(chan struct{}, 1), first: make(chan struct{})}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// close ends what is under way in the background. Later writes begin nothing new.
func (d *dictionaries) close() {
	d.mu.Lock()
	d.closed = true
	d.releaseWaiters()
	d.mu.Unlock()
	d.cancel()
	d.wait.Wait()
}

// releaseWaiters lets those go on who wait for the first look. d.mu is held.
func (d *dictionaries) releaseWaiters() {
	if !d.looked {
		d.looked = true
		close(d.first)
	}
}

// beforeEncode is called for every payload before it is encoded. The look is under way
// beside the call, so that on a server it costs no round trip; the first one of a
// local file is waited for, a little, so that short-lived programs have the best
// dictionary too.
func (d *dictionaries) beforeEncode(k Kind) {
	if !d.codec.options.trains(k) {
		return
	}
	n := d.encoded.Add(1)
	now := time.Now()
	if times := n / firstLook; now.UnixNano() >= d.next.Load() || n%firstLook == 0 && times&(times-1) == 0 {
		d.next.Store(now.Add(lookEvery).UnixNano())
		d.inBackground()
	}
	if !d.local {
		return
	}
	select {
	case <-d.first:
		return
	default:
	}
	select {
	case <-d.first:
	case <-time.After(firstWait):
		d.mu.Lock()
		d.releaseWaiters() // later ones do not wait for it again
		d.mu.Unlock()
	}
}

// inBackground looks, and trains what is due, unless somebody does already.
func (d *dictionaries) inBackground() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.looking {
		return
	}
	d.looking = true
	d.wait.Go(func() {
		_, err := d.trainDue(d.ctx, false)
		if err != nil && d.ctx.Err() == nil {
			d.failed(err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.looking = false
		d.releaseWaiters()
	})
}

// failed counts what nobody can be told.
func (d *dictionaries) failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failures++
	d.lastFailure = err.Error()
}

// refresh activates the newest dictionaries of the database. It returns the kinds
// whose training is due, or possible if it was asked for.
func (d *dictionaries) refresh(ctx context.Context, asked bool) (due [kinds]int64, err error) {
	seen := time.Now().Round(0) // without the monotonic clock, which stands still while a machine sleeps
	r, err := d.engine.Query(ctx, engine.Stmt{SQL: sqlDictionaryUse})
	if err != nil {
		return due, err
	}
	for _, row := range r[0].Rows {
		use, err := dictionaryUseFrom(row)
		if err != nil {
			return due, err
		}
		due[use.kind] = use.due(asked)
		err = d.adopt(ctx, use, seen.Add(useFor))
		switch {
		case errors.Is(err, ErrCorrupt):
			d.failed(err) // what is in use stays in use, until there is another one
		case err != nil:
			return due, err
		}
	}
	return due, nil
}

// adopt makes the Codec encode with the dictionary, or with the built-in one if
// there is none.
func (d *dictionaries) adopt(ctx context.Context, a dictionaryUse, until time.Time) error {
	c, k := d.codec, a.kind
	use := c.kinds[k].active.Load()
	switch {
	case !c.options.trains(k):
		return nil
	case a.id == 0:
		if !use.until.IsZero() {
			c.kinds[k].active.Store(c.builtin)
		}
		return nil
	case a.id == use.dictionary:
		again := *use
		again.until = until
		c.kinds[k].active.Store(&again)
		return nil
	}
	dict, err := readDictionary(ctx, d.engine, a.id)
	if err != nil {
		return err
	}
	return d.switchTo(k, dict, a.ratio, until)
}

// inUse returns the dictionary that the Codec encodes with; nil for none.
func (d *dictionaries) inUse(ctx context.Context, k Kind) (*codec.Dictionary, error) {
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
func (d *dictionaries) switchTo(k Kind, dict *codec.Dictionary, ratio float64, until time.Time) error {
	use := d.codec.newEncoder(dict, ratio, until)
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

// Training is what came of an attempt to train a dictionary.
type Training struct {
	Kind string // of payloads: episode or pattern
	// Samples is how many payloads were looked at.
	Samples int
	// Before and After are bytes stored as part of the bytes of payloads that were
	// kept from training, with the dictionary used so far and with the new one.
	Before float64
	After  float64
	// Dictionary is the id of the new one, 0 if it is not used; Reason is why not.
	Dictionary uint32
	Reason     string
}

// Train trains the dictionaries that are due: at 20, 60, 200, 600 and 2,000 items
// of a kind. It returns the attempts. Errors: the engine's; the context's.
func (c *Codec) Train(ctx context.Context) ([]Training, error) {
	return c.dictionaries.trainDue(ctx, false)
}

// trainDue trains what it is time to train; what could be trained at all if asked
// is set.
func (d *dictionaries) trainDue(ctx context.Context, asked bool) (done []Training, err error) {
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-d.busy }()
	due, err := d.refresh(ctx, asked)
	d.mu.Lock()
	d.releaseWaiters()
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for k := range Kind(kinds) {
		if due[k] == 0 || !d.codec.options.trains(k) {
			continue
		}
		t, err := d.train(ctx, k, due[k])
		if err != nil {
			return done, fmt.Errorf("train a dictionary for %ss: %w", k, err)
		}
		d.mu.Lock()
		d.trainings++
		d.mu.Unlock()
		done = append(done, t)
	}
	return done, nil
}

// train trains a dictionary, and stores and adopts it if it is good enough. The
// attempt is stored too, so that nobody repeats it.
func (d *dictionaries) train(ctx context.Context, k Kind, items int64) (Training, error) {
	t := Training{Kind: k.String()}
	for range 3 {
		samples, id, err := d.sample(ctx, k)
		if err != nil {
			return t, err
		}
		t.Samples = len(samples)
		dict, err := d.candidate(ctx, k, samples, id, &t)
		if err != nil {
			return t, err
		}
		row := &dictionaryRow{kind: k, items: items, samples: len(samples), ratio: t.After, dictionary: dict}
		insert := row.insert(id, time.Now())
		_, err = d.engine.Repeatable(ctx, insert)
		if engine.KindOf(err) == engine.KindUnique {
			continue // another process took the id
		}
		if err != nil {
			return t, err
		}
		if dict == nil {
			return t, nil
		}
		if _, err = d.refresh(ctx, false); err != nil {
			return t, err
		}
		if used := d.codec.kinds[k].active.Load().dictionary; used == id {
			t.Dictionary = id
		} else {
			t.Reason = fmt.Sprintf("meanwhile another process has trained, and dictionary %d is used", used)
		}
		return t, nil
	}
	return t, errors.New("every id that was tried is taken")
}

// candidate trains a dictionary, and says in t what it is worth. It returns nil
// and says why if it is not worth to be used.
func (d *dictionaries) candidate(ctx context.Context, k Kind, samples []codec.Sample, id uint32, t *Training) (*codec.Dictionary, error) {
	train, test := codec.HoldOut(samples, 5)
	if len(test) == 0 {
		t.Reason = "there are too few different tasks"
		return nil, nil
	}
	ratio := func(dict *codec.Dictionary) (float64, error) {
		return codec.Ratio(ctx, d.codec.options.encoder(dict), test)
	}
	now, err := d.inUse(ctx, k)
	if err != nil {
		return nil, err
	}
	if t.Before, err = ratio(now); err != nil {
		return nil, err
	}
	dict, err := codec.Train(ctx, train, codec.TrainOptions{ID: id, Size: dictionarySizes[k]})
	if errors.Is(err, codec.ErrTooLittle) {
		t.Reason = err.Error()
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if t.After, err = ratio(dict); err != nil {
		return nil, err
	}
	if t.After > minImprovement*t.Before {
		t.Reason = "it is hardly better than the one in use"
		return nil, nil
	}
	return dict, nil
}
