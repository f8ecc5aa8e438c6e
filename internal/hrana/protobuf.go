package hrana

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"slices"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

var errNotUTF8 = errors.New("text is not valid UTF-8")

// Wire types, as the low three bits of a field's tag.
const (
	varint    = uint64(protowire.VarintType)
	fixed64   = uint64(protowire.Fixed64Type)
	delimited = uint64(protowire.BytesType)
)

// encoder writes a message from its last field to its first, so that the length of a
// nested message is known before it is written and takes the fewest bytes.
type encoder struct {
	buf   []byte
	start int // buf[start:] has been written
}

// prepend returns n bytes to fill, before those already written.
func (e *encoder) prepend(n int) []byte {
	if n > e.start {
		grown := make([]byte, 2*len(e.buf)+n)
		start := len(grown) - e.written()
		copy(grown[start:], e.buf[e.start:])
		e.buf, e.start = grown, start
	}
	e.start -= n
	return e.buf[e.start : e.start+n]
}

func (e *encoder) written() int { return len(e.buf) - e.start }

func (e *encoder) number(v uint64) {
	if v < 0x80 && e.start > 0 { // nearly always
		e.start--
		e.buf[e.start] = byte(v)
		return
	}
	protowire.AppendVarint(e.prepend(protowire.SizeVarint(v))[:0], v)
}

func (e *encoder) tag(field protowire.Number, typ protowire.Type) {
	e.number(protowire.EncodeTag(field, typ))
}

// length makes the n bytes written last a length-delimited field.
func (e *encoder) length(field protowire.Number, n int) {
	e.number(uint64(n))
	e.tag(field, protowire.BytesType)
}

func (e *encoder) varint(field protowire.Number, v uint64) {
	e.number(v)
	e.tag(field, protowire.VarintType)
}

func (e *encoder) string(field protowire.Number, s string) {
	copy(e.prepend(len(s)), s)
	e.length(field, len(s))
}

func (e *encoder) empty(field protowire.Number) { e.length(field, 0) }

// encodeProtobuf encodes p, which must have passed check.
func encodeProtobuf(p Pipeline) []byte {
	size := sizeHint(p)
	e := encoder{buf: make([]byte, size), start: size}
	for _, r := range slices.Backward(p.Requests) {
		e.request(r, p.ReplicationIndex)
	}
	if p.Baton != "" {
		e.string(1, p.Baton)
	}
	return e.buf[e.start:]
}

func (e *encoder) request(r Request, index uint64) {
	end := e.written()
	switch r := r.(type) {
	case Close:
		e.empty(1)
	case Execute:
		e.stmt(1, r.Stmt, index)
		e.length(2, e.written()-end)
	case Batch:
		e.index(2, index)
		for _, s := range slices.Backward(r.Steps) {
			e.step(s)
		}
		e.length(1, e.written()-end)
		e.length(3, e.written()-end)
	}
	e.length(2, e.written()-end)
}

func (e *encoder) step(s Step) {
	end := e.written()
	e.stmt(2, s.Stmt, 0)
	if s.Cond.op != condAlways {
		e.cond(1, s.Cond)
	}
	e.length(1, e.written()-end)
}

func (e *encoder) cond(field protowire.Number, c Cond) {
	end := e.written()
	switch c.op {
	case condOk:
		e.varint(1, uint64(c.step)) // a member of a oneof: step 0 must be written too
	case condNot:
		e.cond(3, c.subs[0])
	case condAlways, condAnd: // an empty list of conditions always holds
		for _, sub := range slices.Backward(c.subs) {
			e.cond(1, sub)
		}
		e.length(4, e.written()-end)
	case condIsAutocommit:
		e.empty(6)
	}
	e.length(field, e.written()-end)
}

func (e *encoder) stmt(field protowire.Number, s Stmt, index uint64) {
	end := e.written()
	e.index(6, index)
	for _, v := range slices.Backward(s.Args) {
		e.value(v)
	}
	e.string(1, s.SQL)
	e.length(field, e.written()-end)
}

// index encodes the minimum replication index, unless it is 0.
func (e *encoder) index(field protowire.Number, index uint64) {
	if index > 0 {
		e.varint(field, index)
	}
}

// value encodes an argument. It is a oneof, so that zero and empty values must be
// written too.
func (e *encoder) value(v any) {
	end := e.written()
	switch v := v.(type) {
	case nil:
		e.empty(1)
	case int64:
		e.varint(2, protowire.EncodeZigZag(v))
	case float64:
		binary.LittleEndian.PutUint64(e.prepend(8), math.Float64bits(v))
		e.tag(3, protowire.Fixed64Type)
	case string:
		e.string(4, v)
	case []byte:
		copy(e.prepend(len(v)), v)
		e.length(5, len(v))
	}
	e.length(3, e.written()-end)
}

// sizeHint estimates the encoded size of p in bytes, so that the buffer rarely grows.
func sizeHint(p Pipeline) int {
	n := len(p.Baton) + 64
	for _, r := range p.Requests {
		switch r := r.(type) {
		case Execute:
			n += stmtHint(r.Stmt)
		case Batch:
			for _, s := range r.Steps {
				n += 48 + stmtHint(s.Stmt)
			}
		}
	}
	return n
}

func stmtHint(s Stmt) int {
	n := len(s.SQL) + 32
	for _, v := range s.Args {
		n += 16
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}

// field is one field of a message: its tag (number<<3 | wire type) and its bytes or its
// numeric value.
type field struct {
	tag   uint64
	bytes []byte
	num   uint64
}

// next splits the first field off a message.
func next(msg []byte) (field, []byte, error) {
	tag, n := protowire.ConsumeVarint(msg)
	if n < 0 {
		return field{}, nil, protowire.ParseError(n)
	}
	f := field{tag: tag}
	msg = msg[n:]
	switch tag & 7 {
	case varint:
		f.num, n = protowire.ConsumeVarint(msg)
	case fixed64:
		f.num, n = protowire.ConsumeFixed64(msg)
	case delimited:
		f.bytes, n = protowire.ConsumeBytes(msg)
	default:
		number, typ := protowire.DecodeTag(tag)
		n = protowire.ConsumeFieldValue(number, typ, msg)
	}
	if n < 0 {
		return field{}, nil, protowire.ParseError(n)
	}
	return f, msg[n:], nil
}

// fields yields the fields of a message. After an error it stops.
func fields(msg []byte) iter.Seq2[field, error] {
	return func(yield func(field, error) bool) {
		for len(msg) > 0 {
			f, rest, err := next(msg)
			if !yield(f, err) || err != nil {
				return
			}
			msg = rest
		}
	}
}

// text returns the field as a string that shares the memory of the message.
func (f field) text() (string, error) {
	if !utf8.Valid(f.bytes) {
		return "", errNotUTF8
	}
	return unsafe.String(unsafe.SliceData(f.bytes), len(f.bytes)), nil
}

// decodeProtobuf decodes the answer to requests. The values share the memory of msg,
// which must not be modified afterwards.
func decodeProtobuf(msg []byte, requests []Request) (*Answer, error) {
	a := &Answer{Results: make([]Result, 0, len(requests))}
	for f, err := range fields(msg) {
		if err != nil {
			return nil, err
		}
		switch f.tag {
		case 1<<3 | delimited:
			a.Baton = string(f.bytes) // a copy: it outlives the answer
		case 2<<3 | delimited:
			a.BaseURL = string(f.bytes)
		case 3<<3 | delimited:
			i := len(a.Results)
			if i == len(requests) {
				return nil, errors.New("more results than requests")
			}
			r, err := decodeResult(f.bytes, requests[i])
			if err != nil {
				return nil, fmt.Errorf("result %d: %w", i, err)
			}
			a.Results = append(a.Results, r)
		}
	}
	if len(a.Results) < len(requests) {
		return nil, fmt.Errorf("%d results for %d requests", len(a.Results), len(requests))
	}
	return a, nil
}

func decodeResult(msg []byte, request Request) (Result, error) {
	for f, err := range fields(msg) {
		if err != nil {
			return Result{}, err
		}
		switch f.tag {
		case 1<<3 | delimited:
			return decodeResponse(f.bytes, request)
		case 2<<3 | delimited:
			failure, err := decodeError(f.bytes)
			return Result{Err: failure}, err
		}
	}
	return Result{}, errors.New("neither ok nor error")
}

func decodeResponse(msg []byte, request Request) (Result, error) {
	for f, err := range fields(msg) {
		if err != nil {
			return Result{}, err
		}
		switch r := request.(type) {
		case Close:
			if f.tag == 1<<3|delimited {
				return Result{}, nil
			}
		case Execute:
			if f.tag == 2<<3|delimited {
				result, err := within(f.bytes, decodeStmtResult)
				return Result{Stmt: result}, err
			}
		case Batch:
			if f.tag == 3<<3|delimited {
				result, err := within(f.bytes, func(msg []byte) (*BatchResult, error) {
					return decodeBatchResult(msg, len(r.Steps))
				})
				return Result{Batch: result}, err
			}
		}
	}
	return Result{}, fmt.Errorf("no answer to a %T", request)
}

// within decodes the message in field 1 of msg. An omitted field is an empty message.
func within[T any](msg []byte, decode func([]byte) (*T, error)) (*T, error) {
	var inner []byte
	for f, err := range fields(msg) {
		if err != nil {
			return nil, err
		}
		if f.tag == 1<<3|delimited {
			inner = f.bytes
		}
	}
	return decode(inner)
}

func decodeError(msg []byte) (*Error, error) {
	e := &Error{Status: http.StatusOK}
	for f, err := range fields(msg) {
		if err != nil {
			return nil, err
		}
		switch f.tag {
		case 1<<3 | delimited:
			e.Message = string(f.bytes)
		case 2<<3 | delimited:
			e.Code = string(f.bytes)
		}
	}
	return e, nil
}

func decodeBatchResult(msg []byte, steps int) (*BatchResult, error) {
	b := &BatchResult{Steps: make([]StepResult, steps)}
	for f, err := range fields(msg) {
		if err != nil {
			return nil, err
		}
		if f.tag != 1<<3|delimited && f.tag != 2<<3|delimited {
			continue
		}
		step, value, err := decodeEntry(f.bytes)
		if err != nil {
			return nil, err
		}
		if step >= uint64(steps) {
			return nil, fmt.Errorf("result of step %d in a batch of %d", step, steps)
		}
		if f.tag>>3 == 1 {
			b.Steps[step].Result, err = decodeStmtResult(value)
		} else {
			b.Steps[step].Err, err = decodeError(value)
		}
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", step, err)
		}
	}
	return b, nil
}

// decodeEntry decodes one entry of a map. The key 0 may be omitted.
func decodeEntry(msg []byte) (key uint64, value []byte, err error) {
	for f, err := range fields(msg) {
		if err != nil {
			return 0, nil, err
		}
		switch f.tag {
		case 1<<3 | varint:
			key = f.num
		case 2<<3 | delimited:
			value = f.bytes
		}
	}
	return key, value, nil
}

func decodeStmtResult(msg []byte) (*StmtResult, error) {
	r := &StmtResult{}
	cols := 0
	for f, err := range fields(msg) {
		if err != nil {
			return nil, err
		}
		switch f.tag {
		case 1<<3 | delimited:
			cols++
		case 2<<3 | delimited:
			row, err := decodeRow(f.bytes, cols)
			if err != nil {
				return nil, fmt.Errorf("row %d: %w", len(r.Rows), err)
			}
			r.Rows = append(r.Rows, row)
		case 3<<3 | varint:
			r.Affected = int64(f.num)
		case 5<<3 | varint:
			r.ReplicationIndex = f.num
		}
	}
	return r, nil
}

func decodeRow(msg []byte, cols int) ([]any, error) {
	// A value takes at least two bytes, so that a corrupt answer cannot cause a large
	// allocation.
	row := make([]any, 0, min(cols, len(msg)/2))
	for f, err := range fields(msg) {
		if err != nil {
			return nil, err
		}
		if f.tag != 1<<3|delimited {
			continue
		}
		v, err := decodeValue(f.bytes)
		if err != nil {
			return nil, fmt.Errorf("column %d: %w", len(row), err)
		}
		row = append(row, v)
	}
	return row, nil
}

func decodeValue(msg []byte) (any, error) {
	for f, err := range fields(msg) {
		if err != nil {
			return nil, err
		}
		switch f.tag {
		case 1<<3 | delimited:
			return nil, nil
		case 2<<3 | varint:
			return protowire.DecodeZigZag(f.num), nil
		case 3<<3 | fixed64:
			return math.Float64frombits(f.num), nil
		case 4<<3 | delimited:
			return f.text()
		case 5<<3 | delimited:
			return f.bytes[:len(f.bytes):len(f.bytes)], nil
		}
	}
	return nil, errors.New("value of unknown type")
}
