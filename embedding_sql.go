package episodic

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
)

// One row of a model, other than the item's own, tells the dimension of all,
// because every row was let in by the same condition.
const (
	modelDim           = `(SELECT dim FROM embeddings WHERE model = ? AND NOT (kind = ? AND item = ?) LIMIT 1)`
	sqlDeleteEmbedding = `DELETE FROM embeddings WHERE kind = ? AND item = ? AND model = ?`
)

// stmts returns a look at what could refuse the vector, and the conditional
// write itself, in a format.
func (e *Embedding) stmts(f VectorFormat) []engine.Stmt {
	itemExists := `EXISTS (SELECT 1 FROM ` + string(e.Kind) + `s WHERE id = ?)` // validate knows the kind
	dim := int64(len(e.Vector))
	return []engine.Stmt{
		{SQL: `SELECT ` + itemExists + `, coalesce(` + modelDim + `, 0)`, Args: []any{e.Item.bytes(), e.Model, string(e.Kind), e.Item.bytes()}},
		{
			SQL: `INSERT INTO embeddings(kind, item, model, dim, vector) SELECT ?, ?, ?, ?, ? WHERE ` + itemExists +
				` AND coalesce(` + modelDim + `, ?) = ? ON CONFLICT(kind, item, model) DO UPDATE SET dim = excluded.dim, vector = excluded.vector`,
			Args: []any{string(e.Kind), e.Item.bytes(), e.Model, dim, vectorBlob(e.Vector, f), e.Item.bytes(), e.Model, string(e.Kind), e.Item.bytes(), dim, dim},
		},
	}
}

// What libSQL puts at the end of a vector that is not of float32. The lengths of
// those are odd and those of float32 are not, so that a vector tells its format.
const (
	endInt8    = 4
	endFloat16 = 5
)

// vectorBlob returns a vector in a format, or in the next more precise one if the
// quantization error exceeds the format's limit.
func vectorBlob(v []float32, f VectorFormat) []byte {
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
	read, err := vectorFrom(blob, int64(len(v)))
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

// vectorFrom reads a vector of dim numbers in any format. A length or an end of
// no format is an error, and so is a number that is not finite.
func vectorFrom(b []byte, dim int64) ([]float32, error) {
	if dim < 1 || dim > maxDimension {
		return nil, fmt.Errorf("vector of %d numbers; 1 to %d can be stored", dim, maxDimension)
	}
	n := int(dim)
	v := make([]float32, n)
	codes := (n + 3) &^ 3 // int8 is padded
	end := byte(0)
	if len(b) > 0 {
		end = b[len(b)-1]
	}
	switch {
	case len(b) == 4*n:
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case len(b) == 2*n+1 && end == endFloat16:
		for i := range v {
			v[i] = fromHalf(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case len(b) == codes+11 && end == endInt8:
		step := math.Float32frombits(binary.LittleEndian.Uint32(b[codes:]))
		least := math.Float32frombits(binary.LittleEndian.Uint32(b[codes+4:]))
		for i := range v {
			v[i] = float32(float64(least) + float64(step)*float64(b[i]))
		}
	default:
		return nil, fmt.Errorf("vector of %d numbers has %d bytes and ends in %d, which is no format of ours", dim, len(b), end)
	}
	for i, x := range v {
		if x-x != 0 {
			return nil, fmt.Errorf("vector[%d] is %v", i, x)
		}
	}
	return v, nil
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
	return math.Float32frombits(sign|rest<<13) * 0x1p112 // moves the exponent, of subnormals too
}

// int8Blob is libSQL's vector8: a byte for each number, 0 to fill up to a
// multiple of 4, the step and the least number as float32, a zero, how many bytes
// were filled.
func int8Blob(v []float32) []byte {
	least := float64(slices.Min(v))
	step := float32((float64(slices.Max(v)) - least) / 255)
	b := make([]byte, (len(v)+3)&^3, (len(v)+3)&^3+11)
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
