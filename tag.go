package episodic

import (
	"context"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
)

// TagCount is a tag and the number of episodes that have it.
type TagCount struct {
	Tag      string `json:"tag"`
	Episodes int64  `json:"episodes"`
}

const (
	sqlTagCounts     = `SELECT tag, count(*) FROM tags GROUP BY tag ORDER BY count(*) DESC, tag`
	sqlEpisodeExists = `SELECT EXISTS (SELECT 1 FROM episodes WHERE id = ?)`

	sqlAddTag = `INSERT INTO tags(tag, episode, pos)
 SELECT ?, seq, (SELECT coalesce(max(pos) + 1, 0) FROM tags WHERE episode = seq) FROM episodes WHERE id = ? ON CONFLICT DO NOTHING`
	sqlRemoveTag = `DELETE FROM tags WHERE tag = ? AND episode = ` + bySeq

	// The search table holds each tag as a line of its own, see tagWords.
	sqlIndexTag   = `UPDATE search SET tags = ifnull(nullif(tags, ''), char(10)) || ? || char(10) WHERE rowid = ` + bySeq + ` AND instr(tags, char(10) || ? || char(10)) = 0`
	sqlUnindexTag = `UPDATE search SET tags = replace(tags, char(10) || ? || char(10), char(10)) WHERE rowid = ` + bySeq
)

// AddTags adds tags to a stored episode, behind those it has; tags it has
// already stay where they are. Errors: ErrInvalid; ErrNotFound.
func (s *Store) AddTags(ctx context.Context, id ID, tags ...string) error {
	return s.changeTags(ctx, "add tags to", id, tags, func(tag, words string) []engine.Stmt {
		return []engine.Stmt{
			{SQL: sqlAddTag, Args: []any{tag, id.bytes()}},
			{SQL: sqlIndexTag, Args: []any{words, id.bytes(), words}},
		}
	})
}

// RemoveTags removes tags from a stored episode; tags it does not have are
// ignored. Errors: ErrInvalid; ErrNotFound.
func (s *Store) RemoveTags(ctx context.Context, id ID, tags ...string) error {
	return s.changeTags(ctx, "remove tags from", id, tags, func(tag, words string) []engine.Stmt {
		return []engine.Stmt{
			{SQL: sqlRemoveTag, Args: []any{tag, id.bytes()}},
			{SQL: sqlUnindexTag, Args: []any{words, id.bytes()}},
		}
	})
}

func (s *Store) changeTags(ctx context.Context, attempt string, id ID, tags []string, change func(tag, words string) []engine.Stmt) error {
	c := &check{}
	if c.names("tags", tags); c.err != nil {
		return failed(c.err, "%s episode %v", attempt, id)
	}
	stmts := []engine.Stmt{{SQL: sqlEpisodeExists, Args: []any{id.bytes()}}}
	for _, tag := range tags {
		stmts = append(stmts, change(tag, marked(tag))...)
	}
	defer s.changed(oneEpisode, id)
	r, err := s.engine.Repeatable(ctx, stmts...)
	if err == nil && r[0].Rows[0][0] != int64(1) {
		err = ErrNotFound
	}
	return failed(err, "%s episode %v", attempt, id)
}

// Tags returns all tags in use, the most used first.
func (s *Store) Tags(ctx context.Context) ([]TagCount, error) {
	r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlTagCounts})
	if err != nil {
		return nil, failed(err, "list tags")
	}
	list := make([]TagCount, len(r[0].Rows))
	for i, row := range r[0].Rows {
		in := reader{row: row}
		list[i] = TagCount{Tag: in.text(0), Episodes: in.int(1)}
		if in.err != nil {
			return nil, fmt.Errorf("list tags: %w", in.err)
		}
	}
	return list, nil
}
