package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/replica"
)

// BackupOptions says how a backup is made. Nil and the zero value give the defaults.
type BackupOptions struct {
	// Keep makes a backup one of several: its name has the time behind that of the path,
	// as in memory-20260102T030405.678Z.db, and the Keep newest are kept. Older ones of the
	// same name and of the same memory are removed when the new one is there, other files never. Default 0:
	// the path is the name, and nothing is removed. Not negative.
	Keep int
	// Progress, unless it is nil, is called with how many bytes of a file have been copied;
	// not for a server.
	Progress func(done, all int64)
}

// BackupReport is what Backup has made.
type BackupReport struct {
	Path   string    `json:"path"`
	Source string    `json:"source"` // what it is a backup of, without secrets
	At     time.Time `json:"at"`     // when it was complete
	Bytes  int64     `json:"bytes"`
	Counts Counts    `json:"counts"` // of what it holds
	// Removed are older backups that were removed for BackupOptions.Keep.
	Removed []string `json:"removed,omitempty"`
}

// Backup writes the whole memory, whatever the Store's scope, as it is at one moment, to a new
// file, which only its owner may read. The memory can be used meanwhile; what was acknowledged
// before the call is in the backup. Of a server's memory it has everything but what the server
// keeps of conflicts. Before it gets its name the copy is opened and checked: the counts and
// SHA-256 of all its tables are those of the memory, or the server is compared with it. They are
// kept in it, so that RestoreBackup can check it again. A killed Backup leaves a hidden folder
// beside path, which the next one there removes.
//
// A backup can be opened like any other memory. One that was written to is no backup any more.
//
// Errors: ErrInvalid; fs.ErrExist if there is a file at path; ErrFull; ErrCorrupt if the memory is
// damaged; Retryable errors if the server cannot be reached, or changes faster than it can be copied.
func (s *Store) Backup(ctx context.Context, path string, opts *BackupOptions) (_ *BackupReport, err error) {
	ctx, end := s.trace(ctx, "Backup")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return nil, failed(err, "back up")
	}
	report, err := s.backup(ctx, path, orZero(opts))
	return report, failed(err, "back up to %s", path)
}

func (s *Store) backup(ctx context.Context, path string, opts *BackupOptions) (*BackupReport, error) {
	switch {
	case opts.Keep < 0:
		return nil, invalid("Keep", "is negative (%d)", opts.Keep)
	case path == "":
		return nil, invalid("path", "is empty; name a new file")
	}
	if s.queue != nil { // what is queued is acknowledged
		if err := s.queue.flush(ctx); err != nil {
			return nil, err
		}
	}
	name := path
	if opts.Keep > 0 {
		name = rollingName(path, time.Now())
	}
	if _, err := os.Lstat(name); err == nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	report := &BackupReport{Path: name, Source: s.publisher.target}
	err := besides(name, func(temporary string) (err error) {
		if err := s.copyTo(ctx, temporary, report.Source, opts.Progress); err != nil {
			return err
		}
		if err := report.look(ctx, temporary); err != nil {
			return err
		}
		return embedded.Publish(temporary, name, false)
	})
	if err == nil && opts.Keep > 0 {
		report.Removed, err = removeOlder(ctx, path, report.Source, opts.Keep)
	}
	if err != nil {
		return nil, err
	}
	return report, nil
}

// copyTo writes a sealed copy of the whole memory.
func (s *Store) copyTo(ctx context.Context, to, source string, progress func(done, all int64)) error {
	if file, ok := s.engine.(*embedded.Engine); ok {
		sums, err := file.Copy(ctx, to, progress)
		if err == nil {
			_, err = embedded.Seal(ctx, to, source, sums)
		}
		return err
	}
	if err := s.fill(ctx, to); err != nil {
		return err
	}
	_, err := embedded.Seal(ctx, to, source, nil)
	return err
}

// fill makes a file the memory that a server has. It is a replica until it has everything.
func (s *Store) fill(ctx context.Context, to string) error {
	imports, err := importsOf(ctx, s.engine)
	if err != nil {
		return err
	}
	o := &Options{AllowNetworkFile: true, Cache: Cache{Disabled: true}, LockDir: filepath.Dir(to), Replica: Replica{Path: to}}
	r, _, err := openReplicaFile(ctx, to, s.publisher.target, o, Scope{})
	if err != nil {
		return err
	}
	// Nothing is pulled after what is compared, so that the file is of one moment.
	err = r.start(s.server, o, 24*time.Hour)
	if err == nil {
		var differences []replica.Difference
		differences, err = r.pull.Verify(ctx, true)
		if len(differences) > 0 {
			err = &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf("%d items are not as they are on the server after they were copied", len(differences))}
		}
	}
	if err == nil {
		err = copyImports(ctx, r.inner.engine, imports)
	}
	if err = errors.Join(err, r.close()); err != nil {
		return err
	}
	return makeLocal(ctx, to, o)
}

// look counts what is in the backup.
func (r *BackupReport) look(ctx context.Context, path string) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	e, err := embedded.Open(ctx, embedded.Config{Path: path, MustExist: true, NetworkFile: true, LockDir: filepath.Dir(path)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	seal, err := e.Seal(ctx)
	if err != nil {
		return err
	}
	r.Bytes, r.At = info.Size(), seal.At
	r.Counts, err = counts(ctx, e, engine.Stmt{SQL: sqlCounts})
	return err
}

// How temporary folders are named, and after how long without a change one is that of a
// program that was killed.
const (
	temporaryPrefix = ".episodic-unfinished-"
	abandoned       = time.Hour
)

// besides calls f with the name of a file, in a folder that is in that of path and is gone afterwards.
func besides(path string, f func(temporary string) error) error {
	removeAbandoned(filepath.Dir(path))
	folder, err := os.MkdirTemp(filepath.Dir(path), temporaryPrefix+"*") // 0700
	if err != nil {
		return err
	}
	return errors.Join(f(filepath.Join(folder, "copy")), os.RemoveAll(folder))
}

// removeAbandoned removes what killed programs have left. What cannot be removed is no reason
// to make no backup.
func removeAbandoned(folder string) {
	left, _ := filepath.Glob(filepath.Join(globEscaped.Replace(folder), temporaryPrefix+"*"))
	for _, old := range left {
		newest := time.Time{}
		_ = filepath.WalkDir(old, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if info, err := d.Info(); err == nil && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
			return nil
		})
		if !newest.IsZero() && time.Since(newest) > abandoned {
			_ = os.RemoveAll(old)
		}
	}
}

// rollingTime is the time in the name of a rolling backup, in UTC.
const rollingTime = "20060102T150405.000Z"

func rollingName(path string, at time.Time) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + at.UTC().Format(rollingTime) + ext
}

// removeOlder removes the rolling backups of a source but for the newest.
func removeOlder(ctx context.Context, path, source string, keep int) (removed []string, err error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var ours []string // the newest first
	for _, entry := range slices.Backward(entries) {
		name := filepath.Join(filepath.Dir(path), entry.Name())
		ext := filepath.Ext(path)
		text := strings.TrimSuffix(strings.TrimPrefix(entry.Name(), strings.TrimSuffix(filepath.Base(path), ext)+"-"), ext)
		at, err := time.Parse(rollingTime, text)
		if err == nil && entry.Type().IsRegular() && filepath.Clean(rollingName(path, at)) == name && sealedFrom(ctx, name, source) {
			ours = append(ours, name)
		}
	}
	for _, old := range ours[min(keep, len(ours)):] {
		if err := embedded.Remove(old); err != nil {
			return removed, err
		}
		removed = append(removed, old)
	}
	return removed, nil
}

// sealedFrom reports whether a file is a copy of a source that this program has made.
func sealedFrom(ctx context.Context, path, source string) bool {
	e, err := embedded.Open(ctx, embedded.Config{Path: path, MustExist: true, NetworkFile: true})
	if err != nil {
		return false
	}
	seal, err := e.Seal(ctx)
	return e.Close() == nil && err == nil && seal.Source == source
}
