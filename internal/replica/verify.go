package replica

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// Difference is an item that is not here as it is on the server.
type Difference struct {
	Kind feed.Kind // Relations and Embeddings: those of the item
	Item [16]byte
	// Here and There describe it, such as "revision 7, 3 steps"; empty: it is not there.
	Here, There string
}

// verifyTries is how often Verify pulls until the server has nothing that is not here.
const verifyTries = 1000

// Verify pulls what is missing, compares all that is here with the server, and returns what
// differs, in order. Revisions, numbers of steps, and which items, relations and embeddings
// there are, are compared by hashes of ranges; if deep, also the checksum of each payload,
// which costs about 40 bytes a payload, and 100 an item, whose tags and fields are compared too.
// Nothing else is pulled meanwhile. What changes on the server meanwhile is not compared. To mend
// what differs, Fetch the items.
//
// Errors: those of the server and of the file; that of ctx.
func (r *Replica) Verify(ctx context.Context, deep bool) ([]Difference, error) {
	ctx, release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	for try, again := 0, true; again; try++ {
		s, err := r.pullOne(ctx)
		if err == nil {
			err = r.stepped(s, 0)
		}
		if err != nil {
			return nil, err
		}
		if again = s.again; again && try == verifyTries {
			return nil, fmt.Errorf("verify: the server changes faster than the replica is pulled: %w", errMoved)
		}
	}
	p, err := readPosition(ctx, r.cfg.Local)
	if err != nil {
		return nil, err
	}
	var found []Difference
	for i := range tables {
		more, err := r.compare(ctx, tables[i].within(p.since), deep)
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		found = append(found, more...)
	}
	if found, err = r.unchanged(ctx, found, p.upto); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	sortDifferences(found)
	return joined(found), nil
}

func sortDifferences(list []Difference) {
	slices.SortFunc(list, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), slices.Compare(a.Item[:], b.Item[:]), cmp.Compare(a.Here, b.Here))
	})
}

// joined has one difference for each kind and item, of those in order.
func joined(found []Difference) []Difference {
	var list []Difference
	for _, d := range found {
		last := len(list) - 1
		if last < 0 || list[last].Kind != d.Kind || list[last].Item != d.Item {
			list = append(list, d)
			continue
		}
		list[last].Here = join(list[last].Here, d.Here)
		list[last].There = join(list[last].There, d.There)
	}
	return list
}

func join(texts ...string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return s == "" }), "; ")
}

// sqlLater is which of some items have changed after a number.
const sqlLater = `SELECT lower(hex(f.item)) FROM feed f WHERE f.item IN (SELECT unhex(value) FROM json_each(?)) AND f.n > ?`

// unchanged leaves out items that have changed on the server since the replica's position.
func (r *Replica) unchanged(ctx context.Context, found []Difference, upto int64) ([]Difference, error) {
	if len(found) == 0 {
		return nil, nil
	}
	items := make([]string, len(found))
	for i := range found {
		items[i] = hex.EncodeToString(found[i].Item[:])
	}
	list, err := json.Marshal(items)
	if err != nil {
		return nil, err
	}
	res, err := r.cfg.Server.Query(ctx, engine.Stmt{SQL: sqlLater, Args: []engine.Value{string(list), upto}})
	if err != nil {
		return nil, err
	}
	later := make(map[string]bool)
	for _, row := range res[0].Rows {
		in := engine.Row{Values: row}
		later[in.Text(0)] = true
	}
	return slices.DeleteFunc(found, func(d Difference) bool { return later[hex.EncodeToString(d.Item[:])] }), nil
}

// compare returns how the rows of a table differ.
func (r *Replica) compare(ctx context.Context, t compared, deep bool) (found []Difference, err error) {
	if deep && t.deep != "" {
		return r.compareRange(ctx, &t, t.deep, 0, 255)
	}
	if t.sums == "" {
		return nil, nil
	}
	here, err := r.sums(ctx, r.cfg.Local, &t)
	if err != nil {
		return nil, err
	}
	there, err := r.sums(ctx, r.cfg.Server, &t)
	if err != nil {
		return nil, err
	}
	for b := range here {
		if here[b] != there[b] {
			more, err := r.compareRange(ctx, &t, t.rows, b, b)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
	}
	return found, nil
}

// sums returns a hash of the rows for each last byte of an id.
func (r *Replica) sums(ctx context.Context, e engine.Engine, t *compared) (sums [256]string, err error) {
	cond, args := r.scope(t.scope)
	res, err := e.Query(ctx, engine.Stmt{SQL: fmt.Sprintf(t.sums, t.since+cond), Args: args})
	if err != nil {
		return sums, err
	}
	for _, row := range res[0].Rows {
		if b, ok := row[0].([]byte); ok && len(b) == 1 {
			sums[b[0]] = fmt.Sprint(row[1:]...)
		}
	}
	return sums, nil
}

// compareRange compares the rows whose ids end in a byte from first to last.
func (r *Replica) compareRange(ctx context.Context, t *compared, sql string, first, last int) ([]Difference, error) {
	here, err := r.all(ctx, r.cfg.Local, t, sql, first, last)
	if err != nil {
		return nil, err
	}
	there, err := r.all(ctx, r.cfg.Server, t, sql, first, last)
	if err != nil {
		return nil, err
	}
	var found []Difference
	for id, texts := range here {
		if !slices.Equal(texts, there[id]) {
			found = append(found, Difference{t.kind, id, join(texts...), join(there[id]...)})
		}
	}
	for id, texts := range there {
		if here[id] == nil {
			found = append(found, Difference{t.kind, id, "", join(texts...)})
		}
	}
	return found, nil
}

// all returns what is compared of the rows of each item, in an order that is the same on both
// sides.
func (r *Replica) all(ctx context.Context, e engine.Engine, t *compared, sql string, first, last int) (map[[16]byte][]string, error) {
	d := &described{make(map[[16]byte][]string), make(map[[16]byte]*stepRun)}
	if err := r.describe(ctx, e, t, sql, first, last, d); err != nil {
		return nil, err
	}
	return d.finish(), nil
}

// describe reads rows: those of a part of the range after another where they are too large for
// an answer, and in the end pages.
func (r *Replica) describe(ctx context.Context, e engine.Engine, t *compared, sql string, first, last int, d *described) error {
	cond, args := r.scope(t.scope)
	st := engine.Stmt{SQL: fmt.Sprintf(sql, t.since+cond), Args: append(args, []byte{byte(first)}, []byte{byte(last)})}
	res, err := e.Query(ctx, st)
	if err == nil {
		return d.add(res[0].Rows)
	}
	if engine.KindOf(err) != engine.KindTooLarge {
		return err
	}
	if first < last {
		middle := (first + last) / 2
		if err := r.describe(ctx, e, t, sql, first, middle, d); err != nil {
			return err
		}
		return r.describe(ctx, e, t, sql, middle+1, last, d)
	}
	return inPages(ctx, e, st, d.add)
}

// described is what is compared of the rows of each item.
type described struct {
	items map[[16]byte][]string
	runs  map[[16]byte]*stepRun // to which the next rows may belong
}

func (d *described) add(rows [][]engine.Value) error {
	for _, row := range rows {
		id, ok := idOf(row[0])
		if !ok {
			continue
		}
		in := engine.Row{Values: row}
		switch len(row) {
		case 2:
			d.items[id] = append(d.items[id], in.Text(1))
		case 3:
			d.items[id] = append(d.items[id], in.Text(1)+", "+contentOf(in.Blob(2)).String())
		case 5:
			d.items[id] = append(d.items[id], fmt.Sprintf("%s, %v, fields %08x", in.Text(1), contentOf(in.Blob(2)), crc32.Checksum(fmt.Append(nil, row[3], row[4]), castagnoli)))
		default:
			run := stepRun{in.Int(1), in.Int(2), contentOf(in.Blob(3))}
			if before := d.runs[id]; before == nil || !before.join(run) {
				if before != nil {
					d.items[id] = append(d.items[id], before.String())
				}
				d.runs[id] = &run
			}
		}
		if in.Err != nil {
			return fmt.Errorf("item %x: %w", id, in.Err)
		}
	}
	return nil
}

// finish returns the texts of each item, in order.
func (d *described) finish() map[[16]byte][]string {
	for id, run := range d.runs {
		d.items[id] = append(d.items[id], run.String())
	}
	for _, texts := range d.items {
		slices.Sort(texts)
	}
	return d.items
}
