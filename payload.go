package episodic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
)

// Bounds of what one row may hold, before it is compressed. libSQL servers
// refuse values over 5,000,000 bytes, and answers over 10 MB.
const (
	maxPayload = 4_500_000 // encoded bytes of one step, or of an episode without its steps
	maxEpisode = 64 << 20  // encoded bytes of all steps stored by one call
	runTarget  = 1 << 20   // encoded bytes after which a run of steps is cut
	// maxPlain bounds what a compressed payload is let grow to: more than any that
	// was accepted, and no more than could be stored as it is.
	maxPlain = 5_000_000
	// readAtOnce is how many bytes of runs are asked for in one round trip, unless
	// a single run is larger: together with the largest head and the overhead of
	// any protocol it stays below the 10 MB of an answer. It is also how much
	// Complete folds.
	readAtOnce = 4_000_000
)

// The first byte of a payload. Other values are reserved for later formats;
// docs/formats.md lists them.
const (
	formatJSON  = 0x01 // JSON follows
	formatFrame = 0x02 // a frame of internal/codec, this byte included, that holds the JSON
)

// payloadKind divides payloads by what they have in common.
type payloadKind int

const (
	episodePayloads payloadKind = iota // heads of episodes, and runs of steps
	patternPayloads                    // patterns, heuristics and relations
	payloadKinds
)

func (k payloadKind) String() string {
	return [...]string{episodePayloads: "episode", patternPayloads: "pattern"}[k]
}

// encodePayload encodes v as JSON. A value that is too large is blamed on field.
func encodePayload(field string, v any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte(formatJSON)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %s: %w", field, err)
	}
	p := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(p) > maxPayload {
		return nil, invalid(field, "takes %d bytes when stored, at most %d are allowed; keep large data elsewhere and store a reference", len(p), maxPayload)
	}
	return p, nil
}

// packer makes payloads small on their way to the database, and reads them,
// whatever another packer was told to make of them.
type packer struct {
	options Compression
	decoder *codec.Decoder
	builtin *encoding // what every Store can read
	kinds   [payloadKinds]packing
	// before is called before a payload is packed. It may change the encoders.
	before func(payloadKind)
	// fetch reads a dictionary that the decoder does not know from the database.
	fetch func(context.Context, uint32) (*codec.Dictionary, error)
	// fetching holds one while a dictionary is fetched.
	fetching chan struct{}
}

// packing is what a packer does with the payloads of a kind.
type packing struct {
	use atomic.Pointer[encoding] // nil: stored as JSON

	payloads, plain, stored, skipped atomic.Uint64
	time                             atomic.Int64 // ns
}

// encoding is an encoder and what is known about the dictionary it uses.
type encoding struct {
	*codec.Encoder
	dictionary uint32 // 0: none
	ratio      float64
	// until is when the encoder must not be used any more, unless it has been seen
	// since then that its dictionary is not retired; zero: never.
	until time.Time
}

// newPacker returns a packer with the built-in dictionary. The options have been
// checked.
func newPacker(o Compression) *packer {
	p := &packer{
		options: o, decoder: codec.NewDecoder(maxPlain), fetching: make(chan struct{}, 1),
		before: func(payloadKind) {},
	}
	p.builtin = p.encoding(codec.Builtin(), 0, time.Time{})
	for k := range payloadKinds {
		if p.compresses(k) {
			p.kinds[k].use.Store(p.builtin)
		}
	}
	return p
}

func (p *packer) compresses(k payloadKind) bool {
	on := [...]Switch{episodePayloads: p.options.Episodes, patternPayloads: p.options.Patterns}[k] == On
	return on && p.options.Codec != Uncompressed && p.options.Threshold >= 0
}

// trains reports whether dictionaries of the kind can be of use.
func (p *packer) trains(k payloadKind) bool {
	return p.compresses(k) && p.options.Dictionaries == On && p.options.Codec != LZ4
}

func (p *packer) codecOptions(d *codec.Dictionary) codec.Options {
	o := p.options.codecOptions()
	if p.options.Dictionaries == On {
		o.Dictionary = d
	}
	return o
}

func (p *packer) encoding(d *codec.Dictionary, ratio float64, until time.Time) *encoding {
	o := p.codecOptions(d)
	enc, err := codec.NewEncoder(o)
	if err != nil {
		panic(err) // the options have been checked
	}
	e := &encoding{Encoder: enc, until: until}
	if o.Dictionary != nil && p.options.Codec != LZ4 {
		e.dictionary, e.ratio = d.ID(), ratio
	}
	return e
}

// encode encodes v as a row holds it. A value that is too large is blamed on field.
func (p *packer) encode(k payloadKind, field string, v any) ([]byte, error) {
	payload, err := encodePayload(field, v)
	if err != nil {
		return nil, err
	}
	return p.pack(k, payload), nil
}

// pack returns a payload in JSON as a row is to hold it: the smaller of itself
// and a frame.
func (p *packer) pack(k payloadKind, payload []byte) []byte {
	p.before(k)
	kind := &p.kinds[k]
	out := payload
	if use := kind.use.Load(); use != nil {
		if !use.until.IsZero() && time.Now().After(use.until) {
			use = p.builtin
		}
		start := time.Now()
		out = packed(use.Encoder, payload)
		kind.time.Add(int64(time.Since(start)))
	}
	kind.payloads.Add(1)
	kind.plain.Add(uint64(len(payload)))
	kind.stored.Add(uint64(len(out)))
	if len(out) == len(payload) {
		kind.skipped.Add(1)
	}
	return out
}

// packed is pack with an encoder.
func packed(enc *codec.Encoder, payload []byte) []byte {
	buf := buffers.Get().(*[]byte)
	defer keep(buf)
	*buf = enc.Encode((*buf)[:0], payload[1:])
	if len(*buf) >= len(payload) {
		return payload
	}
	return bytes.Clone(*buf)
}

// buffers hold frames and plain texts for the time of a call.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func keep(buf *[]byte) {
	if cap(*buf) <= 1<<20 {
		buffers.Put(buf)
	}
}

// decode decodes a column into v. Its error names nothing; the caller knows the
// row.
func (p *packer) decode(ctx context.Context, column any, v any) error {
	_, err := p.decodeSized(ctx, column, v)
	return err
}

// decodeSized is decode, and says how many bytes the column's JSON has.
func (p *packer) decodeSized(ctx context.Context, column any, v any) (plain int, err error) {
	buf := buffers.Get().(*[]byte)
	defer keep(buf)
	var text []byte
	*buf, text, err = p.unpack(ctx, (*buf)[:0], column)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return 0, fmt.Errorf("%w: payload: %w", ErrCorrupt, err)
	}
	return len(text), nil
}

// unpack returns the JSON that a column holds. It lies in the column itself, or
// in buf, which is returned because it may have grown.
func (p *packer) unpack(ctx context.Context, buf []byte, column any) (grown, text []byte, err error) {
	b, ok := column.([]byte)
	switch {
	case !ok:
		return buf, nil, fmt.Errorf("%w: payload is %T, want a blob", ErrCorrupt, column)
	case len(b) == 0:
		return buf, nil, fmt.Errorf("%w: payload is empty", ErrCorrupt)
	case b[0] == formatJSON:
		return buf, b[1:], nil
	case b[0] != formatFrame:
		return buf, nil, fmt.Errorf("%w: payload has the unknown format %#02x; a newer episodic may have written it", ErrCorrupt, b[0])
	}
	buf, err = p.decoder.Decode(buf, b)
	if unknown, isUnknown := errors.AsType[*codec.UnknownDictionaryError](err); isUnknown {
		if err := p.learn(ctx, unknown.ID); err != nil {
			return buf, nil, fmt.Errorf("payload: %w", err)
		}
		buf, err = p.decoder.Decode(buf, b)
	}
	if err != nil {
		return buf, nil, fmt.Errorf("%w: payload: %w", ErrCorrupt, err)
	}
	return buf, buf, nil
}

// learn teaches the decoder a dictionary of the database.
func (p *packer) learn(ctx context.Context, id uint32) error {
	select {
	case p.fetching <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.fetching }()
	if p.decoder.Knows(id) {
		return nil // another call has just fetched it
	}
	d, err := p.fetch(ctx, id)
	if err != nil {
		return err
	}
	return p.decoder.Learn(d)
}
