package vector

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Format is how the numbers of a vector are stored. Each format is libSQL's own, so
// that a server's vector functions take what is stored.
type Format uint8

// The formats.
const (
	Float16 Format = iota // an IEEE half for each number
	Float32               // exact
	Int8                  // one of 256 even steps from the least number to the greatest
)

// MaxDimension bounds a vector; a row of more would exceed what servers take.
const MaxDimension = 1_000_000

// What libSQL puts at the end of a vector that is not of float32. The lengths of
// those are odd and those of float32 are not, so that a vector tells its format.
const (
	endInt8    = 4
	endFloat16 = 5
)

// Encode returns a vector in a format, or in the next more precise one if its
// quantization error exceeds 1/2048 (Float16) or 1/32 (Int8). The vector has 1 to
// MaxDimension numbers, all finite.
func Encode(v []float32, f Format) []byte {
	if f == Int8 {
		if b := int8Blob(v); quantizationError(v, b) <= 1./32 {
			return b
		}
	}
	if f != Float32 {
		if b := float16Blob(v); quantizationError(v, b) <= 1./2048 {
			return b
		}
	}
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// quantizationError is the relative L2 error of reading v back from blob:
// |v - read| / |v|.
func quantizationError(v []float32, blob []byte) float64 {
	read, err := Decode(blob, int64(len(v)))
	if err != nil {
		return math.Inf(1) // a number too large for the format
	}
	var distance, length float64
	for i, x := range v {
		d := float64(x) - float64(read[i])
		distance += d * d
		length += float64(x) * float64(x)
	}
	if distance == 0 {
		return 0
	}
	return math.Sqrt(distance / length)
}

// Decode reads a vector of dim numbers in any format. A length or an end of no
// format is an error, and so is a number that is not finite.
func Decode(b []byte, dim int64) ([]float32, error) {
	f, err := formatOf(b, dim)
	if err != nil {
		return nil, err
	}
	v := make([]float32, dim)
	if err := decode(v, b, f); err != nil {
		return nil, err
	}
	return v, nil
}

// formatOf returns the format of a vector of dim numbers.
func formatOf(b []byte, dim int64) (Format, error) {
	if dim < 1 || dim > MaxDimension {
		return 0, fmt.Errorf("vector of %d numbers; 1 to %d can be stored", dim, MaxDimension)
	}
	n := int(dim)
	end := byte(0)
	if len(b) > 0 {
		end = b[len(b)-1]
	}
	switch {
	case len(b) == 4*n:
		return Float32, nil
	case len(b) == 2*n+1 && end == endFloat16:
		return Float16, nil
	case len(b) == int8Codes(n)+11 && end == endInt8:
		return Int8, nil
	}
	return 0, fmt.Errorf("vector of %d numbers has %d bytes and ends in %d, which is no format of ours", dim, len(b), end)
}

// decode reads len(v) numbers of a format.
func decode(v []float32, b []byte, f Format) error {
	switch f {
	case Float32:
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case Float16:
		for i := range v {
			v[i] = fromHalf(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case Int8:
		step, least := int8Scale(b, len(v))
		for i := range v {
			v[i] = float32(least + step*float64(b[i]))
		}
	}
	for i, x := range v {
		if x-x != 0 {
			return fmt.Errorf("vector[%d] is %v", i, x)
		}
	}
	return nil
}

// float16Blob is libSQL's vector16: IEEE halves, little-endian.
func float16Blob(v []float32) []byte {
	b := make([]byte, 0, 2*len(v)+1)
	for _, x := range v {
		b = binary.LittleEndian.AppendUint16(b, toHalf(x))
	}
	return append(b, endFloat16)
}

// toHalf rounds to the nearest, ties to even, and to infinity from 65,520 on.
func toHalf(x float32) uint16 {
	bits := math.Float32bits(x)
	sign, bits := uint16(bits>>16&0x8000), bits&^(1<<31)
	switch {
	case bits >= 0x477ff000: // 65,520
		return sign | 0x7c00
	case bits < 0x38800000: // 2^-14; below it a half counts in 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(bits))*0x1p24))
	}
	bits += 0xfff + bits>>13&1
	return sign | uint16((bits-(127-15)<<23)>>13)
}

func fromHalf(h uint16) float32 {
	sign, rest := uint32(h&0x8000)<<16, uint32(h&0x7fff)
	if rest >= 0x7c00 { // infinity or not a number
		return math.Float32frombits(sign | 0xff<<23 | rest<<13)
	}
	return finiteHalf(sign | rest<<13)
}

// finiteHalf moves the exponent of a finite half, subnormals too, whose sign and other
// bits are in their places of a float32.
func finiteHalf(bits uint32) float32 { return math.Float32frombits(bits) * 0x1p112 }

// int8Codes is how many bytes of an int8 vector hold codes, those that fill included.
func int8Codes(n int) int { return (n + 3) &^ 3 }

// int8Blob is libSQL's vector8: a byte for each number, 0 to fill up to a
// multiple of 4, the step and the least number as float32, a zero, how many bytes
// were filled.
func int8Blob(v []float32) []byte {
	least := float64(slices.Min(v))
	step := float32((float64(slices.Max(v)) - least) / 255)
	codes := int8Codes(len(v))
	b := make([]byte, codes, codes+11)
	if step > 0 {
		for i, x := range v {
			b[i] = byte(min(255, math.Round((float64(x)-least)/float64(step))))
		}
	}
	filled := byte(len(b) - len(v))
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(step))
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(least)))
	return append(b, 0, filled, endInt8)
}

// int8Scale returns the step and the least number of an int8 vector of n numbers.
func int8Scale(b []byte, n int) (step, least float64) {
	at := int8Codes(n)
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(b[at:]))),
		float64(math.Float32frombits(binary.LittleEndian.Uint32(b[at+4:])))
}
