package episodic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/doctor"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

// copyFile copies a file to one that must not be there and only its owner may read.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// permissions finds files that others than their owner may read.
func (x *Examination) permissions(path string) {
	var open []string
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
			open = append(open, fmt.Sprintf("%s (%o)", filepath.Base(path)+suffix, info.Mode().Perm()))
		}
	}
	if len(open) > 0 {
		x.find(Finding{Check: checkedPermissions, Severity: Note, Repair: "makes the file readable by its owner alone",
			Problem: "other users of this machine may read or write the file, and what agents did may hold secrets"}, int64(len(open)), open...)
	}
}

// log finds transactions in a log that SQLite passes over. Somebody may be writing to the log,
// so that it is looked at twice.
func (x *Examination) log(path string) error {
	hidden := 0
	for range 2 {
		n, err := doctor.HiddenFrames(path + "-wal")
		if err != nil || n == 0 {
			return err
		}
		hidden = n
	}
	x.find(Finding{Check: checkedLog, Severity: Fault, Repair: repairAnew,
		Problem: "the log is damaged, and SQLite reads none of the pages behind that: what was written last is missing, and the next write buries it"}, int64(hidden))
	return nil
}

// manyFree is the part of a file's pages from which on it is worth giving free ones back.
const manyFree = 0.2

// examineOpen examines a file that SQLite has opened. Errors: KindCorrupt if that went no further.
func (x *Examination) examineOpen(ctx context.Context, e *embedded.Engine, o *Options) (err error) {
	if cut := e.Cut(); cut != nil {
		x.find(Finding{Check: checkedOpen, Severity: Fault, Repair: repairAnew, Problem: fmt.Sprintf("%v: what they held is lost, and nothing can be written", cut)}, cut.Missing)
	}
	if err := x.integrity(ctx, e); err != nil {
		return err
	}
	if x.Schema, err = knownSchema(ctx, e); err != nil {
		return err
	}
	if err := x.schema(ctx, e); err != nil {
		return err
	}
	if x.Schema == x.Newest {
		return x.examineContent(ctx, e, o)
	}
	x.older("upgrades it")
	return x.examineUpgraded(ctx, e, o)
}

// schema compares the tables and triggers of a file with those of its version.
func (x *Examination) schema(ctx context.Context, e engine.Engine) error {
	got, err := schema.TextsOf(ctx, e)
	if err != nil {
		return err
	}
	var want map[string]string
	err = inFolder(func(dir string) error {
		fresh, err := embedded.Open(ctx, embedded.Config{Path: filepath.Join(dir, "fresh.db"), NetworkFile: true, LockDir: dir, Disposable: true})
		if err != nil {
			return err
		}
		want, err = schema.Texts(ctx, fresh, x.Schema)
		return errors.Join(err, fresh.Close())
	})
	if err != nil {
		return err
	}
	var wrong []string
	for name, text := range want {
		if got[name] != text {
			wrong = append(wrong, name)
		}
	}
	if slices.Sort(wrong); len(wrong) > 0 {
		x.find(Finding{Check: checkedSchema, Severity: Fault, Repair: repairAnew,
			Problem: fmt.Sprintf("these tables, indexes, views or triggers are missing or are not those of schema version %d: statements fail, or do something else", x.Schema)}, int64(len(wrong)), wrong...)
	}
	return nil
}

// integrity has SQLite check the file.
func (x *Examination) integrity(ctx context.Context, e engine.Engine) error {
	r, err := e.Query(ctx, engine.Stmt{SQL: "PRAGMA page_count"}, engine.Stmt{SQL: "PRAGMA freelist_count"})
	if err != nil {
		return err
	}
	in := engine.Row{Values: []any{r[0].Rows[0][0], r[1].Rows[0][0]}}
	if x.Pages, x.FreePages = in.Int(0), in.Int(1); in.Err != nil {
		return in.Err
	}
	if x.FreePages > 0 && float64(x.FreePages) >= manyFree*float64(x.Pages) {
		x.find(Finding{Check: checkedFree, Severity: Note,
			Problem: "so many pages of the file are free; what is stored next uses them, and episodic compact gives them back"}, x.FreePages)
	}
	r, err = e.Query(ctx, engine.Stmt{SQL: fmt.Sprintf("PRAGMA integrity_check(%d)", maxNamed)})
	var wrong []string
	switch {
	case err == nil:
		for _, row := range r[0].Rows {
			if text := fmt.Sprint(row[0]); text != "ok" {
				wrong = append(wrong, strings.Split(strings.TrimSpace(text), "\n")...)
			}
		}
	case engine.KindOf(err) == engine.KindCorrupt: // it came no further
		wrong = append(wrong, err.Error())
	default:
		return err
	}
	if len(wrong) > 0 {
		x.find(Finding{Check: checkedIntegrity, Severity: Fault, Repair: repairAnew,
			Problem: "SQLite finds the file damaged: some of what is stored cannot be reached, or only by some queries"}, int64(len(wrong)), wrong...)
	}
	return nil
}

// examineUpgraded examines what a file of an older schema holds in an upgraded copy.
func (x *Examination) examineUpgraded(ctx context.Context, e *embedded.Engine, o *Options) error {
	return inFolder(func(dir string) (err error) {
		copied := filepath.Join(dir, "memory.db")
		if _, err := e.Copy(ctx, copied, nil); err != nil {
			return err
		}
		up, err := embedded.Open(ctx, embedded.Config{Path: copied, MustExist: true, NetworkFile: true, LockDir: dir, Disposable: true})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, up.Close()) }()
		if err := schema.Migrate(ctx, up, false); err != nil {
			return err
		}
		return x.examineContent(ctx, up, o)
	})
}
