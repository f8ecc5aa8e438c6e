package replica

import (
	"cmp"
	"context"
	"slices"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Missing returns what a memory has that another one does not have, or has otherwise, in
// order: items by their revisions and the checksums of all payloads, relations, and
// embeddings. Errors: those of the engines; that of ctx.
func Missing(ctx context.Context, here, there engine.Engine) ([]Difference, error) {
	r := &Replica{cfg: Config{Local: here, Server: there}}
	var found []Difference
	for i := range tables {
		t := tables[i].within(0)
		ours, theirs, err := r.bothSides(ctx, &t, cmp.Or(t.deep, t.rows), 0, 255)
		if err != nil {
			return nil, err
		}
		for id, texts := range ours {
			lacks := slices.DeleteFunc(texts, func(text string) bool { return slices.Contains(theirs[id], text) })
			if len(lacks) > 0 {
				found = append(found, Difference{t.kind, id, join(lacks...), join(theirs[id]...)})
			}
		}
	}
	sortDifferences(found)
	return joined(found), nil
}
