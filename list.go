package episodic

import (
	"context"
	"time"
)

// EpisodeFilter chooses episodes. Conditions that are set must all hold; nil and
// the zero value choose all.
type EpisodeFilter struct {
	Domain   string
	TaskType TaskType
	Language string
	Tags     []string // all of them
	Outcome  OutcomeKind
	From, To time.Time // the start lies at or after From and before To

	// Limit is the most episodes on a page, up to 1000; 0 means 50. A page may be
	// shorter although more follow, where episodes are very large.
	Limit  int
	Cursor string // Page.Next of the page before; empty for the first
}

func (f *EpisodeFilter) where() (w where, err error) {
	c := &check{}
	c.text("domain", f.Domain)
	c.text("task_type", string(f.TaskType))
	c.text("language", f.Language)
	c.texts("tags", f.Tags)
	c.oneOf("outcome", string(f.Outcome), "", Success, PartialSuccess, Failure, Abstained)
	w.andText("domain = ?", f.Domain)
	w.andText("task_type = ?", string(f.TaskType))
	w.andText("language = ?", f.Language)
	w.andText("episodes.outcome = ?", string(f.Outcome))
	for _, tag := range f.Tags {
		w.and("episodes.seq IN (SELECT episode FROM tags WHERE tag = ?)", tag)
	}
	if !f.From.IsZero() {
		w.and("start_us >= ?", micros(f.From))
	}
	if !f.To.IsZero() {
		w.and("start_us < ?", micros(f.To))
	}
	return w, c.err
}

func (f *EpisodeFilter) page() (limit int, cursor string) { return f.Limit, f.Cursor }

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
		return whole(t)
	}
	f.From, f.To = within(f.From), within(f.To)
	return &f
}

// ListEpisodes returns the chosen episodes, newest start first, without their
// steps (StepCount is set). Errors: ErrInvalid.
func (s *Store) ListEpisodes(ctx context.Context, f *EpisodeFilter) (*Page[*Episode], error) {
	if f == nil {
		f = &EpisodeFilter{}
	}
	page, err := cachedPage(ctx, s, episodePage, f, loader[*Episode]{clone: (*Episode).clone, size: (*Episode).size},
		func(ctx context.Context, q querier) (*Page[*Episode], error) { return s.listEpisodes(ctx, q, f) })
	return page, failed(err, "list episodes")
}

func (s *Store) listEpisodes(ctx context.Context, q querier, f *EpisodeFilter) (*Page[*Episode], error) {
	w, err := f.where()
	if err != nil {
		return nil, err
	}
	return newestFirst(ctx, q, episodeColumns, "episodes", "start_us", w, f.Limit, f.Cursor, s.episodeFrom)
}
