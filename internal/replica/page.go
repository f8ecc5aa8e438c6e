package replica

import (
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Page is the items that one transaction stores.
type Page struct {
	Heads      []Head             // episodes that are new or have changed
	Runs       map[[16]byte][]Run // their steps that are not here, in order
	Patterns   []Item
	Heuristics []Item
}

// Head is an episode without its steps.
type Head struct {
	ID  [16]byte
	Rev int64
	// Kept is the first step of the last run that is here and stays; 0: what is here of the
	// episode is replaced.
	Kept int64
	Tags string // a JSON array, in order
	// Values are the columns id, task_type, domain, language, outcome, start_us, end_us,
	// steps, rev, payload, bytes and scope.
	Values []engine.Value
}

// Steps is how many steps the episode has.
func (h *Head) Steps() int64 {
	n, _ := h.Values[7].(int64)
	return n
}

// Run is some steps of an episode.
type Run struct {
	First, Count int64
	Key          []byte // nil: it was not appended
	Payload      []byte
}

// Item is a pattern or a heuristic.
type Item struct {
	ID  [16]byte
	Rev int64
	// Values are the columns, of a pattern id, kind, domain, success_rate, created_us,
	// payload, scope and rev; of a heuristic id, confidence, created_us, payload, scope
	// and rev.
	Values []engine.Value
}

// fetched is a page with what else belongs to it.
type fetched struct {
	Page
	server
	changes      []change
	told         []change         // changes as the server told them, whatever is stored of them
	beyond       []change         // of the same moment, if they were asked for
	relations    [][]engine.Value // src and dst are ids
	embeddings   [][]engine.Value
	scopes       [][]engine.Value
	dictionaries []dictionary
	before       pins // what was pinned here before what is here was told to the server
	passed       bool // items were taken out, to be fetched later
	sure         bool // all dictionaries that the page names are here, or come with it
}

// idOf returns an item's id; ok is false for what an SQL shell has stored without a
// proper one, which nobody can read.
func idOf(v engine.Value) (id [16]byte, ok bool) {
	b, _ := v.([]byte)
	return id, copy(id[:], b) == len(id) && len(b) == len(id)
}

func headsFrom(rows [][]engine.Value) ([]Head, error) {
	heads := make([]Head, 0, len(rows))
	for _, row := range rows {
		id, ok := idOf(row[0])
		if !ok {
			continue
		}
		in := engine.Row{Values: row}
		h := Head{ID: id, Rev: in.Int(8), Tags: in.Text(12), Kept: in.Int(13), Values: row[:12:12]}
		if in.Err != nil {
			return nil, fmt.Errorf("episode %x of the server: %w", id, in.Err)
		}
		heads = append(heads, h)
	}
	return heads, nil
}

func runsFrom(rows [][]engine.Value) (map[[16]byte][]Run, error) {
	runs := make(map[[16]byte][]Run)
	for _, row := range rows {
		id, ok := idOf(row[0])
		if !ok {
			continue
		}
		in := engine.Row{Values: row}
		run := Run{First: in.Int(1), Count: in.Int(2), Payload: in.Blob(4)}
		if row[3] != nil {
			run.Key = in.Blob(3)
		}
		if in.Err != nil {
			return nil, fmt.Errorf("steps of episode %x of the server: %w", id, in.Err)
		}
		runs[id] = append(runs[id], run)
	}
	return runs, nil
}

// itemsFrom reads patterns or heuristics, whose revision is the last column.
func itemsFrom(rows [][]engine.Value) ([]Item, error) {
	items := make([]Item, 0, len(rows))
	for _, row := range rows {
		id, ok := idOf(row[0])
		if !ok {
			continue
		}
		in := engine.Row{Values: row}
		items = append(items, Item{ID: id, Rev: in.Int(len(row) - 1), Values: row})
		if in.Err != nil {
			return nil, fmt.Errorf("item %x of the server: %w", id, in.Err)
		}
	}
	return items, nil
}
