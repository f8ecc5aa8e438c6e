package embed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// HTTPOptions tell how to reach a server with OpenAI's interface for
// embeddings, as vLLM, Ollama, llama.cpp and many services have it.
type HTTPOptions struct {
	BaseURL string // such as https://api.openai.com/v1; required
	Model   string // as the server names it; required

	// Key gives the key that is sent with each request; KeyEnv names an
	// environment variable that is read instead. Without both none is sent.
	Key    func(context.Context) (string, error)
	KeyEnv string

	// Dim is the number of numbers in a vector. 0: OpenHTTP asks the server.
	Dim int

	// Shorten asks the server for vectors of Dim numbers from a model whose
	// own ones are longer.
	Shorten bool

	Batch   int           // texts in a request at most; 0: 64
	Tries   int           // of a request in all, when the server is busy or not reached; 0: 4
	Timeout time.Duration // of a try; 0: a minute
	MaxWait time.Duration // between two tries; a server that asks for more is not asked again; 0: 30 s

	// AllowPlaintext allows http to other machines. Key and texts travel
	// unencrypted then.
	AllowPlaintext bool

	// Transport carries out requests. nil: http.DefaultTransport.
	Transport http.RoundTripper
}

const (
	defaultBatch   = 64
	defaultTries   = 4
	defaultTimeout = time.Minute
	defaultMaxWait = 30 * time.Second

	// maxBatchBytes bounds the texts of a request of more than one text.
	maxBatchBytes = 256 << 10
	// maxDim bounds what a server may answer.
	maxDim = 1 << 16
	// numberBytes is the room for a number in an answer: digits, sign,
	// exponent, comma and spaces.
	numberBytes = 32
)

// HTTP is a model on a server.
type HTTP struct {
	opts   HTTPOptions
	url    string // of the method
	host   string // for errors
	client *http.Client
}

var _ Model = (*HTTP)(nil)

// OpenHTTP checks the options and, where Dim is 0, asks the server for one
// vector to learn its dimension.
func OpenHTTP(ctx context.Context, opts HTTPOptions) (*HTTP, error) {
	u, err := url.Parse(opts.BaseURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		// The URL's text is not repeated: it may hold a password.
		return nil, errors.New("embedding server: base URL is not valid; write https://HOST/v1 or http://localhost:PORT/v1")
	case u.User != nil || u.Fragment != "":
		return nil, errors.New("embedding server: base URL has a user or a fragment; give the key by Key or KeyEnv")
	case u.Scheme == "http" && !opts.AllowPlaintext && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("embedding server: key and texts would travel unencrypted to %s; use https, or allow it explicitly (AllowPlaintext)", u.Hostname())
	case opts.Model == "":
		return nil, errors.New("embedding server: model is empty; name it as the server does")
	case opts.Dim < 0 || opts.Dim > maxDim:
		return nil, fmt.Errorf("embedding server: dimension %d; 1 to %d are possible, 0 asks the server", opts.Dim, maxDim)
	case opts.Shorten && opts.Dim == 0:
		return nil, errors.New("embedding server: Shorten needs the dimension to shorten to (Dim)")
	case opts.Key != nil && opts.KeyEnv != "":
		return nil, errors.New("embedding server: both Key and KeyEnv are given; give one")
	case opts.Batch < 0 || opts.Tries < 0 || opts.Timeout < 0 || opts.MaxWait < 0:
		return nil, errors.New("embedding server: Batch, Tries, Timeout or MaxWait is negative; 0 is the default")
	}
	if opts.Batch == 0 {
		opts.Batch = defaultBatch
	}
	if opts.Tries == 0 {
		opts.Tries = defaultTries
	}
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	if opts.MaxWait == 0 {
		opts.MaxWait = defaultMaxWait
	}
	h := &HTTP{opts: opts, url: u.JoinPath("embeddings").String(), host: u.Host}
	h.client = &http.Client{
		Transport: opts.Transport,
		// Whoever is redirected to would get the texts.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if opts.Dim == 0 {
		vs, err := h.batch(ctx, []string{"dimension"})
		if err != nil {
			return nil, err
		}
		h.opts.Dim = len(vs[0])
	}
	return h, nil
}

// Name is the server's name of the model, with the dimension where it was shortened.
func (h *HTTP) Name() string {
	if h.opts.Shorten {
		return fmt.Sprintf("%s@%d", h.opts.Model, h.opts.Dim)
	}
	return h.opts.Model
}

// Dim is the number of numbers in a vector.
func (h *HTTP) Dim() int { return h.opts.Dim }

// Embed asks the server, a batch of texts at a time. Texts of white space alone
// are not sent. An answer that is not a vector of Dim finite numbers for each
// text is an error; so is one by which the server refuses, see StatusError.
func (h *HTTP) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vs := make([][]float32, len(texts))
	var batch []string
	var at []int // the texts' places
	size := 0
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		answer, err := h.batch(ctx, batch)
		if err != nil {
			return err
		}
		for i, v := range answer {
			vs[at[i]] = v
		}
		batch, at, size = batch[:0], at[:0], 0
		return nil
	}
	for i, text := range texts {
		if strings.TrimSpace(text) == "" {
			vs[i] = make([]float32, h.opts.Dim)
			continue
		}
		if len(batch) == h.opts.Batch || size+len(text) > maxBatchBytes {
			if err := send(); err != nil {
				return nil, err
			}
		}
		batch, at, size = append(batch, text), append(at, i), size+len(text)
	}
	return vs, send()
}

// batch asks for the vectors of texts, again while that may help.
func (h *HTTP) batch(ctx context.Context, texts []string) ([][]float32, error) {
	request := struct {
		Model      string   `json:"model"`
		Input      []string `json:"input"`
		Format     string   `json:"encoding_format"`
		Dimensions int      `json:"dimensions,omitempty"`
	}{Model: h.opts.Model, Input: texts, Format: "float"}
	if h.opts.Shorten {
		request.Dimensions = h.opts.Dim
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("embedding server %s: %w", h.host, err)
	}
	for try := 1; ; try++ {
		answer, err := h.try(ctx, body, len(texts))
		if err == nil {
			var vs [][]float32
			if vs, err = decodeVectors(answer, len(texts), h.opts.Dim); err == nil {
				return vs, nil
			}
			return nil, fmt.Errorf("embedding server %s: model %q: %w", h.host, h.opts.Model, err)
		}
		again, ok := errors.AsType[*retryable](err)
		if !ok || ctx.Err() != nil {
			return nil, fmt.Errorf("embedding server %s: %w", h.host, err)
		}
		wait := again.after(try, time.Now())
		if try == h.opts.Tries || wait > h.opts.MaxWait {
			return nil, fmt.Errorf("embedding server %s: given up after %d tries: %w", h.host, try, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("embedding server %s: %w while waiting to try again after: %w", h.host, context.Cause(ctx), err)
		}
	}
}

// try sends one request and returns the body of its answer.
func (h *HTTP) try(ctx context.Context, body []byte, texts int) ([]byte, error) {
	key, err := h.key(ctx)
	if err != nil {
		return nil, err
	}
	tryCtx, cancel := context.WithTimeoutCause(ctx, h.opts.Timeout, fmt.Errorf("no answer in %v", h.opts.Timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(tryCtx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("request cannot be made; check the base URL")
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, &retryable{err: clean(reason(tryCtx, err), key)}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, key)
	}
	dim := h.opts.Dim
	if dim == 0 {
		dim = maxDim
	}
	limit := int64(texts)*int64(dim)*numberBytes + 64<<10
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, &retryable{err: clean(reason(tryCtx, err), key)}
	}
	if int64(len(answer)) > limit {
		return nil, fmt.Errorf("answer of more than %d bytes for %d texts; check that model %q has vectors of %d numbers", limit, texts, h.opts.Model, h.opts.Dim)
	}
	return answer, nil
}
