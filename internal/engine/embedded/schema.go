package embedded

import (
	"context"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Querier reads from the file, for Config.Check; every engine.Engine is one too.
type Querier interface {
	Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error)
}

// onConn is a Querier over one connection.
type onConn struct{ *conn }

func (c onConn) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	return c.runAll(ctx, stmts)
}

// checkSchema has Config.Check look at the file if its schema has changed, as when a newer program has
// upgraded it. A file without our tables has none that could be newer.
func (e *Engine) checkSchema(ctx context.Context, c *conn) error {
	if e.cfg.Check == nil {
		return nil
	}
	var r engine.Result
	if err := c.run(ctx, engine.Stmt{SQL: "PRAGMA schema_version"}, &r); err != nil {
		return err
	}
	now, _ := r.Rows[0][0].(int64)
	if now == e.checked.Load() {
		return nil
	}
	if err := e.cfg.Check(ctx, onConn{c}); err != nil {
		return err
	}
	e.checked.Store(now)
	return nil
}

// orNewer returns what checkSchema says in place of the error of a read, which a newer schema may
// be the reason of.
func (e *Engine) orNewer(ctx context.Context, c *conn, err error) error {
	if err == nil || interrupted(err) {
		return err
	}
	if newer := e.checkSchema(ctx, c); newer != nil {
		return newer
	}
	return err
}
