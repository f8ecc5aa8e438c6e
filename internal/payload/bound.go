package payload

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/episodic-memory/episodic/internal/codec"
)

// Bound is a checksum over the columns that a payload is stored with. What is encoded with
// it can be decoded only with the same columns. The zero Bound is that of no columns.
type Bound uint32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Bind returns the Bound of columns, which are of the types that rows have: int64, float64,
// string, []byte, or nil.
func Bind(columns ...any) Bound {
	buf := buffers.Get().(*[]byte)
	defer keep(buf)
	b := (*buf)[:0]
	for _, column := range columns {
		switch v := column.(type) {
		case nil:
			b = append(b, 'n')
		case int64:
			b = binary.LittleEndian.AppendUint64(append(b, 'i'), uint64(v))
		case float64:
			b = binary.LittleEndian.AppendUint64(append(b, 'f'), math.Float64bits(v))
		case string:
			b = append(binary.LittleEndian.AppendUint32(append(b, 't'), uint32(len(v))), v...)
		case []byte:
			b = append(binary.LittleEndian.AppendUint32(append(b, 'b'), uint32(len(v))), v...)
		default:
			panic("payload: a column of a type that no row has") // v must not escape
		}
	}
	*buf = b
	return Bound(crc32.Checksum(b, castagnoli))
}

// over returns the seal of a JSON text that is stored with the columns.
func (b Bound) over(text []byte) seal {
	return seal{crc32.Update(uint32(b), castagnoli, text), true}
}

// check compares the seal of a payload with its text and the columns it was read with.
func (b Bound) check(payload, text []byte) error {
	have, want := sealOf(payload), b.over(text)
	if have.is && have != want {
		return fmt.Errorf("%w: the checksum is %08x, but the payload and the columns beside it have %08x", ErrCorrupt, have.sum, want.sum)
	}
	return nil
}

// seal is the checksum at the end of a payload. The zero seal is none: payloads of earlier
// versions have none.
type seal struct {
	sum uint32
	is  bool
}

const sealSize = 4

// sealOf returns the seal of a payload.
func sealOf(payload []byte) (s seal) {
	switch {
	case len(payload) > sealSize && payload[0] == formatSealedJSON:
		return seal{binary.LittleEndian.Uint32(payload[len(payload)-sealSize:]), true}
	case len(payload) > 0 && payload[0] == formatFrame:
		s.sum, s.is = codec.SealOf(payload)
	}
	return s
}

// put appends the seal to a payload that has none.
func (s seal) put(payload []byte) []byte {
	switch {
	case !s.is:
		return payload
	case payload[0] == formatFrame:
		return codec.Seal(payload, s.sum)
	}
	payload[0] = formatSealedJSON
	return binary.LittleEndian.AppendUint32(payload, s.sum)
}
