package episodic

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/feed"
)

// Change says that an item was written or deleted.
type Change struct {
	// Seq is the number of the change: greater than that of every change that was
	// committed before it, in this database.
	Seq  int64      `json:"seq"`
	Kind ChangeKind `json:"kind"`
	ID   ID         `json:"id"`
	// Deleted says that the item is gone. Of ChangedRelations and ChangedEmbeddings it
	// says that none are left.
	Deleted bool `json:"deleted,omitempty"`
	// Scope is that of the item. An item that was deleted and stored again in another
	// scope comes once for each.
	Scope Scope `json:"scope,omitzero"`
}

// ChangeKind says what has changed.
type ChangeKind string

// The kinds of changes.
const (
	ChangedEpisode    ChangeKind = "episode" // its steps and tags included
	ChangedPattern    ChangeKind = "pattern"
	ChangedHeuristic  ChangeKind = "heuristic"
	ChangedRelations  ChangeKind = "relations"  // from the episode with the ID
	ChangedEmbeddings ChangeKind = "embeddings" // of the item with the ID
)

var changeKinds = map[feed.Kind]ChangeKind{
	feed.Episode: ChangedEpisode, feed.Pattern: ChangedPattern, feed.Heuristic: ChangedHeuristic,
	feed.Relations: ChangedRelations, feed.Embeddings: ChangedEmbeddings,
}

// Changes returns what has changed after the change number since, in the order of
// the numbers; 0 is before all. An item that was changed several times comes once,
// with its last change. It tells of all changes that were committed before the call,
// whoever made them, an SQL shell included, and perhaps of later ones. To go on
// later, pass the Seq of the last Change; that costs no more than there are changed
// items. A narrowed Store tells of items in its scope only.
//
// Deletions are remembered for 30 days at least. ErrHistoryLost says that some since
// then were forgotten, or that an older copy of the database was restored: what the
// caller keeps must then be built anew, with Changes from 0. The iterator ends with
// the first error.
func (s *Store) Changes(ctx context.Context, since int64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if err := s.checkSince(ctx, since); err != nil {
			yield(Change{}, fmt.Errorf("read changes: %w", err))
			return
		}
		var w where
		s.scope.and(&w, "scope")
		for {
			page, err := s.changesPage(ctx, since, &w)
			if err != nil {
				yield(Change{}, failed(err, "read changes after %d", since))
				return
			}
			for _, c := range page.Changes {
				if !yield(changeFrom(c), nil) {
					return
				}
			}
			if !page.More {
				return
			}
			since = page.Last
		}
	}
}

// changesPage reads changes of items that the condition holds for.
func (s *Store) changesPage(ctx context.Context, since int64, w *where) (_ feed.Page, err error) {
	ctx, end := s.trace(ctx, "Changes")
	defer func() { end(err) }()
	page, err := feed.Since(ctx, s.engine, since, maxLimit, w.sql, w.args...)
	s.told()
	return page, err
}

// How often watchers look for what others have changed.
const (
	watchFile   = 20 * time.Millisecond
	watchServer = time.Second
)

// Watch is Changes that goes on: when there are no more changes it waits for some.
// It tells of a change by this Store at once, of one by others within 20 ms on a
// local file, and within a second and a round trip on a server. All watchers of a
// Store share one look. An item that changes quickly may come with some of its
// changes left out, but never its last one.
//
// It ends with an error: that of ctx, ErrClosed, or that of reading. After a
// Retryable one Watch can be called again with the Seq of the last Change.
func (s *Store) Watch(ctx context.Context, since int64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if err := s.checkSince(ctx, since); err != nil {
			yield(Change{}, fmt.Errorf("watch changes: %w", err))
			return
		}
		err := s.hub.Watch(ctx, since, func(c feed.Change) bool {
			change := changeFrom(c)
			s.told()
			return !s.scope.contains(change.Scope) || yield(change, nil)
		})
		if err != nil {
			yield(Change{}, failed(err, "watch changes"))
		}
	}
}

// told says that the caller is being told of changes on the server: its reads must show them.
func (s *Store) told() {
	if s.replica != nil {
		s.replica.noteAnswer()
	}
}

func (s *Store) checkSince(ctx context.Context, since int64) error {
	if err := s.check(ctx, true, ""); err != nil {
		return err
	}
	if since < 0 {
		return invalid("since", "is %d; 0 is before all changes", since)
	}
	return nil
}

func changeFrom(c feed.Change) Change {
	scope, err := scopeFrom(c.Scope)
	if err != nil {
		scope = Scope{} // an SQL shell has made it, and only it can mend it
	}
	return Change{Seq: c.Seq, Kind: changeKinds[c.Kind], ID: ID(c.Item), Deleted: c.Gone, Scope: scope}
}

// newHub returns the hub of the Store's watchers.
func (s *Store) newHub() *feed.Hub {
	source := feed.Source{
		Since: func(ctx context.Context, since int64, limit int) (feed.Page, error) {
			return feed.Since(ctx, s.engine, since, limit, "")
		},
		Interval: watchServer,
	}
	if file, ok := s.engine.(*embedded.Engine); ok {
		var seen int64
		source.Interval = watchFile
		source.Changed = func(ctx context.Context) (bool, error) {
			version, err := file.DataVersion(ctx)
			changed := version != seen
			seen = version
			return changed, err
		}
	}
	return feed.NewHub(source)
}
