package embed

import (
	"context"
	_ "embed" // the table
	"fmt"
	"strings"
	"sync"
)

// tableFile was made by the programs in the folder distil.
//
//go:embed table.bin
var tableFile string

const (
	builtinName = "episodic-static-1" // changes with the table
	builtinDim  = 256
)

var builtinTable = sync.OnceValue(func() *table {
	t, err := parseTable(tableFile)
	if err == nil && t.dim != builtinDim {
		err = fmt.Errorf("dimension %d instead of %d", t.dim, builtinDim)
	}
	if err != nil {
		panic("embed: the built-in table: " + err.Error()) // a test loads it
	}
	return t
})

// Builtin is the model in the binary: the sum of a vector for each token, which
// was fitted to the vectors of all-MiniLM-L6-v2. It does not know the order of
// words, and is best in English. The zero value is ready; the first use takes
// about two milliseconds and 0.7 MB of memory.
type Builtin struct{}

var _ Model = Builtin{}

// Name names the table in this version of the program.
func (Builtin) Name() string { return builtinName }

// Dim is the number of numbers in a vector.
func (Builtin) Dim() int { return builtinDim }

// Embed returns a vector for each text. The only error is that of ctx.
func (b Builtin) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vs := vectors(len(texts), b.Dim())
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.Append(vs[i][:0], text)
	}
	return vs, nil
}

// Append appends the vector of text to dst. It takes some 12 µs for a text of
// 35 tokens and does not allocate if dst has room for Dim numbers.
func (Builtin) Append(dst []float32, text string) []float32 {
	return builtinTable().append(dst, text)
}

// Knows reports whether word is one that the table has a vector for, in whole. Of others, such
// as names and numbers, it has only pieces, which say little.
func (Builtin) Knows(word string) bool {
	t := builtinTable()
	var room [4]uint32
	tokens := t.words.appendTokens(room[:0], word)
	return len(tokens) == 1 && tokens[0] != t.words.unknown && !strings.ContainsAny(word, "0123456789")
}
