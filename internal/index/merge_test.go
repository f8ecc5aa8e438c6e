package index

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/rank"
	"github.com/episodic-memory/episodic/internal/schema"
)

func openFile(t testing.TB) engine.Engine {
	t.Helper()
	e, err := embedded.Open(t.Context(), embedded.Config{Path: filepath.Join(t.TempDir(), "m.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := schema.Migrate(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	return e
}

func run(t testing.TB, e engine.Engine, sql string, args ...any) {
	t.Helper()
	if _, err := e.Batch(context.Background(), engine.Stmt{SQL: sql, Args: args}); err != nil {
		t.Fatal(err)
	}
}

// words of a step, of few different ones, so that lists are long.
func words(r *rand.Rand) string {
	text := ""
	for range 1 + r.IntN(8) {
		text += fmt.Sprintf("w%d ", r.IntN(1+r.IntN(500)))
	}
	return text
}

// model is what an index should hold: the words of documents by their places.
type model map[int64]string

// check compares all that a lookup finds with the model.
func (m model) check(t testing.TB, x *Index, e engine.Engine) {
	t.Helper()
	want := make(map[string][]int64)
	for place, text := range m {
		seen := make(map[string]bool)
		for token := range fields(text) {
			if !seen[token] {
				seen[token] = true
				want[token] = append(want[token], place)
			}
		}
	}
	terms := []string{"never"}
	for term := range want {
		slices.Sort(want[term])
		terms = append(terms, term)
	}
	got, err := x.Lookup(t.Context(), e, terms, []string{"w1"})
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for _, p := range got.Corpus.Parts {
		for i := range p.Places {
			if p.Episode[i] >= 0 {
				steps++
				if want := codeOf(&Document{Texts: [rank.Fields]string{rank.Text: m[p.Places[i]]}}); p.Codes[i] != want {
					t.Fatalf("the step at %d has the code %x, want %x", p.Places[i], p.Codes[i], want)
				}
			}
		}
	}
	if steps != len(m) || got.Corpus.Steps != len(m) {
		t.Fatalf("%d documents, %d steps, want %d", steps, got.Corpus.Steps, len(m))
	}
	places := func(name string) (list []int64) {
		term, err := got.Term(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range term.Postings {
			for _, o := range part {
				if p := got.Corpus.Parts[i]; p.Episode[o.Doc] >= 0 {
					list = append(list, p.Places[o.Doc])
				}
			}
		}
		slices.Sort(list)
		return list
	}
	var prefixed []int64
	for _, term := range terms {
		if found := places(term); !reflect.DeepEqual(found, want[term]) {
			t.Fatalf("%q is at %v, want %v", term, found, want[term])
		}
		if term[:2] == "w1" {
			prefixed = append(prefixed, want[term]...)
		}
	}
	slices.Sort(prefixed)
	if found := places("w1*"); !reflect.DeepEqual(found, slices.Compact(prefixed)) {
		t.Fatalf("w1* is at %v, want %v", found, slices.Compact(prefixed))
	}
}

func fields(text string) map[string]bool {
	all := make(map[string]bool)
	for _, token := range strings.Fields(string(AppendTokens(nil, text))) {
		all[token] = true
	}
	return all
}

// Whatever is written, replaced, deleted and merged, a lookup finds what is there.
func TestMergedIndexHoldsWhatWasWritten(t *testing.T) {
	for seed := range uint64(2) {
		e := openFile(t)
		r := rand.New(rand.NewPCG(seed, 1))
		var x Index
		m := make(model)
		store := func(g int64) {
			run(t, e, "INSERT INTO forgotten VALUES(?)", g)
			for place := range m {
				if place>>rank.NumberBits == g {
					delete(m, place)
				}
			}
			number := int64(0)
			for range 1 + r.IntN(3) { // a put and appends
				var docs []Document
				place := g<<rank.NumberBits + number + 1
				for i := range 1 + r.IntN(4) {
					text := words(r)
					docs = append(docs, Document{Number: i, Texts: [rank.Fields]string{rank.Text: text}})
					m[place+int64(i)] = text
					number++
				}
				run(t, e, "INSERT INTO index_units(place, data) VALUES(?, ?)", place, Encode(docs))
			}
		}
		for round := range 6 {
			for range 30 + r.IntN(40) {
				store(1 + r.Int64N(300))
			}
			for range r.IntN(20) {
				g := 1 + r.Int64N(300)
				run(t, e, "INSERT INTO forgotten VALUES(?)", g)
				for place := range m {
					if place>>rank.NumberBits == g {
						delete(m, place)
					}
				}
			}
			m.check(t, &x, e)
			if err := Merge(t.Context(), e, round%5 == 4); err != nil {
				t.Fatal(err)
			}
			m.check(t, &x, e)
			m.check(t, new(Index), e) // which remembers nothing
		}
		if err := Merge(t.Context(), e, true); err != nil {
			t.Fatal(err)
		}
		m.check(t, &x, e)
		res, err := e.Query(t.Context(), engine.Stmt{SQL: `SELECT (SELECT count(*) FROM index_units), (SELECT count(*) FROM index_segments), (SELECT count(*) FROM index_gone),
 (SELECT count(*) FROM index_blocks WHERE segment NOT IN (SELECT key FROM index_segments))`})
		if err != nil || fmt.Sprint(res[0].Rows) != "[[0 1 0 0]]" {
			t.Errorf("units, segments, gone, lost blocks: %v, %v", res, err)
		}
	}
}

// Merges by several at once, with writes and deletions between, lose nothing.
func TestMergesAtOnce(t *testing.T) {
	e := openFile(t)
	m := make(model)
	var mu sync.Mutex
	var all sync.WaitGroup
	for w := range int64(4) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 2))
			for i := range int64(60) {
				g := 1 + w*1000 + r.Int64N(60)
				text := words(r)
				run(t, e, "INSERT INTO forgotten VALUES(?)", g)
				run(t, e, "INSERT INTO index_units(place, data) VALUES(?, ?)", g<<rank.NumberBits+1, Encode([]Document{{Texts: [rank.Fields]string{rank.Text: text}}}))
				mu.Lock()
				m[g<<rank.NumberBits+1] = text
				mu.Unlock()
				if i%20 == 19 {
					if err := Merge(t.Context(), e, false); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	m.check(t, new(Index), e)
	if err := Merge(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	m.check(t, new(Index), e)
}

// between is an engine on which something happens behind one of its queries.
type between struct {
	engine.Engine
	queries int // until it happens
	happens func()
}

func (b *between) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	results, err := b.Engine.Query(ctx, stmts...)
	if b.queries--; b.queries == 0 {
		b.happens()
	}
	return results, err
}

// What is replaced at any moment of a merge is found as it is then.
func TestReplacedWhileMerging(t *testing.T) {
	for queries := 1; ; queries++ {
		e, m := openFile(t), make(model)
		put := func(g int64, text string) {
			run(t, e, "INSERT INTO forgotten VALUES(?)", g)
			run(t, e, "INSERT INTO index_units(place, data) VALUES(?, ?)", g<<rank.NumberBits+1, Encode([]Document{{Texts: [rank.Fields]string{rank.Text: text}}}))
			m[g<<rank.NumberBits+1] = text
		}
		put(1, "pump")
		put(2, "valve")
		if err := Merge(t.Context(), e, true); err != nil {
			t.Fatal(err)
		}
		put(3, "gasket")
		b := &between{Engine: e, queries: queries, happens: func() { put(2, "valve of brass"); put(3, "gasket of cork") }}
		if err := Merge(t.Context(), b, true); err != nil {
			t.Fatal(err)
		}
		m.check(t, new(Index), e)
		if err := Merge(t.Context(), e, true); err != nil {
			t.Fatal(err)
		}
		m.check(t, new(Index), e)
		if t.Failed() {
			t.Fatalf("replaced behind query %d", queries)
		}
		if b.queries > 0 {
			if queries < 4 {
				t.Errorf("only %d queries", queries)
			}
			return
		}
	}
}

func TestDamageIsTold(t *testing.T) {
	e := openFile(t)
	run(t, e, "INSERT INTO index_units(place, data) VALUES(?, ?)", int64(1)<<24, Encode([]Document{{Texts: [rank.Fields]string{"a head"}}}))
	if err := Merge(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	run(t, e, "UPDATE index_blocks SET data = x'ffff'")
	if _, err := new(Index).Lookup(t.Context(), e, []string{"head"}, nil); err == nil {
		t.Error("a damaged block is not told")
	}
}

// What a replica's fill has made before anything was merged is more than one answer holds, and
// so is what the segments of many documents hold: both are searched, and merged.
func TestMoreThanAnAnswerHolds(t *testing.T) {
	e, x := openFile(t), &Index{}
	small := limited{e, 40 << 10}
	m := make(model)
	r := rand.New(rand.NewPCG(5, 0))
	var stmts []engine.Stmt
	for i := range int64(6 * unitsAtOnce) {
		place := (i+1)<<rank.NumberBits + 1
		m[place] = words(r)
		unit := Encode([]Document{{Texts: [rank.Fields]string{rank.Text: m[place]}}})
		stmts = append(stmts, engine.Stmt{SQL: "INSERT INTO index_units(place, data) VALUES(?, ?)", Args: []any{place, unit}})
	}
	if _, err := e.Batch(t.Context(), stmts...); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		all  bool
		want string // units, segments
	}{{false, "[[0 6]]"}, {true, "[[0 1]]"}} {
		m.check(t, x, small)
		if err := Merge(t.Context(), small, step.all); err != nil {
			t.Fatal(err)
		}
		res, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT (SELECT count(*) FROM index_units), (SELECT count(*) FROM index_segments)"})
		if err != nil || fmt.Sprint(res[0].Rows) != step.want {
			t.Errorf("units and segments: %v, %v, want %s", res, err, step.want)
		}
		m.check(t, x, small)
	}
}

// limited is an engine whose answers to a statement end with the row that passes a limit, as
// those of a file do at 10 MB: then there is none.
type limited struct {
	engine.Engine
	bytes int
}

func (l limited) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	results, err := l.Engine.Query(ctx, stmts...)
	for _, r := range results {
		size := 0
		for _, row := range r.Rows {
			if size > l.bytes {
				return nil, &engine.Error{Kind: engine.KindTooLarge, Stmt: -1, Err: errors.New("too large")}
			}
			for _, v := range row {
				size += engine.ValueSize(v)
			}
		}
	}
	return results, err
}

// A merge that finds many documents deleted looks at each once: it holds the write lock.
func TestMergeOfManyDeletions(t *testing.T) {
	e := openFile(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	unit := Encode([]Document{{Texts: [rank.Fields]string{rank.Text: "valve"}}})
	for g := range int64(2) {
		run(t, e, "INSERT INTO index_units(place, data) VALUES(?, ?)", (g+1)<<rank.NumberBits+1, unit)
		if err := Merge(ctx, e, true); err != nil {
			t.Fatal(err)
		}
	}
	const many = 20_000
	run(t, e, "WITH RECURSIVE n(g) AS (SELECT 3 UNION ALL SELECT g + 1 FROM n WHERE g < ?) INSERT INTO index_gone SELECT g, 1 FROM n", many+2)
	run(t, e, "INSERT INTO index_units(place, data) VALUES(?, ?)", (many+3)<<rank.NumberBits+1, unit)
	if err := Merge(ctx, e, true); err != nil {
		t.Fatal(err)
	}
	res, err := e.Query(ctx, engine.Stmt{SQL: "SELECT count(*) FROM index_gone"})
	if err != nil {
		t.Fatal(err)
	}
	if n := res[0].Rows[0][0]; n != int64(0) {
		t.Errorf("%v deletions are still to be made", n)
	}
}
