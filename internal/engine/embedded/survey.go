package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/episodic-memory/episodic/internal/engine"
)

// errRemnant says that a file holds bytes which belong to no row.
var errRemnant = errors.New("the file holds bytes that belong to nothing that is stored")

// survey reads a file page by page, as https://sqlite.org/fileformat2.html describes them,
// and looks whether each byte belongs to a row, to what SQLite needs to find rows, or is zero.
// Others it makes zero: SQLite leaves copies of rows where it has moved them to other pages.
// It follows every tree from its root, so that a page that no tree leads to is found too.
type survey struct {
	c    *conn
	size int
	seen []bool // by the number of the page
	// remnants counts pages in which there were bytes that belong to nothing.
	remnants int
}

// newSurvey is of a file whose pages are used as a whole, which all are that SQLite makes
// unless it is told otherwise; reserved bytes would be reported.
func newSurvey(c *conn, s space) *survey {
	return &survey{c: c, size: int(s.size), seen: make([]bool, s.pages+1)}
}

const (
	sqlPage      = `SELECT data FROM sqlite_dbpage WHERE pgno = ?`
	sqlErasePage = `UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?`
	// The schema itself begins on the first page.
	sqlRoots = `SELECT 1 UNION SELECT rootpage FROM sqlite_schema WHERE rootpage > 0`
)

// Kinds of pages of a tree.
const (
	indexInner = 2
	tableInner = 5
	indexLeaf  = 10
	tableLeaf  = 13
)

const (
	fileHeader = 100 // bytes of the first page before its tree
	// lockByte is where SQLite locks a file: that page holds nothing.
	lockByte = 1 << 30
)

func (s *survey) all(ctx context.Context) error {
	var roots engine.Result
	if err := s.c.run(ctx, engine.Stmt{SQL: sqlRoots}, &roots); err != nil {
		return err
	}
	for _, row := range roots.Rows {
		in := engine.Row{Values: row}
		if err := s.tree(ctx, in.Int(0)); err != nil {
			return err
		}
	}
	for n := int64(1); n < int64(len(s.seen)); n++ {
		if s.seen[n] || s.isMap(n) || n == lockByte/int64(s.size)+1 {
			continue
		}
		return damagedPage(n)
	}
	return nil
}

// isMap reports whether a page says of those after it what leads to them, as files have it
// that can give pages back.
func (s *survey) isMap(n int64) bool {
	each := int64(s.size/5 + 1)
	if n < 2 {
		return false
	}
	first := (n-2)/each*each + 2
	if first == lockByte/int64(s.size)+1 {
		first++
	}
	return n == first
}

// page reads a page that was not read before.
func (s *survey) page(ctx context.Context, n int64) ([]byte, error) {
	if n < 1 || n >= int64(len(s.seen)) || s.seen[n] {
		return nil, damagedPage(n)
	}
	s.seen[n] = true
	var r engine.Result
	if err := s.c.run(ctx, engine.Stmt{SQL: sqlPage, Args: []any{n}}, &r); err != nil {
		return nil, err
	}
	if len(r.Rows) != 1 {
		return nil, damagedPage(n)
	}
	page, _ := r.Rows[0][0].([]byte)
	if len(page) != s.size {
		return nil, damagedPage(n)
	}
	return page, nil
}

func damagedPage(n int64) error {
	return &engine.Error{Kind: engine.KindCorrupt, Stmt: -1, Err: fmt.Errorf("page %d is damaged, or none or several others lead to it", n)}
}

// tree looks at the page of a tree, and at all that it leads to.
func (s *survey) tree(ctx context.Context, n int64) error {
	page, err := s.page(ctx, n)
	if err != nil {
		return err
	}
	head := 0
	if n == 1 {
		head = fileHeader
	}
	kind, cells := page[head], int(binary.BigEndian.Uint16(page[head+3:]))
	pointers := head + 8
	var below []int64
	switch kind {
	case indexInner, tableInner:
		below = append(below, int64(binary.BigEndian.Uint32(page[head+8:])))
		pointers += 4
	case indexLeaf, tableLeaf:
	default:
		return damagedPage(n)
	}
	if pointers+2*cells > s.size {
		return damagedPage(n)
	}
	rest := bytes.Clone(page) // in which what is accounted for becomes zero
	clear(rest[:pointers+2*cells])
	for free := int(binary.BigEndian.Uint16(page[head+1:])); free != 0; { // a list of unused pieces
		if free+4 > s.size {
			return damagedPage(n)
		}
		clear(rest[free : free+4])
		next := int(binary.BigEndian.Uint16(page[free:]))
		if next != 0 && next <= free {
			return damagedPage(n)
		}
		free = next
	}
	var chains []chain
	for i := range cells {
		at := int(binary.BigEndian.Uint16(page[pointers+2*i:]))
		c, ok := s.cell(kind, page, at)
		if !ok {
			return damagedPage(n)
		}
		clear(rest[at : at+c.size])
		if c.below != 0 {
			below = append(below, c.below)
		}
		if c.over.left > 0 {
			chains = append(chains, c.over)
		}
	}
	if err := s.erase(ctx, n, page, rest); err != nil {
		return err
	}
	for _, c := range chains {
		if err := s.overflow(ctx, c); err != nil {
			return err
		}
	}
	for _, b := range below {
		if err := s.tree(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// cell is what a cell of a page takes, and what it leads to.
type cell struct {
	size  int
	below int64 // the page of its subtree; 0: it has none
	over  chain
}

// chain is the rest of a row that is too long for its page.
type chain struct {
	page int64
	left int // bytes
}

// cell reads the cell at an offset; false if it does not lie in the page.
func (s *survey) cell(kind byte, page []byte, at int) (c cell, ok bool) {
	const longest = 4 + 9 + 9 // bytes before what a row holds
	if at >= s.size {
		return c, false
	}
	begin := make([]byte, longest)
	copy(begin, page[at:])
	if kind == indexInner || kind == tableInner {
		c.below = int64(binary.BigEndian.Uint32(begin))
		c.size = 4
	}
	length, n := varint(begin[c.size:]) // of the row, or its number
	c.size += n
	if kind == tableInner {
		return c, at+c.size <= s.size
	}
	if length > math.MaxInt32 {
		return c, false
	}
	most, least := (s.size-12)*64/255-23, (s.size-12)*32/255-23
	if kind == tableLeaf {
		_, n := varint(begin[c.size:])
		c.size += n
		most = s.size - 35
	}
	here := int(length)
	if here <= most {
		c.size = max(c.size+here, 4)
		return c, at+c.size <= s.size
	}
	if here = least + (here-least)%(s.size-4); here > most {
		here = least
	}
	c.size += here + 4
	if at+c.size > s.size {
		return c, false
	}
	c.over = chain{int64(binary.BigEndian.Uint32(page[at+c.size-4:])), int(length) - here}
	return c, true
}

// overflow looks at the pages of a chain.
func (s *survey) overflow(ctx context.Context, c chain) error {
	for c.left > 0 {
		page, err := s.page(ctx, c.page)
		if err != nil {
			return err
		}
		if c.left < s.size-4 {
			rest := bytes.Clone(page)
			clear(rest[:4+c.left])
			if err := s.erase(ctx, c.page, page, rest); err != nil {
				return err
			}
		}
		c.page, c.left = int64(binary.BigEndian.Uint32(page)), c.left-(s.size-4)
	}
	return nil
}

// erase makes those bytes of a page zero that rest, which is as long, holds and that are not.
func (s *survey) erase(ctx context.Context, n int64, page, rest []byte) error {
	found := false
	for i, b := range rest {
		if b != 0 {
			page[i], found = 0, true
		}
	}
	if !found {
		return nil
	}
	s.remnants++
	return s.c.run(ctx, engine.Stmt{SQL: sqlErasePage, Args: []any{page, n}}, new(engine.Result))
}

// varint reads one of SQLite's: of up to nine bytes, the last of which has eight bits.
func varint(b []byte) (v uint64, n int) {
	for n = range 8 {
		v = v<<7 | uint64(b[n]&0x7f)
		if b[n] < 0x80 {
			return v, n + 1
		}
	}
	return v<<8 | uint64(b[8]), 9
}
