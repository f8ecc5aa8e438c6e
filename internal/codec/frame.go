package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The layout of a frame:
//
//	1 byte    version, 0x02
//	1 byte    codec: 0 none, 1 zstd, 2 lz4, 3 deflate; plus 128: written at level Fast;
//	          plus 64: sealed
//	uvarint   id of the dictionary, 0 to 65535; 0: none. Always 0 for none and lz4
//	uvarint   length of the plain bytes
//	4 bytes   CRC-32C of the plain bytes, little-endian
//	the rest  the body, and of a sealed frame 4 bytes more, which are the caller's:
//
//	none      the plain bytes
//	zstd      the blocks of one zstd frame, without its magic number, its header
//	          and its checksum, all of which follow from the above: the header is
//	          that of a single segment with this dictionary and this content size
//	lz4       one lz4 block
//	deflate   a raw deflate stream (RFC 1951); with a dictionary, the last 32 KiB
//	          of its content come before the stream's first byte
//
// A uvarint has 7 bits a byte, the low ones first, and the top bit set in all
// bytes but the last.
const frameVersion = 0x02

// The codec numbers in a frame. Their meaning never changes.
const (
	wireNone = iota
	wireZstd
	wireLZ4
	wireDeflate
)

var wireOf = [...]byte{Zstd: wireZstd, LZ4: wireLZ4, Gzip: wireDeflate, None: wireNone}

var codecOf = [...]Codec{wireNone: None, wireZstd: Zstd, wireLZ4: LZ4, wireDeflate: Gzip}

// wireFast marks the codec's number in a frame that was written at level Fast.
const wireFast = 0x80

// wireSealed marks the codec's number in a frame that Seal has sealed.
const wireSealed = 0x40

const sealSize = 4

const maxHeader = 1 + 1 + 3 + binary.MaxVarintLen64 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged is wrapped by errors about frames that are corrupt or have a format newer
// than this program.
var ErrDamaged = errors.New("damaged frame")

// UnknownDictionaryError is returned if the Decoder does not know the dictionary of a
// frame.
type UnknownDictionaryError struct {
	ID uint32
}

func (e *UnknownDictionaryError) Error() string {
	return fmt.Sprintf("frame needs dictionary %d, which is not known", e.ID)
}

// TooLargeError is returned if a frame holds more plain bytes than the Decoder allows.
type TooLargeError struct {
	Size, Max int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("frame holds %d bytes, at most %d are allowed", e.Size, e.Max)
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// Header is the parsed header of a frame.
type Header struct {
	Codec      Codec
	Fast       bool   // written at level Fast: it could be smaller
	Sealed     bool   // see Seal
	Dictionary uint32 // its id; 0: none
	PlainSize  int64  // bytes
}

// Inspect returns the header of the frame without decoding the body. Errors: ErrDamaged.
func Inspect(frame []byte) (Header, error) {
	h, _, _, err := parseHeader(frame)
	return h, err
}

func parseHeader(frame []byte) (h Header, sum uint32, body []byte, err error) {
	fail := func(format string, args ...any) (Header, uint32, []byte, error) {
		return Header{}, 0, nil, damaged(format, args...)
	}
	if len(frame) < 2 {
		return fail("only %d bytes", len(frame))
	}
	if frame[0] != frameVersion {
		return fail("version %#02x is unknown", frame[0])
	}
	number := frame[1] &^ (wireFast | wireSealed)
	h.Fast, h.Sealed = frame[1]&wireFast != 0, frame[1]&wireSealed != 0
	if int(number) >= len(codecOf) {
		return fail("codec %d is unknown; a newer episodic may have written it", number)
	}
	if h.Codec = codecOf[number]; h.Fast && h.Codec == None {
		return fail("codec none has no level, but the frame names one")
	}
	rest := frame[2:]
	dict, n := binary.Uvarint(rest)
	if n <= 0 || dict > maxDictionaryID {
		return fail("dictionary id is truncated or over %d", maxDictionaryID)
	}
	if dict != 0 && h.Codec != Zstd && h.Codec != Gzip {
		return fail("%v uses no dictionary, but the frame names %d", h.Codec, dict)
	}
	h.Dictionary = uint32(dict)
	rest = rest[n:]
	size, n := binary.Uvarint(rest)
	if n <= 0 || size > math.MaxInt64 {
		return fail("length is truncated or too large")
	}
	h.PlainSize = int64(size)
	rest = rest[n:]
	if len(rest) < 4 {
		return fail("checksum is truncated")
	}
	sum, body = binary.LittleEndian.Uint32(rest), rest[4:]
	if h.Sealed {
		if len(body) < sealSize {
			return fail("seal is truncated")
		}
		body = body[:len(body)-sealSize]
	}
	return h, sum, body, nil
}

// Seal appends a checksum to a frame that has none, as its seal. What it is over is the
// caller's matter: a Decoder passes it by.
func Seal(frame []byte, sum uint32) []byte {
	frame[1] |= wireSealed
	return binary.LittleEndian.AppendUint32(frame, sum)
}

// SealOf returns the checksum with which a whole frame was sealed; ok is false if it was not.
func SealOf(frame []byte) (sum uint32, ok bool) {
	if len(frame) < 2+sealSize || frame[1]&wireSealed == 0 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(frame[len(frame)-sealSize:]), true
}

// Prefix returns the bytes with which all frames of this codec and dictionary (0: none)
// begin that are sealed, or are not, and were not written at level Fast. No other frames
// begin with them.
func Prefix(c Codec, dictionary uint32, sealed bool) []byte {
	number := wireOf[c]
	if sealed {
		number |= wireSealed
	}
	return binary.AppendUvarint([]byte{frameVersion, number}, uint64(dictionary))
}

func appendHeader(dst []byte, h Header, sum uint32) []byte {
	number := wireOf[h.Codec]
	if h.Fast {
		number |= wireFast
	}
	dst = append(dst, frameVersion, number)
	dst = binary.AppendUvarint(dst, uint64(h.Dictionary))
	dst = binary.AppendUvarint(dst, uint64(h.PlainSize))
	return binary.LittleEndian.AppendUint32(dst, sum)
}

// maxPlain bounds the plain size of a body of this length, so that a corrupt header
// cannot cause a large allocation.
func maxPlain(c Codec, body int) int64 {
	n := int64(body)
	switch c {
	case Zstd:
		return (n/4 + 1) * 128 << 10 // a block of one repeated byte
	case LZ4:
		return n * 255 // a byte of a match's length
	case Gzip:
		return (n + 1) * 1032 // 258 bytes in two bits
	default:
		return n
	}
}
