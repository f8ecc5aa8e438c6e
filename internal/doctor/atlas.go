package doctor

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// What a page is, besides one of the wanted tables, which are numbered from 0.
const (
	unreached int16 = -1 - iota
	ofOthers        // of a tree that is not wanted, or part of a record
	isFree
)

// Atlas says which pages hold the rows of which tables.
type Atlas struct {
	file   *File
	tables []Table
	owner  []int16    // of each page, from page 1
	order  [][]uint32 // pages of each table: those that were reached, in order, then others
	gaps   int        // pages that a b-tree leads to, and that are missing or unreadable
	Found  Found
}

// Found is what was found of a file's pages.
type Found struct {
	Pages      int64 // of the file, before it was cut
	Free       int64 // in which nothing is stored any more
	Missing    int64 // behind the end of the file, and not in its log
	Unreadable int64 // to which a b-tree leads, and which are none of it
	Stray      int64 // with rows of wanted tables, to which no b-tree leads
	Rows       int64 // that could not be read, on pages that could
	LogFrames  int64 // of the log, that count
	BadFrames  int64 // of the log, whose checksums are wrong
	Header     bool  // the header of the file could be read
	Schema     bool  // the whole schema could be read
}

// Chart finds where the rows of tables are.
func (f *File) Chart(tables []Table) (*Atlas, error) {
	a := &Atlas{file: f, tables: tables, owner: make([]int16, f.count()), order: make([][]uint32, len(tables))}
	for i := range a.owner {
		a.owner[i] = unreached
	}
	a.Found = Found{Pages: int64(len(a.owner)), Missing: f.missing(), LogFrames: int64(f.logged.frames), BadFrames: int64(f.logged.damaged), Header: f.whole}
	roots, err := a.schema()
	if err != nil {
		return nil, err
	}
	named := map[string][]int{}
	for i := range tables {
		named[tables[i].Name] = append(named[tables[i].Name], i)
	}
	for _, name := range slices.Sorted(maps.Keys(roots)) {
		if err := a.follow(roots[name], named[name]); err != nil {
			return nil, err
		}
	}
	if err := a.freePages(); err != nil {
		return nil, err
	}
	return a, a.strays()
}

// claim notes whose a page is; false if that is known already, or there is no such page.
func (a *Atlas) claim(n uint32, owner int16) bool {
	if n == 0 || int64(n) > int64(len(a.owner)) || a.owner[n-1] != unreached {
		return false
	}
	a.owner[n-1] = owner
	return true
}

// follow claims the pages of a b-tree, in the order of their rows, for the one of some tables
// whose shape they have; without any it is of others.
func (a *Atlas) follow(root uint32, tables []int) error {
	stack := []uint32{root}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		p, ok, err := a.file.tree(n)
		if err != nil {
			return err
		}
		if !ok || len(tables) > 0 && !p.of(&a.tables[tables[0]]) {
			a.lost(n)
			continue
		}
		owner := ofOthers
		if len(tables) > 0 && p.hasRows() {
			t, _, err := a.shaped(&p, tables)
			if err != nil {
				return err
			}
			if t < 0 {
				continue // it leads to a page of another tree, or all its rows are damaged
			}
			owner = int16(t)
		}
		if !a.claim(n, owner) {
			continue
		}
		if owner >= 0 {
			a.order[owner] = append(a.order[owner], n)
		}
		stack = append(stack, p.children(a.file.usable)...)
	}
	return nil
}

// of reports whether a page may be one of a table.
func (p *page) of(t *Table) bool {
	return t.Index == (p.kind == indexLeaf || p.kind == indexInterior)
}

// lost counts a page that a tree leads to and that cannot be read.
func (a *Atlas) lost(n uint32) {
	a.gaps++
	if a.file.has(n) {
		a.Found.Unreadable++
	}
}

// children are the pages below an interior page, the last first.
func (p *page) children(usable int) []uint32 {
	if p.kind != tableInterior && p.kind != indexInterior {
		return nil
	}
	list := []uint32{p.right}
	for i := p.cells - 1; i >= 0; i-- {
		if c, ok := p.cell(i, usable); ok {
			list = append(list, c.child)
		}
	}
	return list
}

// freePages claims those of the free list, and those that hold the rest of long records or
// nothing as the pages say that name the parents of others.
func (a *Atlas) freePages() error {
	f := a.file
	free := func(n uint32) {
		if a.claim(n, isFree) {
			a.Found.Free++
		}
	}
	seen := map[uint32]bool{}
	for next := f.freeTrunk; next != 0 && !seen[next]; {
		seen[next] = true
		data, err := f.read(next)
		if err != nil || len(data) < 8 {
			break // what is free is then known of the other pages only
		}
		free(next)
		n := binary.BigEndian.Uint32(data[4:])
		for i := uint32(0); i < n && int(12+4*i) <= len(data); i++ {
			free(binary.BigEndian.Uint32(data[8+4*i:]))
		}
		next = binary.BigEndian.Uint32(data)
	}
	if f.whole && !f.autoVacuum {
		return nil
	}
	return a.parents(free)
}

// What a page is, as one says that names the parents of others.
const (
	parentOfNone = 2 // it is free
	isOverflow   = 3
	isOverflow2  = 4
	isTree       = 5
)

func (a *Atlas) parents(free func(uint32)) error {
	entries := uint32(a.file.usable / 5)
	for at := uint32(2); int64(at) <= int64(len(a.owner)); at += entries + 1 {
		data, err := a.file.read(at)
		if err != nil && err != errMissing {
			return fmt.Errorf("page %d: %w", at, err)
		}
		if a.owner[at-1] != unreached || !namesParents(data[:min(len(data), 5*int(entries))]) {
			if !a.file.whole {
				return nil // it is no such file
			}
			continue
		}
		a.claim(at, ofOthers)
		for i := uint32(0); i < entries && int(5*i+5) <= len(data); i++ {
			switch n := at + 1 + i; data[5*i] {
			case parentOfNone:
				free(n)
			case isOverflow, isOverflow2:
				a.claim(n, ofOthers)
			}
		}
	}
	return nil
}

// namesParents reports whether a page may be one that names the parents of others.
func namesParents(data []byte) bool {
	for i := 0; i+5 <= len(data); i += 5 {
		if data[i] > isTree || data[i] == 0 && binary.BigEndian.Uint32(data[i+1:]) != 0 {
			return false
		}
	}
	return len(data) > 0 && data[0] != 0
}

// strays gives pages that are not of any tree to the table whose shape most of their rows
// have.
func (a *Atlas) strays() error {
	var free []int
	for i := range a.tables {
		if !a.tables[i].Reached {
			free = append(free, i)
		}
	}
	for i, owner := range a.owner {
		if owner != unreached {
			continue
		}
		n := uint32(i + 1)
		p, ok, err := a.file.tree(n)
		if err != nil {
			return err
		}
		if !ok || !p.hasRows() || p.cells == 0 {
			continue
		}
		t, most, err := a.shaped(&p, free)
		if err != nil {
			return err
		}
		if t < 0 || !most {
			continue
		}
		a.Found.Stray++
		a.claim(n, int16(t))
		a.order[t] = append(a.order[t], n)
	}
	return nil
}

// shaped returns the one of some tables whose shape most records of a page have, -1 if none
// has any's, and whether those are more than half of the records. A page without rows is of the first.
func (a *Atlas) shaped(p *page, tables []int) (best int, most bool, err error) {
	if p.cells == 0 {
		return tables[0], true, nil
	}
	fits := make([]int, len(a.tables))
	records := 0
	for _, c := range p.rowCells(a.file.usable) {
		content, ok, err := a.file.content(&c)
		if err != nil {
			return -1, false, err
		}
		values, whole := record(content)
		if !ok || !whole {
			continue
		}
		records++
		for _, i := range tables {
			if t := &a.tables[i]; p.of(t) {
				if _, ok := t.row(&c, values); ok {
					fits[i]++
				}
			}
		}
	}
	best = -1
	for _, i := range tables {
		if fits[i] > 0 && (best < 0 || fits[i] > fits[best]) {
			best = i
		}
	}
	return best, best >= 0 && 2*fits[best] > records, nil
}
