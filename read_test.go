package episodic

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/feed"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestReadInfo(t *testing.T) {
	onEveryCached(t, func(t *testing.T, s, other *Store, lag time.Duration) {
		e := &Episode{Description: "x"}
		ok(t, s.PutEpisode(t.Context(), e))
		read := func(s *Store) ReadInfo {
			t.Helper()
			info := ReadInfo{Stale: errors.New("left as it was")}
			_, err := s.Episode(WithReadInfo(t.Context(), &info), e.ID)
			ok(t, err)
			if info.Stale != nil || info.Age < 0 || info.Age > time.Second {
				t.Errorf("%+v", info)
			}
			return info
		}
		if read(s).Cached || !read(s).Cached || read(other).Cached {
			t.Error("a read tells the wrong source")
		}
		var info ReadInfo
		for _, cached := range []bool{false, true} {
			_, err := s.Pattern(WithReadInfo(t.Context(), &info), e.ID)
			if !errors.Is(err, ErrNotFound) || info.Cached != cached {
				t.Errorf("what is not there: %v, %+v", err, info)
			}
		}
		_, err := s.Episode(WithReadInfo(t.Context(), nil), e.ID)
		ok(t, err)
	})
}

func TestReadsTellThatTheyAreStale(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	link := newLink(t, server.URL())
	s, e := cachedStore(t, link.URL(), Cache{}), &Episode{Description: "x"}
	ok(t, s.PutEpisode(t.Context(), e))
	_, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	cut(link)
	time.Sleep(shortPoll)
	var info ReadInfo
	ctx := WithReadInfo(t.Context(), &info)
	_, err = s.Episode(ctx, e.ID)
	ok(t, err)
	if !Retryable(info.Stale) || info.Age < shortPoll || !info.Cached {
		t.Errorf("%+v", info)
	}
	if _, err := s.Episode(WithFresh(ctx), e.ID); !Retryable(err) {
		t.Errorf("a fresh read: %v", err)
	}
}

func TestFreshReads(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		for _, c := range []Cache{{PollInterval: time.Hour}, {DisablePolling: true}, {Disabled: true}} {
			s, other := cachedStore(t, target, c), cachedStore(t, target, Cache{Disabled: true})
			e := &Episode{Description: "x"}
			for n := range 3 {
				e.Context.Domain = fmt.Sprint(n)
				ok(t, other.PutEpisode(t.Context(), e))
				ctx := WithFresh(t.Context())
				got, err := s.Episode(ctx, e.ID)
				ok(t, err)
				page, err := s.ListEpisodes(ctx, nil, nil)
				ok(t, err)
				if got.Context.Domain != e.Context.Domain || page.Items[0].Context.Domain != e.Context.Domain {
					t.Errorf("%+v: read %s and %s, not %d", c, got.Context.Domain, page.Items[0].Context.Domain, n)
				}
			}
		}
	})
}

// A server that refuses can be reached: what is cached is not served in its place.
func TestCacheAfterRevocation(t *testing.T) {
	key := hranatest.NewKey()
	server := hranatest.Start(t, hranatest.WithKey(key))
	var revoked atomic.Bool
	s := open(t, server.URL(), &Options{
		AuthToken: func(context.Context) (string, error) {
			if revoked.Load() {
				return "eyJhbGciOiJFZERTQSJ9.e30.bad", nil
			}
			return key.Token(false, time.Now().Add(time.Hour)), nil
		},
		Cache: Cache{PollInterval: shortPoll},
	})
	e := &Episode{Description: "secret"}
	ok(t, s.PutEpisode(t.Context(), e))
	_, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	revoked.Store(true)
	time.Sleep(shortPoll)
	if _, err := s.Episode(t.Context(), e.ID); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("error is %v", err)
	}
	if n := s.Stats().Cache.StaleServed; n != 0 {
		t.Errorf("%d stale reads", n)
	}
}

type callerKey struct{}

// AuthToken sees the values of the caller's context, for loads and polls of the
// cache too.
func TestAuthTokenOfCachedReads(t *testing.T) {
	key := hranatest.NewKey()
	server := hranatest.Start(t, hranatest.WithKey(key))
	var unknown atomic.Int64
	s := open(t, server.URL(), &Options{
		AuthToken: func(ctx context.Context) (string, error) {
			if ctx.Value(callerKey{}) == nil {
				unknown.Add(1)
			}
			return key.Token(false, time.Now().Add(time.Hour)), nil
		},
		Cache:       Cache{PollInterval: shortPoll},
		Compression: Compression{DisableDictionaries: true},
	})
	ctx := context.WithValue(t.Context(), callerKey{}, "me")
	e := &Episode{Description: "x"}
	ok(t, s.PutEpisode(ctx, &Episode{Description: "the first write looks for dictionaries, for whoever comes"}))
	unknown.Store(0)
	ok(t, s.PutEpisode(ctx, e))
	_, err := s.Counts(ctx)
	ok(t, err)
	for range 2 {
		_, err := s.Episode(ctx, e.ID)
		ok(t, err)
		_, err = s.ListEpisodes(ctx, nil, nil)
		ok(t, err)
		time.Sleep(shortPoll)
	}
	if c := s.Stats().Cache; unknown.Load() != 0 || c.Polls == 0 {
		t.Errorf("%d requests without the caller's values; %+v", unknown.Load(), c)
	}
}

// A change of an item invalidates that item, and one of something else nothing.
func TestCacheIsInvalidatedItemByItem(t *testing.T) {
	t.Parallel()
	s := cachedStore(t, filepath.Join(t.TempDir(), "m.db"), Cache{})
	var episodes []*Episode
	for i := range feed.MaxLook + 100 {
		episodes = append(episodes, &Episode{Description: fmt.Sprint("task ", i)})
	}
	_, err := s.AddEpisodes(t.Context(), episodes...)
	ok(t, err)
	readAll := func() (loads uint64) {
		before := s.Stats().Cache.Loads
		for _, e := range episodes {
			_, err := s.Episode(t.Context(), e.ID)
			ok(t, err)
		}
		return s.Stats().Cache.Loads - before
	}
	readAll()
	for _, tt := range []struct {
		what  string
		sql   string
		args  []any
		loads int
	}{
		{"nothing", "UPDATE episodes SET rev=rev+1 WHERE 0", nil, 0},
		{"one", "UPDATE episodes SET rev=rev+1 WHERE id=?", []any{episodes[7].ID.bytes()}, 1},
		{"a tag", "INSERT INTO tags SELECT 'x',seq,0 FROM episodes WHERE id=?", []any{episodes[7].ID.bytes()}, 1},
		{"another kind of change", "INSERT INTO feed SELECT max(n)+1,4,?,0,NULL FROM feed", []any{episodes[7].ID.bytes()}, 0},
		{"as many as are listed", "UPDATE episodes SET rev=rev+1 WHERE seq<=?", []any{int64(feed.MaxLook - 1)}, feed.MaxLook - 1},
		{"more", "UPDATE episodes SET rev=rev+1 WHERE seq<=?", []any{int64(feed.MaxLook + 1)}, len(episodes)},
	} {
		sql(t, s, stmt(tt.sql, tt.args...))
		if n := readAll(); n != uint64(tt.loads) {
			t.Errorf("%s: %d loads, want %d", tt.what, n, tt.loads)
		}
	}
}
