package codec

import (
	"errors"
	"hash/crc32"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Encoder makes frames. It is safe for concurrent use and needs no closing; the
// memory that [Level] names is taken when it first compresses, and given back
// when the Encoder is dropped.
type Encoder struct {
	codec     Codec
	threshold int
	dict      uint32 // id
	fresh     func() compressor

	slots chan struct{} // holds one for every compressor at work
	mu    sync.Mutex
	idle  []compressor // guarded by mu; the last is used next, so that one caller needs only one
}

// maxSlots bounds the memory that one Encoder keeps.
const maxSlots = 4

// NewEncoder returns an Encoder. Errors: *OptionError.
func NewEncoder(o Options) (*Encoder, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	e := &Encoder{codec: o.Codec, threshold: o.Threshold, slots: make(chan struct{}, min(runtime.GOMAXPROCS(0), maxSlots))}
	if o.Dictionary != nil {
		e.dict = o.Dictionary.id
	}
	switch o.Codec {
	case Zstd:
		e.fresh = func() compressor { return newZstd(o.Level, o.Dictionary) }
	case LZ4:
		e.fresh = func() compressor { return newLZ4(o.Level) }
	case Gzip:
		e.fresh = func() compressor { return newDeflate(o.Level, o.Dictionary) }
	}
	return e, nil
}

// Encode appends one frame that holds plain to dst. It allocates only if dst
// lacks the capacity for len(plain) + len(plain)/1024 + 64 more bytes, or if
// more callers than before encode at once. At most GOMAXPROCS do, and four, others wait.
func (e *Encoder) Encode(dst, plain []byte) []byte {
	start, sum := len(dst), crc32.Checksum(plain, castagnoli)
	dst = slices.Grow(dst, len(plain)+len(plain)/1024+64)
	if e.codec != None && len(plain) >= e.threshold {
		dst = appendHeader(dst, Header{e.codec, e.dict, int64(len(plain))}, sum)
		var ok bool
		if dst, ok = e.compress(dst, plain); ok && len(dst)-start < plainFrameSize(len(plain)) {
			return dst
		}
	}
	dst = appendHeader(dst[:start], Header{Codec: None, PlainSize: int64(len(plain))}, sum)
	return append(dst, plain...)
}

// plainFrameSize is the size of a frame that stores n bytes as they are.
func plainFrameSize(n int) int {
	var b [maxHeader]byte
	return len(appendHeader(b[:0], Header{Codec: None, PlainSize: int64(n)}, 0)) + n
}

func (e *Encoder) compress(dst, plain []byte) ([]byte, bool) {
	e.slots <- struct{}{}
	defer func() { <-e.slots }()
	c := e.take()
	dst, ok := c.compress(dst, plain)
	e.mu.Lock()
	e.idle = append(e.idle, c)
	e.mu.Unlock()
	return dst, ok
}

func (e *Encoder) take() compressor {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.idle); n > 0 {
		c := e.idle[n-1]
		e.idle = e.idle[:n-1]
		return c
	}
	return e.fresh()
}

// compressor makes the bodies of frames, for one caller at a time.
type compressor interface {
	// compress appends the body to dst, which has room for len(plain) bytes. It
	// may give up (false) if the body would be longer than plain.
	compress(dst, plain []byte) ([]byte, bool)
}

type zstdCompressor struct{ enc *zstd.Encoder }

// must returns v. What it is used for fails only with options that are known
// here not to be wrong.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newZstd(l Level, d *Dictionary) compressor {
	options := []zstd.EOption{
		zstd.WithEncoderConcurrency(1), // others would only wait, with their memory
		zstd.WithEncoderLevel([...]zstd.EncoderLevel{
			Default: zstd.SpeedBetterCompression, Fast: zstd.SpeedFastest, Best: zstd.SpeedBestCompression,
		}[l]),
		zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false),
	}
	if d != nil {
		options = append(options, zstd.WithEncoderDict(d.bytes))
	}
	return &zstdCompressor{enc: must(zstd.NewWriter(nil, options...))}
}

func (c *zstdCompressor) compress(dst, plain []byte) ([]byte, bool) {
	body := len(dst)
	dst = c.enc.EncodeAll(plain, dst)
	var h zstd.Header
	if err := h.Decode(dst[body:]); err != nil {
		panic(err) // the encoder has just written it
	}
	return slices.Delete(dst, body, body+h.HeaderSize), true
}

type lz4Compressor struct {
	c interface {
		CompressBlock(src, dst []byte) (int, error)
	}
}

func newLZ4(l Level) compressor {
	if l == Best {
		return &lz4Compressor{&lz4.CompressorHC{Level: lz4.Level9}}
	}
	return &lz4Compressor{&lz4.Compressor{}}
}

func (c *lz4Compressor) compress(dst, plain []byte) ([]byte, bool) {
	body := len(dst)
	n, err := c.c.CompressBlock(plain, dst[body:body+len(plain)])
	if err != nil || n == 0 {
		return dst, false
	}
	return dst[:body+n], true
}

type deflateCompressor struct {
	w   *flate.Writer
	out limited
}

// limited appends to b until it is full.
type limited struct {
	b   []byte
	max int
}

var errFull = errors.New("full")

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.max-len(l.b) {
		return 0, errFull
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

func newDeflate(l Level, d *Dictionary) compressor {
	level := [...]int{Default: 6, Fast: 1, Best: 9}[l]
	if d == nil {
		return &deflateCompressor{w: must(flate.NewWriter(nil, level))}
	}
	return &deflateCompressor{w: must(flate.NewWriterDict(nil, level, d.tail))}
}

func (c *deflateCompressor) compress(dst, plain []byte) ([]byte, bool) {
	c.out = limited{dst, len(dst) + len(plain)}
	c.w.Reset(&c.out)
	_, writeErr := c.w.Write(plain)
	ok := writeErr == nil && c.w.Close() == nil
	dst, c.out.b = c.out.b, nil
	return dst, ok
}
