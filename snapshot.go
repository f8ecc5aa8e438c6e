package episodic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

// Snapshots lie beside the file, named FILE.snapshot-LABEL. Those from before upgrades have the
// schema version that the file had.
const (
	snapshotInfix   = ".snapshot-"
	upgradeSnapshot = "schema-"
)

// Snapshot makes a backup of a local file beside it before something is done that cannot be
// undone, such as a deletion of many items. It is named FILE.snapshot-LABEL, and takes the
// place of the last one of that label; see Backup for how it is made. The label is of letters, digits and hyphens.
// Errors: ErrInvalid, also for a server, which has no folder to put it into; those of Backup.
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

// beforeUpgrade makes a snapshot of a file that an older program has made, and removes that of the
// upgrade before. It returns what is to be told when the upgrade has been done; empty: there is none
// to do. A disk that has no room for a copy, and a file of which damage lets none be made, are
// upgraded without one.
func beforeUpgrade(ctx context.Context, file *embedded.Engine, path string) (notice string, err error) {
	have, err := schema.Version(ctx, file)
	newest := schema.Newest()
	if err != nil || have == 0 || have >= newest || !file.Writable() {
		return "", err
	}
	label := fmt.Sprint(upgradeSnapshot, have)
	name, err := snapshot(ctx, file, path, label, have)
	notice = fmt.Sprintf("%s was upgraded from schema version %d to %d; programs older than this one cannot open it any more", path, have, newest)
	switch kind := engine.KindOf(err); {
	case errors.Is(err, errUpgraded):
		return "", nil // and it has told of it
	case kind == engine.KindFull || kind == engine.KindCorrupt:
		return fmt.Sprintf("%s, and no copy was made of it as it was: %v", notice, err), nil
	case err != nil:
		return "", fmt.Errorf("the file has schema version %d, and is not upgraded to %d because no copy of it could be made: %w", have, newest, err)
	}
	others, _ := filepath.Glob(globEscaped.Replace(path) + snapshotInfix + upgradeSnapshot + "*")
	for _, other := range others {
		if other != name && sealedFrom(ctx, other, path) {
			if err := embedded.Remove(other); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%s; as it was it is in %s", notice, name), nil
}

// globEscaped has filepath.Glob take a name as it stands.
var globEscaped = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)
