package index

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/rank"
)

// When units and segments are merged. A lookup reads all units, and a block of each
// segment for each term.
const (
	mostUnits     = 128
	mostUnitBytes = 192 << 10
	fanIn         = 8 // segments of a level that are merged into one of the next
	// A merge takes so many units at most, of so many bytes.
	unitsAtOnce = 2 * mostUnits
	bytesAtOnce = 4 << 20

	blockTarget = 8 << 10   // bytes of a block, but for long lists of postings
	writeTarget = 512 << 10 // bytes of the blocks that are written in one transaction
	blocksRead  = 16        // blocks of a segment that are read at once
)

const (
	// How many units there are, up to a bound, and their bytes: a replica that is being filled
	// has many times what is due.
	someUnits = `SELECT count(*) AS units, ifnull(sum(size), 0) AS bytes FROM (SELECT length(data) AS size FROM index_units LIMIT ?)`
	sqlState  = `SELECT units, bytes, (SELECT ifnull(max(n), 0) FROM index_segments) FROM (` + someUnits + `)`
	// Asked after every few writes, so it reads none of what segments hold.
	sqlDue = `SELECT units >= ? OR bytes >= ? OR EXISTS (SELECT 1 FROM index_segments GROUP BY level HAVING count(*) >= ?) FROM (` + someUnits + `)`
	// Not what they hold, which may be too much for one answer.
	sqlLevels = `SELECT n, key, level FROM index_segments ORDER BY n`
	// The first units, so many at most, and of so many bytes, or one.
	sqlUnitKeys = `SELECT place, data, key FROM
 (SELECT place, data, key, length(data) AS size, sum(length(data)) OVER (ORDER BY place) AS upto FROM (SELECT * FROM index_units ORDER BY place LIMIT ?))
 WHERE upto <= ? OR upto = size`
	sqlNextBlocks = `SELECT first, data FROM index_blocks WHERE segment = ? AND first > ? ORDER BY first LIMIT ?`
	sqlAddBlocks  = `INSERT INTO index_blocks(segment, first, data) VALUES(?, ?, ?)`

	// A segment takes the place of what it was merged from, if all that is still there and
	// all its blocks are.
	sqlAddSegment = `INSERT INTO index_segments(n, key, level, base, places) SELECT ?1 + 1, ?2, ?3, ?4, ?5
 WHERE (SELECT ifnull(max(n), 0) FROM index_segments) = ?1 AND (SELECT count(*) FROM index_blocks WHERE segment = ?2) = ?6
 AND (SELECT count(*) FROM index_units u JOIN json_each(?7) j ON u.place = j.value ->> 0 AND u.key = j.value ->> 1) = json_array_length(?7)`
	added = ` AND EXISTS (SELECT 1 FROM index_segments WHERE key = ?)`
	// What was deleted meanwhile is deleted from the new segment too.
	sqlGoneMeanwhile = `UPDATE index_gone SET upto = ? WHERE (g, upto) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))` + added
	sqlDropUnits     = `DELETE FROM index_units WHERE place IN (SELECT value ->> 0 FROM json_each(?))` + added
	sqlDropSegments  = `DELETE FROM index_segments WHERE key IN (SELECT value FROM json_each(?))` + added
	// Nothing is left of what these had.
	sqlDropGone   = `DELETE FROM index_gone WHERE upto < (SELECT ifnull(min(n), 9223372036854775807) FROM index_segments)`
	sqlLostBlocks = `SELECT DISTINCT segment FROM index_blocks WHERE segment NOT IN (SELECT key FROM index_segments) LIMIT 100`
	sqlDropBlocks = `DELETE FROM index_blocks WHERE segment = ? AND segment NOT IN (SELECT key FROM index_segments)`
)

// lostMerges is how many merges may be lost against those of others before Merge gives up.
const lostMerges = 5

// Merge merges units and segments as far as there are too many, or all of them into one
// segment, in which nothing is left of what was deleted before, nor of merges that were
// interrupted. Others may read and write
// meanwhile. A merge that comes into conflict with another is given up; if all is set it is
// tried again, and an error tells that others have always been faster.
func Merge(ctx context.Context, e engine.Engine, all bool) error {
	last := false // what is too much has been merged, and now the rest is
	for lost := 0; ; {
		m, err := planMerge(ctx, e, last)
		done := false
		if err == nil {
			if m == nil && last {
				return dropLost(ctx, e)
			}
			if m == nil && !all {
				return nil
			}
			if m == nil {
				last = true
				continue
			}
			done, err = m.run(ctx, e)
		}
		switch {
		case err != nil && !errors.Is(err, errMerged):
			return err
		case done && last:
			return nil
		case !done && !all:
			return nil
		case !done:
			if lost++; lost == lostMerges {
				return errors.New("the search index is being merged by others; try again later")
			}
		}
	}
}

// errMerged says that others have merged what was to be merged.
var errMerged = errors.New("a segment is not there any more")

// merging is units, or segments, that are to become one segment.
type merging struct {
	sources []*source
	units   [][2]int64 // place, key
	old     []int64    // keys of the segments
	gone    [][2]int64 // episode, upto
	level   int64
	last    int64 // the greatest n of a segment
	key     int64

	open   byTerm
	docs   docTable
	blocks int
}

// source is the terms of a unit or a segment, in order.
type source struct {
	n     int // among the sources; most documents of one come before those of the next
	docs  *docTable
	at    []int32 // where a document is in the new segment; -1: it is gone
	block blockReader
	more  func() ([]byte, error) // the next block; nil at the end
	has   bool                   // block.term is to be merged
}

func (s *source) next() (err error) {
	for {
		if s.has = s.block.next(); s.has || s.block.r.err != nil {
			return s.block.r.err
		}
		data, err := s.more()
		if data == nil || err != nil {
			return err
		}
		s.block = blockReader{r: reader{data: data}}
	}
}

// planMerge returns what is to be merged next, nil if nothing is.
func planMerge(ctx context.Context, e engine.Engine, all bool) (*merging, error) {
	if !all {
		r, err := e.Query(ctx, engine.Stmt{SQL: sqlDue, Args: []any{int64(mostUnits), int64(mostUnitBytes), int64(fanIn), int64(mostUnits)}})
		if err != nil {
			return nil, err
		}
		in := engine.Row{Values: r[0].Rows[0]}
		if due := in.Int(0) != 0; !due || in.Err != nil {
			return nil, in.Err
		}
	}
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlState, Args: []any{int64(mostUnits)}}, engine.Stmt{SQL: sqlLevels}, engine.Stmt{SQL: sqlGone})
	if err != nil {
		return nil, err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	units, bytes, last := in.Int(0), in.Int(1), in.Int(2)
	if in.Err != nil {
		return nil, in.Err
	}
	m := &merging{last: last, key: rand.Int64()}
	if m.gone, err = goneFrom(r[2].Rows); err != nil {
		return nil, err
	}
	switch {
	case all && (units > 0 || len(r[1].Rows) > 1 || len(m.gone) > 0):
		if err := m.addUnits(ctx, e); err != nil {
			return nil, err
		}
		return m, m.addSegments(ctx, e, r[1].Rows)
	case all:
		return nil, nil
	case units >= mostUnits || bytes >= mostUnitBytes:
		return m, m.addUnits(ctx, e)
	}
	levels := make(map[int64][][]any)
	for _, row := range r[1].Rows {
		level, ok := row[2].(int64)
		if !ok {
			return nil, fmt.Errorf("%w", ErrDamaged)
		}
		if levels[level] = append(levels[level], row); len(levels[level]) == fanIn {
			m.level = level + 1
			return m, m.addSegments(ctx, e, levels[level])
		}
	}
	return nil, nil
}

// goneFrom reads rows of sqlGone.
func goneFrom(rows [][]any) (gone [][2]int64, err error) {
	for _, row := range rows {
		in := engine.Row{Values: row}
		gone = append(gone, [2]int64{in.Int(0), in.Int(1)})
		if in.Err != nil {
			return nil, in.Err
		}
	}
	return gone, nil
}

// addUnits adds the first units. What is gone is read again at the same moment: a group that was
// replaced since it was read is gone from segments, and not from the units that it has now.
func (m *merging) addUnits(ctx context.Context, e engine.Engine) error {
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlUnitKeys, Args: []any{int64(unitsAtOnce), int64(bytesAtOnce)}}, engine.Stmt{SQL: sqlGone})
	if err != nil {
		return err
	}
	if m.gone, err = goneFrom(r[1].Rows); err != nil {
		return err
	}
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		place, data, key := in.Int(0), in.Blob(1), in.Int(2)
		if in.Err != nil {
			return in.Err
		}
		docs, block, err := decodeUnit(data, place)
		if err != nil {
			return fmt.Errorf("unit %d: %w", place, err)
		}
		m.units = append(m.units, [2]int64{place, key})
		s := &source{docs: docs, more: func() ([]byte, error) { return nil, nil }, block: blockReader{r: reader{data: block}}}
		m.sources = append(m.sources, s)
		s.at = make([]int32, len(docs.places))
	}
	return nil
}

// addSegments adds those of rows of sqlLevels. Errors: errMerged.
func (m *merging) addSegments(ctx context.Context, e engine.Engine, rows [][]any) error {
	for _, row := range rows {
		in := engine.Row{Values: row}
		n, key, level := in.Int(0), in.Int(1), in.Int(2)
		if in.Err != nil {
			return in.Err
		}
		docs, err := readDocs(ctx, e, key)
		if err != nil {
			return err
		}
		if docs == nil {
			return errMerged
		}
		m.level = max(m.level, level)
		m.old = append(m.old, key)
		s := &source{docs: docs, at: make([]int32, len(docs.places)), more: blocksOf(ctx, e, key)}
		for i, place := range docs.places {
			if at, found := slices.BinarySearchFunc(m.gone, place>>rank.NumberBits, func(g [2]int64, id int64) int { return cmp.Compare(g[0], id) }); found && m.gone[at][1] >= n {
				s.at[i] = -1
			}
		}
		m.sources = append(m.sources, s)
	}
	return nil
}

// blocksOf returns the blocks of a segment in turn.
func blocksOf(ctx context.Context, e engine.Engine, key int64) func() ([]byte, error) {
	var rows [][]any
	last := ""
	return func() ([]byte, error) {
		if len(rows) == 0 {
			r, err := e.Query(ctx, engine.Stmt{SQL: sqlNextBlocks, Args: []any{key, last, int64(blocksRead)}})
			if err != nil || len(r[0].Rows) == 0 {
				return nil, err
			}
			rows = r[0].Rows
		}
		in := engine.Row{Values: rows[0]}
		rows = rows[1:]
		last = in.Text(0)
		return in.Blob(1), in.Err
	}
}

// run builds the segment; false if others have changed what it was made of.
func (m *merging) run(ctx context.Context, e engine.Engine) (bool, error) {
	if err := dropLost(ctx, e); err != nil {
		return false, err
	}
	m.order()
	if err := m.writeBlocks(ctx, e); err != nil {
		return false, err
	}
	units, err1 := json.Marshal(append([][2]int64{}, m.units...))
	gone, err2 := json.Marshal(append([][2]int64{}, m.gone...))
	old, err3 := json.Marshal(append([]int64{}, m.old...))
	if err := cmp.Or(err1, err2, err3); err != nil {
		return false, err
	}
	base := int64(0)
	if len(m.docs.places) > 0 {
		base = m.docs.places[0]
		for i := range m.docs.places {
			m.docs.places[i] -= base
		}
	}
	stmts := []engine.Stmt{
		{SQL: sqlAddSegment, Args: []any{m.last, m.key, m.level, base, m.docs.encode(), int64(m.blocks), string(units)}},
		{SQL: sqlGoneMeanwhile, Args: []any{m.last + 1, string(gone), m.key}},
		{SQL: sqlDropUnits, Args: []any{string(units), m.key}},
		{SQL: sqlDropSegments, Args: []any{string(old), m.key}},
		{SQL: sqlDropGone},
	}
	r, err := e.Batch(ctx, stmts...)
	if err != nil {
		return false, err
	}
	return r[0].Affected == 1, dropLost(ctx, e)
}

// order decides where each document is in the segment.
func (m *merging) order() {
	type doc struct {
		place         int64
		source, index int32
	}
	var all []doc
	for i, s := range m.sources {
		for j, place := range s.docs.places {
			if s.at[j] >= 0 {
				all = append(all, doc{place, int32(i), int32(j)})
			}
		}
	}
	slices.SortFunc(all, func(a, b doc) int { return cmp.Compare(a.place, b.place) })
	for i, d := range all {
		s := m.sources[d.source]
		s.at[d.index] = int32(i)
		m.docs.add(d.place, s.docs.lengths[d.index], s.docs.codes[d.index])
	}
}

// writeBlocks merges the terms of all sources.
func (m *merging) writeBlocks(ctx context.Context, e engine.Engine) error {
	m.open = m.open[:0]
	for i, s := range m.sources {
		s.n = i
		if err := m.push(s); err != nil {
			return err
		}
	}
	var (
		w     blockWriter
		stmts []engine.Stmt
		size  int
		list  []rank.Posting
	)
	flush := func() error {
		if len(stmts) == 0 {
			return nil
		}
		_, err := e.Batch(ctx, stmts...)
		stmts, size = nil, 0
		return err
	}
	cut := func() {
		if len(w.data) > 0 {
			stmts = append(stmts, engine.Stmt{SQL: sqlAddBlocks, Args: []any{m.key, w.first, w.data}})
			size += len(w.data)
			m.blocks++
			w = blockWriter{list: w.list}
		}
	}
	for len(m.open) > 0 {
		term := string(m.open[0].block.term)
		var err error
		if list, err = m.postings(term, list[:0]); err != nil {
			return err
		}
		if len(list) == 0 {
			continue
		}
		w.add(term, list)
		if len(w.data) >= blockTarget {
			cut()
		}
		if size >= writeTarget {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	cut()
	return flush()
}

// byTerm is a heap of sources by the terms that they are at.
type byTerm []*source

func (h byTerm) Len() int { return len(h) }
func (h byTerm) Less(i, j int) bool {
	c := bytes.Compare(h[i].block.term, h[j].block.term)
	return c < 0 || c == 0 && h[i].n < h[j].n // so that most postings come in order
}
func (h byTerm) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *byTerm) Push(x any)   { *h = append(*h, x.(*source)) }
func (h *byTerm) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	*h = (*h)[:last]
	return s
}

// push moves a source to its next term and adds it to the open ones, unless it is at its end.
func (m *merging) push(s *source) error {
	if err := s.next(); err != nil {
		return err
	}
	if s.has {
		heap.Push(&m.open, s)
	}
	return nil
}

// postings takes those of a term from all sources, by their documents in the segment.
func (m *merging) postings(term string, out []rank.Posting) ([]rank.Posting, error) {
	for len(m.open) > 0 && string(m.open[0].block.term) == term {
		s := m.open[0]
		from := len(out)
		out = s.block.postings(out, len(s.at))
		kept := out[:from]
		for _, o := range out[from:] {
			if at := s.at[o.Doc]; at >= 0 {
				kept = append(kept, rank.Posting{Doc: at, TF: o.TF})
			}
		}
		out = kept
		switch err := s.next(); {
		case err != nil:
			return nil, err
		case s.has:
			heap.Fix(&m.open, 0)
		default:
			heap.Pop(&m.open)
		}
	}
	byDoc := func(a, b rank.Posting) int { return cmp.Compare(a.Doc, b.Doc) }
	if !slices.IsSortedFunc(out, byDoc) {
		slices.SortFunc(out, byDoc)
	}
	return out, nil
}

// dropLost deletes blocks that belong to no segment: what was merged, and what a merge
// that ended early has left.
func dropLost(ctx context.Context, e engine.Engine) error {
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlLostBlocks})
	if err != nil {
		return err
	}
	for _, row := range r[0].Rows {
		if _, err := e.Batch(ctx, engine.Stmt{SQL: sqlDropBlocks, Args: []any{row[0]}}); err != nil {
			return err
		}
	}
	return nil
}
