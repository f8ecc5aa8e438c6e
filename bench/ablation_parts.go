package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/eval"
	stored "github.com/episodic-memory/episodic/internal/payload"
)

// ablationWindow is how long each way of making payloads is measured in a round.
const ablationWindow = 200 * time.Millisecond

// sealBytes is how many bytes the seal of a payload takes.
const sealBytes = 4

// ablatePayloads compares payloads as a file has them with the same JSON by plain zstd: those of
// tau-bench, or of the pool if they are not there.
func ablatePayloads(ctx context.Context, b *bench, pool []*episodic.Episode) (_ []finding, err error) {
	test, train, err := b.airlineEpisodes()
	if err != nil {
		return nil, err
	}
	if len(test) == 0 {
		half := len(pool) / 2
		test, train = pool[half:], pool[:half]
	}
	if b.short {
		test, train = test[:min(len(test), 5)], train[:20] // the least
	}
	path := filepath.Join(b.dir, "ablation-payloads.db")
	dictionary, err := trainFile(ctx, path, train)
	if err != nil {
		return nil, err
	}
	texts, err := plainPayloads(ctx, path+"-plain", test, putWhole, []string{"episodes", "runs"})
	if err != nil {
		return nil, err
	}
	e, err := embedded.Open(ctx, embedded.Config{Path: path})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	ours := stored.New(e, true, stored.Options{})
	defer ours.Close()
	ours.Ready(ctx)
	bound := stored.Bind(int64(len(texts)))
	codecs, err := plainCodecs()
	if err != nil {
		return nil, err
	}
	zstd := codecs[len(codecs)-1]
	var buf []byte

	sides := []*payloadSide{
		{name: "JSON by plain " + zstd.name, encode: func(text []byte) ([]byte, error) {
			buf, err = zstd.compress(buf[:0], text)
			return bytes.Clone(buf), err
		}, decode: func(_ context.Context, p []byte, v any) error {
			if buf, err = zstd.decompress(buf[:0], p); err != nil {
				return err
			}
			return json.Unmarshal(buf, v)
		}},
		{name: "payloads", encode: func(text []byte) ([]byte, error) { return ours.EncodeJSON(stored.Episodes, bound, text), nil },
			decode: func(ctx context.Context, p []byte, v any) error { return ours.Decode(ctx, p, bound, v) }},
	}
	plain := 0
	for i := range texts {
		texts[i] = texts[i][:len(texts[i])-sealBytes]
		plain += len(texts[i])
	}
	for _, s := range sides {
		if err := s.make(ctx, texts); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if h, err := codec.Inspect(sides[1].made[0]); err != nil || h.Dictionary != dictionary.ID() {
		return nil, errors.Join(fmt.Errorf("payloads are made with dictionary %d, not with %d that was trained", h.Dictionary, dictionary.ID()), err)
	}
	for range b.rounds {
		for _, s := range sides {
			if err := s.measure(ctx, texts); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	table := [][]string{{"payloads", "bytes, of JSON", "made in", "read in", "to payloads: bytes", "time to make", "time to read"}}
	var findings []finding
	for i, s := range sides {
		row := []string{s.name, fmt.Sprintf("%.3f", float64(s.bytes)/float64(plain)), us(s.encoded.percentile(0.5)), us(s.decoded.percentile(0.5)), "", "", ""}
		if i == 0 {
			whole := float64(s.bytes) / float64(sides[1].bytes)
			for k, r := range []ratio{{whole, whole, whole}, compare(&sides[1].encoded, &s.encoded), compare(&sides[1].decoded, &s.decoded)} {
				row[4+k] = r.String()
				findings = append(findings, finding{"payload frames (plain zstd)", "payloads", []string{"bytes", "time to make", "time to read"}[k], r})
			}
		}
		table = append(table, row)
	}
	b.printf("\n%d heads and runs of %d episodes, %d KB of JSON:\n", len(texts), len(test), plain/1000)
	b.table(table...)
	return findings, nil
}

// payloadSide is a way to make payloads of JSON.
type payloadSide struct {
	name             string
	encode           func(text []byte) ([]byte, error)
	decode           func(ctx context.Context, payload []byte, v any) error
	made             [][]byte
	bytes            int
	encoded, decoded cell
}

// make makes a payload of each text, which must come back.
func (s *payloadSide) make(ctx context.Context, texts [][]byte) error {
	for _, text := range texts {
		p, err := s.encode(text)
		if err != nil {
			return err
		}
		var back json.RawMessage
		if err := s.decode(ctx, p, &back); err != nil {
			return err
		}
		if string(back) != string(text) {
			return errChanged
		}
		s.made = append(s.made, p)
		s.bytes += len(p)
	}
	return nil
}

// measure makes and reads payloads, one after the other, for a round.
func (s *payloadSide) measure(ctx context.Context, texts [][]byte) error {
	next := counter()
	encoded := load(ctx, ablationWindow, 1, func(context.Context, int) error {
		_, err := s.encode(texts[next()%len(texts)])
		return err
	})
	decoded := load(ctx, ablationWindow, 1, func(ctx context.Context, _ int) error {
		var back json.RawMessage
		return s.decode(ctx, s.made[next()%len(s.made)], &back)
	})
	s.encoded.rounds, s.decoded.rounds = append(s.encoded.rounds, encoded), append(s.decoded.rounds, decoded)
	return errors.Join(append(encoded.errs, decoded.errs...)...)
}

// ablateMeaning asks LoCoMo's questions of the ranking that Search uses, with and without the
// table of word meanings.
func ablateMeaning(ctx context.Context, b *bench, _ []*episodic.Episode) ([]finding, error) {
	data, err := b.dataset(ctx, "locomo", "locomo-dev.json", "")
	if err != nil || data == nil {
		return nil, err
	}
	rounds := make([]yardstick, b.rounds)
	for i := range rounds {
		rounds[i] = yardstick{name: "LoCoMo", data: data, level: data.Level(), of: make(map[string]*eval.Report)}
	}
	for c := range data.Collections {
		if err := askWithAndWithout(ctx, b, rounds, c); err != nil {
			return nil, err
		}
	}
	columns := []struct {
		name   string
		digits int
		of     func(eval.Row) float64
		worth  bool // more is better
	}{
		{"recall@5", 3, func(r eval.Row) float64 { return r.Recall5 }, true},
		{"recall@10", 3, func(r eval.Row) float64 { return r.Recall10 }, true},
		{"MRR", 3, func(r eval.Row) float64 { return r.MRR }, true},
		{"search, p50 in ms", 2, func(r eval.Row) float64 { return r.P50 }, false},
	}
	table := [][]string{{"LoCoMo, turns"}, {"with word meanings"}, {wayWords}, {"without to with"}}
	var findings []finding
	for _, c := range columns {
		var with, without, ratios []float64
		for i := range rounds {
			_, whole := rounds[i].of[wayBare].Rows()
			_, words := rounds[i].of[wayWords].Rows()
			with, without = append(with, c.of(whole)), append(without, c.of(words))
			ratios = append(ratios, c.of(words)/c.of(whole))
		}
		r := ratioOf(ratios)
		for i, cell := range []string{c.name, fmt.Sprintf("%.*f", c.digits, ratioOf(with).median), fmt.Sprintf("%.*f", c.digits, ratioOf(without).median), r.String()} {
			table[i] = append(table[i], cell)
		}
		if c.worth {
			r = r.inverse()
		}
		findings = append(findings, finding{"meaning (words only)", "LoCoMo", c.name, r})
	}
	b.table(table...)
	return findings, nil
}

// askWithAndWithout asks the questions of collection c once in each round.
func askWithAndWithout(ctx context.Context, b *bench, rounds []yardstick, c int) (err error) {
	y := &rounds[0]
	dir, err := os.MkdirTemp(b.dir, "meaning-") // scenario recall has files of these names
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "memory.db")
	store, keys, err := y.memory(ctx, path, c)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	r, err := y.ranker(ctx, path, keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.engine.Close()) }()
	for i := range rounds {
		for _, left := range ingredients[:2] { // with, and without meaning
			if err := rounds[i].run(ctx, left.name, y.tasks(c), r.without(left)); err != nil {
				return err
			}
		}
	}
	return nil
}
