package episodic

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// An import goes on in smaller units where a gateway takes less at once.
func TestAddEpisodesOverTheBodyLimitOfAGateway(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	s := open(t, proxy.URL(), nil)
	var episodes []*Episode
	for range 40 {
		episodes = append(episodes, &Episode{Description: "task", Steps: []Step{{Tool: "t", Result: &Result{Kind: ResultOutput, Text: noise(50_000)}}}})
	}
	proxy.Always(func(x *hranatest.Exchange) {
		if len(x.Body()) > 200_000 {
			x.Answer(http.StatusRequestEntityTooLarge, nil, nil)
		} else {
			hranatest.Pass(x)
		}
	})
	added, err := s.AddEpisodes(t.Context(), episodes...)
	if added != len(episodes) || err != nil {
		t.Errorf("added %d, %v", added, err)
	}
	episodes[0].Steps[0].Result.Text = noise(500_000)
	wants(t, s.PutEpisode(t.Context(), episodes[0]), ErrTooLarge, "exceeds the limit of the server or of a gateway before it: HTTP 413")
}

// failures are the reasons for which calls of s failed, without those that did not occur.
func failures(s *Store) map[string]uint64 {
	f := s.Stats().Failures
	maps.DeleteFunc(f, func(_ string, n uint64) bool { return n == 0 })
	return f
}

func TestFailuresAreCountedByReason(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	s := cachedStore(t, proxy.URL(), Cache{})
	e := &Episode{Description: "task"}
	ok(t, s.PutEpisode(t.Context(), e))
	ctx, cancel := context.WithCancel(t.Context())
	hurried := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	read := func() error { _, err := s.Episode(WithFresh(t.Context()), e.ID); return err }
	for _, tt := range []struct {
		reason string // empty: none is counted
		fault  hranatest.Fault
		call   func() error
	}{
		{"unavailable", hranatest.Refuse(http.StatusServiceUnavailable, ""), read},
		{"unavailable", hranatest.Refuse(522, ""), read},
		{"refused", hranatest.Refuse(http.StatusUnauthorized, ""), read},
		{"refused", hranatest.Refuse(http.StatusNotFound, `{"error":"Namespace gone"}`), read},
		{"too_large", hranatest.Refuse(http.StatusRequestEntityTooLarge, ""), func() error { return s.DeleteEpisode(t.Context(), e.ID) }},
		{"other", hranatest.Refuse(http.StatusBadRequest, ""), read},
		{"timeout", hranatest.BlackHole, func() error { _, err := s.Episode(hurried(), NewID()); return err }},
		{"unknown_outcome", hranatest.CutAnswer, func() error { return s.DeleteEpisode(t.Context(), e.ID) }},
		{"", hranatest.Then(cancel, hranatest.BlackHole), func() error { _, err := s.Episode(ctx, NewID()); return err }},
		{"", hranatest.Pass, func() error {
			_, err := s.Episode(t.Context(), NewID())
			return err
		}},
	} {
		before := s.Stats()
		proxy.Always(tt.fault)
		if tt.call() == nil {
			t.Errorf("%s: no error", tt.reason)
		}
		// The call under way of a caller who has left ends a moment later.
		proxy.Always(nil)
		want := before.Failures
		if tt.reason != "" {
			want[tt.reason]++
		}
		var got map[string]uint64
		for range 1000 {
			if got = s.Stats().Failures; maps.Equal(got, want) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: counted %v, want %v", tt.reason, got, want)
		}
	}
	closed := s.Stats().Server.Pool.ClosedBy
	if closed["died"] != 0 || closed["discarded"] == 0 {
		t.Errorf("connections closed: %v", closed)
	}
}

func TestANewMemoryHasNoFailures(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		s := open(t, target, nil)
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "task"}))
		if f := failures(s); len(f) != 0 {
			t.Errorf("counted %v", f)
		}
	})
}

// Whoever may not read any more is served nothing from memory.
func TestARefusalEndsTheCache(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	s := cachedStore(t, proxy.URL(), Cache{PollInterval: time.Hour})
	e := &Episode{Description: "task"}
	ok(t, s.PutEpisode(t.Context(), e))
	for status, sentinel := range map[int]error{http.StatusUnauthorized: ErrUnauthorized, http.StatusForbidden: ErrUnauthorized, http.StatusNotFound: ErrUnknownDatabase} {
		_, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		proxy.Always(hranatest.Refuse(status, `{"error":"no"}`))
		if _, err := s.Episode(t.Context(), e.ID); err != nil {
			t.Errorf("%d: before it is known: %v", status, err)
		}
		if _, err := s.Episode(t.Context(), NewID()); !errors.Is(err, sentinel) {
			t.Errorf("%d: what is not cached: %v", status, err)
		}
		if _, err := s.Episode(t.Context(), e.ID); !errors.Is(err, sentinel) {
			t.Errorf("%d: what was cached: %v", status, err)
		}
		proxy.Always(nil)
	}
}

// The folder of a server is emptied while a Store is open.
func TestAnEmptiedDatabase(t *testing.T) {
	dir := t.TempDir()
	server, err := hranatest.Run(dir)
	if errors.Is(err, hranatest.ErrNoServer) {
		t.Skip(err)
	}
	ok(t, err)
	defer func() { server.Kill() }()
	s := cachedStore(t, server.URL(), Cache{PollInterval: time.Hour})
	e := &Episode{Description: "task"}
	ok(t, s.PutEpisode(t.Context(), e))
	for range 10 { // a stream is kept
		_, err = s.Episode(WithFresh(t.Context()), e.ID)
		ok(t, err)
	}
	server.Kill()
	ok(t, os.RemoveAll(filepath.Join(dir, "data.sqld")))
	ok(t, server.Restart())

	const text = "database was emptied or replaced behind the open store; restore it, or open it anew: "
	wants(t, s.PutEpisode(t.Context(), &Episode{Description: "other"}), ErrReplaced, text)
	_, err = s.ListEpisodes(t.Context(), nil, nil)
	wants(t, err, ErrReplaced, text)
	_, err = s.Episode(t.Context(), e.ID) // which was cached
	wants(t, err, ErrReplaced, text)
	if f := failures(s); f["replaced"] < 3 {
		t.Errorf("counted %v", f)
	}
	_, err = Open(t.Context(), server.URL(), direct(&Options{MustExist: true}))
	wants(t, err, ErrNotFound, "there is no memory yet")

	anew := open(t, server.URL(), nil)
	_, err = anew.Episode(t.Context(), e.ID)
	wants(t, err, ErrNotFound, "")
	e.Revision = 0
	ok(t, s.PutEpisode(t.Context(), e)) // now there is a memory again
	_, err = anew.Episode(WithFresh(t.Context()), e.ID)
	ok(t, err)
}
