package episodic

import (
	"context"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Counts is how much a database holds.
type Counts struct {
	Episodes   int64 `json:"episodes"`
	Steps      int64 `json:"steps"`
	Patterns   int64 `json:"patterns"`
	Heuristics int64 `json:"heuristics"`
	Embeddings int64 `json:"embeddings"`
	Relations  int64 `json:"relations"`
	Tags       int64 `json:"tags"` // different ones
}

// Counts counts what the database holds, all at one moment.
func (s *Store) Counts(ctx context.Context) (Counts, error) {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: `SELECT (SELECT count(*) FROM episodes), (SELECT coalesce(sum(steps), 0) FROM episodes),
 (SELECT count(*) FROM patterns), (SELECT count(*) FROM heuristics), (SELECT count(*) FROM embeddings),
 (SELECT count(*) FROM relations), (SELECT count(DISTINCT tag) FROM tags)`})
	if err != nil {
		return Counts{}, failed(err, "count")
	}
	in := reader{row: r[0].Rows[0]}
	c := Counts{
		Episodes: in.int(0), Steps: in.int(1), Patterns: in.int(2), Heuristics: in.int(3),
		Embeddings: in.int(4), Relations: in.int(5), Tags: in.int(6),
	}
	if in.err != nil {
		return Counts{}, fmt.Errorf("count: %w", in.err)
	}
	return c, nil
}

// Stats is what a Store has done since it was opened. Every number only grows.
type Stats struct {
	// Reads and Writes are calls to the database that succeeded; Commits is how
	// many transactions carried the writes, so Writes/Commits is how many
	// concurrent writes shared one on average.
	Reads   uint64 `json:"reads"`
	Writes  uint64 `json:"writes"`
	Commits uint64 `json:"commits"`
	// Retries are transactions begun again because another process was writing,
	// and requests sent again because they or their answers were lost.
	Retries uint64 `json:"retries"`
	// Requests are HTTP requests sent to the database, pings not among them; 0 for
	// a local file.
	Requests uint64 `json:"requests"`
	// Server is what happened on the way to a libSQL server; nil for a local file.
	Server *ServerStats `json:"server,omitempty"`
}

// Stats returns what the Store has done since it was opened.
func (s *Store) Stats() Stats {
	e := s.engine.Stats()
	stats := Stats{Reads: e.Queries, Writes: e.Batches, Commits: e.Commits, Retries: e.Retries, Requests: e.Requests}
	if s.server != nil {
		stats.Server = newServerStats(s.server.ServerStats())
	}
	return stats
}
