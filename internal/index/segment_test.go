package index

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/rank"
)

// postingsOf is what documents hold, term by term: the slow way.
func postingsOf(docs []Document) (terms map[string][]rank.Posting, lengths [][rank.Fields]uint32) {
	terms = make(map[string][]rank.Posting)
	for i, d := range docs {
		counts := make(map[string][rank.Fields]int)
		var length [rank.Fields]uint32
		for f, text := range d.Texts {
			for _, token := range strings.Fields(string(AppendTokens(nil, text))) {
				n := counts[token]
				n[f]++
				counts[token] = n
				length[f]++
			}
		}
		if d.Actor != "" {
			var n [rank.Fields]int
			n[rank.Text] = 1
			counts[ActorTerm(d.Actor)] = n
		}
		for term, n := range counts {
			var tf rank.TF
			for f, n := range n {
				class := 0
				switch {
				case n >= 4:
					class = 3
				case n >= 2:
					class = 2
				case n == 1:
					class = 1
				}
				tf |= rank.TF(class << (2 * f))
			}
			terms[term] = append(terms[term], rank.Posting{Doc: int32(i), TF: tf})
		}
		lengths = append(lengths, length)
	}
	return terms, lengths
}

// find reads the postings of a term out of a block.
func find(block []byte, term string, out []rank.Posting, docs int) ([]rank.Posting, error) {
	b := blockReader{r: reader{data: block}}
	for b.next() {
		if string(b.term) >= term {
			if string(b.term) == term {
				out = b.postings(out, docs)
			}
			break
		}
	}
	return out, b.r.err
}

func TestUnitsHoldWhatTheyWereGiven(t *testing.T) {
	words := []string{"a", "ab", "abc", "zebra", "検索", "get_user_name", "x1", "\x01", "*", ""}
	rapid.Check(t, func(t *rapid.T) {
		var docs []Document
		number := 0
		for range rapid.IntRange(0, 40).Draw(t, "documents") {
			d := Document{Number: number, Actor: rapid.SampledFrom([]string{"", "bash", "Zoë"}).Draw(t, "actor")}
			number += rapid.IntRange(1, 300).Draw(t, "distance")
			for f := range d.Texts {
				d.Texts[f] = strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 12).Draw(t, "words"), " ")
			}
			docs = append(docs, d)
		}
		base := rapid.Int64Range(-1<<50, 1<<50).Draw(t, "base")
		table, block, err := decodeUnit(Encode(docs), base)
		if err != nil {
			t.Fatal(err)
		}
		want, lengths := postingsOf(docs)
		for i, d := range docs {
			if table.places[i] != base+int64(d.Number) || table.lengths[i] != lengths[i] || table.codes[i] != codeOf(&d) {
				t.Fatalf("document %d is at %d with %v, want %d with %v", i, table.places[i], table.lengths[i], base+int64(d.Number), lengths[i])
			}
		}
		last, n := "", 0
		for b := (blockReader{r: reader{data: block}}); b.next(); n++ {
			term := string(b.term)
			if term <= last {
				t.Fatalf("%q follows %q", term, last)
			}
			last = term
			if n%2 == 0 { // others are passed unread
				if got := b.postings(nil, len(docs)); !reflect.DeepEqual(got, want[term]) {
					t.Fatalf("%q: %v, want %v", term, got, want[term])
				}
			}
			if got, err := find(block, term, nil, len(docs)); err != nil || !reflect.DeepEqual(got, want[term]) {
				t.Fatalf("find %q: %v, %v, want %v", term, got, err, want[term])
			}
		}
		if n != len(want) {
			t.Fatalf("%d terms, want %d", n, len(want))
		}
	})
}

func FuzzDecodeUnit(f *testing.F) {
	f.Add(Encode(nil))
	f.Add(Encode([]Document{{Number: 1, Actor: "a", Texts: [rank.Fields]string{"head", "some text text", "", "may"}}}))
	var many []Document
	for i := range 100 {
		many = append(many, Document{Number: 3 * i, Texts: [rank.Fields]string{rank.Text: fmt.Sprint("word ", i%7, " word", i)}})
	}
	f.Add(Encode(many))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, block, err := decodeUnit(data, 5)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		b := blockReader{r: reader{data: block}}
		for b.next() {
			for _, p := range b.postings(nil, len(docs.places)) {
				if p.Doc < 0 || int(p.Doc) >= len(docs.places) {
					t.Fatalf("document %d of %d", p.Doc, len(docs.places))
				}
			}
		}
		if b.r.err != nil && !errors.Is(b.r.err, ErrDamaged) {
			t.Fatal(b.r.err)
		}
		if !slices.IsSorted(docs.places) {
			t.Fatal("documents are not in order")
		}
	})
}

func TestTFTakesTheGreater(t *testing.T) {
	for range 1000 {
		a, b := rank.TF(rand.N(256)), rank.TF(rand.N(256))
		for f := range rank.Fields {
			if got := a.Max(b) >> (2 * f) & 3; got != max(a>>(2*f)&3, b>>(2*f)&3) {
				t.Fatalf("%08b and %08b: %08b", a, b, a.Max(b))
			}
		}
	}
}
