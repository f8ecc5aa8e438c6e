package replica_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/replica"
	"github.com/episodic-memory/episodic/internal/schema"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		// Each check has files of its own.
		if err := flag.Set(f.Name, fmt.Sprint(testkit.Effort(10, 15, 500))); err != nil {
			panic(err)
		}
	}
	remove := testkit.UserCacheDir()
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	remove()
	os.Exit(code)
}

type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Context() context.Context
	Cleanup(func())
}

// oneByOne skips a test under the race detector that does one thing after another: it has
// nothing to detect, and there SQLite in Go takes minutes.
func oneByOne(t *testing.T) {
	if raceDetector {
		t.Skip("without goroutines of its own")
	}
}

func ok(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// migrated is the content of a file that has been migrated, and prepared for a replica:
// to copy it is faster.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "replica-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "m.db")
	e, err := embedded.Open(context.Background(), embedded.Config{Path: path, Disposable: true})
	if err == nil {
		err = schema.Migrate(context.Background(), e, true)
		err = errors.Join(err, e.Close())
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// openFile opens an engine over a file, which is made a memory, or a replica of one.
func openFile(t tester, path string) engine.Engine {
	t.Helper()
	content, err := migrated()
	ok(t, err)
	if _, err := os.Stat(path); err != nil {
		ok(t, os.WriteFile(path, content, 0o600))
	}
	e, err := embedded.Open(t.Context(), embedded.Config{Path: path, Disposable: true})
	ok(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// side is a memory: a Store, and an engine of its own over the same file.
type side struct {
	*episodic.Store
	engine engine.Engine
	path   string
}

func newSide(t tester, dir string) *side { return sideAt(t, filepath.Join(dir, "server.db")) }

func sideAt(t tester, path string) *side {
	t.Helper()
	s := &side{path: path}
	s.engine = openFile(t, s.path)
	store, err := episodic.Open(t.Context(), s.path, nil)
	ok(t, err)
	t.Cleanup(func() { _ = store.Close() })
	s.Store = store
	return s
}

// newLocal returns the configuration of a replica in a new file.
func newLocal(t tester, server engine.Engine, path string) replica.Config {
	t.Helper()
	local := openFile(t, path)
	ok(t, replica.Prepare(t.Context(), local))
	return replica.Config{Server: server, Local: local, Path: path}
}

// dumps are all that must be the same on both sides, in an order that is the same.
var dumps = map[string]string{
	"episodes": `SELECT id, task_type, domain, language, outcome, start_us, end_us, steps, rev, payload, bytes, scope,
 (SELECT json_group_array(tag) FROM (SELECT tag FROM tags WHERE episode = seq ORDER BY pos)) FROM episodes ORDER BY id`,
	"runs":       `SELECT e.id, first, count, key, r.payload FROM runs r JOIN episodes e ON seq = r.episode ORDER BY 1, 2`,
	"patterns":   `SELECT id, kind, domain, success_rate, created_us, payload, scope, rev FROM patterns ORDER BY id`,
	"heuristics": `SELECT id, confidence, created_us, payload, scope, rev FROM heuristics ORDER BY id`,
	"relations": `SELECT s.id, type, d.id, r.created_us, r.payload FROM relations r JOIN episodes s ON s.seq = src JOIN episodes d ON d.seq = dst
 ORDER BY 1, 2, 3`,
	"embeddings": `SELECT * FROM embeddings ORDER BY kind, item, model`,
}

func query(t tester, e engine.Engine, sql string, args ...any) [][]any {
	t.Helper()
	r, err := e.Query(t.Context(), engine.Stmt{SQL: sql, Args: args})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return r[0].Rows
}

// sameAs compares two memories.
func sameAs(t tester, server, local engine.Engine) {
	t.Helper()
	for name, sql := range dumps {
		want, got := query(t, server, sql), query(t, local, sql)
		if len(want) == 0 && len(got) == 0 {
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s differ: %d here, %d on the server%s", name, len(got), len(want), firstDifference(got, want))
		}
	}
	for _, row := range query(t, local, `SELECT count(*) FROM relations_waiting`) {
		if row[0] != int64(0) {
			t.Errorf("%d relations wait for their ends", row[0])
		}
	}
}

func firstDifference(got, want [][]any) string {
	for i := range min(len(got), len(want)) {
		if !reflect.DeepEqual(got[i], want[i]) {
			return fmt.Sprintf(": %x, want %x", got[i], want[i])
		}
	}
	return ""
}
