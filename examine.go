package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

// Examination is what Examine found out about a memory.
type Examination struct {
	Target string `json:"target"` // without secrets
	// Schema is the version of the schema; 0 if that could not be read. Newest is the one that
	// this program uses.
	Schema int64 `json:"schema_version"`
	Newest int64 `json:"newest_schema_version"`
	// Bytes, Pages and FreePages are of a file, without its log; 0 of a server.
	Bytes     int64 `json:"bytes,omitempty"`
	Pages     int64 `json:"pages,omitempty"`
	FreePages int64 `json:"free_pages,omitempty"`
	// Items is how many episodes, patterns and heuristics could be read whole.
	Items    int64     `json:"items"`
	Findings []Finding `json:"findings,omitempty"`
	// Skipped are the checks that could not be made, and why.
	Skipped []string `json:"skipped,omitempty"`
}

// Severity says how bad a Finding is.
type Severity string

// The severities.
const (
	// Note: nothing is wrong with what is stored.
	Note Severity = "note"
	// Fault: something that is stored cannot be read or found, or contradicts the rest.
	Fault Severity = "fault"
)

// Finding is something that a check has found.
type Finding struct {
	// Check is the one that found it: open, log, integrity, schema, scopes, payloads, vectors,
	// dictionaries, index, feed, orphans, free pages, permissions or file system.
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Count    int64    `json:"count"` // of what it concerns
	// Items names some of what it concerns, at most 20.
	Items   []string `json:"items,omitempty"`
	Problem string   `json:"problem"` // what was found, and what it means
	// Repair is what Repair does about it; empty: nothing.
	Repair string `json:"repair,omitempty"`

	mend func(context.Context, *Store) error // nil: nothing, or all of the file is written anew
}

// Clean reports whether there is no Fault.
func (x *Examination) Clean() bool { return x.faults() == 0 && len(x.Skipped) == 0 }

// faults is how many things are wrong.
func (x *Examination) faults() (n int64) {
	for _, f := range x.Findings {
		if f.Severity == Fault {
			n += max(f.Count, 1)
		}
	}
	return n
}

// broken reports whether the file is to be written anew.
func (x *Examination) broken() bool {
	for _, f := range x.Findings {
		if f.Repair == repairAnew {
			return true
		}
	}
	return false
}

// The names of checks.
const (
	checkedOpen         = "open"
	checkedLog          = "log"
	checkedIntegrity    = "integrity"
	checkedSchema       = "schema"
	checkedScopes       = "scopes"
	checkedPayloads     = "payloads"
	checkedVectors      = "vectors"
	checkedDictionaries = "dictionaries"
	checkedIndex        = "index"
	checkedFeed         = "feed"
	checkedOrphans      = "orphans"
	checkedFree         = "free pages"
	checkedPermissions  = "permissions"
	checkedFileSystem   = "file system"
)

// maxNamed is how many items a Finding names.
const maxNamed = 20

// Examine looks at everything that a memory holds, and at its file, and says what is wrong.
// target and opts are as for Open; a nil opts gives the defaults. It writes and migrates
// nothing, and reads a file that may not be written too. A memory of an older schema, and a file
// whose log is left over from a program that was killed where that cannot be read in place, is
// copied to a temporary folder for it. On a server it makes the checks that SQL can make; one of an
// older schema is not looked into. Others may use the memory meanwhile; what they write while it is
// examined may be found as if it were half written: examine it again then.
//
// Errors: ErrInvalid; ErrNotFound if there is no memory; ErrSchema for a database of another
// program or of a newer episodic; Retryable ones. A damaged file is no error.
func Examine(ctx context.Context, target string, opts *Options) (*Examination, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	o.MustExist, o.Embedder, o.Tracer = true, nil, nil
	t, err := parseTarget(target, o.AllowPlaintext)
	if err != nil {
		return nil, fmt.Errorf("examine: %w", err)
	}
	x := &Examination{Target: t.String(), Newest: schema.Newest()}
	if t.path != "" {
		err = x.examineFile(ctx, t.path, &o)
	} else {
		err = x.examineServer(ctx, t, &o)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, schema.ErrEmpty) {
		err = fmt.Errorf("%w: there is no memory", ErrNotFound)
	}
	if err != nil {
		return nil, failed(err, "examine %s", t)
	}
	return x, nil
}

// find adds a finding that concerns count things, of which names are some.
func (x *Examination) find(f Finding, count int64, names ...string) {
	f.Count, f.Items = count, names[:min(len(names), maxNamed)]
	x.Findings = append(x.Findings, f)
}

func (x *Examination) examineServer(ctx context.Context, t target, o *Options) (err error) {
	e, err := openEngine(ctx, t, o, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if x.Schema, err = knownSchema(ctx, e); err != nil {
		return err
	}
	if x.Schema < x.Newest {
		x.older("")
		x.Skipped = append(x.Skipped, "what it holds: its schema is older, and any command that writes upgrades it")
		return nil
	}
	return x.examineContent(ctx, e, o)
}

// knownSchema is the version of a schema that this program knows. Errors: ErrEmpty, *NewerError and
// *ForeignError of package schema.
func knownSchema(ctx context.Context, e engine.Engine) (int64, error) {
	v, err := schema.Check(ctx, e)
	if err == nil && v == 0 {
		err = schema.ErrEmpty
	}
	return v, err
}

func (x *Examination) older(repair string) {
	x.find(Finding{Check: checkedSchema, Severity: Note, Repair: repair,
		Problem: fmt.Sprintf("the schema has version %d, and this program uses %d: whoever opens it to write upgrades it", x.Schema, x.Newest)}, x.Newest-x.Schema)
}

// examineFile examines a file, which is as it was while that goes on, or tries again.
func (x *Examination) examineFile(ctx context.Context, path string, o *Options) error {
	for try := 1; ; try++ {
		before, err := os.Stat(path)
		if err != nil {
			return err
		}
		found := &Examination{Target: x.Target, Newest: x.Newest, Bytes: before.Size()}
		frozen, err := found.examineOnce(ctx, path, o)
		if err != nil {
			return err
		}
		after, err := os.Stat(path)
		if err != nil {
			return err
		}
		// Who writes a file that nobody had open does not know that it is read.
		if !frozen || before.Size() == after.Size() && before.ModTime().Equal(after.ModTime()) || try == 3 {
			*x = *found
			return nil
		}
	}
}

// examineOnce also reports whether the file was read without any lock.
func (x *Examination) examineOnce(ctx context.Context, path string, o *Options) (frozen bool, err error) {
	x.permissions(path)
	if err := x.log(path); err != nil {
		return false, err
	}
	if name := embedded.FileSystem(path); name != "" {
		x.find(Finding{Check: checkedFileSystem, Severity: Note,
			Problem: fmt.Sprintf("the file lies on a network file system (%s): two machines that use it would damage it; keep it on a local disk", name)}, 1)
	}
	cfg := embedded.Config{Path: path, MustExist: true, ReadOnly: "it is examined", Reads: true, NetworkFile: true, LockDir: o.LockDir}
	_, openErr := os.Stat(path + "-shm")
	frozen = errors.Is(openErr, fs.ErrNotExist)
	e, err := embedded.Open(ctx, cfg)
	if engine.KindOf(err) == engine.KindReadOnly {
		frozen = false
		err = inCopy(path, func(copied string) error {
			e, err := embedded.Open(ctx, embedded.Config{Path: copied, MustExist: true, NetworkFile: true, LockDir: filepath.Dir(copied)})
			if err != nil {
				return err
			}
			return errors.Join(x.examineOpen(ctx, e, o), e.Close())
		})
	} else if err == nil {
		err = errors.Join(x.examineOpen(ctx, e, o), e.Close())
	}
	switch kind := engine.KindOf(err); {
	case kind == engine.KindCorrupt, kind == engine.KindNotADatabase:
		if _, told := errors.AsType[*embedded.CutError](err); !told {
			x.find(Finding{Check: checkedOpen, Severity: Fault, Repair: repairAnew,
				Problem: fmt.Sprintf("SQLite cannot read the file (%v): its header, its schema or its end is damaged", err)}, 1)
		}
		x.Skipped = append(x.Skipped, "what it holds: SQLite cannot read it")
		return frozen, nil
	}
	return frozen, err
}

const repairAnew = "writes what undamaged pages hold into a new file"

// inFolder calls f with a temporary folder.
func inFolder(f func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "episodic-doctor-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return f(dir)
}

// inCopy calls f with the path of a copy of a file and its log.
func inCopy(path string, f func(copied string) error) error {
	return inFolder(func(dir string) error {
		copied := filepath.Join(dir, "memory.db")
		if err := copyDatabase(path, copied); err != nil {
			return err
		}
		return f(copied)
	})
}

// copyDatabase copies a file, and its log if it has one, which others must not write meanwhile.
func copyDatabase(from, to string) error {
	for _, suffix := range []string{"", "-wal"} {
		err := copyFile(from+suffix, to+suffix)
		if err != nil && !(suffix != "" && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}
