package doctor

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	magic       = "SQLite format 3\x00"
	headerSize  = 100
	minPageSize = 512
	maxPageSize = 65536
)

// header is what the first 100 bytes of a file say, or what stands in for them.
type header struct {
	whole      bool // it was read; otherwise all but pageSize and usable is unknown
	pageSize   int
	usable     int    // bytes of a page, without those reserved at its end
	pages      uint32 // of the file, when it was written last
	freeTrunk  uint32 // first page of the list of free pages
	freePages  uint32
	autoVacuum bool // there are pages that name the parents of others
}

func parseHeader(b []byte) (h header, whole bool) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return h, false
	}
	h.pageSize = int(binary.BigEndian.Uint16(b[16:]))
	if h.pageSize == 1 {
		h.pageSize = maxPageSize
	}
	h.usable = h.pageSize - int(b[20])
	if !validPageSize(h.pageSize) || h.usable < 480 {
		return header{}, false
	}
	h.whole = true
	h.pages = binary.BigEndian.Uint32(b[28:])
	h.freeTrunk, h.freePages = binary.BigEndian.Uint32(b[32:]), binary.BigEndian.Uint32(b[36:])
	h.autoVacuum = binary.BigEndian.Uint32(b[52:]) != 0
	return h, true
}

func validPageSize(n int) bool { return n >= minPageSize && n <= maxPageSize && n&(n-1) == 0 }

// guessed is how many bytes of a file without a header are looked at.
const guessed = 4 << 20

// guessPageSize finds the page size at whose multiples most b-tree pages begin.
func guessPageSize(f io.ReaderAt, size int64) (int, error) {
	b := make([]byte, min(size, guessed))
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return 0, err
	} else {
		b = b[:n]
	}
	best, bestScore := 0, 0.0
	for pageSize := minPageSize; pageSize <= maxPageSize; pageSize *= 2 {
		whole, all := 0, 0
		for at := 0; at < len(b); at += pageSize {
			page := b[at:min(at+pageSize, len(b))]
			all++
			if p, ok := parsePage(page, 0, pageSize); ok && p.cells > 0 && len(p.rowCells(pageSize)) == p.cells {
				whole++
			}
		}
		if score := float64(whole) * float64(whole) / float64(max(all, 1)); score > bestScore {
			best, bestScore = pageSize, score
		}
	}
	if best == 0 {
		return 0, fmt.Errorf("%w: none of its pages is one of a SQLite database", ErrNoDatabase)
	}
	return best, nil
}
