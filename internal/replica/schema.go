package replica

import (
	"context"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// tablesVersion is that of sqlTables. A replica of another version is made anew.
const tablesVersion = 5

// sqlTables are the tables that a replica has beside those of every memory. They are no
// migration: a server parses its schema for every new stream, and needs none of them.
//
// advance is the first statement of each page's transaction. It is refused unless the
// position is the one that the page was fetched for, so that of two who pull at once one
// stores nothing.
var sqlTables = []string{
	`CREATE TABLE IF NOT EXISTS replica(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  version INTEGER NOT NULL,
  life BLOB NOT NULL,
  server_schema INTEGER NOT NULL,
  upto INTEGER NOT NULL,
  downto INTEGER NOT NULL,
  remaining INTEGER NOT NULL,
  anew INTEGER NOT NULL,
  refused_us INTEGER NOT NULL,
  since_us INTEGER NOT NULL,
  max_age_us INTEGER NOT NULL,
  max_bytes INTEGER NOT NULL
) STRICT`,
	`CREATE TABLE IF NOT EXISTS relations_waiting(
  src BLOB NOT NULL,
  type TEXT NOT NULL,
  dst BLOB NOT NULL,
  created_us INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY(src, type, dst)
) STRICT, WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS unseen(
  kind INTEGER NOT NULL,
  item BLOB NOT NULL,
  PRIMARY KEY(kind, item)
) STRICT, WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS witness(
  n INTEGER PRIMARY KEY,
  item BLOB NOT NULL
) STRICT`,
	// pinned are writes that are carried out here and that the server does not have yet, by
	// revision. What the server sends of their items is passed over, and fetched when they
	// are pinned no more.
	`CREATE TABLE IF NOT EXISTS pinned(
  rev INTEGER PRIMARY KEY,
  item BLOB NOT NULL
) STRICT`,
	`CREATE INDEX IF NOT EXISTS pinned_items ON pinned(item)`,
	`CREATE TABLE IF NOT EXISTS passed_over(
  item BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID`,
	// was_pinned are items whose writes were pushed since the last page, with the revision of the
	// one that was pinned last. If the server has what is here, it has nothing else. What was
	// fetched before the push lacks it.
	`CREATE TABLE IF NOT EXISTS was_pinned(
  item BLOB PRIMARY KEY,
  rev INTEGER NOT NULL
) STRICT, WITHOUT ROWID`,
	`CREATE VIEW IF NOT EXISTS advance(old_upto, old_downto, upto, downto, remaining, server_schema) AS
  SELECT upto, downto, upto, downto, remaining, server_schema FROM replica`,
	`CREATE TRIGGER IF NOT EXISTS advanced INSTEAD OF INSERT ON advance BEGIN
  SELECT RAISE(ABORT, 'the replica has moved') FROM replica WHERE upto <> new.old_upto OR downto <> new.old_downto;
  UPDATE replica SET upto = new.upto, downto = new.downto, remaining = new.remaining, server_schema = new.server_schema;
END`,
	`INSERT INTO replica VALUES(1, 5, x'', 0, 0, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING`,
}

// Prepare makes the tables of a replica in a file that has been migrated. Any number of
// processes may call it concurrently, and again. Errors: ErrReset; those of the file.
func Prepare(ctx context.Context, local engine.Engine) error {
	if _, err := readPosition(ctx, local); engine.KindOf(err) != engine.KindNoTable {
		return err
	}
	stmts := make([]engine.Stmt, len(sqlTables))
	for i, sql := range sqlTables {
		stmts[i].SQL = sql
	}
	if _, err := local.Repeatable(ctx, stmts...); err != nil {
		return fmt.Errorf("make the tables of a replica: %w", err)
	}
	return nil
}

// sqlUndone drops sqlTables.
var sqlUndone = []string{`DROP VIEW IF EXISTS advance`, `DROP TABLE IF EXISTS relations_waiting`, `DROP TABLE IF EXISTS unseen`, `DROP TABLE IF EXISTS witness`,
	`DROP TABLE IF EXISTS pinned`, `DROP TABLE IF EXISTS passed_over`, `DROP TABLE IF EXISTS was_pinned`, `DROP TABLE IF EXISTS replica`}

// Undo returns the statements that make a replica's file the memory that it holds, and no
// more. Nobody may pull into it meanwhile, or later.
func Undo() []engine.Stmt {
	stmts := make([]engine.Stmt, len(sqlUndone))
	for i, sql := range sqlUndone {
		stmts[i].SQL = sql
	}
	return stmts
}
