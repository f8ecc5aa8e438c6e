package replica

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// sqlHave says of episodes that are here their revision, which steps of them are, and how
// long they are.
//
// An appended run has a key and never changes, and whoever replaces runs replaces them
// all by such without keys, so that if the last one has the same key there, those before
// are the same too. Except with keys that are made of a caller's text, which may come
// again after the episode was deleted and stored anew: hence when it began, and what tells
// its runs from others.
const sqlHave = `SELECT lower(hex(e.id)), e.rev, r.place & 16777215, iif(r.key IS NULL, NULL, lower(hex(r.key))), e.bytes,
 e.start_us || ' ' || (SELECT ` + same + ` FROM runs WHERE place > (e.seq << 24) AND place < ((e.seq + 1) << 24))
 FROM json_each(?) j CROSS JOIN episodes e ON e.id = unhex(j.value)
 LEFT JOIN runs r ON r.place = (SELECT max(place) FROM runs WHERE place > (e.seq << 24) AND place < ((e.seq + 1) << 24))`

// same tells runs from others with the same keys: their number and bytes, and the sum of their
// last four bytes, which are their seals, as hexadecimal numbers of JSON5.
const same = `count(*) || ' ' || sum(length(payload)) || ' ' || sum(('0x0' || hex(substr(payload, -4))) ->> '$')`

// revHere has have tell the revision that is here.
func revHere(_ *change, here engine.Value) engine.Value { return here }

// nothing is what have tells of no episodes.
const nothing = "[]"

// have tells the server what is here of the episodes that have changed, as JSON: for each
// its id, revision, the first step of its last run, that run's key, and when it began with
// what tells its runs from others. What has the same revision there is not sent: rev chooses which is told
// of an episode that has one here; nil: none. An item that the feed tells of has
// changed, even if it was an SQL shell that did it, which gives no new revision. have
// subtracts from the changes' sizes what need not be sent.
func (r *Replica) have(ctx context.Context, changes []change, rev func(c *change, here engine.Value) engine.Value) (string, error) {
	at := make(map[string]int)
	moved := make(map[string]bool) // gone from a scope: it may be here as another item
	for i, c := range changes {
		if c.kind == feed.Episode && c.gone {
			moved[hex.EncodeToString(c.item)] = true
		} else if c.kind == feed.Episode {
			at[hex.EncodeToString(c.item)] = i
		}
	}
	ids := make([]string, 0, len(at))
	for id := range at {
		if !moved[id] {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nothing, nil
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return "", err
	}
	res, err := r.cfg.Local.Query(ctx, engine.Stmt{SQL: sqlHave, Args: []engine.Value{string(list)}})
	if err != nil {
		return "", fmt.Errorf("read what the replica has: %w", err)
	}
	held := make([][5]any, 0, len(res[0].Rows))
	for _, row := range res[0].Rows {
		in := engine.Row{Values: row}
		id, bytes := in.Text(0), in.Int(4)
		if in.Err != nil {
			return "", fmt.Errorf("read what the replica has: %w", in.Err)
		}
		c := &changes[at[id]]
		held = append(held, [5]any{id, rev(c, row[1]), row[2], row[3], row[5]})
		if row[3] != nil {
			c.size = max(flatSize, c.size-bytes)
		}
	}
	text, err := json.Marshal(held)
	return string(text), err
}
