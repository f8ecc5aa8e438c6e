package episodic

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/outbox"
)

// queuedKinds are the operations that can be queued. Their numbers, from 1, and the names of
// their fields are those of outboxes: they must stay.
var queuedKinds = []struct {
	name string
	make func() operation
}{
	{"put episode", func() operation { return &putEpisode{} }},
	{"append steps", func() operation { return &appendSteps{} }},
	{"complete episode", func() operation { return &completeEpisode{} }},
	{"change tags", func() operation { return &changeTags{} }},
	{"put pattern", func() operation { return &putPattern{} }},
	{"put heuristic", func() operation { return &putHeuristic{} }},
	{"delete item", func() operation { return &deleteItem{} }},
	{"put relation", func() operation { return &putRelation{} }},
	{"delete relation", func() operation { return &deleteRelation{} }},
	{"put embedding", func() operation { return &putEmbedding{} }},
	{"delete embedding", func() operation { return &deleteEmbedding{} }},
}

// kindOf is an operation's number in an outbox, with the item that it changes and its revision;
// a new one, if it has none.
func kindOf(o operation) (kind int64, item ID, rev int64) {
	rev = newRevision()
	switch o := o.(type) {
	case *putEpisode:
		return 1, o.Episode.ID, o.Rev
	case *appendSteps:
		return 2, o.ID, cmp.Or(o.Rev, rev)
	case *completeEpisode:
		return 3, o.ID, o.Rev
	case *changeTags:
		return 4, o.ID, o.Rev
	case *putPattern:
		return 5, o.Pattern.ID, o.Rev
	case *putHeuristic:
		return 6, o.Heuristic.ID, o.Rev
	case *deleteItem:
		return 7, o.ID, rev
	case *putRelation:
		return 8, o.Relation.From, rev
	case *deleteRelation:
		return 9, o.From, rev
	case *putEmbedding:
		return 10, o.Embedding.Item, rev
	case *deleteEmbedding:
		return 11, o.Item, rev
	}
	panic(fmt.Sprintf("%T cannot be queued", o)) // queuedKinds has all
}

// queued is an operation as an outbox holds it.
func queued(o operation, now time.Time) (*outbox.Op, error) {
	op := &outbox.Op{At: now}
	var item ID
	op.Kind, item, op.Rev = kindOf(o)
	switch o := o.(type) {
	case *appendSteps:
		o.Rev = op.Rev
	case *changeTags:
		o.chained = true
	}
	copy(op.Item[:], item.bytes())
	var err error
	if op.Body, err = json.Marshal(o); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return op, nil
}

// operationFrom reads an operation from an outbox.
func operationFrom(op *outbox.Op) (operation, error) {
	if op.Kind < 1 || op.Kind > int64(len(queuedKinds)) {
		return nil, fmt.Errorf("%w: queued write %d is of kind %d, which this version does not know; use a newer episodic", ErrCorrupt, op.N, op.Kind)
	}
	o := queuedKinds[op.Kind-1].make()
	if err := json.Unmarshal(op.Body, o); err != nil {
		return nil, fmt.Errorf("%w: queued write %d: %w", ErrCorrupt, op.N, err)
	}
	complete := true
	switch o := o.(type) {
	case *putEpisode:
		complete = o.Episode != nil
	case *putPattern:
		complete = o.Pattern != nil
	case *putHeuristic:
		complete = o.Heuristic != nil
	case *putRelation:
		complete = o.Relation != nil
	case *putEmbedding:
		complete = o.Embedding != nil
	case *appendSteps:
		complete = len(o.Steps) > 0
	case *changeTags:
		o.chained = true
	}
	if !complete {
		return nil, fmt.Errorf("%w: queued write %d has no content", ErrCorrupt, op.N)
	}
	return o, nil
}

// holds is the condition that an operation has been carried out, where the statements
// that carry it out do nothing if they are refused. Empty: they are never refused.
func holds(o operation) (cond string, args []any) {
	switch o := o.(type) {
	case *putEpisode:
		return `EXISTS (SELECT 1` + writtenBy + `)`, []any{o.Episode.ID.bytes(), o.Rev}
	case *changeHead:
		return `EXISTS (SELECT 1` + writtenBy + `)`, []any{o.Head.ID.bytes(), o.Rev}
	case *appendSteps:
		return `EXISTS (SELECT 1 FROM appends WHERE id = ? AND key = ?)`, []any{o.ID.bytes(), o.Key}
	case *completeEpisode:
		return `EXISTS (SELECT 1` + writtenBy + `)`, []any{o.ID.bytes(), o.made}
	case *changeTags:
		if !o.Add {
			return `EXISTS (SELECT 1 FROM episodes WHERE id = ?)`, []any{o.ID.bytes()}
		}
		list, _ := json.Marshal(o.Tags) // texts can always be marshalled
		return `EXISTS (SELECT 1 FROM episodes WHERE id = ? AND NOT EXISTS (SELECT 1 FROM json_each(?) WHERE value NOT IN (SELECT tag FROM tags WHERE episode = seq)))`,
			[]any{o.ID.bytes(), string(list)}
	case *putPattern:
		return `EXISTS (SELECT 1 FROM patterns WHERE id = ? AND rev = ?)`, []any{o.Pattern.ID.bytes(), o.Rev}
	case *putHeuristic:
		return `EXISTS (SELECT 1 FROM heuristics WHERE id = ? AND rev = ?)`, []any{o.Heuristic.ID.bytes(), o.Rev}
	case *putRelation:
		r := o.Relation
		return `EXISTS (SELECT 1 FROM relations WHERE src = ` + bySeq + ` AND dst = ` + bySeq + ` AND type = ? AND created_us = ?)`,
			[]any{r.From.bytes(), r.To.bytes(), string(r.Type), micros(r.Created)}
	case *putEmbedding:
		e := o.Embedding
		return `EXISTS (SELECT 1 FROM embeddings WHERE kind = ? AND item = ? AND model = ? AND dim = ?)`,
			[]any{string(e.Kind), e.Item.bytes(), e.Model, int64(len(e.Vector))}
	}
	return "", nil
}

// expects is the condition on which an operation is carried out on the server, where its own
// statements do not look: that the item is what it was made over. Empty: none.
func expects(o operation) (cond string, args []any) {
	over := func(kind ItemKind, id ID, rev int64) (string, []any) {
		item := `EXISTS (SELECT 1 FROM ` + string(kind) + `s WHERE id = ?`
		if rev == 0 {
			return `NOT ` + item + `)`, []any{id.bytes()}
		}
		return item + ` AND rev = ?)`, []any{id.bytes(), rev}
	}
	switch o := o.(type) {
	case *putEpisode:
		if o.Base == 0 && o.Read != nil {
			return over(ItemEpisode, o.Episode.ID, o.Read.Rev)
		}
	case *putPattern:
		if o.Base == 0 && o.Read != nil {
			return over(ItemPattern, o.Pattern.ID, o.Read.Rev)
		}
	case *putHeuristic:
		if o.Base == 0 && o.Read != nil {
			return over(ItemHeuristic, o.Heuristic.ID, o.Read.Rev)
		}
	case *deleteItem:
		if o.Base != 0 {
			return `NOT EXISTS (SELECT 1 FROM ` + string(o.Kind) + `s WHERE id = ? AND rev <> ?)`, []any{o.ID.bytes(), o.Base}
		}
	}
	return "", nil
}
