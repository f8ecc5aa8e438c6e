package episodic

import (
	"context"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
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

const (
	sqlCounts = `SELECT (SELECT count(*) FROM episodes), (SELECT coalesce(sum(steps), 0) FROM episodes),
 (SELECT count(*) FROM patterns), (SELECT count(*) FROM heuristics), (SELECT count(*) FROM embeddings),
 (SELECT count(*) FROM relations), (SELECT count(DISTINCT tag) FROM tags)`
	// mine is the table of the scopes that are counted.
	sqlCountsInScope = `, eps(seq, steps) AS (SELECT seq, steps FROM episodes WHERE scope IN mine)
 SELECT (SELECT count(*) FROM eps), (SELECT coalesce(sum(steps), 0) FROM eps),
 (SELECT count(*) FROM patterns WHERE scope IN mine), (SELECT count(*) FROM heuristics WHERE scope IN mine),
 (SELECT count(*) FROM embeddings e WHERE EXISTS (SELECT 1 FROM items WHERE id = e.item AND kind = e.kind AND scope IN mine)),
 (SELECT count(*) FROM relations WHERE src IN (SELECT seq FROM eps) AND dst IN (SELECT seq FROM eps)),
 (SELECT count(DISTINCT tag) FROM tags WHERE episode IN (SELECT seq FROM eps))`
)

// Counts counts what the database holds within the Store's scope, all at one moment.
func (s *Store) Counts(ctx context.Context) (_ Counts, err error) {
	ctx, end := s.trace(ctx, "Counts")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return Counts{}, failed(err, "count")
	}
	if ctx, s, err = s.on(ctx, readsPage(ID{}, nil)); err != nil {
		return Counts{}, failed(err, "count")
	}
	count := engine.Stmt{SQL: sqlCounts}
	if cond, args := s.scope.condition("n"); cond != "" {
		count = engine.Stmt{SQL: "WITH mine(n) AS (SELECT n FROM scopes WHERE " + cond + ")" + sqlCountsInScope, Args: args}
	}
	c, err := counts(ctx, s.engine, count)
	return c, failed(err, "count")
}

func counts(ctx context.Context, e engine.Engine, count engine.Stmt) (Counts, error) {
	r, err := e.Query(ctx, count)
	if err != nil {
		return Counts{}, err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	c := Counts{
		Episodes: in.Int(0), Steps: in.Int(1), Patterns: in.Int(2), Heuristics: in.Int(3),
		Embeddings: in.Int(4), Relations: in.Int(5), Tags: in.Int(6),
	}
	return c, in.Err
}

// Stats is what a Store has done since it was opened. Every number only grows,
// except those that describe the dictionary in use, and what the cache and Nearest hold.
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
	// Turns are those taken with others who write to the same database.
	Turns Turns `json:"turns"`
	// Failures are calls to the database that failed, by reason; it has all reasons:
	//
	//	unavailable      the server was not reached, or it or a gateway did not serve the request
	//	timeout          the caller's deadline passed
	//	busy             another process was writing for too long
	//	stuck            the server no longer writes until it is restarted
	//	unknown_outcome  a write that may or may not be stored (ErrUnknownOutcome)
	//	refused          ErrUnauthorized, ErrUnknownDatabase
	//	replaced         ErrReplaced
	//	too_large        ErrTooLarge
	//	storage          ErrFull, ErrReadOnly, a damaged database
	//	other            anything else, such as an SQL error
	//
	// A call of the Store may make several calls to the database; those in the background
	// and polls of the cache count as well, while a conflict with what is stored, and what
	// the caller cancelled, does not.
	Failures map[string]uint64 `json:"failures"`
	// Server is what happened on the way to a libSQL server; nil for a local file.
	Server *ServerStats `json:"server,omitempty"`

	// Damaged is how often something that is stored was read, and was not what was written: an
	// item, part of one, or a vector. See DamagedError.
	Damaged uint64 `json:"damaged"`

	// Redacted are secrets that were replaced in what was to be stored, by kind (see Redact);
	// it has the kinds that were found.
	Redacted map[string]uint64 `json:"redacted"`

	Compression CompressionStats `json:"compression"`
	// Cache is what was kept in memory; nil if there is no cache.
	Cache *CacheStats `json:"cache,omitempty"`
	// Replica is what was kept on this machine of a server's memory; nil if there is no replica.
	Replica *ReplicaStats `json:"replica,omitempty"`
	// Vectors is what was held and done for Nearest.
	Vectors VectorStats `json:"vectors"`
	// Embedder is what was done with Options.Embedder; nil without it.
	Embedder *EmbedderStats `json:"embedder,omitempty"`
}

// Turns counts the turns that a Store took to write. A turn is for one transaction.
type Turns struct {
	Taken    uint64        `json:"taken"`
	Waited   time.Duration `json:"waited"`   // for them in all; nanoseconds in JSON
	Unlocked uint64        `json:"unlocked"` // of Taken, without the lock of this machine: see Options.LockDir
	Missed   uint64        `json:"missed"`   // writes that came to a server at another machine's turn, and again later
}

// CompressionStats is what a Store has compressed, and how its dictionaries fare.
type CompressionStats struct {
	Episodes PayloadStats `json:"episodes"` // and runs of steps
	Patterns PayloadStats `json:"patterns"` // and heuristics and relations
	// Trainings are attempts to train a dictionary that came to an end, whether
	// its result is used or not. Failures are looks for a dictionary and trainings
	// in the background that failed; they hurt no call. LastFailure says why.
	Trainings   uint64 `json:"trainings"`
	Failures    uint64 `json:"failures"`
	LastFailure string `json:"last_failure,omitempty"`
}

// PayloadStats is what a Store did with payloads of a kind before it sent them,
// those of writes that failed included.
type PayloadStats struct {
	Payloads    uint64 `json:"payloads"`
	PlainBytes  uint64 `json:"plain_bytes"`
	StoredBytes uint64 `json:"stored_bytes"`
	Skipped     uint64 `json:"skipped"` // left as they are: too short, switched off, or not made smaller
	// Time is what compressing took, waiting for a processor included; nanoseconds in
	// JSON.
	Time time.Duration `json:"time"`
	// Dictionary is the one in use, 0 for none; below 256 it is built in. Ratio is
	// what it made of payloads that it was not trained with; 0 if it is built in.
	Dictionary uint32  `json:"dictionary"`
	Ratio      float64 `json:"ratio,omitempty"`
}

// Stats returns what the Store has done since it was opened.
func (s *Store) Stats() Stats {
	if s == nil || s.engine == nil {
		return Stats{}
	}
	e := s.engine.Stats()
	stats := Stats{Reads: e.Queries, Writes: e.Batches, Commits: e.Commits, Retries: e.Retries, Requests: e.Requests, Turns: Turns(e.Turns), Failures: map[string]uint64{}}
	for reason, n := range e.Failures {
		stats.Failures[engine.FailureReason(reason).String()] = n - s.failedOpen[reason]
	}
	if s.server != nil {
		stats.Server = newServerStats(s.server.ServerStats())
	}
	if s.cache != nil {
		stats.Cache = newCacheStats(s.cache.Stats())
	}
	stats.Damaged = s.damage.Load()
	stats.Redacted = s.redactor.counts()
	stats.Vectors = s.sets.vectorStats()
	if s.replica != nil {
		stats.Replica = s.replica.stats()
		if s.queue != nil {
			stats.Replica.Queue = s.queue.stats()
		}
		inner := s.replica.inner.Stats()
		stats.Cache, stats.Vectors = inner.Cache, stats.Vectors.plus(inner.Vectors)
		stats.Damaged += inner.Damaged
	}
	stats.Embedder = s.embedder.embedderStats()
	p := s.payloads.Stats()
	stats.Compression = CompressionStats{
		Episodes: PayloadStats(p.Kinds[payload.Episodes]), Patterns: PayloadStats(p.Kinds[payload.Patterns]),
		Trainings: p.Trainings, Failures: p.Failures, LastFailure: p.LastFailure,
	}
	return stats
}

// StorageStats are the sizes of the payloads in a database, as they are stored and
// before compression.
type StorageStats struct {
	Payloads    int64 `json:"payloads"`
	StoredBytes int64 `json:"stored_bytes"`
	// The last payloads in the order of their keys, at most 1,000 of each table, and how long they are
	// stored and plain. If they are all there are, the sums are exact.
	SamplePayloads int64 `json:"sample_payloads"`
	SampleStored   int64 `json:"sample_stored_bytes"`
	SamplePlain    int64 `json:"sample_plain_bytes"`
	// Dictionaries are those that the database holds, and what they take besides.
	Dictionaries    int64 `json:"dictionaries"`
	DictionaryBytes int64 `json:"dictionary_bytes"`
}

// StorageStats returns the sizes of all payloads in the database, whoever wrote
// them, whatever the Store's scope. Errors: ErrCorrupt, Retryable ones.
func (s *Store) StorageStats(ctx context.Context) (_ StorageStats, err error) {
	ctx, end := s.trace(ctx, "StorageStats")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return StorageStats{}, failed(err, "count storage")
	}
	v, err := s.payloads.StorageStats(ctx)
	return StorageStats(v), failed(err, "storage stats")
}
