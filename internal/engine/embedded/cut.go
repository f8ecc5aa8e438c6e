package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// CutError says that the end of a file is missing. What the other pages hold can be read.
type CutError struct {
	Missing int64 // pages; one of which a part is there counts
	Pages   int64 // that the file has had
}

func (e *CutError) Error() string {
	return fmt.Sprintf("the file is cut: its end is missing, %d of %d pages", e.Missing, e.Pages)
}

// openCut opens a file that is cut, to read what is there. SQLite has found the file damaged; that
// error is returned where the file is not cut, or has a log, in which the pages may be.
func openCut(ctx context.Context, cfg Config, real string, damage error) (_ *Engine, err error) {
	if log, err := ifThere(real + logSuffix); err != nil || log != nil && log.Size() > 0 {
		return nil, errors.Join(damage, err)
	}
	e, err := openEngine(ctx, cfg, cut)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	r, err := e.Query(ctx, engine.Stmt{SQL: "PRAGMA page_size"}, engine.Stmt{SQL: "SELECT data FROM sqlite_dbpage WHERE pgno = 1"})
	if err != nil {
		return nil, err
	}
	size, pages := r[0].Rows[0][0].(int64), int64(binary.BigEndian.Uint32(r[1].Rows[0][0].([]byte)[28:]))
	missing := pages - e.place.noted().Size()/size
	if missing <= 0 {
		return nil, damage
	}
	e.refusal = &engine.Error{Kind: engine.KindCorrupt, Stmt: -1, Err: &CutError{Missing: missing, Pages: pages}}
	if !cfg.Reads {
		return nil, e.refusal
	}
	return e, nil
}

// Cut says which part of the file is missing, where Config.Reads has opened it; nil: none.
func (e *Engine) Cut() *CutError {
	cut, _ := errors.AsType[*CutError](e.refusal)
	return cut
}
