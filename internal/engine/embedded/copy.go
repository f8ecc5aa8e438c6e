package embedded

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
)

// copyPages is how many pages are copied between two looks at the context.
const copyPages = 512

// Copy writes the file, as it is at one moment, to a new one at to, which only its owner may
// read, and returns the sums of what it holds. Others may write meanwhile: what was committed
// before the call is in the copy. progress, unless it is nil, is told of the bytes. What is there after an
// error is of no use. Errors: fs.ErrExist if there is a file at to; KindFull; KindReplaced.
func (e *Engine) Copy(ctx context.Context, to string, progress func(done, all int64)) (_ []Sum, err error) {
	until, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	if _, err := e.glance(ctx); err != nil {
		return nil, err
	}
	sums, err := e.copyTo(until, to, progress)
	if err != nil {
		err = e.readError(ctx, err)
	}
	return sums, err
}

func (e *Engine) copyTo(ctx context.Context, to string, progress func(done, all int64)) (_ []Sum, err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	c, err := e.openReader(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	// Pages and sums are of the same snapshot.
	if err := c.exec(ctx, "BEGIN"); err != nil {
		return nil, err
	}
	defer c.abandon(ctx)
	space, err := c.space(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.copyPages(ctx, to, space.size, progress); err != nil {
		return nil, err
	}
	return c.sums(ctx)
}

// copyPages copies what the transaction of c sees; size is that of a page.
func (c *conn) copyPages(ctx context.Context, to string, size int64, progress func(done, all int64)) error {
	dsn, err := fileURL(to)
	if err != nil {
		return err
	}
	return c.conn.Raw(func(driver any) (err error) {
		b, err := driver.(interface {
			NewBackup(string) (*sqlite.Backup, error)
		}).NewBackup(dsn.String())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Finish()) }()
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			if more, err = b.Step(copyPages); err != nil {
				return err
			}
			if progress != nil {
				progress(int64(b.PageCount()-b.Remaining())*size, int64(b.PageCount())*size)
			}
		}
		return nil
	})
}

// fileURL is the URL by which SQLite opens a file.
func fileURL(path string) (url.URL, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return url.URL{}, err
	}
	path = filepath.ToSlash(abs)
	if len(path) > 1 && path[:2] == "//" {
		path = "//" + path // a Windows share is not the authority of the URL
	}
	return url.URL{Scheme: "file", Path: path, OmitHost: true}, nil
}

// Writable reports whether the file may be written.
func (e *Engine) Writable() bool { return e.access == writable }

// Sidecars are the suffixes of the files that may lie beside a database and belong to it.
var Sidecars = []string{logSuffix, indexSuffix, "-journal"}

// Remove removes a file that nobody has open, and its sidecars.
func Remove(path string) error {
	err := os.Remove(path)
	for _, suffix := range Sidecars {
		if sidecar := os.Remove(path + suffix); !errors.Is(sidecar, fs.ErrNotExist) {
			err = errors.Join(err, sidecar)
		}
	}
	return err
}

// Publish forces a file without sidecars to the disk, and gives it its name, in the same
// folder. Errors: fs.ErrExist if another file has that name, unless replace is set.
func Publish(temporary, path string, replace bool) error {
	if err := syncFile(temporary); err != nil {
		return err
	}
	if replace {
		if err := os.Rename(temporary, path); err != nil {
			return err
		}
		return syncFolder(path)
	}
	switch err := os.Link(temporary, path); {
	case err == nil:
		return errors.Join(os.Remove(temporary), syncFolder(path))
	case errors.Is(err, fs.ErrExist):
		return err
	}
	// The file system has no links, as that of a memory stick.
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	return errors.Join(os.Rename(temporary, path), syncFolder(path))
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncFolder forces the names in the folder of path to the disk, where a folder can be.
func syncFolder(path string) error {
	f, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	_ = f.Sync() // Windows, and some file systems, cannot
	return f.Close()
}
