package episodic

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
)

// SearchOptions narrows a search. Nil and the zero value search everything.
type SearchOptions struct {
	// Filter chooses the episodes searched.
	Filter EpisodeFilter
	// Limit is the most hits, from 1 to 1,000; 0 means 10. There are fewer where
	// episodes are very large: all hits together hold at most 64 MiB, or one episode.
	Limit int
}

// maxHits bounds the payloads of all hits of a search, decoded, in bytes.
const maxHits = 64 << 20

const defaultHits = 10

// Hit is an episode found by a search.
type Hit struct {
	Episode *Episode `json:"episode"` // without its steps; StepCount is set
	// Score says how well the episode fits, compared with the other hits of the
	// same search; higher is better. It is the negated BM25 of SQLite's FTS5.
	Score float64 `json:"score"`
	// Snippet is the part of the task, tags, steps or outcome that fits best.
	Snippet string `json:"snippet"`
}

// Search returns the episodes that fit the query best, the best first. The query
// is plain words in any language; nothing in it acts as an operator. An episode
// is found if its task, tags, tools and actions, or outcome hold at least one of
// the words (English words in any inflection), and ranks higher the more of them
// and the rarer they are. A query without a word finds nothing. Errors: ErrInvalid.
func (s *Store) Search(ctx context.Context, query string, opts *SearchOptions) (_ []Hit, err error) {
	ctx, end := s.trace(ctx, "Search")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return nil, failed(err, "search")
	}
	r := &searchRequest{Match: matchQuery(query), SearchOptions: *orZero(opts)}
	if r.Limit < 0 || r.Limit > maxLimit {
		return nil, failed(invalid("limit", "is %d; it must lie between 1 and %d, or be 0 for %d", r.Limit, maxLimit, defaultHits), "search")
	}
	r.Limit = cmp.Or(r.Limit, defaultHits)
	if r.Filter.Scope, err = r.Filter.Scope.within(s.scope); err != nil {
		return nil, failed(err, "search")
	}
	if _, err := r.Filter.where(); err != nil {
		return nil, failed(err, "search")
	}
	if r.Match == "" {
		return nil, nil
	}
	hits, err := cachedRequest(ctx, s, hitList, r, loader[[]Hit]{
		read:  func(ctx context.Context, q querier) ([]Hit, error) { return s.search(ctx, q, r) },
		clone: func(hits []Hit) []Hit { return cloneAll(hits, Hit.clone) },
		size:  func(hits []Hit) int { return interfaceSlice + sliceSize(hits) + sizeOfAll(hits, Hit.size) },
	})
	return hits, failed(err, "search")
}

// searchRequest is a search that has been checked.
type searchRequest struct {
	Match string // an FTS5 query
	SearchOptions
}

// sqlSearch finds rows of search: an episode's own, and those of its appends, which lie
// under the negated places of their runs.
const sqlSearch = `SELECT ` + episodeColumns + `, search.rank, snippet(search, -1, '', '', '…', 24)
 FROM search JOIN episodes ON episodes.seq = iif(search.rowid > 0, search.rowid, -search.rowid >> 24)
 WHERE search MATCH ?%s ORDER BY search.rank LIMIT ? OFFSET ?`

func (s *Store) search(ctx context.Context, q querier, request *searchRequest) ([]Hit, error) {
	w, err := request.Filter.where()
	if err != nil {
		return nil, err
	}
	limit, size, looked := request.Limit, 0, 0
	var hits []Hit
	found := make(map[ID]bool) // an episode ranks by the best of its rows
	for rows := limit; len(hits) < limit; {
		r, err := q.Query(ctx, engine.Stmt{
			SQL:  fmt.Sprintf(sqlSearch, w.sql),
			Args: append(append([]any{request.Match}, w.args...), int64(rows), int64(looked)),
		})
		if engine.KindOf(err) == engine.KindTooLarge && rows > 1 {
			rows /= 2 // fewer fit into the server's answer
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, row := range r[0].Rows {
			hit, n, err := s.hitFrom(ctx, row)
			if err != nil {
				return nil, err
			}
			if found[hit.Episode.ID] {
				continue
			}
			if size += n; size > maxHits && len(hits) > 0 {
				return hits, nil
			}
			if hits = append(hits, hit); len(hits) == limit {
				break
			}
			found[hit.Episode.ID] = true
		}
		if looked += len(r[0].Rows); len(r[0].Rows) < rows {
			break
		}
	}
	return hits, nil
}

func (s *Store) hitFrom(ctx context.Context, row []any) (hit Hit, size int, err error) {
	e, size, err := s.episodeFrom(ctx, row)
	if err != nil {
		return Hit{}, 0, err
	}
	n := len(row) - 2
	in := engine.Row{Values: row}
	hit = Hit{Episode: e, Score: -in.Float(n), Snippet: oneLine(in.Text(n + 1))}
	if in.Err != nil {
		return Hit{}, 0, fmt.Errorf("episode %v: %w", e.ID, in.Err)
	}
	return hit, size, nil
}

func oneLine(snippet string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(snippet, mark, "")), " ")
}
