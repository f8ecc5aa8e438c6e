package main

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"unicode"
)

// ftsTable is full-text search as SQLite has it: an FTS5 table of texts, which are
// numbered from 0, ranked by bm25.
type ftsTable struct {
	db   *sql.DB
	rows int
}

func newFTSTable(ctx context.Context, path string) (*ftsTable, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `CREATE VIRTUAL TABLE docs USING fts5(text, content = '', tokenize = 'porter unicode61')`); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &ftsTable{db: db}, nil
}

func (t *ftsTable) add(ctx context.Context, texts ...string) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	for _, text := range texts {
		if _, err := tx.ExecContext(ctx, `INSERT INTO docs(rowid, text) VALUES(?, ?)`, t.rows, text); err != nil {
			return err
		}
		t.rows++
	}
	return tx.Commit()
}

// search returns the texts that hold any word of the query, the best first.
func (t *ftsTable) search(ctx context.Context, query string, limit int) (found []int, err error) {
	words := strings.FieldsFunc(strings.ToLower(query), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	slices.Sort(words)
	words = slices.Compact(words)
	rows, err := t.db.QueryContext(ctx, `SELECT rowid FROM docs WHERE docs MATCH ? ORDER BY bm25(docs), rowid LIMIT ?`, `"`+strings.Join(words, `" OR "`)+`"`, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		found = append(found, n)
	}
	return found, rows.Err()
}

func (t *ftsTable) close() error { return t.db.Close() }
