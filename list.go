package episodic

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// EpisodeFilter chooses episodes. Conditions that are set must all hold; nil and
// the zero value choose all.
type EpisodeFilter struct {
	Domain   string
	TaskType TaskType
	Language string
	Tags     []string // all of them; at most 1,000
	Outcome  OutcomeKind
	State    State     // running or ended; empty: both
	From, To time.Time // the start lies at or after From and before To
	Scope    Scope     // the fields that are set are those of the episode
}

// State tells running episodes from those that have ended.
type State string

// The states of an episode.
const (
	StateRunning State = "running"
	StateEnded   State = "ended"
)

func (f *EpisodeFilter) where() (w where, err error) {
	c := &check{}
	c.text("domain", f.Domain)
	c.text("task_type", string(f.TaskType))
	c.text("language", f.Language)
	c.texts("tags", f.Tags)
	c.oneOf("state", string(f.State), "", StateRunning, StateEnded)
	c.oneOf("outcome", string(f.Outcome), "", Success, PartialSuccess, Failure, Abstained)
	w.andText("domain = ?", f.Domain)
	w.andText("task_type = ?", string(f.TaskType))
	w.andText("language = ?", f.Language)
	w.andText("episodes.outcome = ?", string(f.Outcome))
	switch f.State {
	case StateRunning:
		w.and("end_us IS NULL")
	case StateEnded:
		w.and("end_us IS NOT NULL")
	}
	switch tags := unique(f.Tags); {
	case len(tags) > maxTags:
		c.fail("tags", "are %d, at most %d are allowed", len(tags), maxTags)
	case len(tags) == 1:
		w.and("episodes.seq IN (SELECT episode FROM tags WHERE tag = ?)", tags[0])
	case len(tags) > 1 && c.err == nil:
		list, err := json.Marshal(tags)
		if err != nil {
			return w, err
		}
		w.and("episodes.seq IN (SELECT episode FROM tags WHERE tag IN (SELECT value FROM json_each(?)) GROUP BY episode HAVING count(*) = ?)", string(list), int64(len(tags)))
	}
	if !f.From.IsZero() {
		w.and("start_us >= ?", micros(f.From))
	}
	if !f.To.IsZero() {
		w.and("start_us < ?", micros(f.To))
	}
	f.Scope.and(&w, "episodes.scope")
	return w, c.err
}

func (f *EpisodeFilter) scope() *Scope { return &f.Scope }

// canonical returns f with its times as they are compared, and within those that
// are stored, as JSON knows no others.
func (f EpisodeFilter) canonical() *EpisodeFilter {
	if f.To.UTC().Year() > 9999 {
		f.To = time.Time{}
	}
	first, last := time.Time{}.Add(time.Microsecond), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	within := func(t time.Time) time.Time {
		switch {
		case t.IsZero():
			return time.Time{}
		case t.Before(first):
			return first
		case t.After(last):
			return last
		}
		return truncateMicros(t)
	}
	f.From, f.To = within(f.From), within(f.To)
	return &f
}

// ListEpisodes returns a page of the chosen episodes, newest start first, without
// their steps (StepCount is set). Errors: ErrInvalid.
func (s *Store) ListEpisodes(ctx context.Context, f *EpisodeFilter, p *Paging) (_ *Page[*Episode], err error) {
	ctx, end := s.trace(ctx, "ListEpisodes")
	defer func() { end(err) }()
	if ctx, s, err = s.on(ctx, readsPage(ID{}, p)); err != nil {
		return nil, failed(err, "list episodes")
	}
	item := loader[*Episode]{clone: (*Episode).clone, size: (*Episode).size}
	page, err := cachedPage(ctx, s, episodePage, f, p, item, s.listEpisodes)
	return page, failed(err, "list episodes")
}

// Episodes returns all chosen episodes in the order of ListEpisodes, without their
// steps. It reads them page by page, and ends with the first error, but for a *DamagedError,
// which comes for an item that cannot be read: the loop may go on with the others.
func (s *Store) Episodes(ctx context.Context, f *EpisodeFilter) iter.Seq2[*Episode, error] {
	return iterate(ctx, func(ctx context.Context, p *Paging) (_ *Page[*Episode], err error) {
		ctx, end := s.trace(ctx, "ListEpisodes")
		defer func() { end(err) }()
		ctx, from, err := s.on(ctx, readsPage(ID{}, p))
		if err != nil {
			return nil, failed(err, "list episodes")
		}
		page, err := listed(ctx, from, f, p, from.listEpisodes)
		return page, failed(err, "list episodes")
	})
}

func (s *Store) listEpisodes(ctx context.Context, q querier, r *pageRequest[EpisodeFilter]) (*Page[*Episode], error) {
	w, err := r.Filter.where()
	if err != nil {
		return nil, err
	}
	return newestFirst(episodeColumns, "episodes", "start_us", 6, w, s.episodeFrom).page(ctx, q, &r.Paging)
}

// pageRequest is what a page is read for.
type pageRequest[F any] struct {
	Filter F
	Paging
}

// pageRequestFor narrows the filter to the Store's scope.
func pageRequestFor[F any, P interface {
	*F
	scope() *Scope
}](s *Store, filter P, paging *Paging) (r *pageRequest[F], err error) {
	r = &pageRequest[F]{*orZero((*F)(filter)), *orZero(paging)}
	scope := P(&r.Filter).scope()
	*scope, err = scope.within(s.scope)
	return r, err
}

// listed reads a page that is not cached.
func listed[F, T any, P interface {
	*F
	scope() *Scope
}](ctx context.Context, s *Store, filter P, paging *Paging, list func(context.Context, querier, *pageRequest[F]) (*Page[T], error)) (*Page[T], error) {
	if err := s.check(ctx, true, ""); err != nil {
		return nil, err
	}
	return marked(s, paging, func(paging *Paging) (*Page[T], error) {
		r, err := pageRequestFor(s, filter, paging)
		if err != nil {
			return nil, err
		}
		return list(ctx, s.engine, r)
	})
}

// orZero returns p, or a pointer to a zero value for nil.
func orZero[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}
