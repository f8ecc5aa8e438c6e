package episodic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

// RepairReport is what Repair found and did.
type RepairReport struct {
	Before *Examination `json:"before"`
	// After is of the repaired file; nil if none was made.
	After *Examination `json:"after,omitempty"`
	// Repaired says that the repaired file has taken the place of the original, which is kept
	// as Original. Reason says why not.
	Repaired bool   `json:"repaired"`
	Original string `json:"original,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Salvaged is set if the file had to be read page by page.
	Salvaged *SalvageReport `json:"salvaged,omitempty"`
}

// Repair examines a memory in a local file, and repairs what the Findings say. It works on a
// copy beside the file, which takes its place only if nothing, or less, is wrong with it, and not less can be
// read. The original, with its log, is kept beside it: the report says under which name. A
// file that SQLite cannot read as a whole is salvaged page by page; see Salvage. A file with which nothing is
// wrong stays as it is, but others are kept from reading it. opts is as for Open; nil gives
// the defaults.
//
// Errors: ErrInvalid for a server, whose own tools repair its files, and for a file that is
// linked to one; ErrNotFound; ErrSchema; Retryable ones, if a process has the file open.
func Repair(ctx context.Context, target string, opts *Options) (_ *RepairReport, err error) {
	if opts == nil {
		opts = &Options{}
	}
	path, err := localPath(target)
	if err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	r := &RepairReport{}
	if r.Before, err = Examine(ctx, path, opts); err != nil {
		return nil, err
	}
	claimed, err := embedded.Claim(path)
	if err != nil {
		return nil, failed(err, "repair %s", path)
	}
	if r.Before.Clean() {
		r.Reason = "nothing is wrong with it"
		err = keepPrivate(path)
	} else {
		err = r.repair(ctx, path, claimed, opts)
	}
	return r, failed(errors.Join(err, claimed.Close()), "repair %s", path)
}

// keepPrivate lets only the owner of a file read it and its sidecars.
func keepPrivate(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(path+suffix, info.Mode().Perm()&^0o077)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// repair makes a repaired file of a file that nobody else uses, and puts it in its place.
func (r *RepairReport) repair(ctx context.Context, path string, claimed *os.File, o *Options) (err error) {
	info, err := claimed.Stat()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".episodic-doctor-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	copied := filepath.Join(dir, "copy.db")
	made := copied
	if err := copyClaimed(path, claimed, info.Size(), copied); err != nil {
		return err
	}
	if !r.Before.broken() {
		err = mendFile(ctx, copied, o)
		if kind := engine.KindOf(err); kind != engine.KindCorrupt && err != nil {
			return err
		}
	}
	if r.Before.broken() || err != nil {
		made = filepath.Join(dir, "salvaged.db")
		if r.Salvaged, err = salvage(ctx, copied, made, o); err != nil {
			return err
		}
		r.Salvaged.From, r.Salvaged.To = path, path
	}
	if r.After, err = Examine(ctx, made, o); err != nil {
		return err
	}
	r.After.Target = r.Before.Target
	switch {
	case r.After.faults() >= r.Before.faults() && !r.After.Clean():
		r.Reason = "the repaired file would be no better"
		return nil
	case r.After.Items < r.Before.Items:
		r.Reason = fmt.Sprintf("of %d items that can be read the repaired file would hold %d", r.Before.Items, r.After.Items)
		return nil
	}
	if err := embedded.KeepOwner(made, info); err != nil {
		return err
	}
	if r.Original, err = putInPlace(made, path); err != nil {
		return err
	}
	r.Repaired = true
	return nil
}

// copyClaimed copies a file that was claimed, which to open and close again would end, and
// its log.
func copyClaimed(path string, claimed *os.File, size int64, to string) (err error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(claimed, 0, size))
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err = copyFile(path+"-wal", to+"-wal"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// mendFile upgrades a file, mends what it holds, and writes its log into it.
func mendFile(ctx context.Context, path string, o *Options) error {
	e, err := embedded.Open(ctx, embedded.Config{Path: path, MustExist: true, NetworkFile: true, LockDir: filepath.Dir(path), Disposable: true})
	if err != nil {
		return err
	}
	err = mendEngine(ctx, e, o)
	if err = errors.Join(err, e.Close()); err != nil {
		return err
	}
	return embedded.Sole(ctx, path)
}

func mendEngine(ctx context.Context, e engine.Engine, o *Options) error {
	if err := schema.Migrate(ctx, e, false); err != nil {
		return err
	}
	linked, err := linkedServer(ctx, e)
	if err != nil {
		return err
	}
	if linked != "" {
		return invalid("target", "is linked to a server, of which it is a replica; repair the server, and make the file anew with episodic sync, or read it with Salvage")
	}
	_, err = mendContent(ctx, e, o)
	return err
}

// putInPlace puts a file in the place of another one, which it keeps under a name that it
// returns, with its log: beside the new file that would be read as the new one's.
func putInPlace(made, path string) (kept string, err error) {
	if kept, err = keepBeside(path, ".before-repair"); err != nil {
		return "", err
	}
	if err := keepSidecars(path, kept); err != nil {
		return kept, err
	}
	return kept, embedded.Publish(made, path, true)
}
