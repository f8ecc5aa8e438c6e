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
	TagNames    NameKind = "tag"
	DomainNames NameKind = "domain"
)

// NameCount is a name and the number of episodes that have it.
type NameCount struct {
	Name     string `json:"name"`
	Episodes int64  `json:"episodes"`
}

// namesBy are SELECTs of a name and minus the number of its episodes.
var namesBy = map[NameKind]string{
	TagNames:    `SELECT tag AS name, -count(*) AS fewer FROM tags GROUP BY tag`,
	DomainNames: `SELECT domain AS name, -count(*) AS fewer FROM episodes WHERE domain <> '' GROUP BY domain`,
}

// ListNames returns a page of the names of a kind that are in use, the most used
// first. Errors: ErrInvalid.
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
	if c.oneOf("kind", string(kind), TagNames, DomainNames); c.err != nil {
		return nil, c.err
	}
	l := &listing[NameCount]{columns: "1", from: "(" + namesBy[kind] + ")", keys: []string{"fewer", "name"}, kinds: "it"}
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
