package episodic

import (
	"context"
	"fmt"
	"iter"
)

// NameKind says what is named.
type NameKind string

// The kinds of names that episodes are filtered by.
const (
	TagNames     NameKind = "tag"
	DomainNames  NameKind = "domain"
	ProjectNames NameKind = "project" // of scopes, as the next two
	UserNames    NameKind = "user"
	AgentNames   NameKind = "agent"
)

// NameCount is a name and the number of episodes that have it.
type NameCount struct {
	Name     string `json:"name"`
	Episodes int64  `json:"episodes"`
}

// namesBy are the tables of a SELECT of names, with the condition that chooses the
// rows.
var namesBy = map[NameKind]string{
	TagNames:     `tags WHERE 1`,
	DomainNames:  `episodes WHERE domain <> ''`,
	ProjectNames: `episodes JOIN scopes ON n = scope WHERE project <> ''`,
	UserNames:    `episodes JOIN scopes ON n = scope WHERE user <> ''`,
	AgentNames:   `episodes JOIN scopes ON n = scope WHERE agent <> ''`,
}

// namesFrom is a SELECT of the names of a kind and minus the numbers of their
// episodes, within a scope.
func namesFrom(kind NameKind, scope Scope) (w where) {
	w.sql = fmt.Sprintf("SELECT %s AS name, -count(*) AS fewer FROM %s", kind, namesBy[kind])
	if cond, args := scope.condition("episodes.scope"); cond != "" {
		if kind == TagNames {
			cond = "episode IN (SELECT seq FROM episodes WHERE " + cond + ")"
		}
		w.and(cond, args...)
	}
	w.sql += " GROUP BY name"
	return w
}

// ListNames returns a page of the names of a kind that are in use within the Store's
// scope, the most used first. Errors: ErrInvalid.
func (s *Store) ListNames(ctx context.Context, kind NameKind, p *Paging) (_ *Page[NameCount], err error) {
	ctx, end := s.trace(ctx, "ListNames")
	defer func() { end(err) }()
	page, err := s.listNames(ctx, kind, p)
	return page, failed(err, "list %ss", kind)
}

// Names returns all names of a kind that are in use, the most used first. It reads
// them page by page, and ends with the first error.
func (s *Store) Names(ctx context.Context, kind NameKind) iter.Seq2[NameCount, error] {
	return iterate(func(p *Paging) (*Page[NameCount], error) { return s.ListNames(ctx, kind, p) })
}

func (s *Store) listNames(ctx context.Context, kind NameKind, p *Paging) (*Page[NameCount], error) {
	if err := s.check(ctx, true, ""); err != nil {
		return nil, err
	}
	c := &check{}
	if c.oneOf("kind", string(kind), TagNames, DomainNames, ProjectNames, UserNames, AgentNames); c.err != nil {
		return nil, c.err
	}
	from := namesFrom(kind, s.scope)
	l := &listing[NameCount]{columns: "1", from: "(" + from.sql + ")", where: where{args: from.args}, keys: []string{"fewer", "name"}, kinds: "it"}
	l.row = func(_ context.Context, row []any) (NameCount, int, error) {
		in := reader{row: row}
		n := NameCount{Name: in.text(2), Episodes: -in.int(1)}
		if in.err != nil {
			return n, 0, fmt.Errorf("%w: %w", ErrCorrupt, in.err)
		}
		return n, len(n.Name), nil
	}
	return l.page(ctx, s.engine, p)
}
