package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/replica"
	"github.com/episodic-memory/episodic/internal/schema"
)

// A linked file is a replica that knows its server: it has the table linked. Who opens the
// file opens the server.
const (
	sqlMakeLinked = `CREATE TABLE IF NOT EXISTS linked(server TEXT PRIMARY KEY) STRICT, WITHOUT ROWID`
	sqlSetLinked  = `INSERT INTO linked VALUES(?) ON CONFLICT DO NOTHING`
	sqlLinked     = `SELECT server FROM linked`
)

// asOfSuffix ends the name of the file beside a replica's that tells how new it is; see
// package replica.
const asOfSuffix = ".asof"

// linkedServer is the server that a file is linked to; empty: to none.
func linkedServer(ctx context.Context, file engine.Engine) (string, error) {
	res, err := file.Query(ctx, engine.Stmt{SQL: sqlLinked})
	switch {
	case engine.KindOf(err) == engine.KindNoTable:
		return "", nil
	case err != nil:
		return "", err
	case len(res[0].Rows) != 1:
		return "", fmt.Errorf("%w: the table linked has %d rows, want 1", ErrCorrupt, len(res[0].Rows))
	}
	in := engine.Row{Values: res[0].Rows[0]}
	return in.Text(0), in.Err
}

func setLinked(ctx context.Context, file engine.Engine, server string) error {
	_, err := file.Repeatable(ctx, engine.Stmt{SQL: sqlMakeLinked}, engine.Stmt{SQL: sqlSetLinked, Args: []any{server}})
	return err
}

// localPath is the path of a target that is a local file.
func localPath(file string) (string, error) {
	t, err := parseTarget(file, true)
	if err == nil && t.path == "" {
		err = invalid("file", "is a server; name a local file")
	}
	return t.path, err
}

// LinkedServer returns the server that a local file, named as for Open, is linked to, without
// secrets; empty if it is linked to none, or is not there. Errors: ErrInvalid; ErrSchema for
// what is no database; those of the file system.
func LinkedServer(ctx context.Context, file string) (server string, err error) {
	path, err := localPath(file)
	if err != nil {
		return "", fmt.Errorf("see whether a file is linked: %w", err)
	}
	e, err := embedded.Open(ctx, embedded.Config{Path: path, MustExist: true})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil {
		server, err = linkedServer(ctx, e)
		err = errors.Join(err, e.Close())
	}
	return server, failed(err, "see whether %s is linked", file)
}

// openLinked opens the server that a file is linked to, with the file as its replica.
func openLinked(ctx context.Context, file, server string, opts *Options, scope Scope) (*Store, error) {
	o := *opts
	o.Replica.Path, o.Replica.Disabled, o.Scope = file, false, Scope{} // a link is of everything
	s, err := Open(ctx, server, &o)
	if err != nil {
		return nil, fmt.Errorf("%s is linked to a server: %w", file, err)
	}
	s.scope = scope
	return s, nil
}

// remakeLinked makes a linked file anew that cannot be mended, empty, still linked.
func remakeLinked(ctx context.Context, path, server string) error {
	if err := replica.Remove(path); err != nil {
		return err
	}
	file, err := embedded.Open(ctx, embedded.Config{Path: path})
	if err != nil {
		return err
	}
	err = schema.Migrate(ctx, file, true)
	if err == nil {
		err = setLinked(ctx, file, server)
	}
	return errors.Join(err, file.Close())
}

// keepBeside gives a file a second name beside it, with a suffix, which no other file has; where
// the file system has no links, that is a copy.
func keepBeside(path, suffix string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	for i := 1; ; i++ {
		name := path + suffix
		if i > 1 {
			name = fmt.Sprintf("%s-%d", name, i)
		}
		err := os.Link(path, name)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			err = copyFile(path, name)
		}
		if errors.Is(err, fs.ErrExist) {
			if kept, statErr := os.Stat(name); statErr == nil && os.SameFile(kept, info) {
				return name, nil // by one who was interrupted
			}
			continue
		}
		return name, err
	}
}
