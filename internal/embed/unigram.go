package embed

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unigram is SentencePiece's tokenizer: it cuts each word into the tokens whose
// probabilities have the greatest product.
type unigram struct {
	vocab       *vocabulary
	scores      []float64 // logarithms of probabilities
	unknown     uint32
	unknownCost float64
	charsmap    *charsmap // nil: texts are taken as they are
	space       string    // stands before each word
}

func (f *tokenizerFile) unigram() (tokenizer, int, int, error) {
	types, steps := f.steps()
	u := &unigram{}
	if len(types) > 0 && types[0] == "Precompiled" {
		m, err := parseCharsmap(steps[0].Charsmap)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("precompiled_charsmap: %w", err)
		}
		u.charsmap, types, steps = m, types[1:], steps[1:]
	}
	if !slices.Equal(types, []string{"WhitespaceSplit", "Metaspace"}) || steps[1].Scheme != "always" || f.Model.ByteFallback || f.Model.UnknownID == nil {
		return nil, 0, 0, fmt.Errorf("tokenizer of type Unigram with %v; the one with WhitespaceSplit and Metaspace, a space before each word, unk_id and no byte_fallback is known", types)
	}
	if u.space = steps[1].Replacement; u.space == "" {
		return nil, 0, 0, errors.New("pre-tokenizer Metaspace without a replacement")
	}
	var pairs [][2]any
	if err := json.Unmarshal(f.Model.Vocab, &pairs); err != nil {
		return nil, 0, 0, fmt.Errorf("vocabulary: %w", err)
	}
	tokens := make([]string, len(pairs))
	u.scores = make([]float64, len(pairs))
	lowest := math.Inf(1)
	for i, pair := range pairs {
		token, ok1 := pair[0].(string)
		score, ok2 := pair[1].(float64)
		if !ok1 || !ok2 {
			return nil, 0, 0, fmt.Errorf("vocabulary: entry %d is not a token and its score", i)
		}
		tokens[i], u.scores[i] = token, score
		lowest = min(lowest, score)
	}
	if *f.Model.UnknownID < 0 || *f.Model.UnknownID >= len(tokens) {
		return nil, 0, 0, errors.New("unk_id is not in the vocabulary")
	}
	u.vocab = newVocabulary(tokens)
	u.unknown = uint32(*f.Model.UnknownID)
	u.unknownCost = lowest - 10 // as the reference has it
	return u, int(u.unknown), len(tokens), nil
}

func (u *unigram) appendTokens(dst []uint32, text string) []uint32 {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if u.charsmap != nil {
		text = u.charsmap.normalize(text)
	}
	for word := range strings.FieldsFuncSeq(text, unicode.IsSpace) {
		word = strings.ReplaceAll(word, " ", u.space)
		if !strings.HasPrefix(word, u.space) {
			word = u.space + word
		}
		// Metaspace also cuts before each of its signs.
		for word != "" {
			n := strings.Index(word[len(u.space):], u.space)
			if n < 0 {
				n = len(word)
			} else {
				n += len(u.space)
			}
			dst = u.appendWord(dst, word[:n])
			word = word[n:]
		}
	}
	return dst
}

// appendWord finds the best way to each place in the word, from left to right.
func (u *unigram) appendWord(dst []uint32, word string) []uint32 {
	type way struct {
		score float64
		from  int // -1: none yet
		token uint32
	}
	ways := make([]way, len(word)+1)
	for i := range ways {
		ways[i].from = -1
	}
	ways[0].from = 0
	bytes := []byte(word)
	for at := 0; at < len(word); {
		_, width := utf8.DecodeRuneInString(word[at:])
		offer := func(to int, token uint32, score float64) {
			if w := &ways[to]; w.from < 0 || score > w.score {
				*w = way{score, at, token}
			}
		}
		whole := false // the character is a token
		h := uint32(hashStart)
		for to := at + 1; to <= min(len(word), at+u.vocab.longest); to++ {
			h = hashByte(h, word[to-1])
			if to < len(word) && !utf8.RuneStart(word[to]) {
				continue
			}
			if id, ok := u.vocab.find(h, "", bytes[at:to]); ok {
				offer(to, id, ways[at].score+u.scores[id])
				whole = whole || to == at+width
			}
		}
		if !whole {
			offer(at+width, u.unknown, ways[at].score+u.unknownCost)
		}
		at += width
	}
	start := len(dst)
	for to := len(word); to > 0; to = ways[to].from {
		// A run of unknown characters is one token.
		if token := ways[to].token; token != u.unknown || len(dst) == start || dst[len(dst)-1] != u.unknown {
			dst = append(dst, token)
		}
	}
	slices.Reverse(dst[start:])
	return dst
}
