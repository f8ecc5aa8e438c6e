package embedded

import (
	"context"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// version polls PRAGMA data_version over a connection of its own, because the value
// does not reflect a connection's own commits. It is used by one goroutine at a
// time. It bypasses database/sql, which would make a poll half as expensive again.
type version struct {
	conn driver.Conn // nil: to be opened
	stmt driver.Stmt
	row  [1]driver.Value

	last   int64  // data_version as conn saw it last
	number int64  // of the changes seen; each new conn counts as one
	poll   uint64 // the poll that number is from, as counted by Engine.polls
}

// DataVersion returns a number that is greater than every earlier one if any
// connection of any process has committed to the file between the end of an earlier
// call and the start of this one. It never decreases, but may grow without a commit.
// Numbers of different Engines cannot be compared.
//
// A file that stays locked for 5 s is KindBusy. After any other error of the
// database the next call goes on with a new connection and a higher number.
func (e *Engine) DataVersion(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if _, err := e.glance(ctx); err != nil {
		return 0, err
	}
	before := e.polls.Load()
	giveUp := time.Now().Add(busyTimeout)
	select {
	case v := <-e.version:
		defer func() { e.version <- v }()
		if v.poll > before {
			return v.number, nil // polled while this call waited
		}
		for {
			poll := e.polls.Add(1)
			err := v.refresh(ctx, e.cfg.Path, e.access)
			if err == nil {
				v.poll = poll
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

// refresh updates number. It closes the connection on any error but a lock.
func (v *version) refresh(ctx context.Context, path string, a access) error {
	err := v.open(ctx, path, a)
	if err == nil {
		err = v.read()
	}
	if err != nil && engine.KindOf(classify(err, -1)) != engine.KindBusy {
		err = errors.Join(err, v.close())
	}
	return classify(err, -1)
}

func (v *version) open(ctx context.Context, path string, a access) error {
	if v.conn != nil {
		return nil
	}
	connector, err := newConnector(path, a, "query_only(1)", "busy_timeout(0)")
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
