package episodic

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func probe(t *testing.T, target string, opts *Options) *ProbeReport {
	t.Helper()
	r, err := Probe(t.Context(), target, opts)
	ok(t, err)
	if r.Usable != (r.Reason == "") {
		t.Errorf("usable is %v, reason %q", r.Usable, r.Reason)
	}
	return r
}

// unusable checks why a target is not usable.
func unusable(t *testing.T, r *ProbeReport, reason string) {
	t.Helper()
	if r.Usable || !strings.Contains(r.Reason, reason) {
		t.Errorf("usable is %v, reason %q, want %q; %+v", r.Usable, r.Reason, reason, r.Problems)
	}
}

func TestProbe(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		s := open(t, target, nil)
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "x"}))
		r := probe(t, target, nil)
		d := r.Database
		if !r.Usable || len(r.Problems) > 0 || r.Target != target || !strings.HasPrefix(d.SQLite, "3.") || !d.FTS5 || !d.JSON ||
			d.Holds != "memory" || d.SchemaVersion != 15 || d.Tables != nil {
			t.Errorf("report is %+v, %+v", r, d)
		}
		switch {
		case r.File != nil:
			if f := r.File; r.Server != nil || f.Path != target || !f.Exists || f.Size == 0 || f.JournalMode != "wal" || d.Vectors {
				t.Errorf("file is %+v, %+v", f, d)
			}
		case r.Server == nil:
			t.Error("neither a file nor a server")
		default:
			if s := r.Server; s.Protocol == "" || s.Writes != "allowed" || s.Role != "primary" || s.ReplicationIndex == 0 || s.LargestValue != 5e6 || !d.Vectors {
				t.Errorf("server is %+v, %+v", s, d)
			}
		}
	})
}

func TestProbeCreatesNoMemory(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.db")
	r := probe(t, missing, nil)
	unusable(t, r, "file: there is no such file")
	if r.File.Exists || r.File.Path != missing || r.Database != nil {
		t.Errorf("report is %+v, %+v", r, r.File)
	}
	unusable(t, probe(t, filepath.Join(missing, "deeper.db"), nil), "file: there is no such file")
	if _, err := os.Stat(missing); !os.IsNotExist(err) {
		t.Errorf("the file was created: %v", err)
	}

	empty := filepath.Join(t.TempDir(), "empty.db")
	ok(t, os.WriteFile(empty, nil, 0o600))
	for _, target := range []string{empty, hranatest.Start(t).URL()} {
		for range 2 {
			if r := probe(t, target, nil); !r.Usable || r.Database.Holds != "nothing" {
				t.Errorf("%s: report is %+v, %+v", target, r, r.Database)
			}
		}
		_, err := Open(t.Context(), target, &Options{MustExist: true})
		wants(t, err, ErrNotFound, "no memory yet")
	}
	if info, err := os.Stat(empty); err != nil || info.Size() != 0 {
		t.Errorf("the empty file is %v, %v", info, err)
	}
}

func TestProbeOfDatabasesOfOthers(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		s := open(t, target, nil)
		_, err := s.engine.Batch(t.Context(), stmt("INSERT INTO episodic_migrations VALUES(99, 0)"))
		ok(t, err)
		r := probe(t, target, nil)
		unusable(t, r, "use a newer episodic")
		if r.Database.Holds != "memory" || r.Database.SchemaVersion != 99 {
			t.Errorf("database is %+v", r.Database)
		}
		_, err = s.engine.Batch(t.Context(), stmt("ALTER TABLE episodic_migrations RENAME TO other"))
		ok(t, err)
		r = probe(t, target, nil)
		unusable(t, r, "give episodic a database of its own")
		if r.Database.Holds != "other" || len(r.Database.Tables) != 5 || len(r.Problems) > 0 {
			t.Errorf("database is %+v, problems are %q", r.Database, r.Problems)
		}
	})
}

func TestProbeLeavesAnotherProgramsFileAlone(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	s := open(t, foreign, nil)
	for _, sql := range []string{"CREATE TABLE notes(k)", "DROP TABLE episodic_migrations"} {
		_, err := s.engine.Batch(t.Context(), stmt(sql))
		ok(t, err)
	}
	ok(t, s.Close())
	before, err := os.ReadFile(foreign)
	ok(t, err)
	unusable(t, probe(t, foreign, nil), "another program")
	if after, err := os.ReadFile(foreign); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed (%v)", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestProbeOfWhatIsNoDatabase(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	ok(t, os.WriteFile(text, []byte(strings.Repeat("no database ", 100)), 0o600))
	unusable(t, probe(t, text, nil), "file is not a database")
	unusable(t, probe(t, dir, nil), "file: it is a folder; name a file in it")
	for _, target := range []string{"", "ftp://host", "127.0.0.1:8080", "http://episodic.example", "libsql://host?auth=s3cret"} {
		r, err := Probe(t.Context(), target, nil)
		wants(t, err, ErrInvalid, "probe: target: ")
		if r != nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: report %+v, error %v", target, r, err)
		}
	}
}

func TestProbeWithTokens(t *testing.T) {
	key := hranatest.NewKey()
	url := hranatest.Start(t, hranatest.WithKey(key)).URL()
	full, reader := key.Token(false, time.Now().Add(time.Hour)), key.Token(true, time.Now().Add(time.Hour))
	unusable(t, probe(t, url, nil), "first query: the server wants a token")
	unusable(t, probe(t, url+"?authToken=garbage", nil), "first query: the server refuses the token")
	r := probe(t, url, &Options{AuthToken: StaticToken(reader)})
	unusable(t, r, "the token may not write")
	if r.Server.Writes != "forbidden" || r.Database.Holds != "nothing" {
		t.Errorf("report is %+v, %+v", r.Server, r.Database)
	}
	r = probe(t, url+"?authToken="+full, nil)
	if !r.Usable || r.Server.Token != "accepted" || r.Target != url {
		t.Errorf("report is %+v, %+v", r, r.Server)
	}
	open(t, url, &Options{AuthToken: StaticToken(full)})
	r = probe(t, url, &Options{AuthToken: StaticToken(reader)})
	if !r.Usable || r.Server.Writes != "forbidden" || r.Database.Holds != "memory" {
		t.Errorf("a memory that can be read only: %+v, %+v", r.Server, r.Database)
	}
}

func TestProbeGoesOnAfterAFailure(t *testing.T) {
	proxy := hranatest.NewProxy(t, hranatest.Start(t).URL())
	proxy.Hide("/version", "/v3")
	r := probe(t, proxy.URL(), nil)
	if !r.Usable || r.Server.Version != "" || !slices.Equal(r.Server.Protocols, []string{"Hrana 2 JSON"}) || r.Server.Protocol != "Hrana 2 JSON" {
		t.Errorf("report is %+v, %+v", r, r.Server)
	}
	r = probe(t, "http://127.0.0.1:1", nil)
	unusable(t, r, "connection: nothing listens at 127.0.0.1:1")
	if !slices.Equal(r.Server.Addresses, []string{"127.0.0.1"}) || r.Database != nil {
		t.Errorf("report is %+v, %+v", r, r.Server)
	}
}

func TestProbeIsCancelled(t *testing.T) {
	onEveryTarget(t, func(t *testing.T, target string) {
		open(t, target, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r, err := Probe(ctx, target, nil)
		wants(t, err, context.Canceled, "probe "+target)
		if r != nil {
			t.Errorf("report is %+v", r)
		}
	})
}

func TestProbeNamesALackOfFeatures(t *testing.T) {
	full := ProbedDatabase{FTS5: true, JSON: true, Holds: "nothing"}
	noSearch, noJSON := full, full
	noSearch.FTS5, noJSON.JSON = false, false
	for reason, r := range map[string]*ProbeReport{
		"":                            {Database: &full, Problems: []ProbeProblem{{"vectors", "strange"}}},
		"lacks the full-text":         {Database: &noSearch},
		"lacks JSON":                  {Database: &noJSON},
		"FTS5: blocked":               {Database: &noSearch, Problems: []ProbeProblem{{"server", "slow"}, {"FTS5", "blocked"}, {"holds", "late"}}},
		"writing: no answer to BEGIN": {Database: &full, Problems: []ProbeProblem{{"writing", "no answer to BEGIN"}}},
	} {
		r.judge()
		if r.Usable != (reason == "") || !strings.Contains(r.Reason, reason) {
			t.Errorf("usable is %v, reason %q, want %q", r.Usable, r.Reason, reason)
		}
	}
}

func TestLookOnlyKeepsEveryWriteFromTheEngine(t *testing.T) {
	for i := range reflect.TypeFor[engine.Engine]().NumMethod() {
		name := reflect.TypeFor[engine.Engine]().Method(i).Name
		if !slices.Contains([]string{"Batch", "Repeatable", "Query", "Stats", "Close"}, name) {
			t.Errorf("lookOnly lets %s through: does it write?", name)
		}
	}
	_, batchErr := lookOnly{}.Batch(t.Context(), stmt("SELECT 1"))
	_, againErr := lookOnly{}.Repeatable(t.Context(), stmt("SELECT 1"))
	if !errors.Is(batchErr, errLookOnly) || !errors.Is(againErr, errLookOnly) {
		t.Errorf("errors are %v and %v", batchErr, againErr)
	}
}
