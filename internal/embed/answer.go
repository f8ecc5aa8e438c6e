package embed

import (
	"encoding/json"
	"fmt"
)

// decodeVectors reads the answer of OpenAI's method embeddings: n vectors of dim
// numbers, or of any equal number where dim is 0. They are scaled to length 1.
func decodeVectors(answer []byte, n, dim int) ([][]float32, error) {
	var a struct {
		Data []struct {
			Index     *int      `json:"index"`
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if len(a.Data) != n {
		return nil, fmt.Errorf("answer has %d vectors for %d texts", len(a.Data), n)
	}
	vs := make([][]float32, n)
	for i, d := range a.Data {
		if d.Index != nil {
			i = *d.Index
		}
		if i < 0 || i >= n || vs[i] != nil {
			return nil, fmt.Errorf("answer has no vector for some texts, and one too many with index %d", i)
		}
		if dim == 0 {
			dim = len(d.Embedding)
		}
		if len(d.Embedding) == 0 || len(d.Embedding) != dim {
			return nil, fmt.Errorf("answer has a vector of %d numbers; %d are expected", len(d.Embedding), dim)
		}
		normalize(d.Embedding)
		vs[i] = d.Embedding
	}
	return vs, nil
}
