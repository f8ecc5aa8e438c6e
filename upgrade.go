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

// upgradeSnapshot begins the label of a snapshot from before an upgrade, behind which is the schema
// version that the file had.
const upgradeSnapshot = "schema-"

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

// openCopy opens a copy of a file that an older program has made, upgraded, in a temporary folder
// that goes with the Store; nil: the file needs no upgrade. What is found in it is what would be
// found in the file.
func openCopy(ctx context.Context, file *embedded.Engine, t target, opts *Options) (_ *Store, err error) {
	have, err := schema.Version(ctx, file)
	newest := schema.Newest()
	if err != nil || have == 0 || have >= newest {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "episodic-copy-*") // 0700
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("the file has schema version %d, and is read from a copy that is upgraded to %d: %w", have, newest, err), os.RemoveAll(folder))
		}
	}()
	c := embedded.Config{Path: filepath.Join(folder, filepath.Base(t.path)), MustExist: true, LockDir: folder, NetworkFile: true, Disposable: true}
	if _, err := file.Copy(ctx, c.Path, nil); err != nil {
		return nil, err
	}
	if err := upgrade(ctx, c); err != nil {
		return nil, err
	}
	c.ReadOnly = fmt.Sprintf("it has schema version %d, and this is an upgraded copy for reading; open it without DisableUpgrade", have)
	e, err := embedded.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	s := newStore(e, opts, nil, false)
	s.temporary = folder
	s.notice(opts.Logger, fmt.Sprintf("%s has schema version %d, and was read from a copy that was upgraded to %d; the first write upgrades it, and is faster from then on", t.path, have, newest))
	return s, nil
}

// upgrade upgrades a file, and indexes what waits for that.
func upgrade(ctx context.Context, c embedded.Config) error {
	e, err := embedded.Open(ctx, c)
	if err != nil {
		return err
	}
	if err := schema.Migrate(ctx, e, false); err != nil {
		return errors.Join(err, e.Close())
	}
	s := newStore(e, &Options{}, nil, false)
	return errors.Join(s.keepIndex(ctx, false), s.Close())
}
