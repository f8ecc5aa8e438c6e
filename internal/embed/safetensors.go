package embed

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
)

// tensor is one array of a file of safetensors. Its numbers are decoded when
// they are asked for.
type tensor struct {
	kind  string // of a number: F32, F16, BF16, I8, I64
	shape []int
	data  []byte
}

// tensors are the arrays of a file by name. The file is a uint64 with the size
// of a JSON header, the header, and the numbers, little-endian
// (https://github.com/huggingface/safetensors#format).
type tensors map[string]tensor

// numberSize is the bytes of a number of each kind that is read.
var numberSize = map[string]int{"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "I64": 8}

func parseTensors(b []byte) (tensors, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("%d bytes are no safetensors", len(b))
	}
	size, rest := binary.LittleEndian.Uint64(b), b[8:]
	if size > uint64(len(rest)) {
		return nil, fmt.Errorf("header of %d bytes in a file of %d", size, len(b))
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(rest[:size], &header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	rest = rest[size:]
	ts := make(tensors, len(header))
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		var h struct {
			Kind    string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &h); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		from, to := h.Offsets[0], h.Offsets[1]
		if from < 0 || to < from || to > len(rest) {
			return nil, fmt.Errorf("tensor %q at %d to %d of %d bytes", name, from, to, len(rest))
		}
		if width, known := numberSize[h.Kind]; known {
			n := (to - from) / width
			for _, d := range h.Shape {
				// Dividing instead of multiplying cannot overflow.
				if d <= 0 || n%d != 0 {
					n = 0
					break
				}
				n /= d
			}
			if n != 1 || (to-from)%width != 0 {
				return nil, fmt.Errorf("tensor %q has %d bytes for %v numbers of kind %s", name, to-from, h.Shape, h.Kind)
			}
		}
		ts[name] = tensor{h.Kind, h.Shape, rest[from:to]}
	}
	return ts, nil
}

// real gives a tensor of numbers that number can decode. It must have the shape,
// where 0 stands for any number.
func (ts tensors) real(name string, shape ...int) (tensor, error) {
	t, err := ts.shaped(name, shape)
	if _, known := numberSize[t.kind]; err == nil && (!known || t.kind == "I64") {
		err = fmt.Errorf("tensor %q has numbers of kind %s; F32, F16, BF16 and I8 can be read", name, t.kind)
	}
	return t, err
}

// floats decodes a tensor as real has it. All numbers must be finite.
func (ts tensors) floats(name string, shape ...int) ([]float32, error) {
	t, err := ts.real(name, shape...)
	if err != nil {
		return nil, err
	}
	f := make([]float32, len(t.data)/numberSize[t.kind])
	for i := range f {
		f[i] = t.number(i)
		if f[i]-f[i] != 0 {
			return nil, fmt.Errorf("tensor %q has the number %v", name, f[i])
		}
	}
	return f, nil
}

// number decodes one number.
func (t *tensor) number(i int) float32 {
	switch t.kind {
	case "F32":
		return math.Float32frombits(binary.LittleEndian.Uint32(t.data[4*i:]))
	case "F16":
		return half(binary.LittleEndian.Uint16(t.data[2*i:]))
	case "BF16":
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.data[2*i:])) << 16)
	default: // I8, as real has seen to
		return float32(int8(t.data[i]))
	}
}

func (ts tensors) shaped(name string, shape []int) (tensor, error) {
	t, ok := ts[name]
	if !ok {
		return t, fmt.Errorf("tensor %q is missing", name)
	}
	fits := len(t.shape) == len(shape)
	for i := 0; fits && i < len(shape); i++ {
		fits = shape[i] == 0 || shape[i] == t.shape[i]
	}
	if !fits {
		return t, fmt.Errorf("tensor %q is %v; %v is expected", name, t.shape, shape)
	}
	return t, nil
}

// ints decodes a tensor of whole numbers from 0 to below limit.
func (ts tensors) ints(name string, limit int, shape ...int) ([]uint32, error) {
	t, err := ts.shaped(name, shape)
	if err != nil {
		return nil, err
	}
	if t.kind != "I64" {
		return nil, fmt.Errorf("tensor %q has numbers of kind %s; I64 is expected", name, t.kind)
	}
	n := make([]uint32, len(t.data)/8)
	for i := range n {
		v := binary.LittleEndian.Uint64(t.data[8*i:])
		if v >= uint64(limit) {
			return nil, fmt.Errorf("tensor %q has the number %d; it must be below %d", name, int64(v), limit)
		}
		n[i] = uint32(v)
	}
	return n, nil
}
