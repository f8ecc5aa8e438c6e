package episodic

import "sync"

// maxDrafts bounds the memory of drafts, about, in bytes: payloads, and what a row
// of each kind takes besides.
const (
	maxDrafts = 8 << 20
	headCost  = 600
	runCost   = 150
)

// drafts remembers what a Store has stored of episodes that it started, in the
// rows that the database would answer with: so completing one need not ask. What
// others did meanwhile shows when it is completed.
type drafts struct {
	mu    sync.Mutex
	byID  map[ID]*draft
	bytes int
}

type draft struct {
	head  []any   // of sqlGetEpisode
	runs  [][]any // of sqlGetRuns
	steps int64
	bytes int
}

func (d *drafts) start(w *episodeRow) {
	r := &draft{head: w.head(), steps: int64(w.steps), bytes: len(w.payload) + len(w.tags) + headCost}
	for _, x := range w.runs {
		r.runs = append(r.runs, []any{int64(x.first), int64(x.count), x.payload})
		r.bytes += len(x.payload) + runCost
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byID[w.id] != nil { // it was deleted
		d.drop(w.id)
	}
	d.grow(r.bytes)
	if d.byID == nil {
		d.byID = make(map[ID]*draft)
	}
	d.byID[w.id] = r
}

// appended adds what a was stored as.
func (d *drafts) appended(a *appendRow, first int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, found := d.byID[a.id]
	if !found {
		return
	}
	if int64(first) != r.steps+1 { // somebody else appends too
		d.drop(a.id)
		return
	}
	r.runs = append(r.runs, []any{int64(first), int64(a.count), a.payload})
	r.steps += int64(a.count)
	r.bytes += len(a.payload) + runCost
	d.grow(len(a.payload) + runCost)
}

// grow counts n more bytes, and forgets all if they are too many.
func (d *drafts) grow(n int) {
	if d.bytes += n; d.bytes > maxDrafts {
		clear(d.byID)
		d.bytes = 0
	}
}

// take returns what is known of an episode, and forgets it.
func (d *drafts) take(id ID) (head []any, runs [][]any, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, found := d.byID[id]
	if !found {
		return nil, nil, false
	}
	d.drop(id)
	r.head[8] = r.steps
	return r.head, r.runs, true
}

func (d *drafts) drop(id ID) {
	d.bytes -= d.byID[id].bytes
	delete(d.byID, id)
}
