package episodic

import (
	"context"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
)

// sqlSearchHeads finds rows of heads: an episode's own, and those of its steps, which lie under
// the negated places of their runs and count half.
const sqlSearchHeads = `SELECT ` + episodeColumns + `, -bm25(heads) * iif(heads.rowid > 0, 1, 0.5)
 FROM heads JOIN episodes ON episodes.seq = iif(heads.rowid > 0, heads.rowid, -heads.rowid >> 24)
 WHERE heads MATCH ?%s ORDER BY bm25(heads) * iif(heads.rowid > 0, 1, 0.5), heads.rowid LIMIT ? OFFSET ?`

const sqlCountWaiting = `SELECT iif(of_file, (SELECT count(*) FROM episodes), waiting) FROM index_state`

// searchServer searches the heads that a server has.
func (s *Store) searchServer(ctx context.Context, q querier, r *search) (*SearchResults, error) {
	w, err := r.Filter.where()
	if err != nil {
		return nil, err
	}
	results := &SearchResults{}
	var damage damages
	defer func() { results.Damaged = damage.all() }()
	size, looked, n, fits := 0, 0, 0, true
	runs := make(map[string]int) // of a task: the place of its hit
	found := make(map[ID]bool)   // an episode ranks by the best of its rows
	for rows := r.skip + r.Limit + 1; ; {
		answer, err := q.Query(ctx, engine.Stmt{
			SQL:  fmt.Sprintf(sqlSearchHeads, w.sql),
			Args: append(append([]any{matchExpression(&r.query)}, w.args...), int64(rows), int64(looked)),
		}, engine.Stmt{SQL: sqlCountWaiting})
		if engine.KindOf(err) == engine.KindTooLarge && rows > 1 {
			rows, fits = rows/2, false // fewer fit into the server's answer
			continue
		}
		if err != nil {
			return nil, err
		}
		if results.Waiting, err = intFrom(answer[1].Rows[0][0]); err != nil {
			return nil, err
		}
		for _, row := range answer[0].Rows {
			e, bytes, err := s.episodeFrom(ctx, row)
			if err := damage.pass(err); err != nil {
				return nil, err
			}
			if e == nil || found[e.ID] {
				continue
			}
			found[e.ID] = true
			key := taskKey(e)
			if first, known := runs[key]; known && !r.EachRun {
				if first >= 0 {
					results.Hits[first].Alike = append(results.Hits[first].Alike, alikeOf(e))
				}
				continue
			}
			runs[key] = -1 // on an earlier page
			if n++; n <= r.skip {
				continue
			}
			if size += bytes; len(results.Hits) == r.Limit || size > maxHits && len(results.Hits) > 0 {
				results.Next = r.next(n - 1)
				return results, nil
			}
			in := engine.Row{Values: row}
			hit := Hit{Episode: e, Score: in.Float(len(row) - 1), Snippet: headSnippet(&r.query, e)}
			if in.Err != nil {
				return nil, fmt.Errorf("episode %v: %w", e.ID, in.Err)
			}
			runs[key] = len(results.Hits)
			results.Hits = append(results.Hits, hit)
		}
		if looked += len(answer[0].Rows); len(answer[0].Rows) < rows {
			return results, nil
		}
		if fits {
			rows *= 2 // what was found are runs of few tasks, and there may be many more
		}
	}
}

// matchExpression is a query as FTS5 has it: any of the tokens. Every token is quoted, and
// none holds a quotation mark.
func matchExpression(q *index.Query) string {
	var parts []string
	for _, t := range q.Terms {
		for i, token := range t.Tokens {
			part := `"` + serverTokens(token) + `"`
			if t.Prefix && i == len(t.Tokens)-1 {
				part += "*"
			}
			parts = append(parts, part)
		}
		if t.Phrase {
			parts = append(parts, `"`+serverTokens(strings.Join(t.Tokens, " "))+`"`)
		}
	}
	return strings.Join(parts, " OR ")
}
