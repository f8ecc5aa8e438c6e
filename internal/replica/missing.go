package replica

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// Content is how much of a kind a memory holds, and a hash of it: of ids, revisions, the
// checksums of all payloads, and what else is stored. It is the same in every memory that holds the same,
// whatever its rows, dictionaries and formats of payloads are.
type Content struct {
	Kind  feed.Kind
	Items int64
	Hash  [sha256.Size]byte
}

// Comparison is what Compare returns.
type Comparison struct {
	Missing     []Difference // what is here, and is not there, or has another content there
	Here, There []Content    // one of each kind
}

// Compare compares two memories: items by their revisions and the checksums of all payloads, with their
// scopes, tags and times; relations; embeddings. Errors: those of the engines; that of ctx.
func Compare(ctx context.Context, here, there engine.Engine) (*Comparison, error) {
	r := &Replica{cfg: Config{Local: here, Server: there}}
	c := &Comparison{}
	var ourHash, theirHash hash.Hash
	for i := range tables {
		t := tables[i].within(0)
		sql := cmp.Or(t.deep, t.rows)
		ours, err := r.all(ctx, here, &t, sql, 0, 255)
		if err != nil {
			return nil, err
		}
		theirs, err := r.all(ctx, there, &t, sql, 0, 255)
		if err != nil {
			return nil, err
		}
		for id, texts := range ours {
			lacks := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return slices.Contains(theirs[id], text) })
			if len(lacks) > 0 {
				c.Missing = append(c.Missing, Difference{t.kind, id, join(lacks...), join(theirs[id]...)})
			}
		}
		addContent(&c.Here, &ourHash, t.kind, ours)
		addContent(&c.There, &theirHash, t.kind, theirs)
	}
	sortDifferences(c.Missing)
	c.Missing = slices.DeleteFunc(joined(c.Missing), Difference.sameContent)
	return c, nil
}

// sameContent reports whether nothing but the revision differs: two writes stored the same.
func (d Difference) sameContent() bool {
	here, ok := withoutRevision(d.Here)
	there, also := withoutRevision(d.There)
	return ok && also && here == there
}

// withoutRevision returns what a description says behind the revision. It has none if it does
// not begin with one, or if nothing else was compared.
func withoutRevision(text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, revision)
	_, rest, more := strings.Cut(rest, ", ")
	return rest, ok && more
}

// addContent adds what a table holds, which may be one of several of the same kind in a row: then the
// first one has the items, and h is of all.
func addContent(list *[]Content, h *hash.Hash, kind feed.Kind, items map[[16]byte][]string) {
	if last := len(*list) - 1; last < 0 || (*list)[last].Kind != kind {
		*list, *h = append(*list, Content{Kind: kind}), sha256.New()
		for _, texts := range items {
			(*list)[last+1].Items += int64(len(texts))
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(items), func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) }) {
		fmt.Fprintf(*h, "%x %q\n", id, items[id])
	}
	(*h).Sum((*list)[len(*list)-1].Hash[:0])
}
