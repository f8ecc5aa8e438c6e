package engine

import (
	"fmt"
	"strings"
)

// Row reads the columns of a row by their type. Err is the error of the first
// column that has another one; such a column reads as zero.
type Row struct {
	Values []Value
	Err    error
}

// Int returns column i, an INTEGER.
func (r *Row) Int(i int) int64 { return columnOf[int64](r, i) }

// Float returns column i, a REAL.
func (r *Row) Float(i int) float64 { return columnOf[float64](r, i) }

// Blob returns column i, a BLOB.
func (r *Row) Blob(i int) []byte { return columnOf[[]byte](r, i) }

// Text returns a copy of column i, a TEXT. A server's answer is one piece of
// memory, which a short text would keep alive.
func (r *Row) Text(i int) string { return strings.Clone(columnOf[string](r, i)) }

func columnOf[T any](r *Row, i int) (v T) {
	v, ok := r.Values[i].(T)
	if !ok && r.Err == nil {
		r.Err = fmt.Errorf("column %d holds %T, want %T", i, r.Values[i], v)
	}
	return v
}
