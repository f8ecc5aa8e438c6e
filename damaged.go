package episodic

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/episodic-memory/episodic/internal/payload"
)

// DamagedError says that what is stored of an item is not what was written, so that the item
// cannot be read back. It matches ErrCorrupt. Whatever reads one item returns it; lists,
// searches and briefs go on without the item, and tell of it. Nothing is lost by reading:
// "episodic doctor" says what can be saved.
type DamagedError struct {
	// Kind is what it is: episode, pattern, heuristic, relation, embedding or conflict.
	Kind string `json:"kind"`
	// ID is the item's; of a relation that of the episode it leads from, of an embedding that
	// of its item. It is zero if the id itself is damaged.
	ID ID `json:"id"`
	// Problem is what cannot be read, and why.
	Problem string `json:"problem"`
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s %v: %v: %s; episodic doctor says what can be saved", e.Kind, e.ID, ErrCorrupt, e.Problem)
}

// Is reports whether target is ErrCorrupt.
func (e *DamagedError) Is(target error) bool { return target == ErrCorrupt }

// rereadingKey marks the context of a read that is made again: see readAgain.
type rereadingKey struct{}

// damaged returns the error of an item that could not be read: a *DamagedError, which it
// counts, unless it is another one, or may come from a dictionary that was deleted meanwhile.
func (s *Store) damaged(ctx context.Context, kind string, id ID, err error) error {
	if _, told := errors.AsType[*DamagedError](err); told {
		return err
	}
	again := payload.IsDictionaryGone(err) && ctx.Value(rereadingKey{}) == nil
	if again || !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%s %v: %w", kind, id, err)
	}
	s.damage.Add(1)
	return &DamagedError{Kind: kind, ID: id, Problem: strings.ReplaceAll(err.Error(), ErrCorrupt.Error()+": ", "")}
}

// damages collects the items that a read goes on without. It is safe for concurrent use.
type damages struct {
	mu   sync.Mutex
	list []*DamagedError
}

// pass notes a *DamagedError, and returns any other error.
func (d *damages) pass(err error) error {
	damage, ok := errors.AsType[*DamagedError](err)
	if !ok {
		return err
	}
	d.note(damage)
	return nil
}

func (d *damages) note(damage *DamagedError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, damage)
}

// all returns what was noted, each once and in order.
func (d *damages) all() []*DamagedError {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.SortFunc(d.list, func(a, b *DamagedError) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Problem, b.Problem))
	})
	d.list = slices.CompactFunc(d.list, func(a, b *DamagedError) bool { return *a == *b })
	return slices.Clip(d.list)
}
