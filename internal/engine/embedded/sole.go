package embedded

import (
	"context"
	"errors"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Sole writes the log of a file into it, and leaves one file that can be moved. The next
// Open makes a log again. Errors: KindBusy if another connection has the file open, of this
// process or another one; fs.ErrNotExist.
func Sole(ctx context.Context, path string) (err error) {
	if err := checkPath(path, true); err != nil {
		return err
	}
	c, err := openConn(ctx, path, "synchronous(FULL)")
	if err != nil {
		return classify(err, -1)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	// SQLite leaves the WAL mode only with the one connection that there is.
	var r engine.Result
	err = classify(c.run(ctx, engine.Stmt{SQL: "PRAGMA journal_mode=DELETE"}, &r), -1)
	if engine.KindOf(err) == engine.KindBusy || err == nil && r.Rows[0][0] != "delete" {
		err = &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: errors.New("the file is open elsewhere; close all programs that use it")}
	}
	return err
}
