package episodic

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
)

// pusher adds what a file holds to a server: with its ids, revisions and times, compressed
// as the server's memory is, and nothing over what is there. It keeps no position: it asks
// the server what it has.
type pusher struct {
	from, to *Store
	pushed   int64
	tell     func() // pushed has grown
}

const (
	sqlLinkItems   = `SELECT seq, lower(hex(id)) FROM %s WHERE seq > ? ORDER BY seq LIMIT 500`
	sqlLinkSources = `SELECT seq, lower(hex(id)) FROM episodes WHERE seq > ? AND seq IN (SELECT src FROM relations) ORDER BY seq LIMIT 500`
	sqlLinkThere   = `SELECT lower(hex(id)) FROM %s WHERE id IN (SELECT unhex(value) FROM json_each(?))`
)

// push pushes everything, in the order in which it was stored.
func (p *pusher) push(ctx context.Context) error {
	for _, kind := range []struct {
		table string
		unit  func(context.Context, []ID) (*pushUnit, error)
	}{{"episodes", p.episodes}, {"patterns", p.patterns}, {"heuristics", p.heuristics}} {
		err := p.pages(ctx, fmt.Sprintf(sqlLinkItems, kind.table), func(list string, ids []ID) error {
			there, err := p.texts(ctx, p.to, fmt.Sprintf(sqlLinkThere, kind.table), list)
			if err != nil {
				return err
			}
			var missing []ID
			for _, id := range ids {
				if !there[hex.EncodeToString(id[:])] {
					missing = append(missing, id)
				}
			}
			p.done(len(ids) - len(missing))
			return p.add(ctx, missing, kind.unit)
		})
		if err != nil {
			return fmt.Errorf("push %s: %w", kind.table, err)
		}
	}
	if err := p.pages(ctx, sqlLinkSources, func(list string, ids []ID) error { return p.relations(ctx, list, ids) }); err != nil {
		return fmt.Errorf("push relations: %w", err)
	}
	return p.vectors(ctx)
}

func (p *pusher) done(n int) {
	p.pushed += int64(n)
	p.tell()
}

// pages calls do with the ids that a statement lists, and with their JSON array in hex.
func (p *pusher) pages(ctx context.Context, sql string, do func(list string, ids []ID) error) error {
	for last := int64(0); ; {
		res, err := p.from.engine.Query(ctx, engine.Stmt{SQL: sql, Args: []any{last}})
		if err != nil || len(res[0].Rows) == 0 {
			return err
		}
		var texts []string
		var ids []ID
		for _, row := range res[0].Rows {
			in := engine.Row{Values: row}
			var id ID
			text := in.Text(1)
			last = in.Int(0)
			if n, err := hex.Decode(id[:], []byte(text[:min(len(text), 32)])); in.Err != nil || err != nil || n != len(id) || len(text) != 32 {
				continue // an SQL shell has stored it; nobody can read it
			}
			texts, ids = append(texts, text), append(ids, id)
		}
		list, err := json.Marshal(texts)
		if err == nil {
			err = do(string(list), ids)
		}
		if err != nil {
			return err
		}
	}
}

// texts are what a statement returns whose parameter is a list of ids.
func (p *pusher) texts(ctx context.Context, s *Store, sql, list string) (map[string]bool, error) {
	res, err := s.engine.Query(ctx, engine.Stmt{SQL: sql, Args: []any{list}})
	if err != nil {
		return nil, err
	}
	all := make(map[string]bool)
	for _, row := range res[0].Rows {
		text, _ := row[0].(string)
		all[text] = true
	}
	return all, nil
}

// pushUnit is some items that are stored together.
type pushUnit struct {
	items int
	stmts []engine.Stmt
}

// add stores items that the server does not have, a unit at a time.
func (p *pusher) add(ctx context.Context, ids []ID, encode func(context.Context, []ID) (*pushUnit, error)) error {
	for atOnce := addAtOnce; len(ids) > 0; {
		some := ids[:min(atOnce, len(ids))]
		var n int
		err := write(ctx, p.to, func() (*pushUnit, error) { return encode(ctx, some) }, func(u *pushUnit) error {
			n = u.items
			_, err := p.to.engine.Repeatable(ctx, u.stmts...)
			return err
		})
		if engine.KindOf(err) == engine.KindTooLarge && n > 1 {
			atOnce = n / 2 // a gateway's limit may be less than what a unit takes
			continue
		}
		if err != nil {
			return err
		}
		ids = ids[n:]
		p.done(n)
	}
	return nil
}

// transcode returns a payload of the file, with the columns that it is bound to in both, as
// the server's memory has it.
func (p *pusher) transcode(ctx context.Context, kind payload.Kind, bound payload.Bound, column any) ([]byte, error) {
	var text json.RawMessage
	if err := p.from.payloads.Decode(ctx, column, bound, &text); err != nil {
		return nil, err
	}
	return p.to.payloads.EncodeJSON(kind, bound, text), nil
}
