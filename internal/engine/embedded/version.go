package embedded

import (
	"context"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// version asks a connection of its own whether the file has changed: SQLite does
// not count a connection's own commits for it. It is used by one goroutine at a
// time. It does without database/sql, which would cost half as much again.
type version struct {
	conn driver.Conn // nil: to be opened
	stmt driver.Stmt
	row  [1]driver.Value

	last     int64  // answer of a conn
	number   int64  // of the changes seen; each new conn is one
	answered uint64 // which question number stems from, as counted by Engine.asked
}

// DataVersion returns a number that is higher than all before if any connection
// of any process has committed to the file between an earlier call's end and
// this one's beginning. It may grow without a commit, and never becomes less. It
// says nothing about the numbers of another Engine.
//
// A file that stays locked for 5 s is KindBusy. After any other error of the
// database the next call goes on with a new connection and a higher number.
func (e *Engine) DataVersion(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	before := e.asked.Load()
	giveUp := time.Now().Add(busyTimeout)
	select {
	case v := <-e.version:
		defer func() { e.version <- v }()
		if v.answered > before {
			return v.number, nil // the question was asked while this call waited
		}
		for {
			asked := e.asked.Add(1)
			err := v.ask(ctx, e.cfg.Path)
			if err == nil {
				v.answered = asked
				return v.number, nil
			}
			if engine.KindOf(err) != engine.KindBusy || time.Now().After(giveUp) {
				return 0, err
			}
			select {
			case <-time.After(time.Duration(1+rand.IntN(20)) * time.Millisecond):
			case <-e.life.Done():
				return 0, engine.ErrClosed
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	case <-e.life.Done():
		return 0, engine.ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// ask brings number up to date, or closes the connection if it fails for another
// reason than a lock.
func (v *version) ask(ctx context.Context, path string) error {
	err := v.open(ctx, path)
	if err == nil {
		err = v.read()
	}
	if err != nil && engine.KindOf(classify(err, -1)) != engine.KindBusy {
		err = errors.Join(err, v.close())
	}
	return classify(err, -1)
}

func (v *version) open(ctx context.Context, path string) error {
	if v.conn != nil {
		return nil
	}
	connector, err := newConnector(path, "query_only(1)", "busy_timeout(0)")
	if err != nil {
		return err
	}
	conn, err := connector.Connect(ctx)
	if err != nil {
		return err
	}
	stmt, err := conn.Prepare("PRAGMA data_version")
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	v.conn, v.stmt = conn, stmt
	v.number++
	return nil
}

func (v *version) read() error {
	// The driver starts a goroutine for a context that can end. Without a busy
	// timeout there is nothing to wait for.
	rows, err := v.stmt.(driver.StmtQueryContext).QueryContext(context.Background(), nil)
	if err != nil {
		return err
	}
	if err := errors.Join(rows.Next(v.row[:]), rows.Close()); err != nil {
		return err
	}
	if got := v.row[0].(int64); got != v.last {
		v.last = got
		v.number++
	}
	return nil
}

func (v *version) close() error {
	if v.conn == nil {
		return nil
	}
	err := errors.Join(v.stmt.Close(), v.conn.Close())
	v.conn, v.stmt = nil, nil
	return err
}
