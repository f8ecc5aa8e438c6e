package episodic

import (
	"context"
	"errors"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

// refuseNewer refuses a database that a newer program has upgraded since it was opened. What
// it cannot read it leaves to others.
func refuseNewer(ctx context.Context, q embedded.Querier) error {
	_, err := schema.Check(ctx, q)
	if newer, ok := errors.AsType[*schema.NewerError](err); ok {
		return newer
	}
	return nil
}

// orNewer is a server's engine that asks, when a statement does not fit the tables, whether a newer
// program has upgraded them. The engine of a file looks itself, before it writes.
type orNewer struct{ engine.Engine }

func (o orNewer) told(ctx context.Context, err error) error {
	bad, ok := errors.AsType[*engine.Error](err)
	if !ok || bad.Stmt < 0 || bad.Kind != engine.KindOther && bad.Kind != engine.KindNoTable {
		return err // no statement is to blame
	}
	if newer := refuseNewer(ctx, o.Engine); newer != nil {
		return newer
	}
	return err
}

func (o orNewer) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	r, err := o.Engine.Query(ctx, stmts...)
	return r, o.told(ctx, err)
}

func (o orNewer) Batch(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	r, err := o.Engine.Batch(ctx, stmts...)
	return r, o.told(ctx, err)
}

func (o orNewer) Repeatable(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	r, err := o.Engine.Repeatable(ctx, stmts...)
	return r, o.told(ctx, err)
}
