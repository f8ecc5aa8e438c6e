package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// hasLines checks that each of the lines begins one of text.
func hasLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+text, "\n"+l) {
			t.Errorf("no line begins with %q in\n%s", l, text)
		}
	}
}

func TestProbeOfAServer(t *testing.T) {
	c := newCLI(t)
	c.env["EPISODIC_DB"] = hranatest.Start(t).URL()
	c.put(sample(1, "Something"))
	out := c.ok("probe", c.env["EPISODIC_DB"])
	hasLines(t, out,
		"target            "+c.env["EPISODIC_DB"]+"\n", "address           127.0.0.1\n", "connection        ", "HTTP              1.1\n",
		"server            sqld ", "protocols         Hrana 3 protobuf, Hrana 3 JSON, Hrana 2 JSON; answered in Hrana 3 protobuf\n",
		"warm              ", "first query       ", "token             not needed\n", "new stream        ", "kept stream       ",
		"writing           allowed\n", "replication index ", "largest value     5 MB; 10 MB is refused\n", "parameters        32766\n",
		"SQLite            3.", "FTS5              yes\n", "JSON              yes\n", "vectors           yes\n",
		"holds             an episodic memory, schema version 15\n")
	if !strings.HasSuffix(out, "\nusable: yes\n") || strings.Contains(out, "FAILED") || strings.Contains(out, "TLS") {
		t.Errorf("probe printed\n%s", out)
	}
	out = c.ok("probe", "--json") // the default database
	if !strings.HasPrefix(out, `{"target":"`+c.env["EPISODIC_DB"]+`","usable":true,"server":{"addresses":["127.0.0.1"],"http":["1.1"],"version":"sqld `) {
		t.Errorf("JSON is %s", out)
	}
	r := decode[episodic.ProbeReport](t, out)
	if !r.Usable || r.Server.Cold <= 0 || r.Server.KeptStream <= 0 || r.Server.LargestValue != 5e6 || r.Database.Holds != "memory" {
		t.Errorf("report is %+v", r)
	}
}

func TestProbeOfAFile(t *testing.T) {
	c := newCLI(t)
	c.put(sample(1, "Something"))
	out := c.ok("probe")
	hasLines(t, out, "target            "+c.env["EPISODIC_DB"]+"\n", "file              "+c.env["EPISODIC_DB"]+", ", "journal mode      wal\n",
		"SQLite            3.", "FTS5              yes\n", "vectors           no\n", "holds             an episodic memory, schema version 15\n", "usable: yes\n")
	c.env["EPISODIC_DB"] = filepath.Join(c.home, "other.db")
	if r := decode[episodic.ProbeReport](t, c.ok("probe", "--json", filepath.Join(c.home, "test.db"))); r.File.Size == 0 || r.Server != nil {
		t.Errorf("report is %+v", r)
	}
}

func TestProbeOfAnUnusableTargetExitsWith1(t *testing.T) {
	c := newCLI(t)
	page := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	missing := filepath.Join(c.home, "missing.db")
	for target, lines := range map[string][]string{
		missing: {"file              FAILED: there is no such file\n",
			"usable: no: file: there is no such file; check the path, or let episodic import create it\n"},
		c.file("text.db", strings.Repeat("this is no database ", 100)): {"usable: no: "},
		"http://127.0.0.1:1": {"address           127.0.0.1\n", "connection        FAILED: nothing listens at 127.0.0.1:1",
			"usable: no: connection: nothing listens at 127.0.0.1:1 (connection refused); check that the server runs"},
		page.URL: {"connection        ", "first query       FAILED: what answers is no libSQL server", "usable: no: first query: what answers is no libSQL"},
	} {
		got := c.run("probe", target)
		if got.code != exitFailure || got.stderr != "" {
			t.Errorf("%s: exit code %d, stderr %q", target, got.code, got.stderr)
		}
		hasLines(t, got.stdout, lines...)
		got = c.run("probe", "--json", target)
		if r := decode[episodic.ProbeReport](t, got.stdout); got.code != exitFailure || r.Usable || len(r.Problems) == 0 || r.Reason == "" {
			t.Errorf("%s: exit code %d, report %+v", target, got.code, r)
		}
	}
	if _, err := os.Stat(missing); !os.IsNotExist(err) {
		t.Errorf("the file was created: %v", err)
	}
	c.fails(exitUsage, "without its scheme", "probe", "127.0.0.1:8080")
	c.fails(exitUsage, "target: is empty", "probe", "")
	c.fails(exitUsage, "--allow-plaintext", "probe", "http://episodic.example")
}

func TestProbeShowsNoTokenAndSaysHowToGiveOne(t *testing.T) {
	c := newCLI(t)
	key := hranatest.NewKey()
	server := hranatest.Start(t, hranatest.WithKey(key)).URL()
	hint := "; set EPISODIC_AUTH_TOKEN to a token of this server\n"
	for _, token := range []string{"", "SECRET", key.Token(true, time.Now().Add(time.Hour))} {
		for _, flags := range [][]string{{"probe", server}, {"probe", "--json", server}} {
			c.env["EPISODIC_AUTH_TOKEN"] = token
			fromEnv := c.run(flags...)
			c.env["EPISODIC_AUTH_TOKEN"] = "another"
			flags[len(flags)-1] += "?authToken=" + token
			inURL := c.run(flags...)
			for _, got := range []outcome{fromEnv, inURL} {
				if got.code != exitFailure || token != "" && strings.Contains(got.stdout+got.stderr, token) {
					t.Errorf("%q: %+v", flags, got)
				}
				if len(flags) == 2 && strings.HasSuffix(got.stdout, hint) != (len(token) < 10) {
					t.Errorf("%q printed\n%s", flags, got.stdout)
				}
			}
		}
	}
	c.env["EPISODIC_AUTH_TOKEN"] = key.Token(false, time.Now().Add(time.Hour))
	hasLines(t, c.ok("probe", server), "token             accepted\n", "holds             nothing yet\n", "usable: yes\n")
	c.ok("--db", server, "import", c.file("none.jsonl", ""))
	c.env["EPISODIC_AUTH_TOKEN"] = key.Token(true, time.Now().Add(time.Hour))
	hasLines(t, c.ok("--db", server, "probe"), "token             accepted\n", "writing           forbidden\n", "usable: yes, for reading\n")
}

func TestProbeOutputCannotSteerTheTerminal(t *testing.T) {
	c := newCLI(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(hostile + "\nusable: yes"))
	}))
	t.Cleanup(s.Close)
	got := c.run("probe", s.URL)
	if got.code != exitFailure || steered(got.stdout) || strings.Contains(got.stdout, "\nusable: yes") || !strings.Contains(got.stdout, "gnp.exe") {
		t.Errorf("probe printed %+v", got)
	}
}

func TestProbeLinesOfWhatOnlySomeServersTell(t *testing.T) {
	var out strings.Builder
	a := newApp(system{stdout: &out})
	a.printProbe(&episodic.ProbeReport{
		Target: "https://host",
		Server: &episodic.ProbedServer{
			Proxy: "proxy:3128", HTTP: []string{"1.1", "2"}, TLS: "TLS 1.3", CertificateExpires: time.Date(2027, 2, 3, 4, 5, 6, 0, time.UTC),
			Version: "sqld 1", ServerHeader: "edge", Protocol: "Hrana 3 JSON", RetryAfter: "30", BaseURL: "https://eu.host",
			LargestValue: 100e6, ReplicationIndex: 7, Cold: 100, Warm: 20,
		},
		Problems: []episodic.ProbeProblem{{Check: "HTTP/2", Error: "no\nanswer"}, {Check: "closing", Error: "late"}},
		Usable:   true,
	})
	if err := a.out.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `target            https://host
address           behind the proxy proxy:3128
connection        100.00 ms: dial, TLS and first answer on a new connection
TLS               TLS 1.3, certificate valid until 2027-02-03
HTTP              1.1, 2
HTTP/2            FAILED: no answer
server            sqld 1
gateway           edge
protocols         none announced; answered in Hrana 3 JSON
warm              20.00 ms: an answer without SQL; the server closes each connection, which makes it slow
streams go on at  https://eu.host
retry after       30
replication index 7
largest value     100 MB or more
closing           FAILED: late
usable: yes
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", &out, want)
	}
}

func TestProbeTellsTheRole(t *testing.T) {
	for want, s := range map[string]episodic.ProbedServer{
		"":        {},
		"primary": {Role: "primary"},
		"replica, 0 frames of the log behind its primary": {Role: "replica", Primary: "answers", Lag: new(uint64(0))},
		"replica; its primary answers":                    {Role: "replica", Primary: "answers"},
		"replica; its primary does not answer":            {Role: "replica", Primary: "does not answer"},
	} {
		if lines := serverLines(&s); !slices.Contains(lines, probeLine{"role", want}) {
			t.Errorf("%+v: %q", s, lines)
		}
	}
}
