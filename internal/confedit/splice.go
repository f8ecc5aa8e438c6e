package confedit

import (
	"fmt"
	"slices"
	"strings"
)

// Splice replaces Removed, which begins at byte At of a text, by Inserted.
type Splice struct {
	At       int    `json:"at"`
	Removed  string `json:"removed,omitempty"`
	Inserted string `json:"inserted"`
}

// Apply carries out splices one after the other: At counts in the text that those before it
// have left. It panics if a text does not have what a Splice removes.
func Apply(text string, splices []Splice) string {
	for _, s := range splices {
		if !s.fits(text) {
			panic(fmt.Sprintf("confedit: a splice at %d does not fit a text of %d bytes", s.At, len(text)))
		}
		text = text[:s.At] + s.Inserted + text[s.At+len(s.Removed):]
	}
	return text
}

func (s Splice) fits(text string) bool {
	return s.At >= 0 && s.At <= len(text) && strings.HasPrefix(text[s.At:], s.Removed)
}

// Back returns the splices that lead from what splices have made of a text to that text again.
func Back(splices []Splice) []Splice {
	back := make([]Splice, 0, len(splices))
	for _, s := range slices.Backward(splices) {
		back = append(back, Splice{s.At, s.Inserted, s.Removed})
	}
	return back
}

// shortest is the least that an insertion must have to be known again, in bytes.
const shortest = 20

// BackEdited is Back for a text that was edited since: it takes back what has been inserted
// where that is still there, once. whole says whether that is so of all splices.
func BackEdited(text string, splices []Splice) (back []Splice, whole bool) {
	whole = true
	for _, s := range slices.Backward(splices) {
		at := strings.Index(text, s.Inserted)
		if len(s.Inserted) < shortest || at < 0 || strings.LastIndex(text, s.Inserted) != at {
			whole = false
			continue
		}
		step := Splice{at, s.Inserted, s.Removed}
		back, text = append(back, step), Apply(text, []Splice{step})
	}
	return back, whole
}

// SyntaxError says where a text is not what it should be.
type SyntaxError struct {
	Line int // from 1; 0: it is not known
	Err  error
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

func (e *SyntaxError) Unwrap() error { return e.Err }

// ShapeError says that a text is valid, but such that an entry cannot be put into it, or taken
// out, without a risk for the rest.
type ShapeError struct{ Why string }

func (e *ShapeError) Error() string { return e.Why }

// newline is the line end of a text.
func newline(text string) string {
	if strings.Contains(text, "\r\n") {
		return "\r\n"
	}
	return "\n"
}

// lineStart is where the line begins that byte at is in.
func lineStart(text string, at int) int { return strings.LastIndexByte(text[:at], '\n') + 1 }

// indentAt is the white space at the beginning of the line that byte at is in.
func indentAt(text string, at int) string {
	line := text[lineStart(text, at):]
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
