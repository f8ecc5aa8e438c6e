package episodic

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Resolve returns the episode, pattern or heuristic whose ID begins with the given hexadecimal
// digits (hyphens are ignored). Errors: ErrNotFound; ErrInvalid if it is not a prefix of a UUID
// or fits several items.
func (s *Store) Resolve(ctx context.Context, prefix string) (_ ItemKind, _ ID, err error) {
	ctx, end := s.trace(ctx, "Resolve")
	defer func() { end(err) }()
	found, err := s.resolve(ctx, prefix, ItemEpisode, ItemPattern, ItemHeuristic)
	return found.kind, found.id, failed(err, "find item %.60q", prefix)
}

// ResolveEpisode returns the ID that begins with the given hexadecimal digits
// (hyphens are ignored). Errors: ErrNotFound; ErrInvalid if it is not a prefix
// of a UUID or fits several episodes.
func (s *Store) ResolveEpisode(ctx context.Context, prefix string) (_ ID, err error) {
	ctx, end := s.trace(ctx, "ResolveEpisode")
	defer func() { end(err) }()
	found, err := s.resolve(ctx, prefix, ItemEpisode)
	return found.id, failed(err, "find episode %.60q", prefix)
}

type resolved struct {
	kind ItemKind
	id   ID
}

// sqlIDs finds two of the IDs of a table within a range: a second one makes a prefix ambiguous.
const sqlIDs = `SELECT id FROM %ss WHERE id BETWEEN ? AND ?%s ORDER BY id LIMIT 2`

// resolve returns the one item of the kinds whose ID begins with prefix.
func (s *Store) resolve(ctx context.Context, prefix string, kinds ...ItemKind) (resolved, error) {
	if err := s.check(ctx, true, ""); err != nil {
		return resolved{}, err
	}
	from, to, err := prefixRange(prefix)
	if err != nil {
		return resolved{}, err
	}
	var w where
	s.scope.and(&w, "scope")
	var look []engine.Stmt
	for _, kind := range kinds {
		look = append(look, engine.Stmt{SQL: fmt.Sprintf(sqlIDs, kind, w.sql), Args: append([]any{from, to}, w.args...)})
	}
	found, err := readOne(ctx, s, readsPage(ID{}, nil), func(ctx context.Context, s *Store) (found []resolved, err error) {
		results, err := s.engine.Query(ctx, look...)
		if err != nil {
			return nil, err
		}
		for i, r := range results {
			for _, row := range r.Rows {
				id, err := idFrom(row[0])
				if err != nil {
					return nil, err
				}
				found = append(found, resolved{kinds[i], id})
			}
		}
		if len(found) == 0 {
			return nil, ErrNotFound
		}
		return found, nil
	})
	if err != nil {
		return resolved{}, err
	}
	if len(found) > 1 {
		return resolved{}, invalid("id", "%q fits several (%v, %v, ...); give more digits", prefix, found[0].id, found[1].id)
	}
	return found[0], nil
}

// prefixRange returns the lowest and the highest ID that begin with the given
// hexadecimal digits.
func prefixRange(prefix string) (from, to []byte, err error) {
	digits := strings.ReplaceAll(prefix, "-", "")
	const all = 2 * len(ID{})
	if digits == "" || len(digits) > all {
		return nil, nil, invalid("id", "%.60q is not a UUID or the beginning of one", prefix)
	}
	missing := all - len(digits)
	from, err = hex.DecodeString(digits + strings.Repeat("0", missing))
	if err != nil {
		return nil, nil, invalid("id", "%.60q is not a UUID or the beginning of one", prefix)
	}
	to, err = hex.DecodeString(digits + strings.Repeat("f", missing))
	return from, to, err
}
