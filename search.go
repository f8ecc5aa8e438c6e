package episodic

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/cache"
	"github.com/episodic-memory/episodic/internal/index"
)

// SearchOptions narrows a search. Nil and the zero value search all episodes.
type SearchOptions struct {
	// Filter chooses the episodes searched.
	Filter EpisodeFilter
	// Tool chooses the steps: those of this tool, however it is written. On a server without
	// a replica it is refused.
	Tool string
	// Limit is the most hits, from 1 to 1,000; 0 means 10. There are fewer where
	// episodes are very large: all hits together hold at most 64 MiB, or one episode.
	Limit int
	// Cursor is SearchResults.Next of the page before; empty for the first page.
	Cursor string
	// Steps makes each hit a step: hits are ranked by what a step and its neighbours
	// hold, and an episode may be hit several times. Otherwise each hit is an episode
	// with its best steps. On a server, which has no index of steps, it is refused without a
	// replica.
	Steps bool
	// EachRun makes every run of a task a hit of its own, instead of one of Hit.Alike.
	EachRun bool
	// Explain makes every hit say why it was found, in Hit.Why.
	Explain bool
}

// SearchResults are the hits of a search, the best first.
type SearchResults struct {
	Hits []Hit `json:"hits"`
	// Next is the cursor of the following page, for SearchOptions.Cursor; empty if there is none.
	// Pages fit together as long as nothing is stored meanwhile.
	Next string `json:"next,omitempty"`
	// Waiting is how many episodes, patterns and heuristics are not indexed yet, and so
	// cannot be found: those of a database of an older version, until a Store that is
	// open has indexed them in the background or Compact was called; and about how many
	// items a replica that is being filled does not have yet.
	Waiting int `json:"waiting,omitempty"`
	// Since says that episodes that began before it were not searched: a replica does not hold
	// them. See Replica.MaxAge. Zero: all were.
	Since time.Time `json:"since,omitzero"`
	// Model is the name of Options.Embedder if it took part: it answered in time, and documents
	// that may be hits have vectors by it.
	Model string `json:"model,omitempty"`
	// Damaged are episodes that may have been hits and cannot be read, or not as a whole.
	Damaged []*DamagedError `json:"damaged,omitempty"`
}

// Hit is what a search found: an episode with its best steps, or one step of it.
type Hit struct {
	Episode *Episode `json:"episode"` // without its steps; StepCount is set
	// Score says how well the hit fits, compared with the other hits of the same
	// search; higher is better.
	Score float64 `json:"score"`
	// Snippet is the part of the episode's texts, or of the step's, that fits best.
	Snippet string `json:"snippet"`
	// Steps are the steps that fit best, the best first: at most three of an episode, or
	// the one that was hit. None if the words stand elsewhere in it.
	Steps []StepHit `json:"steps,omitempty"`
	// Alike are the other runs of the same task that were found too, best first. They
	// are no hits of their own.
	Alike []Alike `json:"alike,omitempty"`
	Why   *Why    `json:"why,omitempty"` // with SearchOptions.Explain
}

// StepHit is a step that was found.
type StepHit struct {
	Number  int        `json:"number"`
	Tool    string     `json:"tool,omitempty"`
	Result  ResultKind `json:"result,omitempty"` // what its result was, empty if none was recorded
	Score   float64    `json:"score"`
	Snippet string     `json:"snippet"`
}

// Alike is another run of a hit's task.
type Alike struct {
	ID      ID          `json:"id"`
	Outcome OutcomeKind `json:"outcome,omitempty"`
	Reward  *float64    `json:"reward,omitempty"` // Reward.Total; nil if it was not scored
	Start   time.Time   `json:"start"`
}

// Why says what a score is made of. Its parts add up to the score, except that factors multiply it.
type Why struct {
	// Words are those of the query that the hit holds, with what each adds to Own or Episode.
	Words []WordHit `json:"words"`
	// Own is what the best step has of itself, its Name and Time included.
	Own float64 `json:"own"`
	// Neighbours is what the steps around it add; of hits that are episodes 0.
	Neighbours float64 `json:"neighbours,omitempty"`
	// Episode is what the texts of the whole episode add.
	Episode float64 `json:"episode"`
	// Meaning is what the hit has because it means something near to the query, whatever its
	// words. That is by a table of words in the program, which is best in English, or by
	// SearchResults.Model.
	Meaning float64 `json:"meaning,omitempty"`
	// Outcome, Recency and Phrase are factors: 1 changes nothing.
	Outcome float64 `json:"outcome_factor"`
	Recency float64 `json:"recency_factor"`
	Phrase  float64 `json:"phrase_factor"`
}

// WordHit is a word of a query that a hit holds.
type WordHit struct {
	Word    string  `json:"word"`
	Step    float64 `json:"step,omitempty"`    // what it adds to the best step
	Episode float64 `json:"episode,omitempty"` // what it adds to the episode
}

// maxHits bounds the payloads of all hits of a search, decoded, in bytes.
const maxHits = 64 << 20

const defaultHits = 10

// maxRanked is how many hits of a search can be paged through.
const maxRanked = 1000

// Search returns the episodes, or steps, that fit the query best. The query is plain
// words in any language; nothing in it acts as an operator, except that words "in
// quotes" rank higher where they follow one another. An episode is found if its task,
// tags, outcome, reflection, metadata or steps, with their tools, parameters and the
// first 4,000 bytes of each result, hold at least one of the words: English words in any
// inflection, identifiers whole or in part. It ranks higher the more of them it holds,
// the rarer they are, and the closer they stand together; among equals one that
// succeeded, and a recent one. A query without a word finds nothing. Of a query with many
// words, one that more than a tenth of the steps, and more than 5,000, hold is left out if
// eight others (parts of identifiers are counted too) find 1,000, unless a filter or Tool
// leaves few.
//
// On a file what texts mean counts too: "car" finds an automobile, by a table of English
// words in the program. What holds no word of the query is found by that alone only if
// it is quite near, and comes behind what holds them, mostly. Hit.Why tells it apart.
//
// On a server without a replica only what stands in an episode's head is searched, and not
// its steps, unless Options.IndexSteps is set. Errors: ErrInvalid.
func (s *Store) Search(ctx context.Context, query string, opts *SearchOptions) (_ *SearchResults, err error) {
	ctx, end := s.trace(ctx, "Search")
	defer func() { end(err) }()
	query = s.Redact(query) // as what it looks for
	if ctx, s, err = s.on(ctx, orZero(opts).reading()); err != nil {
		return nil, failed(err, "search")
	}
	r, err := s.newSearch(ctx, query, opts)
	if err != nil {
		return nil, failed(err, "search")
	}
	results, err := s.search(ctx, r)
	return results, failed(err, "search")
}

func (o *SearchOptions) reading() reading {
	return reading{kind: readBest, cursor: o.Cursor, steps: o.Steps || o.Tool != ""}
}

// search carries out a search that has been checked.
func (s *Store) search(ctx context.Context, r *search) (*SearchResults, error) {
	results, err := s.searchHere(ctx, r)
	if err == nil {
		results.tellMissing(ctx)
	}
	return results, err
}

// searchHere carries out a search by the index that is here, or on the server.
func (s *Store) searchHere(ctx context.Context, r *search) (*SearchResults, error) {
	if len(r.query.Terms) == 0 {
		return &SearchResults{}, nil
	}
	read := func(ctx context.Context, q querier) (*SearchResults, error) {
		if s.indexer.file != nil {
			return s.searchFile(ctx, q, r)
		}
		return s.searchServer(ctx, q, r)
	}
	if s.indexer.incomplete.Load() {
		// What is indexed in the background changes nothing that the cache would hear of.
		begun := time.Now()
		results, err := readAgain(ctx, func(ctx context.Context) (*SearchResults, error) { return read(ctx, s.engine) })
		if err == nil {
			tellReadInfo(ctx, cache.Result[*SearchResults]{Age: time.Since(begun)})
			s.indexer.saw(results.Waiting)
		}
		return results, err
	}
	r.Completed, r.Embedder = s.indexer.completed.Load(), s.embedder.state()
	results, err := cachedRequest(ctx, s, hitList, &r.searchRequest, loader[*SearchResults]{read: read, clone: (*SearchResults).clone, size: (*SearchResults).size})
	if err == nil && results.Waiting > 0 {
		s.indexer.saw(results.Waiting)
	}
	return results, err
}

// searchRequest is what tells a search from others.
type searchRequest struct {
	Query     string
	Completed uint64 // see indexer.completed
	Embedder  uint64 // see embedder.state
	SearchOptions
}

// search is a request that has been checked.
type search struct {
	searchRequest
	query index.Query
	mark  string    // Store.mark
	skip  int       // hits before the page
	now   time.Time // what recency counts from; a whole hour, so that the same search has the same scores
}

// next returns the cursor of the page behind so many hits.
func (r *search) next(hits int) string {
	return r.mark + cursorOf([]any{int64(hits), micros(r.now)})
}

func (s *Store) newSearch(ctx context.Context, query string, opts *SearchOptions) (r *search, err error) {
	if err := s.check(ctx, true, ""); err != nil {
		return nil, err
	}
	r = &search{searchRequest: searchRequest{Query: query, SearchOptions: *orZero(opts)}, query: index.Parse(query), mark: s.mark, now: time.Now().Truncate(time.Hour)}
	if r.Limit < 0 || r.Limit > maxLimit {
		return nil, invalid("limit", "is %d; it must lie between 1 and %d, or be 0 for %d", r.Limit, maxLimit, defaultHits)
	}
	r.Limit = cmp.Or(r.Limit, defaultHits)
	if r.Filter.Scope, err = r.Filter.Scope.within(s.scope); err != nil {
		return nil, err
	}
	if _, err := r.Filter.where(); err != nil {
		return nil, err
	}
	if s.server != nil {
		switch {
		case r.Steps:
			return nil, invalid("steps", "is set; a server has no index of steps; search for episodes, or keep a replica (Options.Replica)")
		case r.Tool != "":
			return nil, invalid("tool", "is %.60q; a server has no index of tools; keep a replica (Options.Replica)", r.Tool)
		}
	}
	if r.Cursor != "" {
		cursor, found := strings.CutPrefix(r.Cursor, r.mark)
		if !found {
			return nil, badCursor(r.Cursor)
		}
		place, err := parseCursor(cursor, "ii")
		if err != nil {
			return nil, err
		}
		r.skip, r.now = int(place[0].(int64)), time.UnixMicro(place[1].(int64))
		if r.skip < 0 || r.skip > maxRanked {
			return nil, invalid("cursor", "%.60q does not come from an earlier page of this search", r.Cursor)
		}
	}
	return r, nil
}

// oneLine is text without line breaks.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
