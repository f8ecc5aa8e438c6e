package index

// cutPairs makes pieces of a run of letters of a script without spaces between
// words: each two neighbours, and the last letter alone, so that each letter begins
// a token and can be searched as a prefix. A letter has its marks with it.
func (s *scanner) cutPairs(lo int) {
	hi := lo
	for s.chars[hi].class == pairing || s.chars[hi].class == mark {
		hi++
	}
	s.found(lo, hi)
	s.paired = true
	for i := lo; i < hi; {
		second := s.letterEnd(i)
		if second < hi {
			s.piece(i, s.letterEnd(second))
		} else {
			s.piece(i, second)
		}
		i = second
	}
}

// letterEnd returns where the letter at i ends, with its marks.
func (s *scanner) letterEnd(i int) int {
	for i++; s.chars[i].class == mark; i++ {
	}
	return i
}
