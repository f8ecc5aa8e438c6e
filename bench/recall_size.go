package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/episodic-memory/episodic"
)

// fileParts are the tables whose pages are told apart in the size of a file.
var fileParts = []struct{ table, name string }{
	{"runs", "steps"},
	{"episodes", "episodes without their steps"},
	{"index_blocks", "index: words"},
	{"index_segments", "index: places"},
	{"index_units", "index: not merged yet"},
	{"index_gone", "index: what is gone"},
	{"dictionaries", "dictionaries"},
}

// recallSize stores the runs and says what takes how much of the file.
func recallSize(ctx context.Context, b *bench, d *recallData) error {
	path := filepath.Join(b.dir, "recall-size.db")
	plain, imported, err := d.store(ctx, path)
	if err != nil {
		return err
	}
	size, err := sizeOf(path)
	if err != nil {
		return err
	}
	tables, err := tableSizes(ctx, path)
	if err != nil {
		return err
	}
	rows := [][]string{{fmt.Sprintf("%d runs, %.1f MB as JSON", len(d.runs), float64(plain)/1e6), "MB", "of the JSON"}}
	add := func(name string, n int64) {
		rows = append(rows, []string{name, fmt.Sprintf("%.2f", float64(n)/1e6), fmt.Sprintf("%.3f", float64(n)/float64(plain))})
	}
	left, others := size, int64(0)
	for _, part := range fileParts {
		add(part.name, tables[part.table])
		left -= tables[part.table]
		delete(tables, part.table)
	}
	for _, n := range tables {
		others += n
	}
	add("other tables", others)
	add("free, and the map of pages", left-others)
	add("**the file, after Compact**", size)
	add("the file before that, as import leaves it", imported)
	b.table(rows...)
	if d.swe != nil {
		part := float64(size) / float64(plain)
		b.judge(part <= 0.45, "the file at most 0.45 of the JSON", "%.3f", part)
	}
	return nil
}

// store imports the runs into a file and compacts it. It returns what they take as JSON, as
// show prints it, and the size of the file before it was compacted.
func (d *recallData) store(ctx context.Context, path string) (plain, imported int64, err error) {
	err = withStore(ctx, path, func(store *episodic.Store) error { return addAll(ctx, store, d.runs) })
	if err != nil {
		return 0, 0, err
	}
	if imported, err = sizeOf(path); err != nil {
		return 0, 0, err
	}
	for _, e := range d.runs {
		var doc bytes.Buffer
		encoder := json.NewEncoder(&doc)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(e); err != nil {
			return 0, 0, err
		}
		plain += int64(doc.Len() - 1) // without the line feed
	}
	return plain, imported, withStore(ctx, path, func(store *episodic.Store) error {
		_, err := store.Compact(ctx, nil)
		return err
	})
}

// withStore opens a Store for f and closes it.
func withStore(ctx context.Context, path string, f func(*episodic.Store) error) error {
	store, err := episodic.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	return errors.Join(f(store), store.Close())
}

// tableSizes are the bytes of the pages of each table with its indexes.
func tableSizes(ctx context.Context, path string) (sizes map[string]int64, err error) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT coalesce(s.tbl_name, d.name), sum(d.pgsize) FROM dbstat d LEFT JOIN sqlite_schema s ON s.name = d.name WHERE d.aggregate = TRUE GROUP BY 1`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	sizes = make(map[string]int64)
	for rows.Next() {
		var table string
		var n int64
		if err := rows.Scan(&table, &n); err != nil {
			return nil, err
		}
		sizes[table] = n
	}
	return sizes, rows.Err()
}
