package payload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

// Training is what came of an attempt to train a dictionary.
type Training struct {
	Kind    string // of payloads: episode or pattern
	Samples int    // payloads looked at
	// Before and After are bytes stored as part of the bytes of payloads that were
	// kept from training, with the dictionary used so far and with the new one.
	Before, After float64
	Dictionary    uint32 // the new one; 0: it is not used
	Reason        string // why it is not used
}

// occasion says why dictionaries are trained.
type occasion int

const (
	inBackground occasion = iota
	atTheEnd              // of an import, or of a program
	asked                 // by Compact
	erasing               // by CompactSecurely
)

// minItems is the least number of items to train with.
const minItems = 20

// milestones are the numbers of items at which a dictionary is trained in the
// background. One of 20 episodes of tau-bench makes others a tenth larger than one
// of 60, and one of 2,000 no smaller than one of 600.
var milestones = [...]int64{600, 60}

// due returns what is recorded as the number of items if a dictionary is trained
// now; 0 if it is not time.
func (s *dictionaryState) due(o occasion) int64 {
	for _, m := range milestones {
		if s.items >= m && s.trained < m {
			return m
		}
	}
	if s.items >= minItems && (o == asked || o == erasing || o == atTheEnd && s.trained < minItems) {
		return max(s.trained+1, minItems)
	}
	return 0
}

// Train trains the dictionaries that are due: the first at 20 items of a kind, the
// next at 60 and 600. It returns the attempts. Errors: the engine's; the context's.
func (c *Codec) Train(ctx context.Context) ([]Training, error) {
	return c.dictionaries.train(ctx, atTheEnd)
}

// trainer holds one while somebody in this process trains, which takes a core for a second or
// more: Stores of one database come to a milestone together, and one dictionary is enough.
var trainer = make(chan struct{}, 1)

func (d *dictionaries) train(ctx context.Context, o occasion) (done []Training, err error) {
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-d.busy }()
	states, err := d.refresh(ctx)
	d.mu.Lock()
	d.releaseWaiters()
	d.mu.Unlock()
	if err != nil || !d.anyDue(states, o) {
		return nil, err
	}
	select {
	case trainer <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-trainer }()
	if states, err = d.refresh(ctx); err != nil { // somebody else may have trained meanwhile
		return nil, err
	}
	for k := range Kind(kinds) {
		if !d.isDue(k, states, o) {
			continue
		}
		t, err := d.trainKind(ctx, k, states[k].due(o), states[k].tainted || o == erasing)
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

// isDue reports whether this Codec is to train a dictionary for a kind now.
func (d *dictionaries) isDue(k Kind, states [kinds]dictionaryState, o occasion) bool {
	return states[k].due(o) > 0 && d.codec.options.trains(k) && !d.codec.options.DisableTraining
}

func (d *dictionaries) anyDue(states [kinds]dictionaryState, o occasion) bool {
	for k := range Kind(kinds) {
		if d.isDue(k, states, o) {
			return true
		}
	}
	return false
}

// trainKind trains a dictionary, and stores and activates it if it is good enough.
// The attempt is stored too, so that nobody repeats it.
func (d *dictionaries) trainKind(ctx context.Context, k Kind, items int64, tainted bool) (Training, error) {
	t := Training{Kind: k.String()}
	for range 3 {
		samples, id, removals, err := d.sample(ctx, k)
		if err != nil {
			return t, err
		}
		t.Samples = len(samples)
		dict, err := d.candidate(ctx, k, samples, id, tainted, &t)
		if err != nil {
			return t, err
		}
		row := &dictionaryRow{id: id, kind: k, items: items, samples: len(samples), ratio: t.After, removals: removals, dictionary: dict}
		_, err = d.engine.Repeatable(ctx, row.insert(time.Now())...)
		if engine.KindOf(err) == engine.KindUnique {
			continue // another process took the id
		}
		if err != nil || dict == nil {
			return t, err
		}
		states, err := d.refresh(ctx)
		if err != nil {
			return t, err
		}
		if used := states[k].id; used == id {
			t.Dictionary = id
		} else {
			t.Reason = fmt.Sprintf("meanwhile another process has trained, and dictionary %d is used", used)
		}
		return t, nil
	}
	return t, errors.New("every id that was tried is taken")
}

// candidate trains a dictionary, and says in t what it is worth. It returns nil
// and says why if it is not worth to be used. The active one does not count if it
// is tainted: it has to go, and what is left is the built-in one.
func (d *dictionaries) candidate(ctx context.Context, k Kind, samples []codec.Sample, id uint32, tainted bool, t *Training) (*codec.Dictionary, error) {
	train, test := codec.HoldOut(samples, 5)
	if len(test) == 0 {
		t.Reason = "there are too few different tasks"
		return nil, nil
	}
	ratio := func(dict *codec.Dictionary) (float64, error) {
		return codec.Ratio(ctx, d.codec.options.encoder(dict), test)
	}
	now, limit := codec.Builtin(), 1.0
	var err error
	if !tainted {
		limit = minImprovement
		if now, err = d.active(ctx, k); err != nil {
			return nil, err
		}
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
	if t.After > limit*t.Before {
		t.Reason = "it is hardly better than the one in use"
		return nil, nil
	}
	return dict, nil
}

// Bounds of what is trained with, in plain bytes: of a payload, more than whose
// beginning a dictionary does not take from, and of all.
const (
	maxSample  = 64 << 10
	maxSamples = 16 << 20
)

// dictionarySizes are those for long payloads and for short ones, in bytes.
var dictionarySizes = [...]int{Episodes: 112 << 10, Patterns: 32 << 10}

// sample reads some payloads of the kind to train with, an id that is free, and
// how many removals there had been when they were read.
func (d *dictionaries) sample(ctx context.Context, k Kind) (samples []codec.Sample, id uint32, removals int64, err error) {
	sql := [...]string{Episodes: sqlSampleEpisodes, Patterns: sqlSamplePatterns}[k]
	r, err := d.engine.Query(ctx,
		engine.Stmt{SQL: "SELECT id FROM trainings"},
		engine.Stmt{SQL: "SELECT n FROM removals WHERE kind = ?", Args: []any{k.String()}},
		engine.Stmt{SQL: sql})
	if err != nil {
		return nil, 0, 0, err
	}
	var in engine.Row
	taken := make(map[int64]bool)
	for _, in.Values = range r[0].Rows {
		taken[in.Int(0)] = true
	}
	in.Values = r[1].Rows[0]
	removals = in.Int(0)
	if in.Err != nil {
		return nil, 0, 0, fmt.Errorf("trainings: %w: %w", ErrCorrupt, in.Err)
	}
	for id == 0 || taken[int64(id)] {
		id = codec.MinTrainedID + rand.Uint32N(codec.MaxTrainedID-codec.MinTrainedID+1)
	}
	samples, err = d.samplesFrom(ctx, k, r[2].Rows)
	return samples, id, removals, err
}

// samplesFrom reads rows of an item and a payload. A row that is damaged teaches
// nothing. What has the same task, or is of the same item, is one group.
func (d *dictionaries) samplesFrom(ctx context.Context, k Kind, rows [][]any) ([]codec.Sample, error) {
	var samples []codec.Sample
	tasks := make(map[string]string) // by item
	var buf []byte
	plain := 0
	for _, row := range rows {
		if plain >= maxSamples {
			break
		}
		var text []byte
		var err error
		buf, text, err = d.codec.decode(ctx, buf[:0], row[1])
		if errors.Is(err, ErrCorrupt) {
			continue
		}
		if err != nil {
			return nil, err
		}
		item := fmt.Sprint(row[0])
		if _, found := tasks[item]; !found {
			var head struct {
				Description string `json:"description"`
			}
			if k == Episodes && json.Unmarshal(text, &head) == nil && head.Description != "" {
				tasks[item] = head.Description
			} else {
				tasks[item] = "item " + item
			}
		}
		text = bytes.Clone(text[:min(len(text), maxSample)])
		plain += len(text)
		samples = append(samples, codec.Sample{Group: tasks[item], Data: text})
	}
	return samples, nil
}
