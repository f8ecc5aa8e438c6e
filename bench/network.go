package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/tursodatabase/libsql-client-go/libsql"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/hrana"
)

// client is a way of asking a server for one value.
type client struct {
	ask   func(ctx context.Context, sql string, args ...any) (any, error)
	close func() error
}

func openOurs(cfg remote.Config) (client, error) {
	e, err := remote.Open(cfg)
	if err != nil {
		return client{}, err
	}
	ask := func(ctx context.Context, sql string, args ...any) (any, error) {
		r, err := e.Query(ctx, engine.Stmt{SQL: sql, Args: args})
		if err != nil {
			return nil, err
		}
		return only(r[0].Rows)
	}
	return client{ask, e.Close}, nil
}

// openNetHTTP returns a client that sends the requests of ours over net/http,
// over a connection each or over kept ones. Each opens a stream and closes it.
func openNetHTTP(url string, kept bool) (client, error) {
	c, err := hrana.NewClient(url, nil)
	if err != nil {
		return client{}, err
	}
	transport := &http.Transport{DisableKeepAlives: !kept, DisableCompression: true}
	ask := func(ctx context.Context, sql string, args ...any) (any, error) {
		answer, err := c.Do(ctx, transport, hrana.Pipeline{Requests: []hrana.Request{
			hrana.Execute{Stmt: hrana.Stmt{SQL: sql, Args: args}}, hrana.Close{},
		}})
		if err != nil {
			return nil, err
		}
		if err := answer.Results[0].Err; err != nil {
			return nil, err
		}
		return only(answer.Results[0].Stmt.Rows)
	}
	return client{ask, func() error { transport.CloseIdleConnections(); return nil }}, nil
}

// openOfficial returns libsql-client-go as database/sql uses it, with a kept
// database/sql connection for each caller, so that none waits for another.
func openOfficial(url string, callers int) (client, error) {
	connector, err := libsql.NewConnector(url)
	if err != nil {
		return client{}, err
	}
	// The driver sends with it, whatever the database. What an earlier client left
	// behind cannot be closed at its end: it still closes its streams then.
	http.DefaultClient.CloseIdleConnections()
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(callers)
	db.SetMaxIdleConns(callers)
	ask := func(ctx context.Context, sql string, args ...any) (v any, err error) {
		err = db.QueryRowContext(ctx, sql, args...).Scan(&v)
		return v, err
	}
	return client{ask, db.Close}, nil
}

func only(rows [][]any) (any, error) {
	if len(rows) != 1 || len(rows[0]) != 1 {
		return nil, fmt.Errorf("%d rows for a query of one value", len(rows))
	}
	return rows[0][0], nil
}

func closeAll(clients []client) (err error) {
	for _, c := range clients {
		err = errors.Join(err, c.close())
	}
	return err
}

// cpuTime is what this process has used of the CPUs so far, its children not
// included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no way to fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
