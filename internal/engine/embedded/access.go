package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/episodic-memory/episodic/internal/engine"
)

// access is how a file is opened, as parameters of SQLite's URL.
type access string

const (
	writable access = ""
	// readOnly is for a file that others may write meanwhile, whose log and its index are there.
	readOnly access = "&mode=ro"
	// frozen is for a file of which nobody has a log: to read it needs none either, which
	// could not be made. Who may write it must not, as long as it is open here.
	frozen access = "&mode=ro&immutable=1"
	// cut is frozen, for a file whose end is missing. SQLite reads none that has fewer pages than its
	// header says, unless the schema may be changed; which it may not, since nothing is written. The
	// driver sorts pragmas by name, and others before this one would fail: hence the comment.
	cut access = frozen + "&_pragma=/**/writable_schema(1)"
)

// accessTo decides how to open a file, which it creates if there is none. real is its path.
func accessTo(real string, mayWrite func(string) bool) (access, error) {
	info, err := os.Stat(real)
	folder := filepath.Dir(real)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !mayWrite(folder):
		return "", &engine.Error{Kind: engine.KindReadOnly, Stmt: -1, Err: fmt.Errorf("there is no such file, and the folder %s may not be written", folder)}
	case errors.Is(err, fs.ErrNotExist):
		create(real)
		return writable, nil
	case err != nil:
		return "", err
	case info.Size() == 0 || mayWrite(real) && mayWrite(folder):
		return writable, nil
	}
	log, err := ifThere(real + logSuffix)
	if err != nil {
		return "", err
	}
	index, err := ifThere(real + indexSuffix)
	switch {
	case err != nil:
		return "", err
	case index != nil:
		return readOnly, nil
	case log != nil && log.Size() > 0:
		return "", &engine.Error{Kind: engine.KindReadOnly, Stmt: -1, Err: fmt.Errorf("its log holds %d bytes that are not in it yet, and can be read only where an index of them may be written: copy the file and that with %s to another folder", log.Size(), logSuffix)}
	}
	return frozen, nil
}

// openFull opens a file that has no log for reading, if that is what is wanted, where the disk has no
// room for a log. That is the error full, which is returned for another file.
func openFull(ctx context.Context, cfg Config, real string, full error) (*Engine, error) {
	log, err := ifThere(real + logSuffix)
	if err != nil || !cfg.Reads || log != nil && log.Size() > 0 {
		return nil, errors.Join(full, err)
	}
	e, err := openEngine(ctx, cfg, frozen)
	if err != nil {
		return nil, err
	}
	e.refusal = full
	return e, nil
}

// create makes an empty file that only its owner may read; SQLite's own would be
// everybody's to read, and its WAL has the mode of the file. If that fails, for a
// file system that has no links or a folder that may not be written, SQLite tries.
func create(path string) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	// The file is closed before it has its name: to close it later would end the locks
	// of this process's other connections.
	if f.Close() == nil {
		_ = os.Link(f.Name(), path) // fails if another process was faster
	}
}
