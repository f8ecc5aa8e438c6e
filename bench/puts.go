package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	_ "modernc.org/sqlite"

	"github.com/episodic-memory/episodic"
)

const putsClaim = "Storing one episode durably in a local file (`Store.PutEpisode`), against the bare driver that puts the same bytes and words into " +
	"one table with the same indexes and one FTS5 table, a transaction each, both with synchronous FULL. Target: at least 0.5 times its rate."

const (
	putsPool   = 500 // different episodes
	manyPuters = 32
)

func puts(ctx context.Context, b *bench) error {
	pool := b.corpus.episodes(0, putsPool)
	rows, err := storedForm(ctx, b, pool)
	if err != nil {
		return err
	}
	plain, err := openPlain(ctx, filepath.Join(b.dir, "plain.db"), rows)
	if err != nil {
		return err
	}
	defer plain.close()
	driver := loadCell("bare driver, 1 caller", 1, plain.put)

	var ours []*cell
	var stores []*episodic.Store
	for _, callers := range []int{1, manyPuters} {
		store, _, err := b.openFile(ctx, fmt.Sprintf("puts-%d.db", callers))
		if err != nil {
			return err
		}
		defer store.Close()
		stores = append(stores, store)
		name := fmt.Sprintf("PutEpisode, %d callers", callers)
		if callers == 1 {
			name = "PutEpisode, 1 caller"
		}
		ours = append(ours, loadCell(name, callers, putter(store, pool)))
	}
	cells := []*cell{driver, ours[0], ours[1]}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}

	table := [][]string{{"", "rows/s", "p50", "p99", "against the driver"}}
	for _, c := range cells {
		table = append(table, []string{c.name, digits(c.rate()), ms(c.percentile(0.5)), ms(c.percentile(0.99)), compare(c, driver).String()})
	}
	b.table(table...)
	payload, words := 0, 0
	for _, r := range rows {
		payload += len(r.payload)
		for _, w := range r.words {
			words += len(w.(string))
		}
	}
	kb := 1024 * float64(len(rows))
	b.printf("An episode is %.1f KB of payload and %.1f KB of indexed words. The %d callers share transactions; they are for information.\n\n",
		float64(payload)/kb, float64(words)/kb, manyPuters)
	for i, c := range ours {
		if err := checkCount(ctx, stores[i], c.acknowledged()); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	got := compare(ours[0], driver)
	b.judge(got.median >= 0.5, "one caller at least 0.50x the bare driver", "%v", got)
	return nil
}

// putter stores the episodes of a pool as new ones.
func putter(store *episodic.Store, pool []*episodic.Episode) op {
	next := counter()
	return func(ctx context.Context, _ int) error {
		e := *pool[next()%len(pool)]
		e.ID = episodic.ID{}
		return store.PutEpisode(ctx, &e)
	}
}

// checkCount fails if a store holds another number of episodes than those that
// it acknowledged.
func checkCount(ctx context.Context, store *episodic.Store, acknowledged int) error {
	counts, err := store.Counts(ctx)
	if err != nil {
		return err
	}
	if counts.Episodes != int64(acknowledged) {
		return fmt.Errorf("%d episodes were acknowledged, %d are stored", acknowledged, counts.Episodes)
	}
	return nil
}

// plainRow is an episode in the form in which a Store has stored it.
type plainRow struct {
	columns [8]any
	payload []byte // the episode's and its steps'
	words   [4]any
}

// storedForm stores the pool in a scratch file and reads back its rows.
func storedForm(ctx context.Context, b *bench, pool []*episodic.Episode) (out []plainRow, err error) {
	store, path, err := b.openFile(ctx, "scratch.db")
	if err != nil {
		return nil, err
	}
	_, err = store.AddEpisodes(ctx, pool...)
	if err = errors.Join(err, store.Close()); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT id, task_type, domain, language, e.outcome, start_us, end_us, e.steps, e.payload, r.payload
 FROM episodes e JOIN runs r ON r.episode = e.seq`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	words := make(map[string]*[4]any, len(pool))
	for _, e := range pool {
		words[string(e.ID[:])] = wordsOf(e)
	}
	for rows.Next() {
		var r plainRow
		var episode, steps []byte
		var into []any
		for i := range r.columns {
			into = append(into, &r.columns[i])
		}
		into = append(into, &episode, &steps)
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		id, isID := r.columns[0].([]byte)
		if !isID || words[string(id)] == nil {
			return nil, fmt.Errorf("no episode was stored with the id %x", id)
		}
		r.words = *words[string(id)]
		r.payload = slices.Concat(episode, steps)
		out = append(out, r)
	}
	if len(out) != len(pool) {
		return nil, fmt.Errorf("read %d rows of %d episodes back", len(out), len(pool))
	}
	return out, rows.Err()
}

// wordsOf is what a Store indexes of an episode, as texts.
func wordsOf(e *episodic.Episode) *[4]any {
	var steps, outcome strings.Builder
	for i := range e.Steps {
		st := &e.Steps[i]
		fmt.Fprintln(&steps, st.Tool, st.Action, st.Parameters)
		if st.Result != nil {
			fmt.Fprintln(&steps, st.Result.Text[:min(len(st.Result.Text), 4000)])
		}
	}
	o := &e.Outcome
	fmt.Fprintln(&outcome, o.Kind, o.Verdict, o.Reason, o.Details)
	return &[4]any{e.Description, strings.Join(e.Context.Tags, "\n"), steps.String(), outcome.String()}
}

// plain is what a program would do that needs nothing but rows and words.
type plain struct {
	db                            *sql.DB
	conn                          *sql.Conn
	begin, episode, words, commit *sql.Stmt
	rows                          []plainRow
	next                          func() int
}

func openPlain(ctx context.Context, path string, rows []plainRow) (*plain, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	p := &plain{db: db, conn: conn, rows: rows, next: counter()}
	if err := p.prepare(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *plain) prepare(ctx context.Context) error {
	for _, text := range []string{
		`CREATE TABLE episodes(seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, task_type TEXT NOT NULL, domain TEXT NOT NULL, language TEXT NOT NULL,
 outcome TEXT NOT NULL, start_us INTEGER NOT NULL, end_us INTEGER, steps INTEGER NOT NULL, payload BLOB NOT NULL) STRICT`,
		`CREATE INDEX episodes_by_time ON episodes(start_us, seq, outcome, task_type, language)`,
		`CREATE INDEX episodes_by_domain ON episodes(domain, start_us, seq, outcome, task_type, language)`,
		`CREATE VIRTUAL TABLE search USING fts5(task, tags, steps, outcome, tokenize = 'porter unicode61 remove_diacritics 2')`,
	} {
		if _, err := p.conn.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		into **sql.Stmt
		text string
	}{
		{&p.begin, `BEGIN IMMEDIATE`},
		{&p.episode, `INSERT INTO episodes(task_type, domain, language, outcome, start_us, end_us, steps, id, payload) VALUES(?,?,?,?,?,?,?,?,?)`},
		{&p.words, `INSERT INTO search(task, tags, steps, outcome, rowid) VALUES(?,?,?,?,?)`},
		{&p.commit, `COMMIT`},
	} {
		var err error
		if *s.into, err = p.conn.PrepareContext(ctx, s.text); err != nil {
			return err
		}
	}
	return nil
}

func (p *plain) put(ctx context.Context, _ int) error {
	ctx = context.WithoutCancel(ctx) // spares the driver a goroutine for each statement
	r := &p.rows[p.next()%len(p.rows)]
	id := episodic.NewID()
	if _, err := p.begin.ExecContext(ctx); err != nil {
		return err
	}
	res, err := p.episode.ExecContext(ctx, append(r.columns[1:len(r.columns):len(r.columns)], id[:], r.payload)...)
	if err != nil {
		return err
	}
	seq, err := res.LastInsertId()
	if err != nil {
		return err
	}
	if _, err := p.words.ExecContext(ctx, append(r.words[:len(r.words):len(r.words)], seq)...); err != nil {
		return err
	}
	_, err = p.commit.ExecContext(ctx)
	return err
}

func (p *plain) close() error { return errors.Join(p.conn.Close(), p.db.Close()) }
