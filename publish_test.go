package episodic

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// liveFolder is a folder whose name is short enough for sockets.
func liveFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "live-")
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestLiveStores(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		dir := liveFolder(t)
		live := func() []LiveStore {
			t.Helper()
			stores, err := LiveStores(t.Context(), dir)
			ok(t, err)
			return stores
		}
		silent, told := open(t, target, nil), open(t, target, nil)
		ok(t, silent.PutEpisode(t.Context(), &Episode{Description: "not told"}))
		if got := live(); len(got) != 0 {
			t.Errorf("nobody has published, but there are %+v", got)
		}
		narrow, err := told.Scoped(Scope{Project: "web"})
		ok(t, err)
		ok(t, narrow.PublishStats(dir))
		ok(t, told.PublishStats(dir)) // the same Store again
		ok(t, narrow.Close())         // does nothing
		for n := range 3 {
			got := live()
			if len(got) != 1 {
				t.Fatalf("there are %+v", got)
			}
			l := got[0]
			if l.PID != os.Getpid() || l.Program != filepath.Base(os.Args[0]) || l.Target != target || l.Error != "" ||
				l.Opened.IsZero() || time.Since(l.Opened) > time.Minute {
				t.Errorf("it says %+v", l)
			}
			want := told.Stats()
			if l.Stats == nil || l.Stats.Writes != uint64(n) || l.Stats.Writes != want.Writes || l.Stats.Compression.Episodes != want.Compression.Episodes ||
				(l.Stats.Server == nil) != (want.Server == nil) {
				t.Errorf("it says %+v, want %+v", l.Stats, want)
			}
			ok(t, told.PutEpisode(t.Context(), &Episode{Description: "told"}))
		}
		ok(t, told.Close())
		if got := live(); len(got) != 0 {
			t.Errorf("after Close there are %+v", got)
		}
		if err := told.PublishStats(dir); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
	})
	if err := (*Store)(nil).PublishStats(""); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

func TestLiveStoresTellNoSecret(t *testing.T) {
	key := hranatest.NewKey()
	token := key.Token(false, time.Now().Add(time.Hour))
	server := hranatest.Start(t, hranatest.WithKey(key))
	dir := liveFolder(t)
	s := open(t, server.URL()+"?authToken="+token, nil)
	const secret = "what an episode says"
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: secret}))
	ok(t, s.PublishStats(dir))
	sockets, err := os.ReadDir(dir)
	ok(t, err)
	conn, err := net.Dial("unix", filepath.Join(dir, sockets[0].Name()))
	ok(t, err)
	defer conn.Close()
	said, err := io.ReadAll(conn)
	ok(t, err)
	if text := string(said); !strings.Contains(text, server.URL()+`"`) || strings.Contains(text, token[len(token)-20:]) || strings.Contains(text, secret) {
		t.Errorf("a Store says %s", said)
	}
}

func TestLiveStoresFindRelativePaths(t *testing.T) {
	t.Chdir(t.TempDir())
	wd, err := os.Getwd()
	ok(t, err)
	dir := liveFolder(t)
	ok(t, open(t, "m.db", nil).PublishStats(dir))
	stores, err := LiveStores(t.Context(), dir)
	ok(t, err)
	if want := filepath.Join(wd, "m.db"); len(stores) != 1 || stores[0].Target != want {
		t.Errorf("there are %+v, want one of %s", stores, want)
	}
}

func TestAnAnswerThatIsNoStoreIsAnError(t *testing.T) {
	dir := liveFolder(t)
	l, err := net.Listen("unix", filepath.Join(dir, "episodic-4711-01234567.sock"))
	ok(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			io.WriteString(conn, `{"pid": 1, "program": "agent", "stats"`) // killed meanwhile
			conn.Close()
		}
	}()
	stores, err := LiveStores(t.Context(), dir)
	l.Close()
	<-done
	ok(t, err)
	if len(stores) != 1 || stores[0].PID != 4711 || stores[0].Program != "" || !strings.Contains(stores[0].Error, "JSON") {
		t.Errorf("there are %+v", stores)
	}
}
