package codec

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Decoder decodes frames. It is safe for concurrent use and need not be closed.
type Decoder struct {
	max int64

	// mu is read-locked while a frame is decoded and locked while a dictionary is
	// added.
	mu    sync.RWMutex
	dicts map[uint32]*Dictionary
	zstd  *zstd.Decoder
}

// NewDecoder returns a Decoder for frames of at most maxPlain plain bytes. It knows the
// built-in dictionaries.
func NewDecoder(maxPlain int) *Decoder {
	return &Decoder{
		max:   int64(maxPlain),
		dicts: make(map[uint32]*Dictionary),
		// The capacity of the destination bounds the result. Concurrency 0 allows
		// GOMAXPROCS calls at once.
		zstd: must(zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0))),
	}
}

// Learn adds a dictionary. Adding it again is no error, but adding one with the same id
// and other content is.
func (d *Decoder) Learn(dict *Dictionary) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.learn(dict)
}

// learn is Learn with the lock held.
func (d *Decoder) learn(dict *Dictionary) error {
	known := d.dicts[dict.id]
	if dict.id == builtinID {
		known = cmp.Or(known, Builtin())
	}
	if known != nil && !bytes.Equal(known.bytes, dict.bytes) {
		return fmt.Errorf("dictionary %d is already known with different content", dict.id)
	}
	if d.dicts[dict.id] != nil {
		return nil
	}
	if err := d.zstd.ResetWithOptions(nil, zstd.WithDecoderDicts(dict.bytes)); err != nil {
		return fmt.Errorf("learn dictionary %d: %w", dict.id, err)
	}
	d.dicts[dict.id] = dict
	return nil
}

// Knows reports whether the Decoder can decode frames that need the dictionary.
func (d *Decoder) Knows(id uint32) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return id == builtinID || d.dicts[id] != nil
}

// Decode appends the plain bytes of the frame to dst. It allocates only if dst lacks
// capacity for them and 16 more bytes. After an error it returns dst unchanged. Errors:
// ErrDamaged, *UnknownDictionaryError, *TooLargeError.
func (d *Decoder) Decode(dst, frame []byte) ([]byte, error) {
	h, sum, body, err := parseHeader(frame)
	if err != nil {
		return dst, err
	}
	if h.PlainSize > d.max {
		return dst, &TooLargeError{h.PlainSize, d.max}
	}
	if h.PlainSize > maxPlain(h.Codec, len(body)) {
		return dst, damaged("%d bytes of %v cannot hold %d", len(body), h.Codec, h.PlainSize)
	}
	if h.Dictionary != 0 {
		if err := d.learnBuiltin(h.Dictionary); err != nil {
			return dst, err
		}
	}
	const spare = 16 // makes zstd faster
	out := slices.Grow(dst, int(h.PlainSize)+spare)
	end := len(dst) + int(h.PlainSize)
	plain := out[len(dst) : end : end+spare]
	if err := d.decompress(plain, h, body); err != nil {
		return dst, err
	}
	if got := crc32.Checksum(plain, castagnoli); got != sum {
		return dst, damaged("checksum is %08x, but the content has %08x", sum, got)
	}
	return out[:end], nil
}

// learnBuiltin adds the dictionary if it is built in and not yet known.
func (d *Decoder) learnBuiltin(id uint32) error {
	d.mu.RLock()
	known := d.dicts[id] != nil
	d.mu.RUnlock()
	if known {
		return nil
	}
	if id != builtinID {
		return &UnknownDictionaryError{id}
	}
	return d.Learn(Builtin())
}

// decompress decodes body into plain. The lengths must match exactly.
func (d *Decoder) decompress(plain []byte, h Header, body []byte) error {
	if h.Codec == None {
		if len(body) != len(plain) {
			return damaged("it holds %d bytes instead of %d", len(body), len(plain))
		}
		copy(plain, body)
		return nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	w := decoders.Get().(*decoder)
	defer decoders.Put(w)
	var n int
	var err error
	switch h.Codec {
	case Zstd:
		n, err = w.zstd(d.zstd, plain, h.Dictionary, body)
	case LZ4:
		n, err = lz4.UncompressBlock(body, plain)
	case Gzip:
		var tail []byte
		if dict := d.dicts[h.Dictionary]; dict != nil {
			tail = dict.tail
		}
		n, err = w.deflate(plain, tail, body)
	}
	if err != nil {
		return damaged("%v: %w", h.Codec, err)
	}
	if n != len(plain) {
		return damaged("%v holds %d bytes instead of %d", h.Codec, n, len(plain))
	}
	return nil
}

// decoder is the reusable state for decoding one frame, without the zstd decoder.
type decoder struct {
	frame []byte // a whole zstd frame
	in    bytes.Reader
	out   io.ReadCloser // of deflate, which implements flate.Resetter
	more  [1]byte
}

var decoders = sync.Pool{New: func() any { return &decoder{} }}

// maxKept bounds the buffer, in bytes, that a decoder keeps for reuse.
const maxKept = 1 << 20

// zstd prepends the header that a body lacks. The content size and the dictionary id
// are written at full width, which zstd decoders accept.
func (w *decoder) zstd(z *zstd.Decoder, plain []byte, dict uint32, body []byte) (int, error) {
	const (
		sizeIn8       = 3 << 6
		singleSegment = 1 << 5
		dictIn4       = 3
	)
	b := append(w.frame[:0], 0x28, 0xb5, 0x2f, 0xfd)
	if dict == 0 {
		b = append(b, sizeIn8|singleSegment)
	} else {
		b = append(b, sizeIn8|singleSegment|dictIn4)
		b = binary.LittleEndian.AppendUint32(b, dict)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(plain)))
	b = append(b, body...)
	if len(b) <= maxKept {
		w.frame = b
	}
	out, err := z.DecodeAll(b, plain[:0])
	return len(out), err
}

func (w *decoder) deflate(plain, dict, body []byte) (int, error) {
	w.in.Reset(body)
	defer w.in.Reset(nil)
	if w.out == nil {
		w.out = flate.NewReaderDict(&w.in, dict)
	} else if err := w.out.(flate.Resetter).Reset(&w.in, dict); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(w.out, plain)
	if err != nil {
		return n, err
	}
	more, err := w.out.Read(w.more[:])
	switch {
	case more != 0:
		return n, fmt.Errorf("it holds more than %d bytes", n)
	case err != io.EOF:
		return n, err
	case w.in.Len() != 0:
		return n, fmt.Errorf("%d bytes follow its end", w.in.Len())
	}
	return n, nil
}
