// Package schema creates and upgrades the database schema by numbered migrations.
//
// A migration is a file NNNN_name.sql, applied in one transaction whose first statement
// inserts its number as a primary key. That statement fails if another process has
// already applied the migration, so that none is applied twice. Released files are never
// changed.
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

// NewerError is returned for a database that a newer program has upgraded.
type NewerError struct {
	Found int64 // schema version of the database
	Known int64 // newest version that this program knows
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the database has schema version %d, this program knows versions up to %d; use a newer episodic", e.Found, e.Known)
}

// ForeignError is returned for a database that contains another program's tables.
type ForeignError struct {
	Tables []string // names of tables and views, at most 5
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the database belongs to another program (it holds the table %s); give episodic a database of its own",
		strings.Join(e.Tables, ", "))
}

// ErrEmpty is returned by Migrate for a database without tables.
var ErrEmpty = errors.New("the database is empty")

// Newest is the newest version that this program knows.
func Newest() int64 {
	names, _ := fs.Glob(files, "*.sql") // the pattern is well-formed
	return int64(len(names))
}

// Querier reads from a database, as an engine.Engine does.
type Querier interface {
	Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error)
}

// Check returns the schema version, as Version does, and a *NewerError if a newer program has
// upgraded the database, perhaps while it was open here.
func Check(ctx context.Context, q Querier) (int64, error) {
	have, err := Version(ctx, q)
	if known := Newest(); err == nil && have > known {
		return 0, &NewerError{Found: have, Known: known}
	}
	return have, err
}

// Migrate upgrades the database to the newest version. It returns ErrEmpty for an empty
// database unless create is set. Any number of processes may call it concurrently. It
// returns a *NewerError or a *ForeignError without having changed anything.
func Migrate(ctx context.Context, e engine.Engine, create bool) error {
	migrations, err := load(files)
	if err != nil {
		return err
	}
	return migrate(ctx, e, migrations, create)
}

// migrate applies the missing migrations. migrations[i] upgrades from version i to i+1.
func migrate(ctx context.Context, e engine.Engine, migrations [][]engine.Stmt, create bool) error {
	known := int64(len(migrations))
	for {
		have, err := Version(ctx, e)
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
			if now, verr := Version(ctx, e); verr == nil && now > have {
				continue // another process applied it first
			}
			if engine.KindOf(err) == engine.KindReadOnly && have > 0 {
				return fmt.Errorf("the database has schema version %d, and this program reads version %d; open it once where it may be written, which upgrades it, or read a copy: %w", have, known, err)
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
		// The first migration creates the table of migrations, which also fails if it
		// was already applied.
		stmts = append(stmts[:len(stmts):len(stmts)], record)
	} else {
		stmts = append([]engine.Stmt{record}, stmts...)
	}
	_, err := e.Batch(ctx, stmts...)
	return err
}

// Texts returns the SQL of every table, index, view and trigger of a version, by name. It makes
// a database of that version in e, which must be empty.
func Texts(ctx context.Context, e engine.Engine, version int64) (map[string]string, error) {
	migrations, err := load(files)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, e, migrations[:version], true); err != nil {
		return nil, err
	}
	return TextsOf(ctx, e)
}

// TextsOf returns the SQL of every table, index, view and trigger of a database, by name.
func TextsOf(ctx context.Context, e engine.Engine) (map[string]string, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: "SELECT name, ifnull(sql, '') FROM sqlite_schema"})
	if err != nil {
		return nil, err
	}
	texts := make(map[string]string)
	for _, row := range r[0].Rows {
		name, _ := row[0].(string)
		texts[name], _ = row[1].(string)
	}
	return texts, nil
}

// Version returns the schema version, 0 for an empty database. Errors: *ForeignError; those
// of the engine.
func Version(ctx context.Context, e Querier) (int64, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: "SELECT max(version) FROM episodic_migrations"})
	if err == nil {
		v, ok := r[0].Rows[0][0].(int64)
		if !ok {
			return 0, fmt.Errorf("table episodic_migrations contains %v, not a version", r[0].Rows[0][0])
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
		return Version(ctx, e) // another process has created it since the first query
	}
	foreign := &ForeignError{}
	for _, row := range r[0].Rows {
		foreign.Tables = append(foreign.Tables, fmt.Sprint(row[0]))
	}
	return 0, foreign
}

// load reads the migrations in numerical order. The numbers must be consecutive.
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
