// Package schema creates and upgrades the tables by numbered migrations.
//
// A migration is a file NNNN_name.sql, applied as one batch whose first
// statement records the number under a primary key. That statement fails when
// another process was faster, so the version is re-checked inside the very
// transaction that would apply the migration twice. Files that have been
// released are never changed.
package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

//go:embed *.sql
var files embed.FS

// NewerError refuses a database that a newer program has upgraded.
type NewerError struct {
	Found, Known int64
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the database has schema version %d, this program knows versions up to %d; use a newer episodic", e.Found, e.Known)
}

// ForeignError refuses a database that holds another program's tables.
type ForeignError struct {
	Tables []string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the database belongs to another program (it holds the table %s); give episodic a database of its own",
		strings.Join(e.Tables, ", "))
}

// ErrEmpty says that the database holds no tables at all.
var ErrEmpty = errors.New("the database is empty")

// Migrate brings the database to the newest version; an empty one only if create
// is set, otherwise it returns ErrEmpty. Any number of processes may call it at
// once. It returns a *NewerError or a *ForeignError without having changed
// anything.
func Migrate(ctx context.Context, e engine.Engine, create bool) error {
	migrations, err := load(files)
	if err != nil {
		return err
	}
	return migrate(ctx, e, migrations, create)
}

// migrations[i] leads from version i to i+1.
func migrate(ctx context.Context, e engine.Engine, migrations [][]engine.Stmt, create bool) error {
	known := int64(len(migrations))
	for {
		have, err := version(ctx, e)
		if err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if have > known {
			return &NewerError{Found: have, Known: known}
		}
		if have == known {
			return nil
		}
		if have == 0 && !create {
			return ErrEmpty
		}
		if err := apply(ctx, e, have+1, migrations[have]); err != nil {
			if now, verr := version(ctx, e); verr == nil && now > have {
				continue // another process applied it first
			}
			return fmt.Errorf("apply migration %d: %w", have+1, err)
		}
	}
}

func apply(ctx context.Context, e engine.Engine, to int64, stmts []engine.Stmt) error {
	record := engine.Stmt{
		SQL:  "INSERT INTO episodic_migrations(version, applied_us) VALUES(?,?)",
		Args: []engine.Value{to, time.Now().UnixMicro()},
	}
	if to == 1 {
		// The first migration creates the table of migrations, which fails too
		// when it exists.
		stmts = append(stmts[:len(stmts):len(stmts)], record)
	} else {
		stmts = append([]engine.Stmt{record}, stmts...)
	}
	_, err := e.Batch(ctx, stmts...)
	return err
}

// version returns 0 for an empty database.
func version(ctx context.Context, e engine.Engine) (int64, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: "SELECT max(version) FROM episodic_migrations"})
	if err == nil {
		v, ok := r[0].Rows[0][0].(int64)
		if !ok {
			return 0, fmt.Errorf("table episodic_migrations holds %v instead of a version", r[0].Rows[0][0])
		}
		return v, nil
	}
	if engine.KindOf(err) != engine.KindNoTable {
		return 0, err
	}
	r, err = e.Query(ctx, engine.Stmt{SQL: `SELECT name, name = 'episodic_migrations' FROM sqlite_schema
		WHERE type IN ('table','view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name NOT LIKE 'libsql!_%' ESCAPE '!'
		ORDER BY 2 DESC, 1 LIMIT 5`})
	if err != nil || len(r[0].Rows) == 0 {
		return 0, err
	}
	if r[0].Rows[0][1] == int64(1) {
		return version(ctx, e) // another process created it since the first look
	}
	foreign := &ForeignError{}
	for _, row := range r[0].Rows {
		foreign.Tables = append(foreign.Tables, fmt.Sprint(row[0]))
	}
	return 0, foreign
}

// load reads the migrations in the order of their numbers, which must have no
// gap.
func load(dir fs.FS) ([][]engine.Stmt, error) {
	names, err := fs.Glob(dir, "*.sql")
	if err != nil {
		return nil, err
	}
	var migrations [][]engine.Stmt
	for i, name := range names {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(name, want) {
			return nil, fmt.Errorf("migration %s: its name must begin with %s", name, want)
		}
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		migrations = append(migrations, split(string(text)))
	}
	return migrations, nil
}

func split(text string) []engine.Stmt {
	var stmts []engine.Stmt
	for part := range strings.SplitSeq(text, "\n\n") {
		var lines []string
		for line := range strings.Lines(part) {
			if !strings.HasPrefix(line, "--") {
				lines = append(lines, line)
			}
		}
		if sql := strings.TrimSpace(strings.Join(lines, "")); sql != "" {
			stmts = append(stmts, engine.Stmt{SQL: sql})
		}
	}
	return stmts
}
