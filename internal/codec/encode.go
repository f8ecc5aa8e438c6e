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

// Encoder encodes frames. It is safe for concurrent use and need not be closed. It
// allocates the memory documented at [Level] when it first compresses, and keeps it.
type Encoder struct {
	codec     Codec
	threshold int
	dict      uint32 // id
	fast      bool
	newComp   func() compressor

	slots chan struct{} // semaphore: bounds the compressors in use
	mu    sync.Mutex
	idle  []compressor // guarded by mu; last in, first out, so that a single caller needs only one
}

// maxSlots bounds the compressors, and so the memory, of one Encoder.
const maxSlots = 4

// NewEncoder returns an Encoder. Errors: *OptionError.
func NewEncoder(o Options) (*Encoder, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	e := &Encoder{codec: o.Codec, threshold: o.Threshold, fast: o.Level == Fast, slots: make(chan struct{}, min(runtime.GOMAXPROCS(0), maxSlots))}
	if o.Dictionary != nil {
		e.dict = o.Dictionary.id
	}
	switch o.Codec {
	case Zstd:
		e.newComp = func() compressor { return newZstd(o.Level, o.Dictionary) }
	case LZ4:
		e.newComp = func() compressor { return newLZ4(o.Level) }
	case Gzip:
		e.newComp = func() compressor { return newDeflate(o.Level, o.Dictionary) }
	}
	return e, nil
}

// Encode appends a frame that holds plain to dst. It allocates only if dst lacks
// capacity for len(plain) + len(plain)/1024 + 64 more bytes, or if more calls than ever
// before run at once. At most min(GOMAXPROCS, 4) calls compress at once; others wait.
func (e *Encoder) Encode(dst, plain []byte) []byte {
	start, sum := len(dst), crc32.Checksum(plain, castagnoli)
	dst = slices.Grow(dst, len(plain)+len(plain)/1024+64)
	if e.codec != None && len(plain) >= e.threshold {
		dst = appendHeader(dst, Header{Codec: e.codec, Fast: e.fast, Dictionary: e.dict, PlainSize: int64(len(plain))}, sum)
		var ok bool
		if dst, ok = e.compress(dst, plain); ok && len(dst)-start < plainFrameSize(len(plain)) {
			return dst
		}
	}
	dst = appendHeader(dst[:start], Header{Codec: None, PlainSize: int64(len(plain))}, sum)
	return append(dst, plain...)
}

// plainFrameSize is the size of a frame that stores n bytes uncompressed.
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
	return e.newComp()
}

// compressor compresses bodies of frames. It is not safe for concurrent use.
type compressor interface {
	// compress appends the body to dst, which has room for len(plain) bytes. It
	// may return false if the body would be longer than plain.
	compress(dst, plain []byte) ([]byte, bool)
}

type zstdCompressor struct{ enc *zstd.Encoder }

// must returns v and panics on an error. It is used for calls that fail only with
// invalid options.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newZstd(l Level, d *Dictionary) compressor {
	options := []zstd.EOption{
		zstd.WithEncoderConcurrency(1), // more would cost memory and never run: see slots
		zstd.WithEncoderLevel([...]zstd.EncoderLevel{
			Fast: zstd.SpeedFastest, Better: zstd.SpeedBetterCompression, Best: zstd.SpeedBestCompression,
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

// limited is a Writer that appends to b up to a length of max.
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
	level := [...]int{Fast: 1, Better: 6, Best: 9}[l]
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
