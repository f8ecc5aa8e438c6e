package outbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/turn"
)

var sqlTables = []string{
	`CREATE TABLE IF NOT EXISTS outbox(
  only INTEGER PRIMARY KEY CHECK(only = 1),
  name BLOB NOT NULL,
  server TEXT NOT NULL,
  last INTEGER NOT NULL,
  pushed INTEGER NOT NULL,
  pushed_rev INTEGER NOT NULL
) STRICT`,
	`CREATE TABLE IF NOT EXISTS ops(
  n INTEGER PRIMARY KEY,
  item BLOB NOT NULL,
  kind INTEGER NOT NULL,
  rev INTEGER NOT NULL UNIQUE,
  at_us INTEGER NOT NULL,
  body BLOB NOT NULL,
  failed TEXT
) STRICT`,
	`CREATE INDEX IF NOT EXISTS ops_failed ON ops(item, n) WHERE failed IS NOT NULL`,
	// adopted are operations that others push than who has added them, by revision.
	`CREATE TABLE IF NOT EXISTS adopted(
  rev INTEGER PRIMARY KEY
) STRICT`,
}

const (
	sqlMake   = `INSERT INTO outbox VALUES(1, ?, ?, 0, 0, 0) ON CONFLICT DO NOTHING`
	sqlServer = `SELECT server FROM outbox`

	sqlCount = `UPDATE outbox SET last = last + 1`
	sqlAdd   = `INSERT INTO ops(n, item, kind, rev, at_us, body) SELECT last, ?, ?, ?, ?, ? FROM outbox RETURNING n`
	sqlTake  = `DELETE FROM ops WHERE rev = ? AND rev NOT IN (SELECT rev FROM adopted)`

	sqlAdopt     = `INSERT INTO adopted SELECT rev FROM ops WHERE rev IN (SELECT value FROM json_each(?)) ON CONFLICT DO NOTHING`
	sqlAdoptions = `DELETE FROM adopted WHERE rev NOT IN (SELECT rev FROM ops)`

	// An operation waits for those of its item that have failed.
	notHeld    = ` failed IS NULL AND NOT EXISTS (SELECT 1 FROM ops f WHERE f.item = ops.item AND f.n < ops.n AND f.failed IS NOT NULL)`
	columns    = `SELECT n, item, kind, rev, at_us, body, failed FROM ops`
	sqlWaiting = columns + ` WHERE` + notHeld + ` ORDER BY n LIMIT ?`
	sqlAll     = columns + ` WHERE n > ? ORDER BY n LIMIT ?`
	sqlRefused = `SELECT count(*) FROM ops WHERE item = ? AND failed IS NOT NULL`
	sqlOne     = `SELECT rev FROM ops WHERE n = ?`

	sqlPosition = `SELECT name, last, pushed, pushed_rev FROM outbox`
	isAt        = ` FROM outbox WHERE name = ? AND pushed = ? AND pushed_rev = ?`
	sqlMoved    = `UPDATE outbox SET pushed = ?, pushed_rev = ? WHERE EXISTS (SELECT 1` + isAt + `)`
	sqlDone     = `DELETE FROM ops WHERE n <= ? AND EXISTS (SELECT 1` + isAt + `) AND` + notHeld
	sqlFailed   = `UPDATE ops SET failed = ? WHERE n = ?`
	sqlRename   = `UPDATE outbox SET name = ?, pushed = 0, pushed_rev = 0 WHERE EXISTS (SELECT 1` + isAt + `)`

	// What has failed, and what waits for it, is put behind everything else, in the same order.
	sqlAgain = `UPDATE ops SET failed = NULL, n = n + (SELECT last FROM outbox)
 WHERE item IN (SELECT item FROM ops WHERE failed IS NOT NULL) AND n >= (SELECT min(n) FROM ops f WHERE f.item = ops.item AND f.failed IS NOT NULL)`
	sqlAgainCounted = `UPDATE outbox SET last = max(last, (SELECT ifnull(max(n), 0) FROM ops))`

	// What waits for one that is given up is put behind everything else too: the server may
	// stand behind it.
	sqlFree   = `UPDATE ops SET n = n + (SELECT last FROM outbox) WHERE n > ?1 AND item = (SELECT item FROM ops WHERE n = ?1 AND failed IS NOT NULL)`
	sqlDrop   = `DELETE FROM ops WHERE n = ? AND failed IS NOT NULL`
	sqlCounts = `SELECT count(*), ifnull(sum(length(body)), 0), ifnull(min(at_us), 0), count(failed), (SELECT count(*) FROM ops WHERE n <= ? AND` + notHeld + `) FROM ops`
	sqlRevs   = `SELECT rev FROM ops WHERE rev IN (SELECT value FROM json_each(?))`
)

// Op is an operation.
type Op struct {
	N    int64 // its place, from 1; Add chooses it
	Item [16]byte
	Kind int64 // what it is, for who carries it out
	Rev  int64 // names it, at random
	At   time.Time
	Body []byte
	// Failed says why the server has refused it; empty if it has not. It and later ones of
	// its item are held back then.
	Failed string
}

// Position is how far the server has got, as far as is known here.
type Position struct {
	Name []byte // of the outbox
	Last int64  // number of the last operation that was ever added
	N    int64  // of the last operation that the server has carried out; 0: none
	Rev  int64  // of that one
}

// Outbox is an outbox in a file. Any number of processes may have it open. Its methods may be called
// concurrently, but for Lock and Unlock.
type Outbox struct {
	file engine.Engine
	lock *turn.Lock
}

// New returns the outbox in a file, which it makes if there is none. server names whom it is
// for; a file that is another server's is refused. The lock file is in dir, or, if that is
// empty, where those of this user are.
func New(ctx context.Context, file engine.Engine, server, dir, path string) (*Outbox, error) {
	var stmts []engine.Stmt
	for _, sql := range sqlTables {
		stmts = append(stmts, engine.Stmt{SQL: sql})
	}
	stmts = append(stmts, engine.Stmt{SQL: sqlMake, Args: []engine.Value{newName(), server}})
	if _, err := file.Repeatable(ctx, stmts...); err != nil {
		return nil, fmt.Errorf("make the outbox: %w", err)
	}
	r, err := file.Query(ctx, engine.Stmt{SQL: sqlServer})
	if err != nil {
		return nil, err
	}
	if rows := r[0].Rows; len(rows) != 1 || rows[0][0] != server {
		return nil, errors.New("the outbox holds writes for another server; move the file away")
	}
	return &Outbox{file: file, lock: turn.NewLock(dir, path+" push")}, nil
}

// newName returns a name that no other outbox has.
func newName() []byte {
	name := make([]byte, 16)
	_, _ = rand.Read(name) // never fails
	return name
}

// Close frees the lock. The file is its owner's.
func (o *Outbox) Close() { o.lock.Close() }

// Lock waits until no other process pushes. If the lock cannot be had, two may push at
// once, of which the server refuses one.
func (o *Outbox) Lock(ctx context.Context) error {
	if err := o.lock.Acquire(ctx, 1); err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}

// Unlock lets another process push.
func (o *Outbox) Unlock() { o.lock.Release() }

// Add adds an operation behind all others. It is on the disk when Add returns.
func (o *Outbox) Add(ctx context.Context, op *Op) error {
	r, err := o.file.Batch(ctx, engine.Stmt{SQL: sqlCount},
		engine.Stmt{SQL: sqlAdd, Args: []engine.Value{op.Item[:], op.Kind, op.Rev, op.At.UnixMicro(), op.Body}})
	if err != nil {
		return fmt.Errorf("add to the outbox: %w", err)
	}
	n, ok := r[1].Rows[0][0].(int64)
	if !ok {
		return errors.New("the outbox gave no number")
	}
	op.N = n
	return nil
}

// Adopt says that operations will be pushed though who has added them may still be at work: they
// can be taken back no more. It returns the revisions of those that were not taken back before.
func (o *Outbox) Adopt(ctx context.Context, revs []int64) (map[int64]bool, error) {
	list, err := json.Marshal(revs)
	if err != nil {
		return nil, err
	}
	_, err = o.file.Batch(ctx, engine.Stmt{SQL: sqlAdoptions}, engine.Stmt{SQL: sqlAdopt, Args: []engine.Value{string(list)}})
	if err != nil {
		return nil, fmt.Errorf("adopt writes: %w", err)
	}
	return o.Has(ctx, revs)
}

// Take takes an operation back, and reports false if it is not there any more, or was adopted.
func (o *Outbox) Take(ctx context.Context, rev int64) (bool, error) {
	r, err := o.file.Batch(ctx, engine.Stmt{SQL: sqlTake, Args: []engine.Value{rev}})
	if err != nil {
		return false, fmt.Errorf("take back from the outbox: %w", err)
	}
	return r[0].Affected == 1, nil
}

// Waiting returns the first operations, in order, that have not failed and wait for none
// that has.
func (o *Outbox) Waiting(ctx context.Context, limit int) ([]Op, error) {
	return o.ops(ctx, engine.Stmt{SQL: sqlWaiting, Args: []engine.Value{int64(limit)}})
}

// After returns operations behind a number, in order.
func (o *Outbox) After(ctx context.Context, n int64, limit int) ([]Op, error) {
	return o.ops(ctx, engine.Stmt{SQL: sqlAll, Args: []engine.Value{n, int64(limit)}})
}

func (o *Outbox) ops(ctx context.Context, st engine.Stmt) ([]Op, error) {
	r, err := o.file.Query(ctx, st)
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	list := make([]Op, len(r[0].Rows))
	for i, row := range r[0].Rows {
		in := engine.Row{Values: row}
		op := Op{N: in.Int(0), Kind: in.Int(2), Rev: in.Int(3), At: time.UnixMicro(in.Int(4)).UTC(), Body: in.Blob(5)}
		copy(op.Item[:], in.Blob(1))
		if row[6] != nil {
			op.Failed = in.Text(6)
		}
		if in.Err != nil {
			return nil, fmt.Errorf("read the outbox: operation %v: %w", row[0], in.Err)
		}
		list[i] = op
	}
	return list, nil
}

// Position returns how far the server has got.
func (o *Outbox) Position(ctx context.Context) (Position, error) {
	r, err := o.file.Query(ctx, engine.Stmt{SQL: sqlPosition})
	if err != nil {
		return Position{}, fmt.Errorf("read the outbox: %w", err)
	}
	in := engine.Row{Values: r[0].Rows[0]}
	p := Position{Name: in.Blob(0), Last: in.Int(1), N: in.Int(2), Rev: in.Int(3)}
	if in.Err != nil {
		return p, fmt.Errorf("read the outbox: %w", in.Err)
	}
	return p, nil
}

// Stands notes where the server stands, at operation n, which made the revision, if nobody has
// noted anything since p was read: it has carried out all operations up to that one but those
// that are held back, and they are deleted. If this outbox knows another operation as n, it was
// copied, and the copy has pushed: then it takes a new name, under which the server knows nothing
// of it.
func (o *Outbox) Stands(ctx context.Context, p Position, n, rev int64) error {
	same := n == p.N && rev == p.Rev || n < p.N // less: the server's database is an older copy
	if n > p.N {
		r, err := o.file.Query(ctx, engine.Stmt{SQL: sqlOne, Args: []engine.Value{n}})
		if err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
		same = len(r[0].Rows) == 1 && r[0].Rows[0][0] == rev
	}
	stmts := []engine.Stmt{{SQL: sqlRename, Args: []engine.Value{newName(), p.Name, p.N, p.Rev}}}
	if same {
		stmts = nil
		if n > p.N {
			stmts = append(stmts, engine.Stmt{SQL: sqlDone, Args: []engine.Value{n, p.Name, p.N, p.Rev}})
		}
		stmts = append(stmts, engine.Stmt{SQL: sqlMoved, Args: []engine.Value{n, rev, p.Name, p.N, p.Rev}})
	}
	if _, err := o.file.Repeatable(ctx, stmts...); err != nil {
		return fmt.Errorf("note what was pushed: %w", err)
	}
	return nil
}

// Fail notes that the server has refused an operation.
func (o *Outbox) Fail(ctx context.Context, n int64, reason string) error {
	if _, err := o.file.Repeatable(ctx, engine.Stmt{SQL: sqlFailed, Args: []engine.Value{reason, n}}); err != nil {
		return fmt.Errorf("note what was refused: %w", err)
	}
	return nil
}

// Refused reports whether the server has refused an operation of an item that is still here.
func (o *Outbox) Refused(ctx context.Context, item [16]byte) (bool, error) {
	r, err := o.file.Query(ctx, engine.Stmt{SQL: sqlRefused, Args: []engine.Value{item[:]}})
	if err != nil {
		return false, fmt.Errorf("read the outbox: %w", err)
	}
	return r[0].Rows[0][0] != int64(0), nil
}

// Again has the operations that have failed, and those that wait for them, tried again,
// behind all others.
func (o *Outbox) Again(ctx context.Context) error {
	if _, err := o.file.Batch(ctx, engine.Stmt{SQL: sqlAgain}, engine.Stmt{SQL: sqlAgainCounted}); err != nil {
		return fmt.Errorf("have writes pushed again: %w", err)
	}
	return nil
}

// Drop gives up an operation that has failed, and lets those go on that wait for it. It
// reports false if there is none with the number.
func (o *Outbox) Drop(ctx context.Context, n int64) (bool, error) {
	r, err := o.file.Batch(ctx, engine.Stmt{SQL: sqlFree, Args: []engine.Value{n}}, engine.Stmt{SQL: sqlDrop, Args: []engine.Value{n}}, engine.Stmt{SQL: sqlAgainCounted})
	if err != nil {
		return false, fmt.Errorf("give up a write: %w", err)
	}
	return r[1].Affected == 1, nil
}

// One returns the operation with a number. found is false if there is none.
func (o *Outbox) One(ctx context.Context, n int64) (op Op, found bool, err error) {
	ops, err := o.After(ctx, n-1, 1)
	if err != nil || len(ops) == 0 || ops[0].N != n {
		return Op{}, false, err
	}
	return ops[0], true, nil
}

// Counts is what is in an outbox.
type Counts struct {
	Ops, Bytes int64 // bytes of the bodies
	Oldest     time.Time
	Failed     int64
	Ahead      int64 // operations up to the number asked for that are not held back
}

// Counts returns what is in the outbox, and how much of it lies before a number.
func (o *Outbox) Counts(ctx context.Context, upto int64) (Counts, error) {
	r, err := o.file.Query(ctx, engine.Stmt{SQL: sqlCounts, Args: []engine.Value{upto}})
	if err != nil {
		return Counts{}, fmt.Errorf("read the outbox: %w", err)
	}
	in := engine.Row{Values: r[0].Rows[0]}
	c := Counts{Ops: in.Int(0), Bytes: in.Int(1), Failed: in.Int(3), Ahead: in.Int(4)}
	if us := in.Int(2); c.Ops > 0 {
		c.Oldest = time.UnixMicro(us).UTC()
	}
	return c, in.Err
}

// Has returns those of some revisions whose operations are in the outbox.
func (o *Outbox) Has(ctx context.Context, revs []int64) (map[int64]bool, error) {
	list, err := json.Marshal(revs)
	if err != nil {
		return nil, err
	}
	r, err := o.file.Query(ctx, engine.Stmt{SQL: sqlRevs, Args: []engine.Value{string(list)}})
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	has := make(map[int64]bool)
	for _, row := range r[0].Rows {
		rev, _ := row[0].(int64)
		has[rev] = true
	}
	return has, nil
}
