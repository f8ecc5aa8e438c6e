package doctor

import (
	"encoding/binary"
)

// The kinds of b-tree pages, as their first byte says.
const (
	indexInterior = 2
	tableInterior = 5
	indexLeaf     = 10
	tableLeaf     = 13
)

// page is a b-tree page. Its bytes may end early, where the file was cut.
type page struct {
	kind     byte
	data     []byte
	pointers int // where the cell pointers begin
	cells    int
	right    uint32 // the last child of an interior page
}

// parsePage reads the header of a b-tree page, which begins at byte at of data.
func parsePage(data []byte, at, usable int) (p page, ok bool) {
	if len(data) < at+8 {
		return p, false
	}
	p.kind, p.data, p.pointers = data[at], data, at+8
	switch p.kind {
	case tableLeaf, indexLeaf:
	case tableInterior, indexInterior:
		if len(data) < at+12 {
			return p, false
		}
		p.right = binary.BigEndian.Uint32(data[at+8:])
		p.pointers += 4
	default:
		return p, false
	}
	p.cells = int(binary.BigEndian.Uint16(data[at+3:]))
	if p.cells > (usable-p.pointers)/2 || p.pointers+2*p.cells > len(data) {
		return p, false
	}
	return p, true
}

// hasRows reports whether the cells of the page hold records.
func (p *page) hasRows() bool { return p.kind != tableInterior }

// cell is a cell of a b-tree page.
type cell struct {
	child uint32 // of an interior page: where what comes before it is
	rowid int64  // of a table
	// size is how long its record is, of which local is here; the rest is in the pages
	// that overflow begins. Cells of interior pages of tables have no record.
	size     int64
	local    []byte
	overflow uint32
}

// cell reads cell i; false if it does not lie within the page.
func (p *page) cell(i, usable int) (c cell, ok bool) {
	at := int(binary.BigEndian.Uint16(p.data[p.pointers+2*i:]))
	if at < p.pointers+2*p.cells || at >= min(usable, len(p.data)) {
		return c, false
	}
	b := p.data[at:min(usable, len(p.data))]
	if p.kind == tableInterior || p.kind == indexInterior {
		if len(b) < 4 {
			return c, false
		}
		c.child, b = binary.BigEndian.Uint32(b), b[4:]
	}
	if p.kind == tableInterior {
		key, n := varint(b)
		c.rowid = int64(key)
		return c, n > 0
	}
	size, n := varint(b)
	if n == 0 || size > maxRecord {
		return c, false
	}
	b = b[n:]
	c.size = int64(size)
	if p.kind == tableLeaf {
		rowid, n := varint(b)
		if n == 0 {
			return c, false
		}
		c.rowid, b = int64(rowid), b[n:]
	}
	local := localSize(c.size, usable, p.kind == tableLeaf)
	if local > len(b) {
		return c, false
	}
	c.local, b = b[:local], b[local:]
	if int64(local) < c.size {
		if len(b) < 4 {
			return c, false
		}
		c.overflow = binary.BigEndian.Uint32(b)
	}
	return c, true
}

// maxRecord bounds a record in bytes, as SQLite does by default.
const maxRecord = 1_000_000_000

// localSize is how much of a record of size bytes lies in the page of its cell.
func localSize(size int64, usable int, table bool) int {
	most := (usable-12)*64/255 - 23
	if table {
		most = usable - 35
	}
	if size <= int64(most) {
		return int(size)
	}
	least := (usable-12)*32/255 - 23
	if n := least + int((size-int64(least))%int64(usable-4)); n <= most {
		return n
	}
	return least
}

// rowCells returns the cells that hold records and lie within the page. Those of a table
// whose rowid breaks the order are left out: one of its bits has changed.
func (p *page) rowCells(usable int) []cell {
	if !p.hasRows() {
		return nil
	}
	cells := make([]cell, 0, p.cells)
	for i := range p.cells {
		if c, ok := p.cell(i, usable); ok {
			cells = append(cells, c)
		}
	}
	if p.kind == tableLeaf {
		cells = ascending(cells)
	}
	return cells
}

// ascending returns the longest part of the cells whose rowids ascend.
func ascending(cells []cell) []cell {
	inOrder := true
	for i := 1; i < len(cells) && inOrder; i++ {
		inOrder = cells[i-1].rowid < cells[i].rowid
	}
	if inOrder {
		return cells
	}
	length := make([]int, len(cells)) // of the longest part that ends with each
	before := make([]int, len(cells))
	last := 0
	for i := range cells {
		length[i], before[i] = 1, -1
		for j := range i {
			if cells[j].rowid < cells[i].rowid && length[j] >= length[i] {
				length[i], before[i] = length[j]+1, j
			}
		}
		if length[i] > length[last] {
			last = i
		}
	}
	kept := make([]cell, length[last])
	for i, at := len(kept)-1, last; at >= 0; i, at = i-1, before[at] {
		kept[i] = cells[at]
	}
	return kept
}

// varint reads a number of 1 to 9 bytes, the high bits first; n is 0 if b ends within it.
func varint(b []byte) (v uint64, n int) {
	for i := range min(len(b), 8) {
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(b) < 9 {
		return 0, 0
	}
	return v<<8 | uint64(b[8]), 9
}
