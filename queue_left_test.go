package episodic

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// leftBy has a Store queue what write writes, offline, and end.
func leftBy(t *testing.T, link *hranatest.Link, o *Options, write func(*Store)) {
	t.Helper()
	s, err := Open(t.Context(), link.URL(), o)
	ok(t, err)
	defer s.Close()
	synced(t, s)
	cut(link)
	write(s)
	ok(t, s.Close())
	link.Refuse(false)
}

func tools(t *testing.T, s *Store, id ID) string {
	t.Helper()
	e, err := s.Episode(t.Context(), id)
	ok(t, err)
	var list []string
	for _, step := range e.Steps {
		list = append(list, step.Tool)
	}
	return strings.Join(list, " ")
}

// A Store that does not queue pushes what one before it has left, before what it writes itself.
func TestLeftWritesGoFirst(t *testing.T) {
	t.Parallel()
	for _, replica := range []bool{true, false} {
		t.Run(fmt.Sprint("replica ", replica), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server, link := offline(t)
			direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
			e, gone, left := &Episode{Description: "task"}, &Episode{Description: "deleted, and added anew"}, &Episode{Description: "left"}
			ok(t, direct.StartEpisode(ctx, e))
			ok(t, direct.PutEpisode(ctx, gone))
			o := queueOptions(t.TempDir())
			leftBy(t, link, o, func(s *Store) {
				for _, tool := range []string{"a", "b"} {
					_, err := s.AppendSteps(ctx, e.ID, Step{Tool: tool})
					ok(t, err)
				}
				ok(t, s.DeleteEpisode(ctx, gone.ID))
				ok(t, s.PutEpisode(ctx, left))
			})
			if o.Replica.Offline = Through; !replica {
				o.Replica.Path = ""
			}
			s := open(t, link.URL(), o)
			added, err := s.AddEpisodes(ctx, &Episode{ID: gone.ID, Description: "anew"})
			if ok(t, err); added != 1 {
				t.Error("it was there still")
			}
			n, err := s.AppendSteps(ctx, e.ID, Step{Tool: "c"})
			if ok(t, err); n != 3 || tools(t, direct, e.ID) != "a b c" {
				t.Errorf("step %d of %s", n, tools(t, direct, e.ID))
			}
			if _, err := direct.Episode(ctx, left.ID); err != nil {
				t.Error(err)
			}
			box, err := s.Outbox(ctx)
			if ok(t, err); box != (Outbox{}) {
				t.Errorf("%+v", box)
			}
			if replica {
				synced(t, s)
				if n := number(t, s.replica.inner, "SELECT count(*) FROM pinned"); n != 0 {
					t.Errorf("%d are pinned", n)
				}
				if q := s.Stats().Replica.Queue; q.Queued != 0 || q.Pushed != 4 {
					t.Errorf("%+v", q)
				}
			}
		})
	}
}

// What is left is pushed though nobody writes; without a server a write fails and overtakes
// nothing; what is left is read meanwhile.
func TestLeftWritesWithoutAServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, link := offline(t)
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	e := &Episode{Description: "task"}
	ok(t, direct.StartEpisode(ctx, e))
	o := queueOptions(t.TempDir())
	leftBy(t, link, o, func(s *Store) {
		_, err := s.AppendSteps(ctx, e.ID, Step{Tool: "a"})
		ok(t, err)
	})
	cut(link)
	o.Replica.Offline = Through
	s := open(t, link.URL(), o)
	if got := tools(t, s, e.ID); got != "a" {
		t.Errorf("read %q", got)
	}
	_, err := s.AppendSteps(ctx, e.ID, Step{Tool: "b"})
	if !Retryable(err) || !strings.Contains(err.Error(), "queued before go first") {
		t.Errorf("written without a server: %v", err)
	}
	if box, err := s.Outbox(ctx); err != nil || box.Waiting != 1 {
		t.Errorf("%+v, %v", box, err)
	}
	link.Refuse(false)
	for begun := time.Now(); tools(t, direct, e.ID) != "a"; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal("it is not pushed in the background")
		}
	}
	_, err = s.AppendSteps(ctx, e.ID, Step{Tool: "b"})
	if ok(t, err); tools(t, direct, e.ID) != "a b" {
		t.Errorf("stored %s", tools(t, direct, e.ID))
	}
}

// An item of which the server has refused a write gets no later one; others do.
func TestWriteBehindARefusedOne(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, link := offline(t)
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	e, other := &Episode{Description: "refused"}, &Episode{Description: "other"}
	ok(t, direct.StartEpisode(ctx, e))
	ok(t, direct.StartEpisode(ctx, other))
	o := queueOptions(t.TempDir())
	leftBy(t, link, o, func(s *Store) {
		for _, id := range []ID{e.ID, other.ID} {
			_, err := s.AppendSteps(ctx, id, Step{Tool: "a"})
			ok(t, err)
		}
		ops, err := s.queue.box.Waiting(ctx, 10)
		ok(t, err)
		ok(t, s.queue.box.Fail(ctx, ops[0].N, "as a test says"))
	})
	o.Replica.Offline = Through
	s := open(t, link.URL(), o)
	_, err := s.AppendSteps(ctx, other.ID, Step{Tool: "b"})
	if ok(t, err); tools(t, direct, other.ID) != "a b" {
		t.Errorf("stored %s", tools(t, direct, other.ID))
	}
	if box, err := s.Outbox(ctx); err != nil || box != (Outbox{Waiting: 1, Bytes: box.Bytes, Oldest: box.Oldest, Refused: 1}) {
		t.Errorf("%+v, %v", box, err)
	}
	_, err = s.AddEpisodes(ctx, &Episode{ID: e.ID, Description: "anew"})
	wants(t, err, ErrConflict, "has refused a write of "+e.ID.String())
	wants(t, s.AddTags(ctx, e.ID, "late"), ErrConflict, "has refused a write")
}

// Who does not queue makes no outbox.
func TestNoOutboxIsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := queueOptions(dir)
	o.Replica.Offline, o.StateDir = Through, filepath.Join(dir, "state")
	s := open(t, hranatest.Start(t).URL(), o)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
	ok(t, s.Flush(t.Context()))
	if _, err := os.Stat(o.StateDir); !os.IsNotExist(err) || s.queue != nil {
		t.Errorf("there is one: %v", err)
	}
}

// A linked file queues too, and is no local memory before the server has what is queued.
func TestLinkedFileQueues(t *testing.T) {
	if raceDetector {
		t.Skip("one thing after another")
	}
	t.Parallel()
	ctx := t.Context()
	server, link := offline(t)
	o := queueOptions(t.TempDir())
	o.Replica.Path = ""
	file := filepath.Join(t.TempDir(), "work.db")
	local := open(t, file, nil)
	ok(t, local.PutEpisode(ctx, &Episode{Description: "before"}))
	ok(t, local.Close())
	_, err := Link(ctx, file, link.URL(), o, nil)
	ok(t, err)
	e := &Episode{Description: "queued"}
	cut(link)
	s := open(t, file, o)
	ok(t, s.PutEpisode(ctx, e))
	ok(t, s.Close())
	_, err = Unlink(ctx, file, o)
	wants(t, err, ErrInvalid, "holds 1 writes that are queued")
	link.Refuse(false)
	o.Replica.Offline = Through
	_, err = Unlink(ctx, file, o)
	ok(t, err)
	if _, err := open(t, server.URL(), nil).Episode(ctx, e.ID); err != nil {
		t.Error(err)
	}
}

// setReplica changes the row that says where the replica in a file stands.
func setReplica(t *testing.T, path, sql string, args ...any) {
	t.Helper()
	file, err := embedded.Open(t.Context(), embedded.Config{Path: path, MustExist: true})
	ok(t, err)
	defer file.Close()
	r, err := file.Repeatable(t.Context(), engine.Stmt{SQL: "UPDATE replica " + sql, Args: args})
	if ok(t, err); r[0].Affected != 1 {
		t.Errorf("%s: no such row", sql)
	}
}

// refusedSince sets since when the replica in a file was refused.
func refusedSince(t *testing.T, path string, ago time.Duration) {
	t.Helper()
	setReplica(t, path, "SET refused_us = ? WHERE refused_us > 0", time.Now().Add(-ago).UnixMicro())
}

// What a server has refused for a week to let be read does not stay on the disk; what is queued
// for it does, and so does a linked file.
func TestReplicaOfAServerThatRefuses(t *testing.T) {
	if raceDetector {
		t.Skip("one thing after another")
	}
	t.Parallel()
	ctx := t.Context()
	key := hranatest.NewKey()
	server := hranatest.Start(t, hranatest.WithKey(key))
	var revoked atomic.Bool
	o := queueOptions(t.TempDir())
	o.AuthToken = func(context.Context) (string, error) {
		if revoked.Load() {
			return "eyJhbGciOiJFZERTQSJ9.e30.bad", nil
		}
		return key.Token(false, time.Now().Add(time.Hour)), nil
	}
	file := filepath.Join(t.TempDir(), "work.db")
	ok(t, open(t, file, nil).Close())
	_, err := Link(ctx, file, server.URL(), &Options{AuthToken: o.AuthToken, StateDir: o.StateDir}, nil)
	ok(t, err)
	first := open(t, server.URL(), o)
	synced(t, first)
	ok(t, first.Close())

	revoked.Store(true)
	refused := func(target string, o *Options, write bool) {
		t.Helper()
		s := open(t, target, o)
		if write {
			ok(t, s.PutEpisode(ctx, &Episode{Description: "queued"}))
		}
		_, err := s.ListEpisodes(ctx, nil, nil)
		wants(t, err, ErrUnauthorized, "")
		ok(t, s.Close())
	}
	there := func(path string, want bool) {
		t.Helper()
		if _, err := os.Stat(path); os.IsNotExist(err) == want {
			t.Errorf("%s is there: %v", filepath.Base(path), !want)
		}
	}
	path := o.Replica.Path
	refused(server.URL(), o, true)
	there(path, true)
	refusedSince(t, path, 6*24*time.Hour)
	refused(server.URL(), o, false)
	there(path, true)
	refusedSince(t, path, 8*24*time.Hour)
	refused(server.URL(), o, false)
	there(path, false)

	// Nor that of a program that asks the server before it begins, as a new version does.
	revoked.Store(false)
	again := open(t, server.URL(), o)
	synced(t, again)
	ok(t, again.Close())
	revoked.Store(true)
	for _, stays := range []bool{true, false} {
		setReplica(t, path, "SET server_schema = 0")
		_, err := Open(ctx, server.URL(), o)
		wants(t, err, ErrUnauthorized, "")
		if there(path, stays); stays {
			refusedSince(t, path, 8*24*time.Hour)
		}
	}
	through := &Options{AuthToken: o.AuthToken, StateDir: o.StateDir, Cache: o.Cache}
	refused(file, through, false)
	refusedSince(t, file, 8*24*time.Hour)
	refused(file, through, false)
	there(file, true)

	revoked.Store(false)
	s := open(t, server.URL(), o)
	ok(t, s.Flush(ctx))
	if list, err := open(t, server.URL(), &Options{AuthToken: o.AuthToken, StateDir: t.TempDir()}).ListEpisodes(ctx, nil, nil); err != nil || len(list.Items) != 1 || list.Items[0].Description != "queued" {
		t.Errorf("what was queued: %+v, %v", list, err)
	}
}
