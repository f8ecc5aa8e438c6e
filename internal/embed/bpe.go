package embed

import (
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// bytePairs is the tokenizer of Llama: it joins characters, pair by pair, in
// the order in which the pairs were learnt.
type bytePairs struct {
	vocab   *vocabulary
	unknown uint32
	prepend string
	replace *strings.Replacer
	bytes   *[256]uint32             // tokens of the bytes of characters without a token; nil: they are unknown
	joins   map[[2]uint32]joinedPair // by the tokens of the two parts
}

type joinedPair struct {
	rank  int
	token uint32
}

// merge is two tokens to be joined; in older files they are one text with a
// space between.
type merge [2]string

func (m *merge) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[2]string)(m))
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	left, right, ok := strings.Cut(s, " ")
	if !ok {
		return fmt.Errorf("merge %q is not two tokens", s)
	}
	*m = merge{left, right}
	return nil
}

func (f *tokenizerFile) bytePairs() (tokenizer, int, int, error) {
	m := &f.Model
	types, steps := f.steps()
	if !slices.Equal(types, []string{"Prepend", "Replace"}) || m.Prefix != "" || m.Suffix != "" || m.IgnoreMerges || steps[1].Pattern.String == "" {
		return nil, 0, 0, fmt.Errorf("tokenizer of type BPE with %v; Llama's, with Prepend and Replace, is known", types)
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
	p := &bytePairs{
		vocab: v, unknown: unknown, prepend: steps[0].Prepend,
		replace: strings.NewReplacer(steps[1].Pattern.String, steps[1].Content),
		joins:   make(map[[2]uint32]joinedPair, len(m.Merges)),
	}
	if m.ByteFallback {
		p.bytes = new([256]uint32)
		for b := range p.bytes {
			id, ok := v.lookup(fmt.Sprintf("<0x%02X>", b))
			if !ok {
				return nil, 0, 0, fmt.Errorf("byte %#02x has no token", b)
			}
			p.bytes[b] = id
		}
	}
	for rank, pair := range m.Merges {
		left, ok1 := v.lookup(pair[0])
		right, ok2 := v.lookup(pair[1])
		joined, ok3 := v.lookup(pair[0] + pair[1])
		if !ok1 || !ok2 || !ok3 {
			return nil, 0, 0, fmt.Errorf("merge of %q and %q, which are not in the vocabulary", pair[0], pair[1])
		}
		p.joins[[2]uint32{left, right}] = joinedPair{rank, joined}
	}
	if len(p.joins) == 0 {
		return nil, 0, 0, errors.New("tokenizer of type BPE without merges")
	}
	return p, int(unknown), len(tokens), nil
}

// part is a token of a text while it is being joined; a list of them is linked
// by index, -1 is the end.
type part struct {
	token      uint32
	prev, next int
	gone       bool
}

// join is a pair of neighbours that could be joined.
type join struct {
	joinedPair
	left, right int       // parts
	tokens      [2]uint32 // of the parts when the pair was found
}

// joins is a heap: the pair learnt first comes first, the left one of equal ones.
type joins []join

func (j joins) Len() int { return len(j) }
func (j joins) Less(a, b int) bool {
	return j[a].rank < j[b].rank || j[a].rank == j[b].rank && j[a].left < j[b].left
}
func (j joins) Swap(a, b int) { j[a], j[b] = j[b], j[a] }
func (j *joins) Push(x any)   { *j = append(*j, x.(join)) }
func (j *joins) Pop() any {
	last := (*j)[len(*j)-1]
	*j = (*j)[:len(*j)-1]
	return last
}

func (p *bytePairs) appendTokens(dst []uint32, text string) []uint32 {
	if text == "" {
		return dst
	}
	parts := p.split(p.replace.Replace(p.prepend + strings.ToValidUTF8(text, "\uFFFD")))
	var queue joins
	propose := func(left int) {
		if left < 0 || parts[left].next < 0 {
			return
		}
		right := parts[left].next
		tokens := [2]uint32{parts[left].token, parts[right].token}
		if joined, ok := p.joins[tokens]; ok {
			heap.Push(&queue, join{joined, left, right, tokens})
		}
	}
	for i := range parts {
		propose(i)
	}
	for len(queue) > 0 {
		j := heap.Pop(&queue).(join)
		left, right := &parts[j.left], &parts[j.right]
		if left.gone || right.gone || left.next != j.right || left.token != j.tokens[0] || right.token != j.tokens[1] {
			continue // one of them was joined with its other neighbour
		}
		left.token, left.next, right.gone = j.token, right.next, true
		if left.next >= 0 {
			parts[left.next].prev = j.left
		}
		propose(left.prev)
		propose(j.left)
	}
	for i := 0; i >= 0; i = parts[i].next {
		dst = append(dst, parts[i].token)
	}
	return dst
}

// split gives the tokens of the characters of a text that is not empty.
func (p *bytePairs) split(text string) []part {
	parts := make([]part, 0, len(text))
	add := func(token uint32) {
		n := len(parts)
		parts = append(parts, part{token: token, prev: n - 1, next: n + 1})
	}
	lastUnknown := false
	for len(text) > 0 {
		_, n := utf8.DecodeRuneInString(text)
		id, known := p.vocab.lookup(text[:n])
		switch {
		case known:
			add(id)
		case p.bytes != nil:
			for i := range n {
				add(p.bytes[text[i]])
			}
		case !lastUnknown: // a run of unknown characters is one token
			add(p.unknown)
		}
		lastUnknown = !known && p.bytes == nil
		text = text[n:]
	}
	parts[len(parts)-1].next = -1
	return parts
}
