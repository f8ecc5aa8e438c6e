package index

import (
	"slices"
	"strings"
)

// isJoint tells whether text stands between two names of a path or of a dotted name:
// a full stop or a slash, and underscores at the ends of the names.
func isJoint(text string) bool {
	text = strings.Trim(text, "_")
	return text == "." || text == "/" || text == `\`
}

func mayJoin(c byte) bool { return c == '.' || c == '/' || c == '_' || c == '\\' }

// maxJoint is the longest joint, in bytes: that of __init__.__all__.
const maxJoint = 5

// join puts in front of a name that follows another one in a path or in a dotted
// name a piece of both, as of an identifier. Pairs serve better than the whole, of which
// texts often hold only a part: absolute and relative paths, files and modules.
func (s *scanner) join() {
	name := s.folded[s.pieces[0].lo:s.pieces[0].hi]
	if s.paired || isDigit(name[0]) || isHash(name) {
		return
	}
	joined := s.before.to > 0 && s.before.to < s.from && s.from-s.before.to <= maxJoint && isJoint(s.text[s.before.to:s.from])
	if joined && len(s.before.name)+len(name) <= maxToken {
		lo := len(s.folded)
		s.folded = append(append(s.folded, s.before.name...), name...)
		s.pieces = slices.Insert(s.pieces, 0, piece{lo, len(s.folded), s.before.from, s.to})
	}
	if s.to < len(s.text) && mayJoin(s.text[s.to]) {
		s.before.name = append(s.before.name[:0], name...)
		s.before.from, s.before.to = s.from, s.to
	}
}
