package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tursodatabase/libsql-client-go/libsql"

	"github.com/episodic-memory/episodic"
)

// rawTables are what a program would set up that keeps each episode as one JSON
// text and finds it by its words.
var rawTables = []string{
	`CREATE TABLE docs(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, start INTEGER NOT NULL, domain TEXT NOT NULL, outcome TEXT NOT NULL,
 task TEXT NOT NULL, words TEXT NOT NULL, out TEXT NOT NULL, json TEXT NOT NULL)`,
	`CREATE INDEX docs_by_start ON docs(start)`,
	`CREATE VIRTUAL TABLE docs_fts USING fts5(task, words, out, content = 'docs', content_rowid = 'seq', tokenize = 'porter unicode61')`,
	`CREATE TRIGGER docs_inserted AFTER INSERT ON docs BEGIN
 INSERT INTO docs_fts(rowid, task, words, out) VALUES (new.seq, new.task, new.words, new.out);
END`,
	`CREATE TRIGGER docs_updated AFTER UPDATE ON docs BEGIN
 INSERT INTO docs_fts(docs_fts, rowid, task, words, out) VALUES ('delete', old.seq, old.task, old.words, old.out);
 INSERT INTO docs_fts(rowid, task, words, out) VALUES (new.seq, new.task, new.words, new.out);
END`,
}

const (
	rawInsert = `INSERT INTO docs(id, start, domain, outcome, task, words, out, json) VALUES(?, ?, ?, ?, ?, ?, ?, ?)`
	rawUpdate = `UPDATE docs SET outcome = ?, words = ?, out = ?, json = ? WHERE id = ?`
	rawGet    = `SELECT json FROM docs WHERE id = ?`
	rawNewest = `SELECT json FROM docs ORDER BY start DESC LIMIT ?`
	rawSearch = `SELECT d.json, f.rank, snippet(docs_fts, -1, '', '', '…', 24)
 FROM docs_fts f JOIN docs d ON d.seq = f.rowid WHERE docs_fts MATCH ? ORDER BY f.rank LIMIT 10`
)

// rawConns is how many connections the bare driver has to a file. More make it
// slower: its writers then wait by sleeping.
const rawConns = 4

// rawSide is the plain way, on a file or on a server.
type rawSide struct {
	db *sql.DB
	// detached frees each call of its context's end: the driver of files would start
	// a goroutine for each statement to wait for that.
	detached bool

	insert, update, byID, newest, match *sql.Stmt
}

// openRawFile opens a file by the bare driver, as durable as a Store does.
func openRawFile(path string) (*rawSide, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(rawConns)
	db.SetMaxIdleConns(rawConns)
	return &rawSide{db: db, detached: true}, nil
}

// openRawServer opens a server by libsql-client-go.
func openRawServer(url string) (*rawSide, error) {
	connector, err := libsql.NewConnector(url)
	if err != nil {
		return nil, err
	}
	http.DefaultClient.CloseIdleConnections() // see openOfficial
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(farCallers)
	db.SetMaxIdleConns(farCallers)
	return &rawSide{db: db}, nil
}

// create makes the tables of a new database.
func (r *rawSide) create(ctx context.Context) error {
	for _, text := range rawTables {
		if _, err := r.db.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// fresh makes the side ready on a new database. It closes it when that fails.
func (r *rawSide) fresh(ctx context.Context) (side, error) {
	err := r.create(ctx)
	if err == nil {
		err = r.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// prepare keeps the statements prepared. One who only gets once can do without.
func (r *rawSide) prepare(ctx context.Context) error {
	for _, s := range []struct {
		into **sql.Stmt
		text string
	}{{&r.insert, rawInsert}, {&r.update, rawUpdate}, {&r.byID, rawGet}, {&r.newest, rawNewest}, {&r.match, rawSearch}} {
		var err error
		if *s.into, err = r.db.PrepareContext(ctx, s.text); err != nil {
			return err
		}
	}
	return nil
}

func (r *rawSide) close() error {
	var err error
	for _, s := range []*sql.Stmt{r.insert, r.update, r.byID, r.newest, r.match} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	return errors.Join(err, r.db.Close())
}

func (r *rawSide) context(ctx context.Context) context.Context {
	if r.detached {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

func (r *rawSide) put(ctx context.Context, e *episodic.Episode) error {
	whole := *e
	whole.ID = episodic.NewID()
	return r.store(r.context(ctx), r.insert, &whole)
}

func (r *rawSide) store(ctx context.Context, insert *sql.Stmt, e *episodic.Episode) error {
	doc, err := json.Marshal(e)
	if err != nil {
		return err
	}
	var words strings.Builder
	for i := range e.Steps {
		addWords(&words, &e.Steps[i])
	}
	_, err = insert.ExecContext(ctx, e.ID.String(), e.Start.UnixMicro(), e.Context.Domain, string(e.Outcome.Kind),
		e.Description, words.String(), outcomeWords(&e.Outcome), string(doc))
	return err
}

// addWords adds what a step is found by.
func addWords(to *strings.Builder, s *episodic.Step) {
	to.WriteString(s.Tool)
	to.WriteByte(' ')
	to.WriteString(s.Action)
	to.WriteByte('\n')
}

func outcomeWords(o *episodic.Outcome) string {
	return strings.Join(slices.Concat([]string{o.Verdict, o.Reason, o.Details}, o.Artifacts, o.Completed, o.Failed), "\n")
}

// add stores the episodes in one transaction.
func (r *rawSide) add(ctx context.Context, list []*episodic.Episode) (err error) {
	ctx = r.context(ctx)
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	insert := tx.StmtContext(ctx, r.insert)
	for _, e := range list {
		if err := r.store(ctx, insert, e); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// rawRunning is an episode whose program keeps it in memory, and writes it whole
// each time something comes to it.
type rawRunning struct {
	side  *rawSide
	doc   episodic.Episode
	words strings.Builder
}

func (r *rawSide) start(ctx context.Context, e episodic.Episode) (running, error) {
	e.ID = episodic.NewID()
	return &rawRunning{side: r, doc: e}, r.store(r.context(ctx), r.insert, &e)
}

func (u *rawRunning) append(ctx context.Context, s episodic.Step) error {
	u.doc.Steps = append(u.doc.Steps, s)
	addWords(&u.words, &s)
	return u.rewrite(ctx)
}

func (u *rawRunning) complete(ctx context.Context, done episodic.Completion) error {
	u.doc.Outcome, u.doc.End, u.doc.Reward, u.doc.Reflection = done.Outcome, done.End, done.Reward, done.Reflection
	return u.rewrite(ctx)
}

func (u *rawRunning) rewrite(ctx context.Context) error {
	doc, err := json.Marshal(&u.doc)
	if err != nil {
		return err
	}
	result, err := u.side.update.ExecContext(u.side.context(ctx), string(u.doc.Outcome.Kind), u.words.String(), outcomeWords(&u.doc.Outcome),
		string(doc), u.doc.ID.String())
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("rewrote %d rows of one episode", n)
	}
	return err
}

func (r *rawSide) get(ctx context.Context, id episodic.ID) error {
	var row *sql.Row
	if r.byID == nil {
		row = r.db.QueryRowContext(ctx, rawGet, id.String())
	} else {
		row = r.byID.QueryRowContext(r.context(ctx), id.String())
	}
	var doc []byte
	if err := row.Scan(&doc); err != nil {
		return err
	}
	var e episodic.Episode
	if err := json.Unmarshal(doc, &e); err != nil {
		return err
	}
	return checkID(&e, id)
}

func (r *rawSide) list(ctx context.Context, n int) (int, error) {
	rows, err := r.newest.QueryContext(r.context(ctx), n)
	return countDocs(rows, err)
}

func (r *rawSide) search(ctx context.Context, words string) (int, error) {
	terms := `"` + strings.Join(strings.Fields(words), `" OR "`) + `"`
	rows, err := r.match.QueryContext(r.context(ctx), terms)
	return countDocs(rows, err, new(float64), new(string))
}

// countDocs reads all episodes of an answer, and what else is in its rows.
func countDocs(rows *sql.Rows, err error, others ...any) (n int, _ error) {
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var doc []byte
		if err := rows.Scan(append([]any{&doc}, others...)...); err != nil {
			return n, err
		}
		var e episodic.Episode
		if err := json.Unmarshal(doc, &e); err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}

func (r *rawSide) count(ctx context.Context) (n int, err error) {
	err = r.db.QueryRowContext(ctx, `SELECT count(*) FROM docs`).Scan(&n)
	return n, err
}
