package episodic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/cache"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/feed"
)

// Cache configures what a Store keeps in memory of what it has read: episodes,
// patterns, heuristics, lists and search results. Entries are validated against
// the change feed of the database: a read reflects the database at some time not
// earlier than PollInterval before the call, whoever writes to it, and always
// includes what this Store has written before. Reads of a local file are always
// current. Those of a server's replica lag behind as it does. What is said here of the
// server holds for Options.Replica too, with which these entries are of the local file. The zero
// value of every field means its default. See also WithFresh and WithReadInfo.
type Cache struct {
	// Disabled makes every read query the database; with Options.Replica, wait until that has
	// all that the server had at the call.
	Disabled bool
	// MaxBytes bounds the memory that entries take, in bytes, as decoded values with
	// what the cache needs for them. At least 65,536, default 67,108,864 (64 MiB).
	MaxBytes int64
	// BaseTTL is how long an entry is kept that is not read again. Every read keeps
	// it for five times its average read interval from then on, but no less than
	// MinTTL; MaxTTL after it was loaded an entry ends in any case. A change ends it at
	// once. Defaults 5 min, 1 min and 1 h; MinTTL is at least 1 s, and no more than
	// BaseTTL, which is no more than MaxTTL.
	BaseTTL, MinTTL, MaxTTL time.Duration
	// PollInterval bounds the staleness of cached reads with respect to writes by
	// other Stores and programs. When it has elapsed, the next read polls the server;
	// concurrent reads share that poll. Not negative, default 5 s. Unused for a local
	// file.
	PollInterval time.Duration
	// StaleIfError is how long past PollInterval entries may still be served when
	// polling fails because the server cannot be reached (a Retryable error or a
	// timeout), as in RFC 5861. Stats().Cache.StaleServed counts such reads, and
	// ReadInfo.Stale tells of each. A server that refuses (ErrUnauthorized,
	// ErrUnknownDatabase, ErrReplaced) ends it: everything is then forgotten, fresh
	// entries too. Not negative, default 5 min. Unused for a local file and with Options.Replica,
	// whose age has no bound.
	StaleIfError time.Duration
	// DisableStale serves nothing from the cache, or Options.Replica, while polling fails.
	DisableStale bool
	// DisablePolling turns change detection off. Entries then expire after at most
	// 60 s, which bounds the staleness of reads.
	DisablePolling bool
}

func (c *Cache) options() cache.Options {
	return cache.Options{
		MaxBytes: c.MaxBytes, BaseTTL: c.BaseTTL, MinTTL: c.MinTTL, MaxTTL: c.MaxTTL,
		PollInterval: c.PollInterval, StaleIfError: c.StaleIfError, DisableStale: c.DisableStale,
		Unreachable: Retryable, Refused: refused,
	}
}

// refused reports whether what was read before must not be served any more: the token
// is void, or the database is gone or empty.
func refused(err error) bool {
	switch engine.KindOf(err) {
	case engine.KindAuth, engine.KindNotFound, engine.KindNoTable:
		return true
	}
	return false
}

func (c *Cache) validate() error {
	if bad, ok := errors.AsType[*cache.OptionError](c.options().Validate()); ok {
		return invalid("Cache."+bad.Field, "%s", bad.Problem)
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

// cacheKey is an item by its id, or a list or search by its request.
type cacheKey struct {
	noun    noun
	id      ID
	request string // JSON, which is never parsed
}

// requestFor returns the key of a request that has been checked.
func requestFor(n noun, request any) (cacheKey, error) {
	switch r := request.(type) {
	case *pageRequest[EpisodeFilter]:
		request = &pageRequest[EpisodeFilter]{*r.Filter.canonical(), r.Paging}
	case *searchRequest:
		canonical := *r
		canonical.Filter = *r.Filter.canonical()
		request = &canonical
	}
	text, err := json.Marshal(request)
	return cacheKey{noun: n, request: string(text)}, err
}

// loader reads values of a type for the cache.
type loader[V any] struct {
	read  func(context.Context, querier) (V, error)
	clone func(V) V
	size  func(V) int // memory in bytes
}

// cached returns the value of a key, from the cache if it may be. The value is the
// caller's own.
func cached[V any](ctx context.Context, s *Store, key cacheKey, l loader[V]) (v V, err error) {
	if err := s.check(ctx, true, ""); err != nil {
		return v, err
	}
	once := l.read
	l.read = func(ctx context.Context, q querier) (V, error) {
		return readAgain(ctx, func(ctx context.Context) (V, error) { return once(ctx, q) })
	}
	if s.cache == nil {
		begun := time.Now()
		if v, err = l.read(ctx, s.engine); err == nil || errors.Is(err, ErrNotFound) {
			tellReadInfo(ctx, cache.Result[V]{Age: time.Since(begun)})
		}
		return v, err
	}
	get := s.cache.Get
	if ctx.Value(freshKey{}) != nil {
		get = s.cache.GetFresh
	}
	deadline, _ := ctx.Deadline()
	r, err := get(ctx, key, func(ctx context.Context, since int64) (cache.Loaded[cacheKey, any], error) {
		// The load goes on while others wait for it, but is to be done by then.
		return loadForCache(engine.WithSoftDeadline(ctx, deadline), s, key, since, l)
	})
	if errors.Is(err, cache.ErrClosed) {
		return v, ErrClosed
	}
	if err != nil {
		return v, err
	}
	tellReadInfo(ctx, r)
	if !r.Found {
		return v, ErrNotFound
	}
	return l.clone(r.Value.(V)), nil
}

func loadForCache[V any](ctx context.Context, s *Store, key cacheKey, since int64, l loader[V]) (loaded cache.Loaded[cacheKey, any], err error) {
	q := &feedQuerier{querier: s.engine, since: since, read: s.unpolled}
	v, err := l.read(ctx, q)
	loaded.Missing = errors.Is(err, ErrNotFound)
	if err != nil && !loaded.Missing {
		return loaded, err
	}
	loaded.Feed, loaded.Size, loaded.AnyChange = q.feed, stringSize(key.request), key.request != ""
	if !loaded.Missing {
		loaded.Value = v
		loaded.Size += l.size(v)
	}
	return loaded, nil
}

// cachedRequest is cached for a request, which has been checked.
func cachedRequest[V any](ctx context.Context, s *Store, n noun, request any, l loader[V]) (v V, err error) {
	key, err := requestFor(n, request)
	if err != nil {
		return v, err
	}
	return cached(ctx, s, key, l)
}

// cachedPage is cached for a list, whose filter and paging it checks.
func cachedPage[F, T any, P interface {
	*F
	where() (where, error)
	scope() *Scope
}](ctx context.Context, s *Store, n noun, filter P, paging *Paging, item loader[T], list func(context.Context, querier, *pageRequest[F]) (*Page[T], error)) (*Page[T], error) {
	if err := s.check(ctx, true, ""); err != nil {
		return nil, err
	}
	return marked(s, paging, func(paging *Paging) (*Page[T], error) {
		r, err := pageRequestFor(s, filter, paging)
		if err != nil {
			return nil, err
		}
		if _, err := P(&r.Filter).where(); err != nil {
			return nil, err
		}
		if _, err := r.place(newestKinds); err != nil {
			return nil, err
		}
		return cachedRequest(ctx, s, n, r, loader[*Page[T]]{
			read:  func(ctx context.Context, q querier) (*Page[T], error) { return list(ctx, q, r) },
			clone: func(p *Page[T]) *Page[T] { return p.clone(item.clone) },
			size:  func(p *Page[T]) int { return p.size(item.size) },
		})
	})
}

// changed must be called when this Store has changed items, or may have, before
// its caller is told. err is what the caller is told.
func (s *Store) changed(err error, n noun, ids ...ID) {
	s.wrote(err, ids...)
	if s.cache == nil {
		return
	}
	keys := make([]cacheKey, len(ids))
	for i, id := range ids {
		keys[i] = cacheKey{noun: n, id: id}
	}
	s.cache.Invalidate(keys...)
}

// wrote is changed for what belongs to the items.
func (s *Store) wrote(err error, ids ...ID) {
	s.hub.Kick()
	if s.replica != nil && !s.queues() { // what is queued is in the replica
		s.replica.noteWrite(err, ids)
	}
}

// openCache gives the Store a cache. The options have been checked.
func (s *Store) openCache(o Cache) {
	if o.Disabled {
		return
	}
	options := o.options()
	var poll cache.Poll[cacheKey]
	if s.unpolled = o.DisablePolling; !s.unpolled {
		poll = func(ctx context.Context, since int64) (cacheFeed, error) { return pollFeed(ctx, s.engine, since) }
		if file, ok := s.engine.(*embedded.Engine); ok {
			poll = (&fileFeed{file: file}).poll
			// Polling a file costs next to nothing, and reading it less than a goroutine's stack.
			options.PollEveryHit, options.LoadInCaller, options.DisableStale = true, true, true
		}
	}
	var err error
	if s.cache, err = cache.New[cacheKey, any](poll, options); err != nil {
		panic(err) // the options have been checked
	}
}

// CacheStats are the counters of a Store's cache.
type CacheStats struct {
	// Mode is "polling", or "ttl_only" with Cache.DisablePolling.
	Mode    string `json:"mode"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"` // the memory that the entries take

	Hits        uint64 `json:"hits"`         // reads served from memory
	StaleServed uint64 `json:"stale_served"` // hits while the server could not be reached
	Misses      uint64 `json:"misses"`       // reads that needed a load
	SharedLoads uint64 `json:"shared_loads"` // times that a read waited for a load begun by another

	Loads        uint64 `json:"loads"`
	LoadFailures uint64 `json:"load_failures"`
	Polls        uint64 `json:"polls"` // of the change feed, excluding loads
	PollFailures uint64 `json:"poll_failures"`

	// Removals of entries, by cause.

	Evictions           uint64 `json:"evictions"`            // MaxBytes was reached
	Expiries            uint64 `json:"expiries"`             // the TTL was over
	InvalidationsLocal  uint64 `json:"invalidations_local"`  // writes by this Store
	InvalidationsRemote uint64 `json:"invalidations_remote"` // changes in the feed

	// MeanTTL is the average time for which entries were kept or may be; nanoseconds
	// in JSON.
	MeanTTL time.Duration `json:"mean_ttl"`
}

func newCacheStats(s cache.Stats) *CacheStats {
	return &CacheStats{
		Mode: s.Mode.String(), Entries: s.Entries, Bytes: s.Bytes,
		Hits: s.Hits, StaleServed: s.StaleServed, Misses: s.Misses, SharedLoads: s.Shared,
		Loads: s.Loads, LoadFailures: s.LoadFailures, Polls: s.Polls, PollFailures: s.PollFailures,
		Evictions: s.Evicted, Expiries: s.Expired, InvalidationsLocal: s.InvalidatedLocal, InvalidationsRemote: s.InvalidatedRemote,
		MeanTTL: s.MeanTTL,
	}
}

type freshKey struct{}

type readInfoKey struct{}

// WithFresh returns a context for reads that must not miss anything committed
// before they are called, whoever wrote it. Such a read asks the database whether
// what is cached is still current, or loads it, and is never served stale: it
// fails if the server cannot be reached. A replica may still lag behind its
// primary. Without a cache every read is fresh.
func WithFresh(ctx context.Context) context.Context {
	return context.WithValue(ctx, freshKey{}, true)
}

// ReadInfo says how a read was served.
type ReadInfo struct {
	// Stale is nil if the result is as new as Cache.PollInterval promises. Otherwise
	// it is why the server could not be polled, and the result may be older by up to
	// Cache.StaleIfError.
	Stale error
	// Age bounds the staleness of the result: it is how long ago the request began
	// that last showed it to be current.
	Age time.Duration
	// Cached says that the result comes from memory, not from a request of this read
	// or one that it waited for.
	Cached bool
	// Replica says that the result comes from the replica. Age then counts from when the
	// server had all that is in it, and is as long as can be if that is unknown; Stale
	// says why the replica is older than promised, if it is.
	Replica bool
}

// WithReadInfo returns a context for a read that says in info how it was served.
// The read writes *info before it returns, and only if it succeeds or finds
// nothing (ErrNotFound). Reads that the cache serves are Episode, Pattern,
// Heuristic, their lists, and Search; a replica tells of all reads. Like a trace of net/http/httptrace the
// context belongs to one call: two calls at a time would write the same info.
func WithReadInfo(ctx context.Context, info *ReadInfo) context.Context {
	return context.WithValue(ctx, readInfoKey{}, info)
}

// tellReadInfo fills in the ReadInfo of ctx, if there is one.
func tellReadInfo[V any](ctx context.Context, r cache.Result[V]) {
	if info, ok := ctx.Value(readInfoKey{}).(*ReadInfo); ok && info != nil {
		*info = ReadInfo{Stale: r.Stale, Age: r.Age, Cached: r.Cached}
		if from, ok := ctx.Value(replicaKey{}).(*replicaRead); ok {
			info.Replica, info.Age = true, max(r.Age, from.age())
			if from.stale != nil {
				info.Stale = from.stale
			}
		}
	}
}

// querier is what reading needs of an engine.
type querier = feed.Querier

// The cache's view of the change feed.
type (
	cacheFeed   = cache.Feed[cacheKey]
	cacheChange = cache.Change[cacheKey]
)

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

// feedFrom reads the rows of a look at the feed.
func feedFrom(rows [][]any, since int64) (cacheFeed, error) {
	look, err := feed.LookFrom(rows, since)
	if err != nil {
		return cacheFeed{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	f := cacheFeed{Seq: look.Last, All: look.More}
	for _, c := range look.Changes {
		if noun, cached := itemOf(c.Kind); cached {
			f.Changes = append(f.Changes, cacheChange{Key: cacheKey{noun: noun, id: c.Item}, Seq: c.Seq})
		}
	}
	return f, nil
}

// pollFeed looks at the feed.
func pollFeed(ctx context.Context, q querier, since int64) (cacheFeed, error) {
	r, err := q.Query(ctx, feed.LookStmt(since))
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
	r, err := q.querier.Query(ctx, append([]engine.Stmt{feed.LookStmt(q.since)}, stmts...)...)
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
