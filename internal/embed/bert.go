package embed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
)

// bert is an encoder as of Devlin et al. 2018 (https://arxiv.org/abs/1810.04805)
// with a pooling of its last layer, in float32.
type bert struct {
	name       string
	dim, heads int
	epsilon    float64
	words      *wordPiece
	start, end uint32 // tokens around each text
	maxTokens  int    // with these; the rest of a text is left out
	firstToken bool   // pooling: the first token instead of the mean
	token      []float32
	position   []float32 // the vector of token type 0 is added already
	first      layerNorm
	layers     []bertLayer
}

type bertLayer struct {
	query, key, value, attended, grown, shrunk linear
	afterAttention, afterShrunk                layerNorm
}

// bertPrefix finds the prefix of the names of a BERT's tensors.
func bertPrefix(ts tensors) (string, bool) {
	for _, prefix := range []string{"", "bert."} {
		if _, ok := ts[prefix+"embeddings.word_embeddings.weight"]; ok {
			return prefix, true
		}
	}
	return "", false
}

func newBERT(name string, ts tensors, prefix string, c config, words tokenizer) (*bert, error) {
	if c.Type != "bert" || c.Activation != "gelu" || c.Position != "" && c.Position != "absolute" {
		return nil, fmt.Errorf("model of type %q with activation %q and positions %q; bert with gelu and absolute is known", c.Type, c.Activation, c.Position)
	}
	wp, ok := words.(*wordPiece)
	if !ok {
		return nil, errors.New("a BERT needs a WordPiece tokenizer")
	}
	m := &bert{name: name, heads: c.Heads, epsilon: c.Epsilon, words: wp, firstToken: c.CLS}
	var found [2]bool
	m.start, found[0] = wp.vocab.lookup("[CLS]")
	m.end, found[1] = wp.vocab.lookup("[SEP]")
	if !found[0] || !found[1] {
		return nil, errors.New("vocabulary without [CLS] and [SEP]")
	}

	l := loader{ts: ts, prefix: prefix}
	m.token = l.floats("embeddings.word_embeddings.weight", len(wp.vocab.tokens), 0)
	if l.err != nil {
		return nil, l.err
	}
	m.dim = len(m.token) / len(wp.vocab.tokens)
	if m.heads <= 0 || m.dim%m.heads != 0 || c.Layers <= 0 || m.epsilon <= 0 {
		return nil, fmt.Errorf("config with %d heads, %d layers and epsilon %v for vectors of %d numbers", m.heads, c.Layers, m.epsilon, m.dim)
	}
	m.position = l.floats("embeddings.position_embeddings.weight", 0, m.dim)
	kind := l.floats("embeddings.token_type_embeddings.weight", 0, m.dim)
	m.first = l.norm("embeddings.LayerNorm", m.dim)
	for i := 0; i < c.Layers && l.err == nil; i++ {
		l.prefix = fmt.Sprintf("%sencoder.layer.%d.", prefix, i)
		m.layers = append(m.layers, bertLayer{
			query:          l.linear("attention.self.query", m.dim, m.dim),
			key:            l.linear("attention.self.key", m.dim, m.dim),
			value:          l.linear("attention.self.value", m.dim, m.dim),
			attended:       l.linear("attention.output.dense", m.dim, m.dim),
			afterAttention: l.norm("attention.output.LayerNorm", m.dim),
			grown:          l.linear("intermediate.dense", 0, m.dim),
			shrunk:         l.linear("output.dense", m.dim, 0),
			afterShrunk:    l.norm("output.LayerNorm", m.dim),
		})
	}
	if l.err != nil {
		return nil, l.err
	}
	for i, layer := range m.layers {
		if grown := m.layers[0].grown.out; layer.grown.out != grown || layer.shrunk.in != grown {
			return nil, fmt.Errorf("layer %d grows to %d and shrinks from %d numbers; %d are expected", i, layer.grown.out, layer.shrunk.in, grown)
		}
	}
	for i := range m.position {
		m.position[i] += kind[i%m.dim]
	}
	m.maxTokens = len(m.position) / m.dim
	if c.MaxTokens > 0 {
		m.maxTokens = min(m.maxTokens, c.MaxTokens)
	}
	return m, nil
}

func (m *bert) Name() string { return m.name }
func (m *bert) Dim() int     { return m.dim }

func (m *bert) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vs := vectors(len(texts), m.dim)
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if strings.TrimSpace(text) != "" {
			m.embed(vs[i], text)
		}
	}
	return vs, nil
}

// embed sets v to the vector of a text.
func (m *bert) embed(v []float32, text string) {
	tokens := m.words.appendTokens([]uint32{m.start}, text)
	tokens = append(tokens[:min(len(tokens), m.maxTokens-1)], m.end)
	n := len(tokens)
	// Rows of dim numbers, one for each token.
	x := make([]float32, n*m.dim)
	for t, id := range tokens {
		row := x[t*m.dim:][:m.dim]
		token, position := m.token[int(id)*m.dim:][:m.dim], m.position[t*m.dim:][:m.dim]
		for i := range row {
			row[i] = token[i] + position[i]
		}
	}
	m.first.apply(x, m.epsilon)

	q, k, val, y := make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x))
	grown := make([]float32, n*m.layers[0].grown.out)
	for i := range m.layers {
		l := &m.layers[i]
		l.query.apply(q, x)
		l.key.apply(k, x)
		l.value.apply(val, x)
		m.attend(y, q, k, val)
		l.attended.apply(q, y)
		add(x, q)
		l.afterAttention.apply(x, m.epsilon)
		l.grown.apply(grown, x)
		gelu(grown)
		l.shrunk.apply(q, grown)
		add(x, q)
		l.afterShrunk.apply(x, m.epsilon)
	}

	copy(v, x[:m.dim])
	for t := 1; t < n && !m.firstToken; t++ {
		add(v, x[t*m.dim:][:m.dim])
	}
	normalize(v)
}

// attend sets y to the mean of the values, for each token and head, weighted by
// the softmax of the products of queries and keys.
func (m *bert) attend(y, q, k, v []float32) {
	size := m.dim / m.heads
	n := len(q) / m.dim
	scale := float32(1 / math.Sqrt(float64(size)))
	weight := make([]float32, n)
	clear(y)
	for h := 0; h < m.dim; h += size {
		for t := range n {
			query := q[t*m.dim+h:][:size]
			highest := float32(math.Inf(-1))
			for u := range weight {
				weight[u] = scale * dot(query, k[u*m.dim+h:][:size])
				highest = max(highest, weight[u])
			}
			var sum float32
			for u, w := range weight {
				weight[u] = float32(math.Exp(float64(w - highest)))
				sum += weight[u]
			}
			out := y[t*m.dim+h:][:size]
			for u, w := range weight {
				w /= sum
				for i, f := range v[u*m.dim+h:][:size] {
					out[i] += w * f
				}
			}
		}
	}
}
