package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/episodic-memory/episodic/internal/engine"
)

// inProcess are the open engines of this process. SQLite keeps one index of the log for
// all connections of a process to a file: it is let go when the last one is closed.
var inProcess struct {
	sync.Mutex
	engines []*Engine
}

func (e *Engine) enlist() {
	inProcess.Lock()
	defer inProcess.Unlock()
	inProcess.engines = append(inProcess.engines, e)
}

func (e *Engine) strike() {
	inProcess.Lock()
	defer inProcess.Unlock()
	inProcess.engines = slices.DeleteFunc(inProcess.engines, func(other *Engine) bool { return other == e })
}

// alone reports whether no other engine of this process has the file open.
func (e *Engine) alone() bool {
	inProcess.Lock()
	defer inProcess.Unlock()
	return !slices.ContainsFunc(inProcess.engines, func(other *Engine) bool {
		return other != e && os.SameFile(other.place.noted(), e.place.noted())
	})
}

// inPlace makes sure that the file, its log and the index of that are where others find
// them, before and after a write, unless the file is disposable. It is called on the lane's
// goroutine.
func (e *Engine) inPlace(ctx context.Context) error {
	if e.cfg.Disposable {
		return nil
	}
	return e.mend(ctx)
}

// mend mends what is certain: the file itself is there, and what was committed is in the log
// that is open.
func (e *Engine) mend(ctx context.Context) error {
	err := e.place.look()
	switch {
	case gone(err):
		return errors.Join(err, e.depart(ctx))
	case errors.Is(err, errSidecars):
		return e.reopen(ctx)
	}
	return err
}

// depart leaves a file that is not at its path any more: what is in its log goes into it,
// wherever it is now, and the log is taken out of the way of a file that takes its place. A
// log that others have begun to use with that file is left alone.
func (e *Engine) depart(ctx context.Context) error {
	if e.entangled() {
		return nil
	}
	if err := e.emptyLog(ctx); err != nil {
		return err
	}
	for _, suffix := range []string{logSuffix, indexSuffix} {
		if e.place.ours(suffix) {
			if err := os.Remove(e.place.real + suffix); err != nil {
				return err
			}
		}
	}
	return nil
}

// entangled reports whether the log that is open, or its index, may be in use with another
// file that has taken the place of the one that is open.
func (e *Engine) entangled() bool {
	return (e.place.ours(logSuffix) || e.place.ours(indexSuffix)) && inUse(e.place.path)
}

// reopen goes on with the file, which is in its place, after its log or the index of that
// was removed or replaced. A log that is another one now is not certain.
func (e *Engine) reopen(ctx context.Context) error {
	if !e.alone() {
		return replaced(errors.Join(errSidecars, errTwice))
	}
	log, err := ifThere(e.place.real + logSuffix)
	switch {
	case err != nil:
		return err
	case log == nil, !e.place.ours(logSuffix) && e.place.ours(indexSuffix) && !isLog(e.place.real+logSuffix):
		err = e.emptyLog(ctx)
	case !e.place.ours(logSuffix):
		err = replaced(errors.Join(errSidecars, errNewLog))
	}
	if err != nil {
		return err
	}
	// One that shrinks the file waits for the lane.
	select {
	case <-e.shrink:
		defer func() { e.shrink <- struct{}{} }()
	default:
		return &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: errors.Join(errSidecars, errors.New("try again when the file was compacted"))}
	}
	idle := make([]*reader, readers)
	for i := range idle {
		<-e.readers
		idle[i] = e.idle.pop()
	}
	v := <-e.version
	defer func() {
		for _, r := range idle {
			e.release(r)
		}
		e.version <- v
	}()
	errs := []error{v.close()}
	for _, r := range idle {
		if r.conn != nil {
			errs = append(errs, r.conn.close())
			r.conn = nil
		}
	}
	errs = append(errs, e.writer.close())
	writer, err := e.openWriter(ctx)
	if err != nil {
		// The closed writer stays, and refuses everything.
		return errors.Join(append(errs, err)...)
	}
	e.writer, e.wal = writer, false
	return errors.Join(append(errs, e.place.note())...)
}

// isLog reports whether SQLite has begun a log in a file, or that cannot be told. If it has not, and
// the index of the log is the one that was open, all still use the log that was open.
func isLog(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	head := make([]byte, 4)
	switch _, err := io.ReadFull(f, head); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return false
	case err != nil:
		return true
	}
	return binary.BigEndian.Uint32(head)&^1 == 0x377f0682 // the last bit is the order of bytes in checksums
}

// emptyLog writes the log that is open into the file that is open.
func (e *Engine) emptyLog(ctx context.Context) error {
	var r engine.Result
	if err := e.writer.run(ctx, engine.Stmt{SQL: "PRAGMA wal_checkpoint(TRUNCATE)"}, &r); err != nil {
		return classify(err, -1)
	}
	if r.Rows[0][0] != int64(0) {
		return &engine.Error{Kind: engine.KindBusy, Stmt: -1, Err: errors.New("others read the file")}
	}
	return nil
}

// reuseLog writes as much of the log into the file as can be without waiting. If that is all of
// it, the next transaction writes over the log, which needs no room on a full disk. Whether
// it has helped, that transaction tells.
func (e *Engine) reuseLog(ctx context.Context) {
	_ = e.writer.run(ctx, engine.Stmt{SQL: "PRAGMA wal_checkpoint(PASSIVE)"}, new(engine.Result))
}
