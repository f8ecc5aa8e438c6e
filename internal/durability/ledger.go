package durability

import (
	"context"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic"
)

// item is what one process has done with an episode or a heuristic, and nobody else.
type item struct {
	ID       episodic.ID        `json:"id"`
	Receipts []episodic.Receipt `json:"receipts"` // in order
	// Pending says that a write was begun and not acknowledged, which may have been stored. Deletes
	// says that one such write deletes the item, or one that was acknowledged.
	Pending bool `json:"pending,omitempty"`
	Deletes bool `json:"deletes,omitempty"`
}

// result is what a verifier has found.
type result struct {
	Verified int      `json:"verified"` // receipts
	Lost     []string `json:"lost"`
	Doubled  []string `json:"doubled"`
}

// verify compares a memory with what was acknowledged.
func verify(ctx context.Context, m Memory, items []*item) (*result, error) {
	var receipts []episodic.Receipt
	for _, it := range items {
		receipts = append(receipts, it.Receipts...)
	}
	verdicts, err := m.Verify(ctx, receipts...)
	if err != nil {
		return nil, err
	}
	r := &result{Verified: len(receipts)}
	for _, it := range items {
		r.judge(it, verdicts[:len(it.Receipts)])
		verdicts = verdicts[len(it.Receipts):]
	}
	return r, r.doubles(ctx, m)
}

// judge notes which receipts of an item tell of a write that was lost. Only the process that
// has made them writes to the item: what nothing later of it explains is a loss.
func (r *result) judge(it *item, verdicts []episodic.Verdict) {
	for i, v := range verdicts {
		later := it.Pending || i < len(verdicts)-1
		explained := v.Status == episodic.WriteKept ||
			v.Status == episodic.WriteDeleted && it.Deletes ||
			v.Status == episodic.WriteSuperseded && later && it.Receipts[i].Steps == 0 // no write takes steps away
		if !explained {
			r.Lost = append(r.Lost, fmt.Sprintf("%s %v (%d of %d): %s %s", it.Receipts[i].Write, it.ID, i+1, len(verdicts), v.Status, v.Reason))
		}
	}
}

// doubles notes the tokens that are stored more than once.
func (r *result) doubles(ctx context.Context, m Memory) error {
	count := make(map[string]int)
	for e, err := range m.Episodes(ctx, nil) {
		if err != nil {
			return err
		}
		whole, err := m.Episode(ctx, e.ID)
		if err != nil {
			return err
		}
		_, token, _ := strings.Cut(whole.Description, " ")
		count[token]++
		for _, s := range whole.Steps {
			count[s.Action]++
		}
	}
	for h, err := range m.Heuristics(ctx, nil) {
		if err != nil {
			return err
		}
		count[h.Condition]++
	}
	for token, n := range count {
		for range n - 1 {
			r.Doubled = append(r.Doubled, token)
		}
	}
	return nil
}
