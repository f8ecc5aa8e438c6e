package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Sum is how many rows a table has, and a hash of all that is in them.
type Sum struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	Hash  []byte `json:"hash"` // SHA-256
}

// SealInfo is what a sealed file says of itself.
type SealInfo struct {
	At     time.Time // when it was sealed
	Source string    // what it is a copy of
	Sums   []Sum     // without the seal
}

// ErrNotSealed is returned for a database that Seal has not sealed.
var ErrNotSealed = errors.New("it is no backup that episodic has made")

// The seal is a table with one row. It is no migration: no other file has it.
const (
	sqlMakeSeal = `CREATE TABLE backup_of(at_us INTEGER NOT NULL, source TEXT NOT NULL, sums TEXT NOT NULL) STRICT`
	sqlPutSeal  = `INSERT INTO backup_of VALUES(?, ?, ?)`
	sqlSeal     = `SELECT at_us, source, sums FROM backup_of`
	sqlDropSeal = `DROP TABLE IF EXISTS backup_of`

	sqlSchemaSum = `SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> 'backup_of' ORDER BY type, name`
	sqlTables    = `SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'backup_of' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name`
)

// Seal notes in a file that nobody has open what it holds and what it is a copy of, forces
// it to the disk, and checks that it is whole and holds the sums, unless they are nil. Engine.CheckSeal
// checks it again. It leaves one file. Errors: KindCorrupt for a file that is not as it should be.
func Seal(ctx context.Context, path, source string, want []Sum) (_ *SealInfo, err error) {
	c, err := openConn(ctx, path, "synchronous(FULL)")
	if err != nil {
		return nil, classify(err, -1)
	}
	info, err := c.seal(ctx, source, want)
	if err = errors.Join(classify(err, -1), c.close()); err != nil {
		return nil, err
	}
	return info, Sole(ctx, path)
}

func (c *conn) seal(ctx context.Context, source string, want []Sum) (*SealInfo, error) {
	if err := c.exec(ctx, sqlDropSeal); err != nil { // of the file that this one is a copy of
		return nil, err
	}
	if err := c.whole(ctx); err != nil {
		return nil, err
	}
	sums, err := c.sums(ctx)
	if err != nil {
		return nil, err
	}
	if difference := differing(sums, want); want != nil && difference != "" {
		return nil, corrupt("the copy is not what was copied: %s", difference)
	}
	text, err := json.Marshal(sums)
	if err != nil {
		return nil, err
	}
	info := &SealInfo{At: time.Now().Truncate(time.Microsecond).UTC(), Source: source, Sums: sums}
	var r engine.Result
	for _, s := range []engine.Stmt{{SQL: sqlMakeSeal}, {SQL: sqlPutSeal, Args: []any{info.At.UnixMicro(), source, string(text)}}} {
		if err := c.run(ctx, s, &r); err != nil {
			return nil, err
		}
	}
	return info, nil
}

// whole has SQLite check the file.
func (c *conn) whole(ctx context.Context) error {
	var r engine.Result
	if err := c.run(ctx, engine.Stmt{SQL: "PRAGMA integrity_check(1)"}, &r); err != nil {
		return err
	}
	if len(r.Rows) != 1 || r.Rows[0][0] != "ok" {
		return corrupt("the file is damaged: %v", r.Rows[0][0])
	}
	return nil
}

// Unseal makes a sealed file an ordinary one, without sidecars. Nobody may have it open.
func Unseal(ctx context.Context, path string) error {
	c, err := openConn(ctx, path, "synchronous(FULL)")
	if err != nil {
		return classify(err, -1)
	}
	err = c.exec(ctx, sqlDropSeal)
	if err = errors.Join(classify(err, -1), c.close()); err != nil {
		return err
	}
	return Sole(ctx, path)
}

// Seal returns the seal of the file, without looking whether it holds. Errors: ErrNotSealed.
func (e *Engine) Seal(ctx context.Context) (*SealInfo, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: sqlSeal})
	switch {
	case engine.KindOf(err) == engine.KindNoTable:
		return nil, ErrNotSealed
	case err != nil:
		return nil, err
	case len(r[0].Rows) != 1:
		return nil, corrupt("its seal has %d rows, want 1", len(r[0].Rows))
	}
	in := engine.Row{Values: r[0].Rows[0]}
	info := &SealInfo{At: time.UnixMicro(in.Int(0)).UTC(), Source: in.Text(1)}
	if err := errors.Join(in.Err, json.Unmarshal([]byte(in.Text(2)), &info.Sums)); err != nil {
		return nil, corrupt("its seal cannot be read: %w", err)
	}
	return info, nil
}

// CheckSeal checks that the file is whole, and holds what it held when it was sealed. Errors:
// ErrNotSealed; KindCorrupt says what is otherwise.
func (e *Engine) CheckSeal(ctx context.Context) (_ *SealInfo, err error) {
	info, err := e.Seal(ctx)
	if err != nil {
		return nil, err
	}
	c, err := e.openReader(ctx)
	if err != nil {
		return nil, e.readError(ctx, err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.whole(ctx); err != nil {
		return nil, e.readError(ctx, err)
	}
	sums, err := c.sums(ctx)
	if err != nil {
		return nil, e.readError(ctx, err)
	}
	if difference := differing(sums, info.Sums); difference != "" {
		return nil, corrupt("it is not what it was when it was made: %s", difference)
	}
	return info, nil
}

func corrupt(format string, args ...any) error {
	return &engine.Error{Kind: engine.KindCorrupt, Stmt: -1, Err: fmt.Errorf(format, args...)}
}

// differing names the first table that is not as it should be; empty: all are.
func differing(got, want []Sum) string {
	byName := make(map[string]Sum, len(got))
	for _, s := range got {
		byName[s.Table] = s
	}
	for _, w := range want {
		g, found := byName[w.Table]
		switch {
		case !found:
			return fmt.Sprintf("it lacks the table %s", w.Table)
		case g.Rows != w.Rows:
			return fmt.Sprintf("its table %s has %d rows, want %d", w.Table, g.Rows, w.Rows)
		case !bytes.Equal(g.Hash, w.Hash):
			return fmt.Sprintf("its table %s has other contents, in as many rows (%d)", w.Table, w.Rows)
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("it has %d tables, want %d", len(got), len(want))
	}
	return ""
}

// sums returns those of all tables, and of the schema.
func (c *conn) sums(ctx context.Context) ([]Sum, error) {
	var r engine.Result
	if err := c.run(ctx, engine.Stmt{SQL: sqlTables}, &r); err != nil {
		return nil, err
	}
	schema, err := c.sum(ctx, "sqlite_schema", sqlSchemaSum)
	if err != nil {
		return nil, err
	}
	sums := []Sum{schema}
	for _, row := range r.Rows {
		name := fmt.Sprint(row[0])
		// Without an index all rows come in the order in which they lie.
		s, err := c.sum(ctx, name, `SELECT * FROM "`+strings.ReplaceAll(name, `"`, `""`)+`" NOT INDEXED`)
		if err != nil {
			return nil, fmt.Errorf("read the table %s: %w", name, err)
		}
		sums = append(sums, s)
	}
	return sums, nil
}

func (c *conn) sum(ctx context.Context, table, sql string) (_ Sum, err error) {
	rows, err := c.conn.QueryContext(ctx, sql)
	if err != nil {
		return Sum{}, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	cols, err := rows.Columns()
	if err != nil {
		return Sum{}, err
	}
	values, into := make([]any, len(cols)), make([]any, len(cols))
	for i := range values {
		into[i] = &values[i]
	}
	s, h := Sum{Table: table}, sha256.New()
	for ; rows.Next(); s.Rows++ {
		if err := rows.Scan(into...); err != nil {
			return Sum{}, err
		}
		for _, v := range values {
			hashValue(h, v)
		}
	}
	s.Hash = h.Sum(nil)
	return s, rows.Err()
}

// hashValue hashes a value with its type and length, so that no two rows look the same.
func hashValue(h hash.Hash, v engine.Value) {
	head := make([]byte, 1, 9)
	var rest []byte
	switch v := v.(type) {
	case int64:
		head[0] = 'i'
		head = binary.LittleEndian.AppendUint64(head, uint64(v))
	case float64:
		head[0] = 'f'
		head = binary.LittleEndian.AppendUint64(head, math.Float64bits(v))
	case string:
		head[0], rest = 't', []byte(v)
		head = binary.LittleEndian.AppendUint64(head, uint64(len(v)))
	case []byte:
		head[0], rest = 'b', v
		head = binary.LittleEndian.AppendUint64(head, uint64(len(v)))
	} // nil has neither
	h.Write(head)
	h.Write(rest)
}
