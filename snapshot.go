package episodic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

// snapshotInfix is between the name of a file and the label of a snapshot, beside it.
const snapshotInfix = ".snapshot-"

// Snapshot makes a backup of a local file beside it before something is done that cannot be
// undone, such as a deletion of many items. It is named FILE.snapshot-LABEL, and takes the
// place of the last one of that label; see Backup for how it is made. The label is of letters,
// digits and hyphens. Errors: ErrInvalid, also for a server, which has no folder to put it into;
// those of Backup.
func (s *Store) Snapshot(ctx context.Context, label string) (path string, err error) {
	ctx, end := s.trace(ctx, "Snapshot")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return "", failed(err, "make a snapshot")
	}
	file, ok := s.engine.(*embedded.Engine)
	switch {
	case !ok:
		return "", invalid("target", "is a server, whose folder cannot be written; use Backup")
	case label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "":
		return "", invalid("label", "is %q; it must be of letters, digits and hyphens", label)
	}
	path, err = snapshot(ctx, file, s.publisher.target, label, schema.Newest())
	return path, failed(err, "make a snapshot")
}

// errUpgraded is returned for a file that another process has upgraded meanwhile.
var errUpgraded = errors.New("another process has upgraded the file")

// snapshot makes one of the file at path, which has a schema version.
func snapshot(ctx context.Context, file *embedded.Engine, path, label string, version int64) (name string, err error) {
	name = path + snapshotInfix + label
	if _, err := os.Lstat(name); err == nil && !sealedFrom(ctx, name, path) {
		return "", fmt.Errorf("%s is there, and is no snapshot of this memory; move it away", name)
	}
	return name, besides(name, func(temporary string) error {
		sums, err := file.Copy(ctx, temporary, nil)
		if err == nil {
			_, err = embedded.Seal(ctx, temporary, path, sums)
		}
		if err == nil {
			err = hasVersion(ctx, temporary, version)
		}
		if err != nil {
			return err
		}
		return embedded.Publish(temporary, name, true)
	})
}

// hasVersion returns errUpgraded if a copy has another schema version.
func hasVersion(ctx context.Context, path string, version int64) error {
	e, err := embedded.Open(ctx, embedded.Config{Path: path, MustExist: true, NetworkFile: true})
	if err != nil {
		return err
	}
	have, err := schema.Version(ctx, e)
	if err == nil && have != version {
		err = errUpgraded
	}
	return errors.Join(err, e.Close())
}
