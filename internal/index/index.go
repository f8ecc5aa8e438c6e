package index

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/rank"
)

// Querier reads a snapshot of the database.
type Querier interface {
	Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error)
}

// Index is the full-text index of a local file. It keeps, of the segments that it has
// read, which documents they hold; a segment never changes.
type Index struct {
	mu       sync.Mutex
	segments map[int64]*docTable // by key
	corpus   *merged             // of the last lookup
}

// merged is the corpus of some segments, to which units are added for each lookup.
type merged struct {
	keys     []int64
	dead     map[int64]int64 // the last segment in which documents of an episode are gone
	corpus   rank.Corpus
	episodes map[int64]int32
}

// Matches is what the index holds of some terms at one moment.
type Matches struct {
	Corpus  *rank.Corpus
	terms   map[string][]found // in each part
	Waiting int                // groups that are not in the index yet
	Merge   bool               // there is so much that was not merged that it should be
	// Text is the beginning of the query, by Ask, without the words that name actors.
	Text string
}

// found is postings of a term; those of a long list are decoded when they are asked for.
type found struct {
	n        int
	encoded  []byte // nil: decoded
	postings []rank.Posting
}

// Term returns the postings of a term that was looked up. Errors: ErrDamaged.
func (m *Matches) Term(term string) (rank.Term, error) {
	t := rank.Term{Postings: make([][]rank.Posting, len(m.Corpus.Parts))}
	for part := range m.terms[term] {
		f := &m.terms[term][part]
		if f.encoded != nil {
			b := blockReader{n: f.n, list: f.encoded}
			if f.postings = b.postings(nil, len(m.Corpus.Parts[part].Places)); b.r.err != nil {
				return rank.Term{}, b.r.err
			}
			f.encoded = nil
		}
		t.Postings[part] = f.postings
	}
	return t, nil
}

// Documents returns how many documents hold a term that was looked up.
func (m *Matches) Documents(term string) (n int) {
	for _, f := range m.terms[term] {
		n += f.n
	}
	return n
}

const (
	sqlSegments = `SELECT n, key FROM index_segments ORDER BY n`
	sqlPlaces   = `SELECT base, places FROM index_segments WHERE key = ?`
	sqlGone     = `SELECT g, upto FROM index_gone ORDER BY g`
	// Of a power of two of statements one that reads its part of the units.
	sqlUnits = `SELECT place, data FROM index_units WHERE (place >> 24) & (? - 1) = ? ORDER BY place`
	// The blocks in which terms lie, if they are anywhere, each once.
	sqlBlocks = `SELECT n, '', b.data FROM
 (SELECT DISTINCT s.n AS n, (SELECT rowid FROM index_blocks WHERE segment = s.key AND first <= t.value ORDER BY first DESC LIMIT 1) AS r FROM index_segments s JOIN json_each(?) t)
 JOIN index_blocks b ON b.rowid = r ORDER BY n, b.first`
	// The blocks that may hold terms with a prefix: the one that it lies in, and those that
	// begin with one.
	sqlPrefixed = `SELECT s.n, t.value, b.data FROM index_segments s JOIN json_each(?) t JOIN index_blocks b ON b.segment = s.key
 AND b.first >= ifnull((SELECT first FROM index_blocks WHERE segment = s.key AND first <= t.value ORDER BY first DESC LIMIT 1), t.value)
 AND b.first < t.value || char(1114111) ORDER BY s.n, b.first`
	sqlWaiting = `SELECT iif(of_server, (SELECT count(*) FROM episodes), waiting) FROM index_state`
)

// Lookup returns the postings of terms, and those of all terms that begin with a prefix
// as if they were one term. What it returns is one snapshot.
func (x *Index) Lookup(ctx context.Context, q Querier, terms, prefixes []string) (*Matches, error) {
	terms, prefixes = unique(terms), unique(prefixes)
	for statements := 1; ; {
		r, err := x.read(ctx, q, terms, prefixes, statements)
		if engine.KindOf(err) == engine.KindTooLarge && statements < mostStatements {
			statements *= 2 // an answer to each may be as large
			continue
		}
		if err != nil {
			return nil, err
		}
		segments, missing, err := x.segmentsFrom(r[0].Rows)
		if err != nil {
			return nil, err
		}
		if len(missing) > 0 {
			if err := x.load(ctx, q, missing); err != nil {
				return nil, err
			}
			continue
		}
		return x.matches(segments, r, statements, terms, prefixes)
	}
}

// mostStatements is by how many statements at most units, and blocks, are read.
const mostStatements = 64

// read asks for what there is, for the units and the blocks in which the terms lie, each by
// so many statements at most, and for those of prefixes.
func (x *Index) read(ctx context.Context, q Querier, terms, prefixes []string, statements int) ([]engine.Result, error) {
	stmts := []engine.Stmt{{SQL: sqlSegments}, {SQL: sqlGone}, {SQL: sqlWaiting}, {SQL: sqlPrefixed, Args: []any{list(prefixes)}}}
	for i := range statements {
		stmts = append(stmts, engine.Stmt{SQL: sqlUnits, Args: []any{int64(statements), int64(i)}})
	}
	for chunk := range slices.Chunk(terms, max(1, (len(terms)+statements-1)/statements)) {
		stmts = append(stmts, engine.Stmt{SQL: sqlBlocks, Args: []any{list(chunk)}})
	}
	return q.Query(ctx, stmts...)
}

// unitResults is where the results of sqlUnits begin among those of read.
const unitResults = 4

func (x *Index) matches(segments []segment, r []engine.Result, statements int, terms, prefixes []string) (*Matches, error) {
	x.mu.Lock()
	last := x.corpus
	x.mu.Unlock()
	base, err := mergedFrom(segments, r[1].Rows, last)
	if err != nil {
		return nil, err
	}
	x.keep(segments, base)
	rows := r[unitResults].Rows
	for _, more := range r[unitResults+1 : unitResults+statements] {
		rows = append(rows, more.Rows...)
	}
	units, err := base.with(rows)
	if err != nil {
		return nil, err
	}
	in := engine.Row{Values: r[2].Rows[0]}
	m := &Matches{Corpus: &units.corpus, terms: make(map[string][]found, len(terms)), Waiting: int(in.Int(0))}
	m.Merge = len(rows) >= mostUnits
	if in.Err != nil {
		return nil, in.Err
	}
	if err := readBlocks(segments, r[3].Rows, m.readPrefix); err != nil {
		return nil, err
	}
	inBlock := func(part int, block []byte, _ string) error { return m.readTerms(part, block, terms) }
	for _, result := range r[unitResults+statements:] {
		if err := readBlocks(segments, result.Rows, inBlock); err != nil {
			return nil, err
		}
	}
	for i, block := range units.blocks {
		part := len(segments) + i
		if err := m.readTerms(part, block, terms); err != nil {
			return nil, err
		}
		for _, prefix := range prefixes {
			if err := m.readPrefix(part, block, prefix); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

func unique(terms []string) []string {
	terms = slices.Clone(terms)
	slices.Sort(terms)
	return slices.Compact(terms)
}

// list is terms as JSON.
func list(terms []string) string {
	text, err := json.Marshal(append([]string{}, terms...))
	if err != nil {
		panic(err) // strings always have JSON
	}
	return string(text)
}

// segment is a row of index_segments.
type segment struct {
	n, key int64
	docs   *docTable
}

// segmentsFrom returns the segments with what they hold, and the keys of those of which that
// is not known.
func (x *Index) segmentsFrom(rows [][]any) (segments []segment, missing []int64, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, row := range rows {
		in := engine.Row{Values: row}
		s := segment{n: in.Int(0), key: in.Int(1)}
		if in.Err != nil {
			return nil, nil, fmt.Errorf("segment %v: %w", row[0], ErrDamaged)
		}
		if s.docs = x.segments[s.key]; s.docs == nil {
			missing = append(missing, s.key)
		}
		segments = append(segments, s)
	}
	return segments, missing, nil
}

// load reads what some segments hold. One that is not there any more was merged meanwhile.
func (x *Index) load(ctx context.Context, q Querier, keys []int64) error {
	for _, key := range keys { // each may be as large as an answer
		docs, err := readDocs(ctx, q, key)
		if err != nil {
			return err
		}
		if docs == nil {
			continue
		}
		x.mu.Lock()
		if x.segments == nil {
			x.segments = make(map[int64]*docTable)
		}
		x.segments[key] = docs
		x.mu.Unlock()
	}
	return nil
}

// readDocs reads what a segment holds; nil: it is not there any more.
func readDocs(ctx context.Context, q Querier, key int64) (*docTable, error) {
	r, err := q.Query(ctx, engine.Stmt{SQL: sqlPlaces, Args: []any{key}})
	if err != nil || len(r[0].Rows) == 0 {
		return nil, err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	docs, err := decodeDocs(in.Blob(1), in.Int(0))
	if in.Err != nil || err != nil {
		return nil, fmt.Errorf("segment with key %d: %w", key, ErrDamaged)
	}
	return docs, nil
}

// keep remembers what segments hold, of those that there are.
func (x *Index) keep(segments []segment, base *merged) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.segments = make(map[int64]*docTable, len(segments))
	for _, s := range segments {
		x.segments[s.key] = s.docs
	}
	x.corpus = base
}

// mergedFrom returns last if it is the corpus of these segments.
func mergedFrom(segments []segment, gone [][]any, last *merged) (*merged, error) {
	m := &merged{episodes: make(map[int64]int32), dead: make(map[int64]int64, len(gone))}
	for _, row := range gone {
		in := engine.Row{Values: row}
		m.dead[in.Int(0)] = in.Int(1)
		if in.Err != nil {
			return nil, fmt.Errorf("%w", ErrDamaged)
		}
	}
	for _, s := range segments {
		m.keys = append(m.keys, s.key)
	}
	if last != nil && slices.Equal(last.keys, m.keys) && sameDead(last.dead, m.dead) {
		return last, nil
	}
	for _, s := range segments {
		m.corpus.Add(s.docs.part(),
			func(id int64) (int32, bool) { at, ok := m.episodes[id]; return at, ok },
			func(id int64, at int32) { m.episodes[id] = at },
			func(id int64) bool { return m.dead[id] >= s.n })
	}
	m.corpus.Measure(&rank.Defaults)
	return m, nil
}

func sameDead(a, b map[int64]int64) bool {
	if len(a) != len(b) {
		return false
	}
	for id, upto := range a {
		if b[id] != upto {
			return false
		}
	}
	return true
}

// units is a corpus with units, and their blocks.
type units struct {
	corpus rank.Corpus
	blocks [][]byte
}

// with adds units to a corpus, which stays as it is.
func (m *merged) with(rows [][]any) (*units, error) {
	u := &units{corpus: m.corpus}
	u.corpus.Parts = slices.Clip(u.corpus.Parts)
	u.corpus.Episodes = slices.Clone(u.corpus.Episodes)
	more := make(map[int64]int32)
	for _, row := range rows {
		in := engine.Row{Values: row}
		place, data := in.Int(0), in.Blob(1)
		if in.Err != nil {
			return nil, fmt.Errorf("unit %v: %w", row[0], ErrDamaged)
		}
		docs, block, err := decodeUnit(data, place)
		if err != nil {
			return nil, fmt.Errorf("unit %d: %w", place, err)
		}
		u.corpus.Add(docs.part(),
			func(id int64) (int32, bool) {
				at, ok := m.episodes[id]
				if !ok {
					at, ok = more[id]
				}
				return at, ok
			},
			func(id int64, at int32) { more[id] = at },
			func(int64) bool { return false })
		u.blocks = append(u.blocks, block)
	}
	u.corpus.Measure(&rank.Defaults)
	return u, nil
}

// readBlocks hands rows of a segment's n, a term and a block to read, with the number of
// the part.
func readBlocks(segments []segment, rows [][]any, read func(part int, block []byte, term string) error) error {
	at := 0
	for _, row := range rows {
		if row[2] == nil {
			continue
		}
		in := engine.Row{Values: row}
		n, term, block := in.Int(0), in.Text(1), in.Blob(2)
		for at < len(segments) && segments[at].n < n {
			at++
		}
		if in.Err != nil || at == len(segments) || segments[at].n != n {
			return fmt.Errorf("segment %v: %w", row[0], ErrDamaged)
		}
		if err := read(at, block, term); err != nil {
			return fmt.Errorf("segment %d: %w", n, err)
		}
	}
	return nil
}

// prefixMark ends the key of a prefix in Matches.terms. No term holds it.
const prefixMark = "*"

func (m *Matches) readPrefix(part int, block []byte, prefix string) error {
	b := blockReader{r: reader{data: block}}
	docs := len(m.Corpus.Parts[part].Places)
	var all []rank.Posting
	if parts := m.terms[prefix+prefixMark]; parts != nil {
		all = parts[part].postings
	}
	for b.next() {
		if strings.HasPrefix(string(b.term), prefix) {
			all = b.postings(all, docs)
		} else if string(b.term) > prefix {
			break
		}
	}
	slices.SortFunc(all, func(a, b rank.Posting) int { return cmp.Compare(a.Doc, b.Doc) })
	kept := all[:0]
	for _, o := range all {
		if n := len(kept); n > 0 && kept[n-1].Doc == o.Doc {
			kept[n-1].TF = kept[n-1].TF.Max(o.TF)
			continue
		}
		kept = append(kept, o)
	}
	m.add(prefix+prefixMark, part, found{n: len(kept), postings: kept})
	return b.r.err
}

// readTerms reads the terms, which are in order, out of a block.
func (m *Matches) readTerms(part int, block []byte, terms []string) error {
	b := blockReader{r: reader{data: block}}
	docs := len(m.Corpus.Parts[part].Places)
	for i := 0; i < len(terms) && b.next(); {
		for i < len(terms) && terms[i] < string(b.term) {
			i++
		}
		if i < len(terms) && terms[i] == string(b.term) {
			f := found{n: b.n, encoded: b.list}
			if f.encoded == nil {
				f.postings = b.postings(nil, docs)
			}
			m.add(terms[i], part, f)
			i++
		}
	}
	return b.r.err
}

func (m *Matches) add(term string, part int, f found) {
	if f.n == 0 {
		return
	}
	parts := m.terms[term]
	if parts == nil {
		parts = make([]found, len(m.Corpus.Parts))
		m.terms[term] = parts
	}
	parts[part] = f
}
