package index

// cut finds the next word of the chunk and its pieces. It returns false if there
// was none at s.next, and goes on behind what it has looked at.
func (s *scanner) cut() bool {
	lo := s.next
	switch c := s.chars[lo].class; {
	case c == pairing:
		s.cutPairs(lo)
		return true
	case !c.isWord():
		s.next++
		return false
	case lo < s.separate:
		s.cutParts(lo, s.separate)
		return true
	}
	if hi := s.uuid(lo); hi > lo {
		s.cutWhole(lo, hi)
		return true
	}
	if hi := s.date(lo); hi > lo {
		s.cutNumber(lo, hi)
		if s.chars[hi].class == upper && s.folded[s.chars[hi].at] == 't' { // between date and time
			s.next++
		}
		return true
	}
	hi := s.identifier(lo)
	if number := s.number(lo, hi); number == lo {
		s.cutNumber(lo, s.numberEnd(lo))
		return true
	} else if number < hi {
		hi = s.beforeNumber(lo, number)
		if hi == lo {
			s.next = number
			return false
		}
	}
	if s.isHex(lo, hi) {
		s.cutWhole(lo+len("0x"), hi)
	} else {
		s.cutParts(lo, hi)
	}
	return true
}

// cutWhole makes one piece of the characters lo to hi.
func (s *scanner) cutWhole(lo, hi int) {
	s.found(lo, hi)
	s.piece(lo, hi)
}

// found notes the word of the characters lo to hi, which has no pieces yet.
func (s *scanner) found(lo, hi int) {
	s.from, s.to, s.paired = s.chars[lo].from, s.chars[hi-1].to, false
	s.pieces = s.pieces[:0]
	s.next = hi
}

// piece adds the characters lo to hi as a piece.
func (s *scanner) piece(lo, hi int) {
	s.pieces = append(s.pieces, piece{s.chars[lo].at, s.chars[hi].at, s.chars[lo].from, s.chars[hi-1].to})
}

// identifier returns where the word that begins at lo ends: letters and digits, also
// joined by single underscores and dashes. A dash between two digits joins nothing,
// and nothing joins a date or a UUID.
func (s *scanner) identifier(lo int) int {
	for i := lo + 1; ; i++ {
		switch c := s.chars[i].class; c {
		case lower, upper, digit, mark:
		case dash, underscore:
			before, after := s.chars[i-1].class, s.chars[i+1].class
			switch {
			case !after.isWord(), !before.isWord() && before != mark, c == dash && before == digit && after == digit:
				return i
			case s.date(i+1) > i+1, s.uuid(i+1) > i+1:
				return i
			}
		default:
			return i
		}
	}
}

// cutParts makes pieces of the whole of an identifier and of its parts. One that is
// too long for a token has no whole, and its parts are words of their own.
func (s *scanner) cutParts(lo, hi int) {
	end := s.partEnd(lo, hi)
	if end == hi || lo < s.separate || s.chars[hi].at-s.chars[lo].at > maxToken {
		s.separate = hi
		s.cutWhole(lo, end)
		return
	}
	s.cutWhole(lo, hi)
	for i := lo; i < hi; i = end {
		if !s.chars[i].class.isWord() {
			i++
		}
		end = s.partEnd(i, hi)
		if s.isPart(i, end) {
			s.piece(i, end)
		}
	}
}

// isPart tells whether a part of an identifier is worth a token of its own: not one
// letter or digit, which would find everything.
func (s *scanner) isPart(lo, hi int) bool { return hi-lo >= 2 }

// partEnd returns where the part of the identifier that begins at lo ends.
func (s *scanner) partEnd(lo, hi int) int {
	if lo == 0 || !s.chars[lo-1].class.isWord() {
		if end := s.opaque(lo, hi); end > lo {
			return end
		}
	}
	for i := lo + 1; i < hi; i++ {
		before, c, after := s.chars[i-1].class, s.chars[i].class, s.chars[i+1].class
		switch {
		case !c.isWord():
			if c != mark {
				return i
			}
		case (c == digit) != (before == digit):
			return i
		case c == upper && before != upper:
			return i
		case c == upper && after == lower && !(s.folded[s.chars[i+1].at] == 's' && s.chars[i+2].class != lower): // not IDs
			return i
		}
	}
	return hi
}
