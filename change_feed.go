package episodic

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/episodic-memory/episodic/internal/cache"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/feed"
)

// querier is what reading needs of an engine.
type querier interface {
	Query(context.Context, ...engine.Stmt) ([]engine.Result, error)
}

// The cache's view of the change feed.
type (
	cacheFeed   = cache.Feed[cacheKey]
	cacheChange = cache.Change[cacheKey]
)

// maxFeedChanges is the most changes that one read of the feed lists. After more
// everything counts as changed.
const maxFeedChanges = 1000

// sqlFeed returns the changes after one, that one itself if it is still the last
// of its item, and with each the number of the last change. After 0 it returns the
// last change only.
const sqlFeed = `SELECT n,kind,item,(SELECT max(n)FROM feed)FROM feed WHERE n>=iif(?1>0,?1,(SELECT max(n)FROM feed))ORDER BY n LIMIT 1001`

func feedStmt(since int64) engine.Stmt { return engine.Stmt{SQL: sqlFeed, Args: []any{since}} }

// itemOf returns the noun of the items that a kind of change is about. Changes of
// relations and embeddings change no item that is cached.
func itemOf(kind feed.Kind) (n noun, ok bool) {
	switch kind {
	case feed.Episode:
		return oneEpisode, true
	case feed.Pattern:
		return onePattern, true
	case feed.Heuristic:
		return oneHeuristic, true
	}
	return 0, false
}

// feedFrom reads the rows of sqlFeed. There are none in an empty database, and in
// one that was restored to an earlier state.
func feedFrom(rows [][]any, since int64) (f cacheFeed, err error) {
	f.All = len(rows) > maxFeedChanges
	for _, row := range rows {
		in := reader{row: row}
		n, kind, item, last := in.int(0), in.int(1), column[[]byte](&in, 2), in.int(3)
		if in.err != nil {
			return f, fmt.Errorf("change feed: %w: %w", ErrCorrupt, in.err)
		}
		f.Seq = last
		noun, cached := itemOf(feed.Kind(kind))
		if !cached || n <= since {
			continue
		}
		// An item with a malformed id cannot be read, and so is not cached.
		if id, err := idFrom(item); err == nil {
			f.Changes = append(f.Changes, cacheChange{Key: cacheKey{noun: noun, id: id}, Seq: n})
		}
	}
	return f, nil
}

// pollFeed reads the feed.
func pollFeed(ctx context.Context, q querier, since int64) (cacheFeed, error) {
	r, err := q.Query(ctx, feedStmt(since))
	if err != nil {
		return cacheFeed{}, err
	}
	return feedFrom(r[0].Rows, since)
}

// feedQuerier reads the feed together with the first query, before it and in the
// same snapshot.
type feedQuerier struct {
	querier
	since int64
	read  bool
	feed  cacheFeed
}

func (q *feedQuerier) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if q.read {
		return q.querier.Query(ctx, stmts...)
	}
	r, err := q.querier.Query(ctx, append([]engine.Stmt{feedStmt(q.since)}, stmts...)...)
	if err != nil {
		return nil, err
	}
	if q.feed, err = feedFrom(r[0].Rows, q.since); err != nil {
		return nil, err
	}
	q.read = true
	return r[1:], nil
}

// fileFeed reads the feed of a local file only if somebody has committed.
type fileFeed struct {
	file *embedded.Engine
	last atomic.Pointer[fileVersion]
}

// fileVersion is a data version of a file, and the number of the last change then.
type fileVersion struct{ version, seq int64 }

func (f *fileFeed) poll(ctx context.Context, since int64) (cacheFeed, error) {
	version, err := f.file.DataVersion(ctx)
	if err != nil {
		return cacheFeed{}, err
	}
	// The cache may not have been told yet what the last poll has read.
	if last := f.last.Load(); last != nil && *last == (fileVersion{version, since}) {
		return cacheFeed{Seq: since}, nil
	}
	read, err := pollFeed(ctx, f.file, since)
	if err == nil {
		f.last.Store(&fileVersion{version, read.Seq})
	}
	return read, err
}
