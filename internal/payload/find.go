package payload

import (
	"bytes"
	"context"
	"errors"

	"github.com/episodic-memory/episodic/internal/engine"
)

// kept are tables with payloads that are never compressed again.
var kept = []table{
	{table: "conflicts", keys: []string{"n"}, start: []any{int64(-1)}, from: "conflicts"},
	{table: "kept_steps", keys: []string{"conflict", "part"}, start: []any{int64(-1), int64(-1)}, from: "kept_steps"},
}

// Find reads all payloads, and calls found for each one that holds a text as it is, or as JSON
// writes it, up to twice: JSON within a string of JSON. Payloads that cannot be read are
// passed by, and counted. It ends with the first error of found.
func (c *Codec) Find(ctx context.Context, texts []string, found func(text, table string, keys []any) error) (damaged int64, err error) {
	forms := make([][][]byte, len(texts))
	for i, text := range texts {
		once := quoted(text)
		forms[i] = [][]byte{[]byte(text), []byte(once), []byte(quoted(once))}
	}
	every := condition{sql: "1"}
	for _, list := range [][]table{tables, kept} {
		for i := range list {
			t := &list[i]
			for after := t.start; ; {
				r, err := c.dictionaries.engine.Query(ctx, t.next(after, every))
				if err != nil {
					return damaged, err
				}
				if len(r[0].Rows) == 0 {
					break
				}
				for _, row := range r[0].Rows {
					after = row[:len(t.keys)]
					switch err := c.findIn(ctx, row[len(row)-1], forms, func(i int) error { return found(texts[i], t.table, after) }); {
					case errors.Is(err, ErrCorrupt):
						damaged++
					case err != nil:
						return damaged, err
					}
				}
			}
		}
	}
	return damaged, nil
}

func (c *Codec) findIn(ctx context.Context, column engine.Value, forms [][][]byte, found func(i int) error) error {
	_, text, err := c.decode(ctx, nil, column)
	if err != nil {
		return err
	}
	for i := range forms {
		for _, form := range forms[i] {
			if bytes.Contains(text, form) {
				if err := found(i); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

// quoted is what JSON writes between the quotation marks.
func quoted(text string) string {
	b := AppendString(nil, text)
	return string(b[1 : len(b)-1])
}
