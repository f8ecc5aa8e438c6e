package embed

import (
	"context"
	"math"
)

// A Model turns texts into vectors of length 1. All methods may be called
// concurrently.
type Model interface {
	// Name names the model with its version. Vectors of models of different
	// names are never compared.
	Name() string

	// Dim is the number of numbers in a vector.
	Dim() int

	// Embed returns a vector for each text, in their order. A text without
	// anything that the model knows, such as the empty one, has the zero
	// vector, which is near to nothing.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// normalize scales v to length 1 and returns the length it had. The zero vector
// remains what it is.
func normalize(v []float32) float64 {
	var sum float64
	for _, f := range v {
		sum += float64(f) * float64(f)
	}
	if sum == 0 {
		return 0
	}
	length := math.Sqrt(sum)
	scale := 1 / length // in float32 it could be infinite
	for i, f := range v {
		v[i] = float32(float64(f) * scale)
	}
	return length
}

// vectors gives n vectors of dim numbers in one piece of memory, all zero.
func vectors(n, dim int) [][]float32 {
	all := make([]float32, n*dim)
	vs := make([][]float32, n)
	for i := range vs {
		vs[i] = all[i*dim : (i+1)*dim : (i+1)*dim]
	}
	return vs
}
