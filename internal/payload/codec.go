package payload

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	// MaxSize is how many bytes a payload may have before it is compressed. libSQL
	// servers refuse values over 5,000,000 bytes.
	MaxSize = 4_500_000
	// maxPlain bounds what a compressed payload may grow to: more than any that was
	// accepted, and no more than could be stored as it is.
	maxPlain = 5_000_000
)

// The first byte of a payload. Other values are reserved for later formats;
// docs/formats.md lists them.
const (
	formatJSON       = 0x01 // JSON follows; earlier versions have written it
	formatFrame      = 0x02 // a frame of internal/codec, this byte included, that holds the JSON
	formatSealedJSON = 0x03 // JSON follows, and its seal
)

// ErrCorrupt says that something stored cannot be read back.
var ErrCorrupt = errors.New("damaged data")

// TooLargeError says that a value takes more bytes than a payload may have.
type TooLargeError struct {
	Size, Max int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("takes %d bytes when stored, at most %d are allowed; keep large data elsewhere and store a reference", e.Size, e.Max)
}

// Kind divides payloads by what they have in common.
type Kind int

// The kinds.
const (
	Episodes Kind = iota // heads of episodes, and runs of steps
	Patterns             // patterns, heuristics and relations
	kinds    = 2
)

// String returns the name that the database has for the kind.
func (k Kind) String() string {
	return [...]string{Episodes: "episode", Patterns: "pattern"}[k]
}

// Options say how payloads are compressed. The zero value of every field means
// its default: all of it is on.
type Options struct {
	Codec     codec.Codec
	Level     codec.Level
	Threshold int // bytes from which on compressing is tried; not negative, default the codec's

	DisableEpisodes, DisablePatterns, DisableDictionaries bool

	// DisableTraining uses the database's dictionaries, and trains none. It is for a copy of
	// a database, whose dictionaries are those of the original.
	DisableTraining bool

	// Copy is a copy of the database on this machine, which may have the dictionary that is
	// to be encoded with. Nil: there is none.
	Copy engine.Engine

	// Unreadable, unless it is nil, is called when a payload cannot be read; its error is
	// returned in place of ErrCorrupt, unless it is nil.
	Unreadable func(context.Context) error

	// Logger is told of dictionaries that are adopted, and of failures in the
	// background. Nil: nobody is.
	Logger *slog.Logger
}

// Validate returns a *codec.OptionError for the first field that makes no sense.
func (o Options) Validate() error { return o.encoder(nil).Validate() }

func (o Options) encoder(d *codec.Dictionary) codec.Options {
	e := codec.Options{Codec: o.Codec, Level: o.Level, Threshold: o.Threshold}
	if !o.DisableDictionaries {
		e.Dictionary = d
	}
	return e
}

func (o Options) compresses(k Kind) bool {
	disabled := [...]bool{Episodes: o.DisableEpisodes, Patterns: o.DisablePatterns}[k]
	return !disabled && o.Codec != codec.None
}

// trains reports whether dictionaries of the kind can be of use.
func (o Options) trains(k Kind) bool {
	return o.compresses(k) && !o.DisableDictionaries && o.Codec != codec.LZ4
}

// Codec encodes values as payloads, and decodes payloads whatever the options of
// the Codec were that encoded them. It is safe for concurrent use.
type Codec struct {
	options      Options
	dictionaries *dictionaries
	decoder      *codec.Decoder
	builtin      *activeEncoder // its frames can be read without the database
	kinds        [kinds]kindState
	fetching     chan struct{} // holds one while a dictionary is read from the database
}

// kindState is what a Codec encodes the payloads of a kind with, and what it has
// encoded.
type kindState struct {
	active atomic.Pointer[activeEncoder] // nil: payloads are stored as JSON

	payloads, plain, stored, skipped atomic.Uint64
	time                             atomic.Int64 // ns
}

// activeEncoder is an encoder and what is known about its dictionary.
type activeEncoder struct {
	*codec.Encoder
	dictionary uint32 // 0: none
	ratio      float64
}

// New returns a Codec for a database that has been migrated. local says that the
// engine answers as quickly as it writes: no network is between. The options have
// been validated.
func New(e engine.Engine, local bool, o Options) *Codec {
	if o.Level == codec.Default && local {
		o.Level = codec.Fast // bytes cost little there, and Compact saves them later
	}
	c := &Codec{options: o, decoder: codec.NewDecoder(maxPlain), fetching: make(chan struct{}, 1)}
	c.builtin = c.newEncoder(codec.Builtin(), 0)
	for k := range Kind(kinds) {
		if o.compresses(k) {
			c.kinds[k].active.Store(c.builtin)
		}
	}
	c.dictionaries = newDictionaries(e, c, local)
	return c
}

// Close ends what is under way in the background, and waits for it. Later calls
// begin nothing new there.
func (c *Codec) Close() { c.dictionaries.close() }

func (c *Codec) newEncoder(d *codec.Dictionary, ratio float64) *activeEncoder {
	o := c.options.encoder(d)
	enc, err := codec.NewEncoder(o)
	if err != nil {
		panic(err) // the options have been validated
	}
	e := &activeEncoder{Encoder: enc}
	if o.Dictionary != nil && o.Codec != codec.LZ4 {
		e.dictionary, e.ratio = d.ID(), ratio
	}
	return e
}

// AppendJSON appends v as JSON, without escapes for HTML. Errors: *TooLargeError;
// those of encoding/json.
func AppendJSON(b []byte, v any) ([]byte, error) {
	before := len(b)
	written := false
	if w, ok := v.(Writer); ok {
		b, written = w.AppendJSON(b)
	}
	if !written {
		buf := bytes.NewBuffer(b[:before])
		enc := json.NewEncoder(buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return nil, err
		}
		b = bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	}
	if size := len(b) - before + 1; size > MaxSize {
		return nil, &TooLargeError{size, MaxSize}
	}
	return b, nil
}

// Encode returns the payload that holds v and is stored with the columns of the Bound.
// Errors: those of AppendJSON.
func (c *Codec) Encode(k Kind, bound Bound, v any) ([]byte, error) {
	buf := buffers.Get().(*[]byte)
	defer keep(buf)
	text, err := AppendJSON((*buf)[:0], v)
	if err != nil {
		return nil, err
	}
	*buf = text
	return c.EncodeJSON(k, bound, text), nil
}

// EncodeJSON is Encode for JSON. The payload is a frame, or the JSON itself if that is no
// larger, and sealed.
func (c *Codec) EncodeJSON(k Kind, bound Bound, text []byte) []byte {
	kind := &c.kinds[k]
	var out []byte
	if use := kind.active.Load(); use != nil {
		start := time.Now()
		out = encode(use.Encoder, bound.over(text), text)
		kind.time.Add(int64(time.Since(start)))
	} else {
		out = encode(nil, bound.over(text), text)
	}
	kind.payloads.Add(1)
	kind.plain.Add(uint64(1 + len(text) + sealSize))
	kind.stored.Add(uint64(len(out)))
	if out[0] == formatSealedJSON {
		kind.skipped.Add(1)
	}
	return out
}

// EncodeBuiltin is Encode with the built-in dictionary at most: the payload can be read
// whatever becomes of the database's.
func (c *Codec) EncodeBuiltin(bound Bound, v any) ([]byte, error) {
	text, err := AppendJSON(nil, v)
	if err != nil {
		return nil, err
	}
	return c.EncodeBuiltinJSON(bound, text), nil
}

// EncodeBuiltinJSON is EncodeBuiltin for JSON.
func (c *Codec) EncodeBuiltinJSON(bound Bound, text []byte) []byte {
	return encode(c.builtin.Encoder, bound.over(text), text)
}

// encode is EncodeJSON with an encoder, nil for none, and the seal.
func encode(enc *codec.Encoder, s seal, text []byte) []byte {
	if enc != nil {
		buf := buffers.Get().(*[]byte)
		defer keep(buf)
		*buf = enc.Encode((*buf)[:0], text)
		if len(*buf) <= len(text) {
			*buf = s.put(*buf)
			return bytes.Clone(*buf)
		}
	}
	plain := append(append(make([]byte, 0, 1+len(text)+sealSize), formatJSON), text...)
	return s.put(plain)
}

// buffers hold frames and plain texts for the time of a call.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func keep(buf *[]byte) {
	if cap(*buf) <= 1<<20 {
		buffers.Put(buf)
	}
}

// Decode decodes a payload column, stored with the columns of the Bound, into v. Errors:
// ErrCorrupt, which names nothing, because the caller knows the row; those of the engine.
func (c *Codec) Decode(ctx context.Context, column any, bound Bound, v any) error {
	_, err := c.DecodeSized(ctx, column, bound, v)
	return err
}

// DecodeSized is Decode, and returns how many bytes the column's JSON has.
func (c *Codec) DecodeSized(ctx context.Context, column any, bound Bound, v any) (size int, err error) {
	defer func() {
		if c.options.Unreadable != nil && errors.Is(err, ErrCorrupt) {
			err = cmp.Or(c.options.Unreadable(ctx), err)
		}
	}()
	buf := buffers.Get().(*[]byte)
	defer keep(buf)
	var text []byte
	*buf, text, err = c.decode(ctx, (*buf)[:0], column)
	if err == nil {
		err = bound.check(column.([]byte), text)
	}
	if err != nil {
		return 0, err
	}
	if r, ok := v.(Reader); ok && r.ReadJSON(NewScanner(text)) {
		return len(text), nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return 0, fmt.Errorf("%w: payload: %w", ErrCorrupt, err)
	}
	return len(text), nil
}

// decode returns the JSON that a column holds, of which the seal was not looked at. It lies in
// the column itself, or in buf, which is returned because it may have grown.
func (c *Codec) decode(ctx context.Context, buf []byte, column any) (grown, text []byte, err error) {
	grown, text, err = c.textOf(ctx, buf, column)
	if err == nil && (len(text) == 0 || string(text) == "null") {
		err = fmt.Errorf("%w: payload holds nothing", ErrCorrupt)
	}
	return grown, text, err
}

func (c *Codec) textOf(ctx context.Context, buf []byte, column any) (grown, text []byte, err error) {
	b, ok := column.([]byte)
	switch {
	case !ok:
		return buf, nil, fmt.Errorf("%w: payload is %T, want a blob", ErrCorrupt, column)
	case len(b) == 0:
		return buf, nil, fmt.Errorf("%w: payload is empty", ErrCorrupt)
	case b[0] == formatJSON:
		return buf, b[1:], nil
	case b[0] == formatSealedJSON:
		return buf, b[1:max(1, len(b)-sealSize)], nil
	case b[0] != formatFrame:
		return buf, nil, fmt.Errorf("%w: payload has the unknown format %#02x; a newer episodic may have written it", ErrCorrupt, b[0])
	}
	buf, err = c.decoder.Decode(buf, b)
	if unknown, isUnknown := errors.AsType[*codec.UnknownDictionaryError](err); isUnknown {
		if err := c.addDictionary(ctx, unknown.ID); err != nil {
			return buf, nil, fmt.Errorf("payload: %w", err)
		}
		buf, err = c.decoder.Decode(buf, b)
	}
	if err != nil {
		return buf, nil, fmt.Errorf("%w: payload: %w", ErrCorrupt, err)
	}
	return buf, buf, nil
}

// addDictionary makes a dictionary of the database known to the decoder.
func (c *Codec) addDictionary(ctx context.Context, id uint32) error {
	select {
	case c.fetching <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.fetching }()
	if c.decoder.Knows(id) {
		return nil // another call has just fetched it
	}
	d, err := readDictionary(ctx, c.dictionaries.engine, id)
	if err != nil {
		return err
	}
	return c.decoder.Learn(d)
}

// PlainSize returns how many bytes a payload would take that was not compressed, by its
// first bytes; ok is false if it is damaged or no frame. Twenty bytes are enough.
func PlainSize(payload []byte) (size int64, ok bool) {
	if len(payload) == 0 || payload[0] != formatFrame {
		return 0, false
	}
	h, err := codec.Inspect(payload)
	size = 1 + h.PlainSize
	if h.Sealed {
		size += sealSize
	}
	return size, err == nil
}
