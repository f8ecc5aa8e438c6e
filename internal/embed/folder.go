package embed

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenFolder opens the model in a folder by what lies there: a static model
// (Model2Vec, WordLlama) or a BERT encoder that is pooled by the mean or by the
// first token (all-MiniLM-L6-v2), each as one file of safetensors and a
// tokenizer.json. Its name holds a hash of these files, so that it is the same
// wherever they lie. Files are read into memory whole.
func OpenFolder(path string) (Model, error) {
	m, err := openFolder(path)
	if err != nil {
		return nil, fmt.Errorf("embedding model: %w", err)
	}
	return m, nil
}

func openFolder(dir string) (Model, error) {
	weights, err := oneOf(dir, "model.safetensors", "*.safetensors")
	if err != nil {
		return nil, err
	}
	words, err := oneOf(dir, "tokenizer.json", "*tokenizer*.json")
	if err != nil {
		return nil, err
	}
	weightBytes, err := os.ReadFile(weights)
	if err != nil {
		return nil, err
	}
	ts, err := parseTensors(weightBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", weights, err)
	}
	wordBytes, err := os.ReadFile(words)
	if err != nil {
		return nil, err
	}
	tok, unknown, size, err := parseTokenizer(wordBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", words, err)
	}
	hash := sha256.New()
	hash.Write(weightBytes)
	hash.Write(wordBytes)
	version := func() string { return fmt.Sprintf("%x", hash.Sum(nil)[:6]) }
	if prefix, ok := bertPrefix(ts); ok {
		config, err := readConfig(dir)
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(hash, config.Heads, config.Epsilon, config.MaxTokens, config.CLS)
		m, err := newBERT("bert-"+version(), ts, prefix, config, tok)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", weights, err)
		}
		return m, nil
	}
	m, err := newStatic("static-"+version(), ts, tok, unknown, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", weights, err)
	}
	return m, nil
}

// oneOf finds the file of the usual name or else the only one that fits pattern.
func oneOf(dir, usual, pattern string) (string, error) {
	path := filepath.Join(dir, usual)
	_, err := os.Stat(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok && e.Name() != "tokenizer_config.json" {
			found = append(found, e.Name())
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s has %d files %s and no %s; put the model's own files there", dir, len(found), pattern, usual)
	}
	return filepath.Join(dir, found[0]), nil
}

// config is the part of a BERT's config.json that is used.
type config struct {
	Type       string  `json:"model_type"`
	Heads      int     `json:"num_attention_heads"`
	Layers     int     `json:"num_hidden_layers"`
	Activation string  `json:"hidden_act"`
	Epsilon    float64 `json:"layer_norm_eps"`
	Position   string  `json:"position_embedding_type"`

	// Of the folders that sentence-transformers writes beside it. Without
	// them the pooling is the mean.
	MaxTokens int  `json:"-"`
	CLS       bool `json:"-"`
}

func readConfig(dir string) (config, error) {
	var c config
	if err := readJSON(filepath.Join(dir, "config.json"), &c); err != nil {
		return c, err
	}
	var s struct {
		MaxTokens int `json:"max_seq_length"`
	}
	if err := readJSON(filepath.Join(dir, "sentence_bert_config.json"), &s); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	c.MaxTokens = s.MaxTokens
	var p struct {
		CLS  bool  `json:"pooling_mode_cls_token"`
		Mean *bool `json:"pooling_mode_mean_tokens"`
	}
	path := filepath.Join(dir, "1_Pooling", "config.json")
	if err := readJSON(path, &p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if p.Mean != nil && !*p.Mean && !p.CLS {
		return c, fmt.Errorf("%s: neither the mean of the tokens nor the first one; other poolings are not known", path)
	}
	c.CLS = p.CLS
	return c, nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
