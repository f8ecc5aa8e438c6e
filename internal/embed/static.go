package embed

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// static is a model with a vector for each token, as Model2Vec and WordLlama
// make them. The vector of a text is the mean of its tokens'.
type static struct {
	name    string
	dim     int
	words   tokenizer
	skip    int       // token that says nothing; -1: none
	rows    tensor    // decoded when they are added
	mapping []uint32  // row of each token; nil: its number
	weights []float32 // of each token; nil: 1
}

// newStatic reads Model2Vec's tensors embeddings, mapping and weights, or
// WordLlama's embedding.weight.
func newStatic(name string, ts tensors, words tokenizer, unknown, size int) (*static, error) {
	key := "embeddings"
	if _, ok := ts[key]; !ok {
		key = "embedding.weight"
	}
	rows, err := ts.real(key, 0, 0)
	if err != nil {
		return nil, err
	}
	s := &static{name: name, dim: rows.shape[1], words: words, skip: -1, rows: rows}
	if key == "embeddings" {
		s.skip = unknown // Model2Vec leaves unknown words out, WordLlama does not
	}
	if _, ok := ts["mapping"]; ok {
		if s.mapping, err = ts.ints("mapping", rows.shape[0], size); err != nil {
			return nil, err
		}
	} else if rows.shape[0] < size {
		return nil, fmt.Errorf("tensor %q has %d rows for %d tokens", key, rows.shape[0], size)
	}
	if _, ok := ts["weights"]; ok {
		if s.weights, err = ts.floats("weights", size); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *static) Name() string { return s.name }
func (s *static) Dim() int     { return s.dim }

func (s *static) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vs := vectors(len(texts), s.dim)
	var tokens []uint32
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tokens = s.words.appendTokens(tokens[:0], text)
		for _, id := range tokens {
			if int(id) != s.skip {
				s.add(vs[i], id)
			}
		}
		if length := normalize(vs[i]); math.IsNaN(length) || math.IsInf(length, 0) {
			return nil, errors.New("the model has numbers that are not finite; its file is damaged")
		}
	}
	return vs, nil
}

// add adds the weighted row of a token to v. Normalisation makes the sum the mean.
func (s *static) add(v []float32, id uint32) {
	weight := float32(1)
	if s.weights != nil {
		weight = s.weights[id]
	}
	if s.mapping != nil {
		id = s.mapping[id]
	}
	for i, row := 0, int(id)*s.dim; i < s.dim; i++ {
		v[i] += weight * s.rows.number(row+i)
	}
}
