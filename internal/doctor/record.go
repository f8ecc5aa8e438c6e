package doctor

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// maxColumns bounds the columns of a record.
const maxColumns = 100

// record reads the values of a record: nil, int64, float64, string and []byte. It returns
// false unless every byte of it has a meaning.
func record(b []byte) (values []any, ok bool) {
	size, n := varint(b)
	if n == 0 || size < uint64(n) || size > uint64(len(b)) {
		return nil, false
	}
	types, body := b[n:size], b[size:]
	for len(types) > 0 {
		t, n := varint(types)
		if n == 0 || len(values) == maxColumns {
			return nil, false
		}
		types = types[n:]
		v, length, ok := value(t, body)
		if !ok {
			return nil, false
		}
		values, body = append(values, v), body[length:]
	}
	return values, len(body) == 0
}

// intSizes are the bytes of integers by their serial types.
var intSizes = [...]int{0, 1, 2, 3, 4, 6, 8}

// value reads a value of a serial type from the beginning of b.
func value(t uint64, b []byte) (v any, length int, ok bool) {
	switch {
	case t == 0:
		return nil, 0, true
	case t < uint64(len(intSizes)):
		length = intSizes[t]
		if length > len(b) {
			return nil, 0, false
		}
		n := int64(int8(b[0])) // the sign
		for _, c := range b[1:length] {
			n = n<<8 | int64(c)
		}
		return n, length, true
	case t == 7:
		if len(b) < 8 {
			return nil, 0, false
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), 8, true
	case t == 8 || t == 9:
		return int64(t - 8), 0, true
	case t < 12 || (t-12)/2 > uint64(len(b)):
		return nil, 0, false
	}
	length = int((t - 12) / 2)
	if t%2 == 0 {
		return append([]byte{}, b[:length]...), length, true
	}
	if !utf8.Valid(b[:length]) {
		return nil, 0, false
	}
	return string(b[:length]), length, true
}
