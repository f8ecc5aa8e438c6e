package embedded

import (
	"context"
	"errors"

	"github.com/episodic-memory/episodic/internal/engine"
)

// CopyTo copies what the file holds at one moment to a file that must not be there, also from
// one that may only be read.
func (e *Engine) CopyTo(ctx context.Context, path string) (err error) {
	c, err := openAs(ctx, e.cfg.Path, e.access)
	if err != nil {
		return classify(err, -1)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	return classify(c.run(ctx, engine.Stmt{SQL: "VACUUM INTO ?", Args: []any{path}}, new(engine.Result)), -1)
}
