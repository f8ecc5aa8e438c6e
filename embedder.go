package episodic

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/episodic-memory/episodic/internal/embed"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/vector"
)

// Embedder is a model that turns texts into vectors whose cosines tell how near the texts
// are in meaning. All methods may be called concurrently. See OpenEmbedder.
type Embedder interface {
	// Name names the model and its version: at most 1,000 bytes without control characters.
	// Vectors of models of different names are never compared.
	Name() string

	// Dim is how many numbers a vector has, from 1 to 1,000,000. It never changes.
	Dim() int

	// Embed returns a vector of Dim finite numbers for each text, in their order. A text
	// that says nothing to the model may have the zero vector, which is near to nothing.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// embedderKeys are the variables of the environment with the key of an embedding server;
// the second is for OpenAI alone.
const (
	embedderKey = "EPISODIC_EMBEDDER_KEY"
	openAIKey   = "OPENAI_API_KEY"
	openAIURL   = "https://api.openai.com/"
)

// OpenEmbedder opens an embedding model:
//
//	/path/to/folder               a static model (Model2Vec, WordLlama) or a BERT encoder such as
//	                              all-MiniLM-L6-v2: model.safetensors, tokenizer.json, config.json
//	https://HOST/v1#MODEL         a model of a server with OpenAI's interface for embeddings
//	http://localhost:PORT/v1#MODEL
//
// A folder's files are read into memory; its name holds a hash of them, so that it is the
// same wherever they lie. A server is asked once for the dimension. The key that is sent
// with each request is $EPISODIC_EMBEDDER_KEY, or for api.openai.com else $OPENAI_API_KEY; none
// if they are empty. Requests that a busy server refuses are repeated up to three times. Only
// servers on this machine are reached without TLS. Errors: ErrInvalid for a spec that cannot be;
// those of the files or the server.
func OpenEmbedder(ctx context.Context, spec string) (Embedder, error) {
	scheme, _, isURL := strings.Cut(spec, "://")
	switch {
	case spec == "":
		return nil, fmt.Errorf("open embedder: %w", invalid("spec", "is empty; name a folder, or https://HOST/v1#MODEL"))
	case !isURL:
		m, err := embed.OpenFolder(spec)
		if err != nil {
			return nil, fmt.Errorf("open embedder: %w", err)
		}
		return m, nil
	case scheme != "http" && scheme != "https":
		return nil, fmt.Errorf("open embedder: %w", invalid("spec", "begins with %.20q; name a folder, or https://HOST/v1#MODEL", scheme+"://"))
	}
	base, model, _ := strings.Cut(spec, "#")
	if model == "" {
		return nil, fmt.Errorf("open embedder: %w", invalid("spec", "names no model; write it behind the URL, as the server names it: https://HOST/v1#MODEL"))
	}
	m, err := embed.OpenHTTP(ctx, embed.HTTPOptions{BaseURL: base, Model: model, Key: func(context.Context) (string, error) {
		key := os.Getenv(embedderKey)
		if key == "" && strings.HasPrefix(base, openAIURL) {
			key = os.Getenv(openAIKey)
		}
		return key, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("open embedder: %w", err)
	}
	return m, nil
}

// checkEmbedder refuses an embedder that cannot be used with a target.
func checkEmbedder(m Embedder, t target) error {
	if m == nil {
		return nil
	}
	if t.path == "" {
		return invalid("Embedder", "is set, but searches of a server do not use it, because there is no index of steps there; leave it out, or use a local file")
	}
	c := &check{}
	if c.name("Embedder", m.Name()); c.err != nil {
		return c.err
	}
	switch dim := m.Dim(); {
	case m.Name() == "":
		return invalid("Embedder", "has no name; vectors must be told from those of other models")
	case dim < 1 || dim > vector.MaxDimension:
		return invalid("Embedder", "%q has vectors of %d numbers; 1 to %d can be stored", m.Name(), dim, vector.MaxDimension)
	}
	return nil
}

// checkStored refuses a model if vectors of its name have another dimension.
func (e *embedder) checkStored(ctx context.Context, q querier) error {
	r, err := q.Query(ctx, engine.Stmt{SQL: sqlModel, Args: []any{e.model.Name()}})
	if err != nil || len(r[0].Rows) == 0 {
		return err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	if dim := in.Int(1); in.Err == nil && dim != int64(e.model.Dim()) {
		return invalid("Embedder", "%q has vectors of %d numbers, but those stored under this name have %d; give the model another name, or drop the stored ones (DropSearchModel)",
			e.model.Name(), e.model.Dim(), dim)
	}
	return in.Err
}

// vectors asks the model, and refuses what are no vectors of it.
func (e *embedder) vectors(ctx context.Context, texts []string) ([][]float32, error) {
	name, dim := e.model.Name(), e.model.Dim()
	vs, err := e.model.Embed(ctx, texts)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", name, err)
	}
	if len(vs) != len(texts) {
		return nil, invalid("Embedder", "%q gave %d vectors for %d texts", name, len(vs), len(texts))
	}
	for _, v := range vs {
		if len(v) != dim {
			return nil, invalid("Embedder", "%q gave a vector of %d numbers instead of %d", name, len(v), dim)
		}
		for i, x := range v {
			if x-x != 0 {
				return nil, invalid("Embedder", "%q gave a vector whose number %d is %v", name, i, x)
			}
		}
	}
	return vs, nil
}
