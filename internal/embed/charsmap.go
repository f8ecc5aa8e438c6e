package embed

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/rivo/uniseg"
)

// charsmap is SentencePiece's normalisation: a trie of texts to be replaced,
// and what stands for each of them.
type charsmap struct {
	trie     []uint32 // a double array as of Darts-clone
	replaced string   // texts, each with a zero byte after it
}

// parseCharsmap decodes base64 of a uint32 with the trie's size in bytes, the
// trie and the texts.
func parseCharsmap(encoded string) (*charsmap, error) {
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	if len(b) < 4 {
		return nil, errors.New("no trie")
	}
	size := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if size == 0 || size%4 != 0 || uint64(size) > uint64(len(b)) {
		return nil, fmt.Errorf("trie of %d bytes in %d", size, len(b))
	}
	m := &charsmap{trie: make([]uint32, size/4), replaced: string(b[size:])}
	for i := range m.trie {
		m.trie[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return m, nil
}

// normalize replaces what the trie has: grapheme clusters as a whole where they
// are short, single characters else, as the reference does.
func (m *charsmap) normalize(text string) string {
	var out strings.Builder
	state := -1
	for text != "" {
		var cluster string
		cluster, text, _, state = uniseg.FirstGraphemeClusterInString(text, state)
		if len(cluster) < 6 {
			if s, ok := m.lookup(cluster); ok {
				out.WriteString(s)
				continue
			}
		}
		for _, r := range cluster {
			if s, ok := m.lookup(string(r)); ok {
				out.WriteString(s)
			} else {
				out.WriteRune(r)
			}
		}
	}
	return out.String()
}

// lookup gives what stands for the shortest beginning of s that is in the trie.
func (m *charsmap) lookup(s string) (string, bool) {
	// A unit has a label in its lowest byte, at bit 8 whether a value follows, and
	// the offset of its children from bit 10 on, in units of 256 if bit 9 is set.
	offset := func(unit uint32) uint32 { return unit >> 10 << (unit & (1 << 9) >> 6) }
	node := offset(m.trie[0])
	for i := range len(s) {
		c := uint32(s[i])
		node ^= c
		if c == 0 || node >= uint32(len(m.trie)) {
			return "", false
		}
		unit := m.trie[node]
		if unit&(1<<31|0xff) != c {
			return "", false
		}
		node ^= offset(unit)
		if unit&(1<<8) == 0 {
			continue
		}
		if node >= uint32(len(m.trie)) {
			return "", false
		}
		at := m.trie[node] &^ (1 << 31)
		if at >= uint32(len(m.replaced)) {
			return "", false
		}
		text, _, _ := strings.Cut(m.replaced[at:], "\x00")
		return text, true
	}
	return "", false
}
