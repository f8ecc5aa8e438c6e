package episodic

import (
	"encoding/binary"
	"math"

	"github.com/episodic-memory/episodic/internal/engine"
)

// One row of a model, other than the item's own, tells the dimension of all,
// because every row was let in by the same condition.
const (
	modelDim           = `(SELECT dim FROM embeddings WHERE model = ? AND NOT (kind = ? AND item = ?) LIMIT 1)`
	sqlDeleteEmbedding = `DELETE FROM embeddings WHERE kind = ? AND item = ? AND model = ?`
)

// stmts returns a look at what could refuse the vector, and the conditional
// write itself.
func (e *Embedding) stmts() []engine.Stmt {
	itemExists := `EXISTS (SELECT 1 FROM ` + string(e.Kind) + `s WHERE id = ?)` // validate knows the kind
	dim := int64(len(e.Vector))
	return []engine.Stmt{
		{SQL: `SELECT ` + itemExists + `, coalesce(` + modelDim + `, 0)`, Args: []any{e.Item.bytes(), e.Model, string(e.Kind), e.Item.bytes()}},
		{
			SQL: `INSERT INTO embeddings(kind, item, model, dim, vector) SELECT ?, ?, ?, ?, ? WHERE ` + itemExists +
				` AND coalesce(` + modelDim + `, ?) = ? ON CONFLICT(kind, item, model) DO UPDATE SET dim = excluded.dim, vector = excluded.vector`,
			Args: []any{string(e.Kind), e.Item.bytes(), e.Model, dim, vectorBlob(e.Vector), e.Item.bytes(), e.Model, string(e.Kind), e.Item.bytes(), dim, dim},
		},
	}
}

// vectorBlob is a vector in the form of libSQL's vector32: float32,
// little-endian, nothing else.
func vectorBlob(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

func vectorFrom(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}
