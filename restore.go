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
	"github.com/episodic-memory/episodic/internal/schema"
)

// RestoreOptions says how a backup is restored. Nil and the zero value give the defaults.
type RestoreOptions struct {
	// Force restores over a memory that is newer than the backup, or of which that cannot be told.
	Force bool
	// Progress, unless it is nil, is called with how many bytes have been copied.
	Progress func(done, all int64)
}

// RestoreReport is what RestoreBackup has done.
type RestoreReport struct {
	Path   string    `json:"path"`   // of the memory
	Source string    `json:"source"` // what the backup was made of, without secrets
	At     time.Time `json:"at"`     // when it was made
	// Kept is where the memory is that was there before; empty: there was none.
	Kept string `json:"kept,omitempty"`
}

// ErrNewer: the memory to restore over is newer than the backup, or that cannot be told.
var ErrNewer = errors.New("not restored over what may be newer")

// RestoreBackup puts what Backup or Snapshot has made, from, in the place of the local file to, or
// makes that. The backup is checked first, by the counts and SHA-256 that are kept in it, and stays as it
// is. No other program may have the file open. What was there is kept beside it, as
// TO.before-restore. To restore to a server use Copy.
//
// Which is newer is told by the change feed, which both have if one is a copy of the other, and not by
// times: the memory has changes that the backup does not have if its last one has a greater number.
//
// Errors: ErrInvalid, also for what is no backup, or a file that is linked to a server; ErrNotFound if
// there is no backup; ErrCorrupt if it is not what it was; ErrNewer without Force; ErrFull; Retryable
// errors if another program has the file open.
func RestoreBackup(ctx context.Context, from, to string, opts *RestoreOptions) (*RestoreReport, error) {
	report, err := restore(ctx, from, to, orZero(opts))
	return report, failed(err, "restore %s", from)
}

func restore(ctx context.Context, from, to string, opts *RestoreOptions) (_ *RestoreReport, err error) {
	if from, err = localPath(from); err != nil {
		return nil, err
	}
	if to, err = localPath(to); err != nil {
		return nil, err
	}
	backup, err := embedded.Open(ctx, embedded.Config{Path: from, MustExist: true, NetworkFile: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no such backup", ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, backup.Close()) }()
	seal, err := backup.CheckSeal(ctx)
	switch {
	case errors.Is(err, embedded.ErrNotSealed):
		return nil, invalid("from", "is no backup that episodic has made; open it as it is, or copy it with Copy")
	case err != nil:
		return nil, err
	}
	if _, err := schema.Check(ctx, backup); err != nil {
		return nil, err
	}
	report := &RestoreReport{Path: to, Source: seal.Source, At: seal.At}
	there := true
	switch _, err := os.Stat(to); {
	case errors.Is(err, fs.ErrNotExist):
		there = false
	case err != nil:
		return nil, err
	default:
		if err := mayReplace(ctx, backup, to, opts.Force); err != nil {
			return nil, err
		}
	}
	return report, besides(to, func(temporary string) error {
		if _, err := backup.Copy(ctx, temporary, opts.Progress); err != nil {
			return err
		}
		if err := embedded.Unseal(ctx, temporary); err != nil {
			return err
		}
		if there {
			if err := mayReplace(ctx, backup, to, opts.Force); err != nil { // it may have been written meanwhile
				return err
			}
			if report.Kept, err = keepBeside(to, ".before-restore"); err != nil {
				return err
			}
			if err := keepSidecars(to, report.Kept); err != nil {
				return err
			}
		}
		return embedded.Publish(temporary, to, there)
	})
}

// mayReplace refuses to replace a file that is open, or is linked, or, unless forced, newer.
// What is damaged has no log any more, or its log stays with it; see keepSidecars.
func mayReplace(ctx context.Context, backup engine.Engine, to string, force bool) error {
	err := embedded.Sole(ctx, to)
	kind := engine.KindOf(err)
	if unreadable := kind == engine.KindCorrupt || kind == engine.KindNotADatabase; err != nil && !(unreadable && force) {
		if unreadable {
			return fmt.Errorf("%w: %s cannot be read (%w); force it, and it is kept beside", ErrNewer, to, err)
		}
		return err
	}
	if err == nil {
		err = compareAge(ctx, backup, to)
	}
	if bad, ok := errors.AsType[*InvalidError](err); ok {
		return bad
	}
	if force {
		return nil
	}
	return err
}

// sqlAge is what tells of two databases which is newer: whose life it is, and how far it has got.
const sqlAge = `SELECT lower(hex(life)), max(forgotten, (SELECT ifnull(max(n), 0) FROM feed)) FROM feed_state`

// compareAge returns ErrNewer unless the memory at path is a state that the backup was made from or
// a later one was made of, or empty.
func compareAge(ctx context.Context, backup engine.Engine, path string) (err error) {
	e, err := embedded.Open(ctx, embedded.Config{Path: path, MustExist: true, NetworkFile: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	linked, err := linkedServer(ctx, e)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNewer, err)
	}
	if linked != "" {
		return invalid("to", "is linked to the server %s, whose memory it has; link --undo makes it a local file again", linked)
	}
	life, last, err := ageOf(ctx, e)
	if version, versionErr := schema.Version(ctx, e); versionErr == nil && version == 0 {
		return nil // an empty file
	}
	if err != nil {
		return fmt.Errorf("%w: what changed last in %s cannot be read: %w", ErrNewer, path, err)
	}
	theirs, until, err := ageOf(ctx, backup)
	switch {
	case last == 0: // nothing was ever stored in it
		return nil
	case err != nil:
		return fmt.Errorf("%w: what changed last in the backup cannot be read: %w", ErrNewer, err)
	case life != theirs:
		return fmt.Errorf("%w: %s is another memory than the one that the backup was made of, with %d changes; force it, and it is kept beside", ErrNewer, path, last)
	case last > until:
		return fmt.Errorf("%w: %s is newer than the backup: its last change has the number %d, the backup's %d; force it, and it is kept beside", ErrNewer, path, last, until)
	}
	return nil
}

func ageOf(ctx context.Context, e engine.Engine) (life string, last int64, err error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlAge})
	if err != nil {
		return "", 0, err
	}
	if len(r[0].Rows) != 1 {
		return "", 0, fmt.Errorf("%w: the table feed_state has %d rows, want 1", ErrCorrupt, len(r[0].Rows))
	}
	in := engine.Row{Values: r[0].Rows[0]}
	return in.Text(0), in.Int(1), in.Err
}

// keepSidecars gives what lies beside a file that cannot be read the name of the file that is kept:
// beside the new one it would damage that.
func keepSidecars(path, kept string) error {
	for _, suffix := range embedded.Sidecars {
		if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
