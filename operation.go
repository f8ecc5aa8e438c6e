package episodic

import (
	"context"

	"github.com/episodic-memory/episodic/internal/engine"
)

// operation is a write as a value: what is asked for, checked and filled in, with the
// revision or key by which it is recognised wherever it is carried out, and again.
type operation interface {
	// encode makes the statements that carry it out in the database of a Store.
	encode(ctx context.Context, s *Store) (*encoded, error)
}

// chained is the revision that an operation makes of another one, if it changes a part of what
// has that: two databases in which an item has the same revision have the same of it, also
// after one of them was changed without the other.
func chained(before, rev int64) int64 { return before ^ rev }

// encoded is an operation as statements for one database. Without any there is nothing to
// be done.
type encoded struct {
	stmts []engine.Stmt
	once  bool // carried out again, the statements would tell something else
	// told makes of the engine's answer what the caller is told. errOutdated means that the
	// operation is to be encoded again.
	told func(ctx context.Context, results []engine.Result, err error) error
}

// carryOut carries out an operation in the Store's database, or queues it.
func (s *Store) carryOut(ctx context.Context, o operation) error {
	if s.queues() {
		return s.queue.add(ctx, s, o)
	}
	if s.queue != nil {
		_, item, _ := kindOf(o)
		if err := s.queue.goFirst(ctx, item); err != nil {
			return err
		}
	}
	receipt, err := s.receipt(ctx, o)
	if err != nil {
		return err
	}
	err = s.carryOutBy(ctx, o, func(w *encoded) error {
		run := s.engine.Repeatable
		if w.once {
			run = s.engine.Batch
		}
		results, err := run(ctx, receipt.ask(w.stmts)...)
		return w.told(ctx, receipt.answer(results), err)
	})
	if err != nil {
		return err
	}
	return receipt.stored(ctx, s, 0)
}

// carryOutBy encodes an operation, and has its statements run if there are any.
func (s *Store) carryOutBy(ctx context.Context, o operation, run func(*encoded) error) (err error) {
	encode := func() (*encoded, error) { return o.encode(ctx, s) }
	store := func(w *encoded) error {
		if len(w.stmts) == 0 {
			return nil
		}
		return run(w)
	}
	for range 10 {
		if compresses(o) {
			err = write(ctx, s, encode, store)
		} else if w, encodeErr := encode(); encodeErr != nil {
			err = encodeErr
		} else {
			err = store(w)
		}
		if err != errOutdated {
			break
		}
	}
	return err
}

// compresses reports whether an operation has a payload, which is encoded with a dictionary.
func compresses(o operation) bool {
	switch o.(type) {
	case *deleteItem, *changeTags, *deleteRelation, *putEmbedding, *deleteEmbedding:
		return false
	}
	return true
}
