package embed

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// A tokenizer cuts texts into tokens. Marks such as [CLS] are neither added nor
// seen in a text: what somebody wrote is text.
type tokenizer interface {
	appendTokens(dst []uint32, text string) []uint32
}

// step is a normaliser or pre-tokenizer of a tokenizer.json.
type step struct {
	Type string `json:"type"`

	// Of a sequence.
	Normalizers   []step `json:"normalizers"`
	Pretokenizers []step `json:"pretokenizers"`

	// BertNormalizer.
	CleanText    bool  `json:"clean_text"`
	SplitCJK     bool  `json:"handle_chinese_chars"`
	StripAccents *bool `json:"strip_accents"` // nil: as Lowercase
	Lowercase    bool  `json:"lowercase"`

	Charsmap string                  `json:"precompiled_charsmap"` // Precompiled: base64
	Prepend  string                  `json:"prepend"`              // Prepend
	Pattern  struct{ String string } `json:"pattern"`              // Replace
	Content  string                  `json:"content"`

	// Metaspace.
	Replacement string `json:"replacement"`
	Scheme      string `json:"prepend_scheme"`
}

// tokenizerFile is the part of a tokenizer.json that is used
// (https://github.com/huggingface/tokenizers).
type tokenizerFile struct {
	Normalizer   *step `json:"normalizer"`
	Pretokenizer *step `json:"pre_tokenizer"`
	Model        struct {
		Type         string          `json:"type"`
		Vocab        json.RawMessage `json:"vocab"`
		Unknown      string          `json:"unk_token"`
		UnknownID    *int            `json:"unk_id"`
		Prefix       string          `json:"continuing_subword_prefix"`
		Suffix       string          `json:"end_of_word_suffix"`
		MaxWord      int             `json:"max_input_chars_per_word"`
		Merges       []merge         `json:"merges"`
		ByteFallback bool            `json:"byte_fallback"`
		IgnoreMerges bool            `json:"ignore_merges"`
	} `json:"model"`
}

// parseTokenizer refuses what it does not know, because other tokens would give
// vectors that look right and are not. size is how many tokens the vocabulary
// has, counting unused numbers.
func parseTokenizer(b []byte) (t tokenizer, unknown, size int, err error) {
	var f tokenizerFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, 0, 0, err
	}
	switch f.Model.Type {
	case "WordPiece":
		return f.wordPiece()
	case "BPE":
		return f.bytePairs()
	case "Unigram":
		return f.unigram()
	}
	return nil, 0, 0, fmt.Errorf("tokenizer of type %q; WordPiece, BPE and Unigram are known", f.Model.Type)
}

// steps gives the types of the normalisers and pre-tokenizers, and them.
func (f *tokenizerFile) steps() (types []string, all []step) {
	var walk func(s *step)
	walk = func(s *step) {
		if s == nil {
			return
		}
		if s.Type == "Sequence" {
			for i := range s.Normalizers {
				walk(&s.Normalizers[i])
			}
			for i := range s.Pretokenizers {
				walk(&s.Pretokenizers[i])
			}
			return
		}
		types, all = append(types, s.Type), append(all, *s)
	}
	walk(f.Normalizer)
	walk(f.Pretokenizer)
	return types, all
}

// vocabulary reads the map from tokens to their numbers.
func (f *tokenizerFile) vocabulary() ([]string, error) {
	var m map[string]int
	if err := json.Unmarshal(f.Model.Vocab, &m); err != nil {
		return nil, fmt.Errorf("vocabulary: %w", err)
	}
	size := 0
	for token, id := range m {
		if id < 0 || id > 2*len(m)+1000 {
			return nil, fmt.Errorf("token %q has the number %d in a vocabulary of %d", token, id, len(m))
		}
		size = max(size, id+1)
	}
	if size == 0 {
		return nil, errors.New("vocabulary is empty")
	}
	tokens := make([]string, size)
	for token, id := range m {
		tokens[id] = token
	}
	return tokens, nil
}

func (f *tokenizerFile) unknown(v *vocabulary) (uint32, error) {
	id, ok := v.lookup(f.Model.Unknown)
	if !ok {
		return 0, fmt.Errorf("token for unknown words %q is not in the vocabulary", f.Model.Unknown)
	}
	return id, nil
}

func (f *tokenizerFile) wordPiece() (tokenizer, int, int, error) {
	types, steps := f.steps()
	if !slices.Equal(types, []string{"BertNormalizer", "BertPreTokenizer"}) {
		return nil, 0, 0, fmt.Errorf("tokenizer of type WordPiece with %v; BertNormalizer and BertPreTokenizer are known", types)
	}
	tokens, err := f.vocabulary()
	if err != nil {
		return nil, 0, 0, err
	}
	v := newVocabulary(tokens)
	unknown, err := f.unknown(v)
	if err != nil {
		return nil, 0, 0, err
	}
	if v.longest > maxPiece {
		return nil, 0, 0, fmt.Errorf("token of %d bytes; %d are possible", v.longest, maxPiece)
	}
	n := steps[0]
	w := newWordPiece(v, unknown)
	w.cleanText, w.splitCJK, w.lowercase, w.stripAccents = n.CleanText, n.SplitCJK, n.Lowercase, n.Lowercase
	if n.StripAccents != nil {
		w.stripAccents = *n.StripAccents
	}
	if f.Model.MaxWord > 0 {
		w.maxWord = f.Model.MaxWord
	}
	w.setPrefix(f.Model.Prefix)
	return w, int(unknown), len(tokens), nil
}
