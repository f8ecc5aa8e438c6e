package episodic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
)

// errEnoughTraces ends a search for texts that are in very many places.
var errEnoughTraces = errors.New("enough")

// mostTraces bounds Erasure.Found.
const mostTraces = 1000

// prove looks for the texts of o in all that the tables of the Store's database hold, and adds
// to done where they are.
func (s *Store) prove(ctx context.Context, in string, o *SecureOptions, done *Erasure) error {
	if len(o.Prove) == 0 {
		return nil
	}
	tell := func(text int, where string) error {
		if len(done.Found) == mostTraces {
			return errEnoughTraces
		}
		done.Found = append(done.Found, Trace{Text: text, Where: in + where})
		return nil
	}
	err := s.proveColumns(ctx, o.Prove, tell)
	if err == nil {
		_, err = s.payloads.Find(ctx, o.Prove, func(text, table string, keys []any) error {
			where, err := s.itemAt(ctx, table, keys)
			if err != nil {
				return err
			}
			return tell(slices.Index(o.Prove, text), where)
		})
	}
	if errors.Is(err, errEnoughTraces) {
		err = nil
	}
	return err
}

// sqlColumns are those of all tables, but of virtual ones, whose rows lie in others, and
// payloads, which are decoded.
const sqlColumns = `SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
 WHERE m.type = 'table' AND m.sql NOT LIKE 'CREATE VIRTUAL%' AND c.name <> 'payload' ORDER BY m.name, c.cid`

// proveColumns looks for texts in values as they are stored: a dictionary, a tag, a name.
func (s *Store) proveColumns(ctx context.Context, texts []string, tell func(text int, where string) error) error {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlColumns})
	if err != nil {
		return err
	}
	quote := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		table, column := in.Text(0), in.Text(1)
		if in.Err != nil {
			return in.Err
		}
		var sums []string
		var args []any
		for _, text := range texts {
			sums = append(sums, fmt.Sprintf("ifnull(sum(instr(CAST(%s AS BLOB), ?) > 0), 0)", quote(column)))
			args = append(args, []byte(text))
		}
		// SQLite takes so many columns at most.
		for from, step := 0, 500; from < len(sums); from += step {
			to := min(from+step, len(sums))
			r, err := s.engine.Query(ctx, engine.Stmt{SQL: "SELECT " + strings.Join(sums[from:to], ", ") + " FROM " + quote(table), Args: args[from:to]})
			if err != nil {
				return err
			}
			counts := engine.Row{Values: r[0].Rows[0]}
			for i := range to - from {
				if n := counts.Int(i); n > 0 {
					if err := tell(from+i, fmt.Sprintf("table %s, column %s, %d times", table, column, n)); err != nil {
						return err
					}
				}
			}
			if counts.Err != nil {
				return counts.Err
			}
		}
	}
	return nil
}

// itemAt names the item that a payload is of.
func (s *Store) itemAt(ctx context.Context, table string, keys []any) (string, error) {
	kind, sql := "", ""
	switch table {
	case "runs":
		kind, sql = "steps of episode", `SELECT id FROM episodes WHERE seq = ? >> 24`
	case "relations":
		kind, sql = "a relation from episode", `SELECT id FROM episodes WHERE seq = ?`
	case "conflicts", "kept_steps":
		return fmt.Sprintf("conflict %v", keys[0]), nil
	default:
		kind, sql = strings.TrimSuffix(table, "s"), "SELECT id FROM "+table+" WHERE seq = ?"
	}
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sql, Args: keys[:1]})
	if err != nil {
		return "", err
	}
	if len(r[0].Rows) == 0 {
		return kind + ", deleted meanwhile", nil
	}
	id, err := idFrom(r[0].Rows[0][0])
	if err != nil {
		return fmt.Sprintf("%s, table %s, key %v", kind, table, keys), nil
	}
	return fmt.Sprintf("%s %v", kind, id), nil
}
