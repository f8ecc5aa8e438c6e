package confedit

import (
	"errors"
	"regexp"
	"strings"
)

// A block stands between two lines of a Markdown file.
var (
	blockStart = regexp.MustCompile(`(?m)^[ \t]*<!-- episodic:start\b[^\n]*-->[ \t]*\r?$`)
	blockEnd   = regexp.MustCompile(`(?m)^[ \t]*<!-- episodic:end -->[ \t]*\r?$`)
)

// findBlock is where the block stands, without the last line end; start is -1 if there is none.
func findBlock(text string) (start, end int, err error) {
	first, last := blockStart.FindStringIndex(text), blockEnd.FindStringIndex(text)
	switch {
	case first == nil && last == nil:
		return -1, -1, nil
	case first == nil || last == nil || last[0] < first[1] || len(blockStart.FindAllStringIndex(text, 2)) > 1 || len(blockEnd.FindAllStringIndex(text, 2)) > 1:
		at := 0
		if first != nil {
			at = first[0]
		} else {
			at = last[0]
		}
		return -1, -1, &SyntaxError{1 + strings.Count(text[:at], "\n"), errors.New("the lines <!-- episodic:start --> and <!-- episodic:end --> are no pair")}
	}
	end = last[1]
	if strings.HasSuffix(text[:end], "\r") {
		end--
	}
	return first[0], end, nil
}

// FindBlock returns the block of a text; empty if there is none.
func FindBlock(text string) (string, error) {
	start, end, err := findBlock(text)
	if err != nil || start < 0 {
		return "", err
	}
	return strings.ReplaceAll(text[start:end], "\r\n", "\n"), nil
}

// SetBlock returns the splices that put a block at the end of a text, or in the place of an older
// one.
func SetBlock(text, block string) ([]Splice, error) {
	start, end, err := findBlock(text)
	if err != nil {
		return nil, err
	}
	nl := newline(text)
	block = strings.ReplaceAll(block, "\n", nl)
	if start >= 0 {
		return []Splice{{start, text[start:end], block}}, nil
	}
	return []Splice{{At: len(text), Inserted: gap(text, nl) + block + nl}}, nil
}

// RemoveBlock returns the splices that take the block out, with the empty line before it.
func RemoveBlock(text string) ([]Splice, error) {
	start, end, err := findBlock(text)
	if err != nil || start < 0 {
		return nil, err
	}
	nl := newline(text)
	if strings.HasPrefix(text[end:], nl) {
		end += len(nl)
	}
	if before := strings.TrimSuffix(text[:start], nl); strings.HasSuffix(before, "\n") && end == len(text) {
		start = len(before)
	}
	return []Splice{{At: start, Removed: text[start:end]}}, nil
}
