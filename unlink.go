package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/replica"
)

// UnlinkReport is what Unlink has done.
type UnlinkReport struct {
	Server string `json:"server"` // that the file was linked to
	// AsOf is when the server had all that is in the file.
	AsOf time.Time `json:"as_of,omitzero"`
	// NotAsked says why the file has not got what is new on the server; empty: it has.
	NotAsked string `json:"not_asked,omitempty"`
}

// Unlink makes a linked file a local memory again, which has all that the server's has. The
// server's stays as it is. If the server cannot be asked, the file keeps what it has, unless
// that is not all there was. No other program may have the file open. opts are those that
// open the file. Errors: ErrInvalid if it is not linked; ErrNotFound; Retryable errors if
// another program uses the file, and, while the file is incomplete, if the server cannot be
// reached.
func Unlink(ctx context.Context, file string, opts *Options) (*UnlinkReport, error) {
	report, err := unlink(ctx, file, orZero(opts))
	return report, failed(err, "undo the link of %s", file)
}

func unlink(ctx context.Context, file string, opts *Options) (*UnlinkReport, error) {
	file, err := localPath(file)
	if err != nil {
		return nil, err
	}
	server, err := LinkedServer(ctx, file)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no such file", ErrNotFound)
	}
	if server == "" {
		return nil, invalid("file", "is linked to no server")
	}
	if err := sole(ctx, file); err != nil {
		return nil, err
	}
	o := *opts
	o.Scope, o.Embedder = Scope{}, nil
	s, err := Open(ctx, file, &o)
	if err != nil {
		return nil, err
	}
	report := &UnlinkReport{Server: server}
	if err = s.Flush(ctx); err == nil {
		err = s.Sync(ctx, nil)
	}
	st := s.replica.pull.Status()
	if report.AsOf = st.LastAsOf; err != nil {
		report.NotAsked = err.Error()
	}
	whole := st.Complete && !st.Anew && !st.Behind
	if closeErr := s.Close(); closeErr != nil {
		return nil, errors.Join(err, closeErr)
	}
	if err != nil && (!whole || ctx.Err() != nil) {
		return nil, fmt.Errorf("the file does not have everything yet: %w", err)
	}
	if err := sole(ctx, file); err != nil {
		return nil, err
	}
	if err := makeLocal(ctx, file, opts); err != nil {
		return nil, err
	}
	return report, nil
}

// makeLocal makes a replica's file, which nobody has open, a memory of its own.
func makeLocal(ctx context.Context, file string, opts *Options) error {
	e, err := embedded.Open(ctx, embedded.Config{Path: file, MustExist: true, NetworkFile: opts.AllowNetworkFile, LockDir: opts.LockDir})
	if err != nil {
		return err
	}
	if err := noQueuedWrites(ctx, e); err != nil {
		return errors.Join(err, e.Close())
	}
	_, err = e.Batch(ctx, append(replica.Undo(), engine.Stmt{SQL: "DROP TABLE replica_of"}, engine.Stmt{SQL: "DROP TABLE IF EXISTS linked"})...)
	if err = errors.Join(err, e.Close()); err != nil {
		return err
	}
	for _, suffix := range []string{asOfSuffix, wroteSuffix} {
		if err := os.Remove(file + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// noQueuedWrites refuses a replica with writes that the server does not have yet: nobody would
// push them any more.
func noQueuedWrites(ctx context.Context, e engine.Engine) error {
	r, err := e.Query(ctx, engine.Stmt{SQL: "SELECT count(*) FROM pinned"})
	if err != nil {
		return err
	}
	n, err := intFrom(r[0].Rows[0][0])
	if err == nil && n > 0 {
		err = invalid("file", "holds %d writes that are queued for the server, which must have them first: see episodic sync now, and sync outbox", n)
	}
	return err
}
