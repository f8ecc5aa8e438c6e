package episodic

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/episodic-memory/episodic/internal/engine"
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
	var page *Page[NameCount]
	if ctx, s, err = s.on(ctx, readsPage(ID{}, p)); err == nil {
		page, err = s.listNames(ctx, kind, p)
	}
	return page, failed(err, "list %ss", kind)
}

// Names returns all names of a kind that are in use, the most used first. It reads
// them page by page, and ends with the first error.
func (s *Store) Names(ctx context.Context, kind NameKind) iter.Seq2[NameCount, error] {
	return iterate(ctx, func(ctx context.Context, p *Paging) (*Page[NameCount], error) { return s.ListNames(ctx, kind, p) })
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
	l := &listing[NameCount]{columns: "fewer, name", from: "(" + from.sql + ")", where: where{args: from.args}, keys: []string{"fewer", "name"}, at: []int{0, 1}, kinds: "it"}
	l.row = func(_ context.Context, row []any) (NameCount, int, error) {
		in := engine.Row{Values: row}
		n := NameCount{Name: in.Text(1), Episodes: -in.Int(0)}
		if in.Err != nil {
			return n, 0, fmt.Errorf("%w: %w", ErrCorrupt, in.Err)
		}
		return n, len(n.Name), nil
	}
	return marked(s, p, func(p *Paging) (*Page[NameCount], error) { return l.page(ctx, s.engine, p) })
}

const (
	// Whether the episode exists, its tags and those that would be new to it.
	sqlTagsAfter = `SELECT (SELECT count(*) FROM tags WHERE episode = seq),
 (SELECT count(*) FROM json_each(?) WHERE value NOT IN (SELECT tag FROM tags WHERE episode = seq)) FROM episodes WHERE id = ?`
	// None is added if they would be too many.
	sqlAddTags = `INSERT INTO tags(tag, episode, pos)
 SELECT j.value, seq, (SELECT ifnull(max(pos), -1) FROM tags WHERE episode = seq) + 1 + j.key FROM json_each(?1) j, episodes WHERE episodes.id = ?2
 AND (SELECT count(*) FROM (SELECT tag FROM tags WHERE episode = seq UNION SELECT value FROM json_each(?1))) <= ?3 ON CONFLICT DO NOTHING`
	sqlRemoveTags = `DELETE FROM tags WHERE tag IN (SELECT value FROM json_each(?)) AND episode = ` + bySeq

	sqlTagsRevised = `UPDATE episodes SET rev = ? WHERE id = ?`
	sqlTagsChained = `UPDATE episodes SET rev = (rev | ?) - (rev & ?) WHERE id = ?`
)

// AddTags adds tags to a stored episode, behind those it has; tags it has
// already stay where they are. All of them are added or none. Errors: ErrInvalid,
// also if the episode would have more than 1,000 tags; ErrNotFound.
func (s *Store) AddTags(ctx context.Context, id ID, tags ...string) (err error) {
	ctx, end := s.trace(ctx, "AddTags")
	defer func() { end(err) }()
	return failed(s.changeTags(ctx, id, tags, true), "add tags to episode %v", id)
}

// RemoveTags removes tags from a stored episode; tags it does not have are
// ignored. Errors: ErrInvalid; ErrNotFound.
func (s *Store) RemoveTags(ctx context.Context, id ID, tags ...string) (err error) {
	ctx, end := s.trace(ctx, "RemoveTags")
	defer func() { end(err) }()
	return failed(s.changeTags(ctx, id, tags, false), "remove tags from episode %v", id)
}

func (s *Store) changeTags(ctx context.Context, id ID, tags []string, add bool) (err error) {
	if err := s.check(ctx, true, ""); err != nil {
		return err
	}
	if err := s.clean(ctx, Scope{}, func(c *cleaning) { c.texts(&tags) }); err != nil {
		return err
	}
	c := &check{}
	c.names("tags", tags)
	tags = unique(tags)
	if len(tags) > maxTags {
		c.fail("tags", "are %d, at most %d are allowed", len(tags), maxTags)
	}
	if c.err != nil {
		return c.err
	}
	defer func() { s.changed(err, oneEpisode, id) }()
	return s.carryOut(ctx, &changeTags{ID: id, Tags: tags, Add: add, Rev: newRevision()})
}

// changeTags adds tags to an episode, or removes them.
type changeTags struct {
	ID   ID
	Tags []string
	Add  bool
	Rev  int64

	chained bool // see chained; it is not carried out twice
}

func (o *changeTags) encode(_ context.Context, s *Store) (*encoded, error) {
	list, err := json.Marshal(o.Tags)
	if err != nil {
		return nil, err
	}
	names, change := string(list), sqlRemoveTags
	args := []any{names, o.ID.bytes()}
	if o.Add {
		change, args = sqlAddTags, append(args, int64(maxTags))
	}
	revise, revision := sqlTagsRevised, []any{o.Rev, o.ID.bytes()}
	if o.chained {
		revise, revision = sqlTagsChained, append([]any{o.Rev}, revision...)
	}
	stmts := []engine.Stmt{
		{SQL: sqlTagsAfter, Args: []any{names, o.ID.bytes()}},
		{SQL: change, Args: args},
		{SQL: revise, Args: revision},
		{SQL: sqlWait, Args: []any{o.ID.bytes()}},
	}
	return &encoded{stmts: s.scope.guard(stmts...), told: func(ctx context.Context, r []engine.Result, err error) error {
		if err = o.told(r, err); err == nil {
			err = s.indexSoon(ctx, o.ID)
		}
		return err
	}}, nil
}

func (o *changeTags) told(r []engine.Result, err error) error {
	if err != nil {
		return err
	}
	if len(r[0].Rows) == 0 {
		return ErrNotFound
	}
	in := engine.Row{Values: r[0].Rows[0]}
	has, more := in.Int(0), in.Int(1)
	if in.Err == nil && o.Add && has+more > maxTags {
		return invalid("tags", "would be %d with those that the episode has, at most %d are allowed; none was added", has+more, maxTags)
	}
	return in.Err
}
