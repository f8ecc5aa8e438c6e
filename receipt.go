package episodic

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Receipt says what a write has stored: Store.Verify tells, at any time later and from any
// process, what has become of it. It holds nothing of the content but its hash.
type Receipt struct {
	// Write is what was done: "put episode", "append steps", "complete episode",
	// "change tags", "put pattern", "put heuristic", "delete item", "put relation",
	// "delete relation", "put embedding" or "delete embedding".
	Write string   `json:"write"`
	Kind  ItemKind `json:"kind"` // of the item; a relation's is the episode that it leads from
	ID    ID       `json:"id"`   // of the item
	// Hash is the SHA-256 of what was stored, in 64 hexadecimal digits: of the whole item, the
	// steps that were appended, an ended episode without its steps, or an episode's
	// tags afterwards. Empty if something was deleted. docs/formats.md says how it is computed.
	Hash string `json:"hash,omitempty"`
	// Revision is the item's in the state of which the receipt tells; 0 for relations,
	// embeddings and what was deleted, which have none.
	Revision int64 `json:"revision,omitempty"`
	// Seq is the number of the write in the change feed, as in Change.Seq. 0: it is not
	// known, since the write is queued, or since its answer was lost and the server could not be asked.
	Seq int64 `json:"seq,omitempty"`
	// Database names the database whose numbers Revision and Seq are, in 32 hexadecimal
	// digits. Copies of a database have the same name. Empty if Seq is 0.
	Database string `json:"database,omitempty"`
	Scope    Scope  `json:"scope,omitzero"` // of the item
	// First and Steps are of appended steps: the number of the first one, and how many they
	// are. First may become another number when a queued append is pushed.
	First int          `json:"first,omitempty"`
	Steps int          `json:"steps,omitempty"`
	Type  RelationType `json:"type,omitempty"`  // of a relation
	To    ID           `json:"to,omitzero"`     // that a relation leads to
	Model string       `json:"model,omitempty"` // of an embedding
	// Queued names the write in this machine's outbox if it was queued (Replica.Offline); 0
	// if it was not. The server did not have it then.
	Queued int64 `json:"queued,omitempty"`
}

// WithReceipts returns a context for writes that tell what they have stored: take is called
// with a Receipt for each, once it is stored, or queued, and before the call of the Store
// returns. It costs a few bytes more in the same round trip and the hashing of what is
// stored, and nothing without it. AddEpisodes, Import and RedactStored call take once for each item that
// they store. A write that fails, or finds nothing to do, has none; but completing
// again, unless it is queued, and AppendStepsOnce with a key that is known, have the receipt of
// what is stored. Restore has none. take is called by the goroutine of the call of the Store.
//
// A write whose receipt cannot be read, as the answer to it was lost and so was that of the
// question that followed, has one without Seq; tags, and steps with a known key, have an error then, and
// can be written again.
func WithReceipts(ctx context.Context, take func(Receipt)) context.Context {
	return context.WithValue(ctx, receiptsKey{}, take)
}

type receiptsKey struct{}

// receiptsOf returns who takes the receipts of writes with ctx; nil: nobody.
func receiptsOf(ctx context.Context) func(Receipt) {
	take, _ := ctx.Value(receiptsKey{}).(func(Receipt))
	return take
}

// String returns the receipt as a line of JSON, without the line feed, which ParseReceipt
// reads.
func (r Receipt) String() string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Sprintf("receipt of %v: %v", r.ID, err) // none of its fields can fail
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// ParseReceipt reads what Receipt.String returned. Fields that it does not know are ignored.
// The error is an *InvalidError.
func ParseReceipt(text string) (Receipt, error) {
	var r Receipt
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return Receipt{}, invalid("receipt", "is not the JSON of one: %v", err)
	}
	if err := r.validate(); err != nil {
		return Receipt{}, err
	}
	return r, nil
}

// Names of writes in receipts, which are those of queuedKinds.
const (
	wrotePut         = "put episode"
	wroteSteps       = "append steps"
	wroteEnd         = "complete episode"
	wroteTags        = "change tags"
	wrotePattern     = "put pattern"
	wroteHeuristic   = "put heuristic"
	deletedItem      = "delete item"
	wroteRelation    = "put relation"
	deletedRelation  = "delete relation"
	wroteEmbedding   = "put embedding"
	deletedEmbedding = "delete embedding"
)

// deletes reports whether the write has deleted something.
func (r *Receipt) deletes() bool {
	return r.Write == deletedItem || r.Write == deletedRelation || r.Write == deletedEmbedding
}

func (r *Receipt) validate() error {
	c := &check{}
	kinds := make([]string, len(queuedKinds))
	for i, k := range queuedKinds {
		kinds[i] = k.name
	}
	if !slices.Contains(kinds, r.Write) {
		c.fail("write", "is %.40q; known are %s", r.Write, strings.Join(kinds, ", "))
	}
	c.itemKind(r.Kind)
	switch r.Write {
	case wrotePut, wroteSteps, wroteEnd, wroteTags, wroteRelation, deletedRelation:
		c.oneOf("kind", string(r.Kind), ItemEpisode)
	case wrotePattern:
		c.oneOf("kind", string(r.Kind), ItemPattern)
	case wroteHeuristic:
		c.oneOf("kind", string(r.Kind), ItemHeuristic)
	}
	if r.ID.IsZero() {
		c.fail("id", "is missing")
	}
	hexadecimal := func(field, s string, digits int) {
		if b, err := hex.DecodeString(s); err != nil || len(b)*2 != digits {
			c.fail(field, "is %.70q; it must have %d hexadecimal digits", s, digits)
		}
	}
	if !r.deletes() {
		hexadecimal("hash", r.Hash, 64)
	}
	if r.Database != "" {
		hexadecimal("database", r.Database, 32)
	}
	c.notNegative("seq", r.Seq)
	c.notNegative("first", int64(r.First))
	if (r.Write == wroteSteps) != (r.Steps > 0) {
		c.fail("steps", "is %d; it is the number of appended steps, and of nothing else", r.Steps)
	}
	switch r.Write {
	case wroteRelation, deletedRelation:
		c.relationKey(r.ID, r.Type, r.To)
	case wroteEmbedding, deletedEmbedding:
		c.model(r.Model)
	}
	if _, err := r.Scope.within(Scope{}); err != nil && c.err == nil {
		c.err = err
	}
	return c.err
}
