package index

// number returns where the digits begin that end the word lo to hi and begin a
// number with full stops, as in python3.11.2 and v1.2; or hi.
func (s *scanner) number(lo, hi int) int {
	if s.chars[hi].class != dot || s.chars[hi+1].class != digit {
		return hi
	}
	i := hi
	for i > lo && s.chars[i-1].class == digit {
		i--
	}
	return i
}

// beforeNumber returns where the word ends that begins at lo, before a number at hi:
// without what joins it to the number, and without the v of a version.
func (s *scanner) beforeNumber(lo, hi int) int {
	hi = s.trimJoints(lo, hi)
	if hi > lo && s.folded[s.chars[hi-1].at] == 'v' && (hi-1 == lo || !s.chars[hi-2].class.isWord()) {
		hi = s.trimJoints(lo, hi-1)
	}
	return hi
}

// trimJoints returns the end of lo to hi without what joins it to the next part.
func (s *scanner) trimJoints(lo, hi int) int {
	for hi > lo && !s.chars[hi-1].class.isWord() {
		hi--
	}
	return hi
}

// numberEnd returns where the number with full stops that begins at lo ends.
func (s *scanner) numberEnd(lo int) int {
	i := lo
	for s.chars[i].class == digit || s.chars[i].class == dot && s.chars[i+1].class == digit {
		i++
	}
	return i
}

// date returns the end of the date that begins at lo, such as 2026-11-27, or of the
// month, 2026-11; otherwise lo.
func (s *scanner) date(lo int) int {
	month := lo + len("2026-11")
	if !s.shaped(lo, "0000-00") {
		return lo
	}
	if m := s.folded[s.chars[month-2].at : s.chars[month-1].at+1]; string(m) < "01" || string(m) > "12" {
		return lo
	}
	if s.shaped(month, "-00") {
		month += len("-27")
	}
	if s.chars[month].class == digit {
		return lo
	}
	return month
}

// shaped tells whether there are digits from lo on where shape has 0, and dashes.
func (s *scanner) shaped(lo int, shape string) bool {
	for i := range len(shape) {
		want := digit
		if shape[i] == '-' {
			want = dash
		}
		if s.chars[lo+i].class != want {
			return false
		}
	}
	return true
}

// cutNumber makes pieces of a number with full stops and of its beginnings: of
// 3.11.2 also 3.11, and of 10.2 also 10. A date is such a number, and has no dashes.
func (s *scanner) cutNumber(lo, hi int) {
	s.cutWhole(lo, hi)
	first := true
	for i := lo; i < hi && len(s.pieces) < 8; i++ {
		if s.chars[i].class == digit {
			continue
		}
		if !first || s.isPart(lo, i) {
			s.piece(lo, i)
		}
		first = false
	}
}
