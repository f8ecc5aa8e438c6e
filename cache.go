package episodic

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/episodic-memory/episodic/internal/cache"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
)

// Cache says what a Store keeps in memory of what it has read: episodes,
// patterns, heuristics, lists and hits of searches. Whoever writes to the
// database, a read shows it as it was at some moment not earlier than
// PollInterval before the call, and never without what this Store has written. Of
// a local file a read shows the newest state; to a replica its lag is added, and
// StaleIfError while the server is away. The zero value of every field means its
// default.
type Cache struct {
	// Disabled makes every read ask the database.
	Disabled bool
	// MaxBytes bounds the memory that is used, about. At least 64 KiB, default
	// 64 MiB.
	MaxBytes int64
	// BaseTTL is how long something is kept that was read once. What is read often
	// is kept for longer, what nobody reads again or what changes often for less,
	// within MinTTL and MaxTTL. Defaults 5 min, 1 min and 1 h; MinTTL is at least
	// 1 s.
	BaseTTL, MinTTL, MaxTTL time.Duration
	// PollInterval is how long a read relies on what is known of others' writes
	// before it asks the server again, which all reads do together. Default 5 s.
	// Unused for a local file.
	PollInterval time.Duration
	// StaleIfError is for how much longer a read may rely on it while the server
	// cannot be reached; Stats().Cache counts such reads. Default 5 min; negative:
	// not at all. Unused for a local file.
	StaleIfError time.Duration
	// NoClock keeps the Store from asking the database what others have written. A
	// read then may show what was right 60 s ago.
	NoClock bool
}

func (c *Cache) options() cache.Options {
	return cache.Options{
		MaxBytes: c.MaxBytes, BaseTTL: c.BaseTTL, MinTTL: c.MinTTL, MaxTTL: c.MaxTTL,
		PollInterval: c.PollInterval, StaleIfError: c.StaleIfError, Groups: clockGroups,
	}
}

func (c *Cache) validate() error {
	if bad, ok := errors.AsType[*cache.OptionError](c.options().Validate()); ok {
		return invalid("Cache."+bad.Field, "%s", bad.Problem)
	}
	if c.PollInterval < 0 {
		return invalid("Cache.PollInterval", "is %v, must be positive, or 0 for the default", c.PollInterval)
	}
	return nil
}

// noun is what a key of the cache stands for.
type noun uint8

const (
	oneEpisode noun = iota
	onePattern
	oneHeuristic
	episodePage
	patternPage
	heuristicPage
	hitList
)

// cacheKey is an item by its id, or a request in JSON.
type cacheKey struct {
	noun    noun
	id      ID
	request string
}

// requestFor returns the key of a request that has been checked.
func requestFor(n noun, request any) (cacheKey, error) {
	switch r := request.(type) {
	case *EpisodeFilter:
		request = r.canonical()
	case *searchRequest:
		request = &searchRequest{r.Match, *r.Filter.canonical()}
	}
	text, err := json.Marshal(request)
	return cacheKey{noun: n, request: string(text)}, err
}

// read returns what a key stands for, as q tells it.
func (s *Store) read(ctx context.Context, q querier, key cacheKey) (any, error) {
	switch key.noun {
	case oneEpisode:
		return s.load(ctx, q, key.id)
	case onePattern:
		return getOne(ctx, q, sqlGetPattern, key.id, s.patternFrom)
	case oneHeuristic:
		return getOne(ctx, q, sqlGetHeuristic, key.id, s.heuristicFrom)
	case episodePage:
		return readRequest(ctx, q, key, s.listEpisodes)
	case patternPage:
		return readRequest(ctx, q, key, s.listPatterns)
	case heuristicPage:
		return readRequest(ctx, q, key, s.listHeuristics)
	default:
		return readRequest(ctx, q, key, s.search)
	}
}

func readRequest[R, V any](ctx context.Context, q querier, key cacheKey, read func(context.Context, querier, *R) (V, error)) (any, error) {
	request := new(R)
	if err := json.Unmarshal([]byte(key.request), request); err != nil {
		return nil, err
	}
	return read(ctx, q, request)
}

// cached returns what a key stands for, from the cache if that may be. What it
// returns is the caller's own.
func cached[V any](ctx context.Context, s *Store, key cacheKey, clone func(V) V) (v V, err error) {
	if s.cache == nil {
		found, err := s.read(ctx, s.engine, key)
		if err != nil {
			return v, err
		}
		return found.(V), nil
	}
	r, err := s.cache.Get(ctx, key)
	switch {
	case errors.Is(err, cache.ErrClosed):
		return v, ErrClosed
	case err != nil:
		return v, err
	case !r.Found:
		return v, ErrNotFound
	}
	return clone(r.Value.(V)), nil
}

// cachedRequest is cached for a request.
func cachedRequest[V any](ctx context.Context, s *Store, n noun, request any, clone func(V) V) (v V, err error) {
	key, err := requestFor(n, request)
	if err != nil {
		return v, err
	}
	return cached(ctx, s, key, clone)
}

// cachedPage is cached for a list, whose filter it checks.
func cachedPage[T any](ctx context.Context, s *Store, n noun, filter interface{ where() (where, error) }, clone func(T) T) (*Page[T], error) {
	if _, err := filter.where(); err != nil {
		return nil, err
	}
	return cachedRequest(ctx, s, n, filter, func(p *Page[T]) *Page[T] { return p.clone(clone) })
}

// changed must be called when this Store has changed items, or may have, before
// its caller is told.
func (s *Store) changed(n noun, ids ...ID) {
	if s.cache == nil {
		return
	}
	keys := make([]cacheKey, len(ids))
	for i, id := range ids {
		keys[i] = cacheKey{noun: n, id: id}
	}
	s.cache.Invalidate(keys...)
}

// openCache gives the Store a cache. The options have been checked.
func (s *Store) openCache(o Cache) {
	if o.Disabled {
		return
	}
	source := cache.Source[cacheKey, any]{
		Load: func(ctx context.Context, key cacheKey, since int64) (cache.Loaded[any], error) {
			return s.loadForCache(engine.WithExpected(ctx, cache.Deadline(ctx)), key, since, !o.NoClock)
		},
	}
	options := o.options()
	if !o.NoClock {
		source.Poll = func(ctx context.Context, since int64) (cache.Look, error) { return look(ctx, s.engine, since) }
		if file, ok := s.engine.(*embedded.Engine); ok {
			source.Poll = (&fileClock{file: file}).look
			options.PollInterval, options.StaleIfError = -1, -1 // asking a file costs next to nothing
		}
	}
	var err error
	if s.cache, err = cache.New(source, options); err != nil {
		panic(err) // the options have been checked
	}
}

func (s *Store) loadForCache(ctx context.Context, key cacheKey, since int64, clock bool) (l cache.Loaded[any], err error) {
	q := &clocked{engine: s.engine, since: since, due: clock}
	l.Value, err = s.read(ctx, q, key)
	switch {
	case errors.Is(err, ErrNotFound):
		l.Missing = true
	case err != nil:
		return l, err
	}
	l.Look, l.Version, l.Cost = q.look, q.version, q.cost+len(key.request)
	l.Group = clockGroup(key.id)
	if key.request != "" {
		l.Group = cache.Everything
	}
	return l, nil
}

// CacheStats is what a Store has kept in memory, and what that was good for.
type CacheStats struct {
	// Mode is "clock" if the database tells what others have written, otherwise
	// "ttl_only".
	Mode    string `json:"mode"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`

	Hits        uint64 `json:"hits"`
	StaleServed uint64 `json:"stale_served"` // of these, while the server could not be reached
	Misses      uint64 `json:"misses"`

	Loads       uint64 `json:"loads"`
	SharedLoads uint64 `json:"shared_loads"` // misses that waited for the load of another
	Refreshes   uint64 `json:"refreshes"`    // loads ahead of the end of an entry
	Polls       uint64 `json:"polls"`        // questions what others have written, besides those of loads

	LoadFailures uint64 `json:"load_failures"`
	PollFailures uint64 `json:"poll_failures"`

	// Why entries have gone.

	Evictions            uint64 `json:"evictions"` // for want of memory
	Expiries             uint64 `json:"expiries"`
	InvalidationsOwn     uint64 `json:"invalidations_own"`     // by what this Store has written
	InvalidationsForeign uint64 `json:"invalidations_foreign"` // by what others have

	MeanTTL time.Duration `json:"mean_ttl"` // that was granted, on average
	TTLs    Histogram     `json:"ttls"`     // granted to the entries that have gone
}

func newCacheStats(s cache.Stats) *CacheStats {
	return &CacheStats{
		Mode: s.Mode.String(), Entries: s.Entries, Bytes: s.Bytes,
		Hits: s.Hits, StaleServed: s.StaleServed, Misses: s.Misses,
		Loads: s.Loads, SharedLoads: s.Shared, Refreshes: s.Refreshes, Polls: s.Polls,
		LoadFailures: s.LoadFailures, PollFailures: s.PollFailures,
		Evictions: s.Evicted, Expiries: s.Expired, InvalidationsOwn: s.InvalidatedOwn, InvalidationsForeign: s.InvalidatedForeign,
		MeanTTL: s.MeanTTL, TTLs: Histogram{Bounds: cache.TTLBounds(), Buckets: s.TTLs.Buckets[:], Count: s.TTLs.Count, Sum: s.TTLs.Sum},
	}
}
