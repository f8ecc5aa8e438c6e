package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// TestMain lets the test binary be the program itself, for the tests of what
// only a process shows.
func TestMain(m *testing.M) {
	if os.Getenv("EPISODIC_TEST_AS_PROGRAM") == "1" {
		main()
	}
	remove := testkit.UserCacheDir()
	code := m.Run()
	remove()
	os.Exit(code)
}

// cli runs command lines in the test's own process.
type cli struct {
	t     *testing.T
	env   map[string]string
	home  string
	stdin io.Reader
}

func newCLI(t *testing.T) *cli {
	t.Helper()
	home := t.TempDir()
	// A replica of its own: another test's server may have had the same address.
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	t.Setenv("LocalAppData", filepath.Join(home, "cache"))
	return &cli{t: t, home: home, env: map[string]string{"EPISODIC_DB": filepath.Join(home, "test.db"), liveDirEnv: filepath.Join(home, "live")}}
}

type outcome struct {
	code           int
	stdout, stderr string
}

func (c *cli) run(args ...string) outcome {
	c.t.Helper()
	return c.runContext(c.t.Context(), args...)
}

func (c *cli) runContext(ctx context.Context, args ...string) outcome {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	stdin := c.stdin
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	code := run(ctx, args, system{
		stdin: stdin, stdout: &stdout, stderr: &stderr,
		getenv: func(name string) string { return c.env[name] }, dataHome: c.home, configHome: filepath.Join(c.home, "config"), stateHome: filepath.Join(c.home, "state"), hookWait: time.Minute, self: "episodic",
	})
	return outcome{code, stdout.String(), stderr.String()}
}

// ok runs a command line that must succeed in silence on stderr, and returns its stdout.
func (c *cli) ok(args ...string) string {
	c.t.Helper()
	got := c.run(args...)
	if got.code != exitOK || got.stderr != "" {
		c.t.Fatalf("episodic %q: exit code %d, stderr %q", args, got.code, got.stderr)
	}
	return got.stdout
}

// fails runs a command line that must end with code and say something on stderr.
func (c *cli) fails(code int, says string, args ...string) outcome {
	c.t.Helper()
	got := c.run(args...)
	if got.code != code || !strings.Contains(got.stderr, says) {
		c.t.Fatalf("episodic %q: exit code %d, want %d; stderr %q, want %q in it", args, got.code, code, got.stderr, says)
	}
	return got
}

// file writes a file into the home folder and returns its path.
func (c *cli) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.home, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func (c *cli) store() *episodic.Store {
	c.t.Helper()
	store, err := episodic.Open(c.t.Context(), c.env["EPISODIC_DB"], nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { store.Close() })
	return store
}

// put stores episodes through the API.
func (c *cli) put(episodes ...*episodic.Episode) {
	c.t.Helper()
	store := c.store()
	for _, e := range episodes {
		if err := store.PutEpisode(c.t.Context(), e); err != nil {
			c.t.Fatal(err)
		}
	}
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Fatalf("output goes on behind the document: %.300s", text)
	}
	return v
}

func TestWrongCommandLinesExitWith2(t *testing.T) {
	c := newCLI(t)
	c.put(sample(1, "Something"))
	for _, args := range [][]string{
		{},
		{"remember"},
		{"search"},
		{"search", "--nonsense", "x"},
		{"search", "x", "--since", "yesterday"},
		{"search", "x", "--outcome", "great"},
		{"search", "x", "-n", "-1"},
		{"search", "x", "-n", "0"},
		{"list", "-n", "0"},
		{"stats", "--db", "127.0.0.1:8080"},
		{"list", "-n", "1001"},
		{"list", "--cursor", "nonsense"},
		{"show", "not-an-id"},
		{"import", "x.jsonl", "--format", "xml"},
		{"stats", "--db", ""},
		{"stats", "--db", "ftp://host/"},
		{"stats", "--db", "http://episodic.example/"},
	} {
		got := c.fails(exitUsage, "episodic: ", args...)
		if got.stdout != "" {
			t.Errorf("episodic %q: stdout is %q", args, got.stdout)
		}
	}
	c.fails(exitUsage, "--allow-plaintext", "stats", "--db", "http://episodic.example/")
}

func TestHelpDocumentsExitCodesAndEnvironment(t *testing.T) {
	c := newCLI(t)
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") } // however they are wrapped
	help := words(c.ok("--help"))
	for _, want := range []string{"0 done", "1 failed", "2 the command line", "3 no such", "$EPISODIC_DB", "$TURSO_DATABASE_URL",
		"$EPISODIC_AUTH_TOKEN", "$TURSO_AUTH_TOKEN", "$EPISODIC_NAMESPACE", "$EPISODIC_CA_FILE", "$HTTPS_PROXY", "--allow-plaintext", "quickstart", "import", "search", "brief", "list", "show", "delete", "stats", "probe", "version"} {
		if !strings.Contains(help, want) {
			t.Errorf("--help lacks %q", want)
		}
	}
	if help := words(c.ok("import", "--help")); !strings.Contains(help, "importing again adds nothing") {
		t.Errorf("import --help is %q", help)
	}
	if _, err := os.Stat(c.env["EPISODIC_DB"]); !os.IsNotExist(err) {
		t.Errorf("help touched the database: %v", err)
	}
}

func TestFailuresExitWith1AndSayWhatToDo(t *testing.T) {
	c := newCLI(t)
	c.env["EPISODIC_DB"] = filepath.Join(c.home, "no", "such", "folder", "x.db")
	c.fails(exitFailure, "folder", "stats")
	c.env["EPISODIC_DB"] = c.file("foreign.db", strings.Repeat("this is no database ", 100))
	c.fails(exitFailure, "foreign.db", "stats")
	c.env["EPISODIC_DB"] = "http://127.0.0.1:1"
	c.fails(exitFailure, "try again", "stats")
}

func TestReadingCreatesNoDatabase(t *testing.T) {
	c := newCLI(t)
	for _, args := range [][]string{{"search", "x"}, {"brief", "x"}, {"list"}, {"show", "01"}, {"delete", "01"}, {"stats"}} {
		c.fails(exitFailure, c.env["EPISODIC_DB"]+": nothing has been stored there yet", args...)
	}
	if _, err := os.Stat(c.env["EPISODIC_DB"]); !os.IsNotExist(err) {
		t.Errorf("a database was made: %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestLostOutputIsAFailure(t *testing.T) {
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"version"}, system{stdout: failingWriter{}, stderr: &stderr, getenv: os.Getenv})
	if code != exitFailure || !strings.Contains(stderr.String(), "write output") {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
}

func TestDatabaseIsChosenInOrder(t *testing.T) {
	home := t.TempDir()
	path := func(name string) string { return filepath.Join(home, name) }
	fallback := filepath.Join(home, "episodic", "episodic.db")
	for _, tt := range []struct {
		name, flag string
		env        map[string]string
		want       string
	}{
		{"flag first", path("flag.db"), map[string]string{"EPISODIC_DB": path("own.db"), "TURSO_DATABASE_URL": path("turso.db")}, path("flag.db")},
		{"then ours", "", map[string]string{"EPISODIC_DB": path("own.db"), "TURSO_DATABASE_URL": path("turso.db")}, path("own.db")},
		{"then Turso's", "", map[string]string{"TURSO_DATABASE_URL": path("turso.db")}, path("turso.db")},
		{"then the data folder", "", nil, fallback},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &cli{t: t, home: home, env: tt.env}
			var flags []string
			if tt.flag != "" {
				flags = []string{"--db", tt.flag}
			}
			c.ok(append(flags, "import", c.file("none.jsonl", ""))...)
			args := append(flags, "stats", "--json")
			got := decode[struct {
				episodic.Counts
				Storage  episodic.StorageStats
				Store    episodic.Stats
				Database string
			}](t, c.ok(args...))
			if got.Database != tt.want {
				t.Errorf("database is %s, want %s", got.Database, tt.want)
			}
			if _, err := os.Stat(tt.want); err != nil {
				t.Error(err)
			}
		})
	}
	if info, err := os.Stat(filepath.Dir(fallback)); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("the default folder is %v, %v; want it to be its owner's alone", info.Mode(), err)
	}
}

func TestTokenIsChosenInOrder(t *testing.T) {
	for _, tt := range []struct {
		name, target string
		env          map[string]string
		want         string
	}{
		{"ours first", "libsql://h", map[string]string{"EPISODIC_AUTH_TOKEN": "own", "TURSO_AUTH_TOKEN": "turso"}, "own"},
		{"then Turso's", "libsql://h", map[string]string{"TURSO_AUTH_TOKEN": "turso"}, "turso"},
		{"none", "libsql://h", nil, ""},
		{"the target's own is not replaced", "libsql://h?authToken=x", map[string]string{"EPISODIC_AUTH_TOKEN": "own"}, ""},
		{"nor its user", "libsql://me:x@h", map[string]string{"EPISODIC_AUTH_TOKEN": "own", "EPISODIC_BASIC_AUTH": "me:pw"}, ""},
		{"a password comes before Turso's", "libsql://h", map[string]string{"EPISODIC_BASIC_AUTH": "me:pw", "TURSO_AUTH_TOKEN": "turso"}, "me:pw"},
		{"and after ours", "libsql://h", map[string]string{"EPISODIC_BASIC_AUTH": "me:pw", "EPISODIC_AUTH_TOKEN": "own"}, "own"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(system{getenv: func(name string) string { return tt.env[name] }})
			o := a.options(tt.target)
			got := o.BasicAuth
			if o.AuthToken != nil {
				token, _ := o.AuthToken(t.Context())
				got += token
			}
			if got != tt.want {
				t.Errorf("secret is %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOptionsOfTheEnvironment(t *testing.T) {
	env := map[string]string{
		"EPISODIC_NAMESPACE": "ns", "EPISODIC_CA_FILE": "ca.pem", "EPISODIC_CERT_FILE": "cert.pem", "EPISODIC_KEY_FILE": "key.pem",
	}
	a := newApp(system{getenv: func(name string) string { return env[name] }})
	all := episodic.TLS{CAFile: "ca.pem", CertFile: "cert.pem", KeyFile: "key.pem"}
	for target, want := range map[string]episodic.Options{
		"memory.db":                    {Namespace: "ns", TLS: all},
		"libsql://h":                   {Namespace: "ns", TLS: all},
		"libsql://h?namespace=a":       {TLS: all},
		"libsql://h:1,i:2?namespace=a": {TLS: all},
		"libsql://h?ca=a":              {Namespace: "ns", TLS: episodic.TLS{CertFile: "cert.pem", KeyFile: "key.pem"}},
		"libsql://h?cert=a&key=b":      {Namespace: "ns", TLS: episodic.TLS{CAFile: "ca.pem"}},
		"libsql://ho st?cert=a%zz":     {Namespace: "ns", TLS: all},
	} {
		if got := *a.options(target); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", target, got, want)
		}
	}
	c := newCLI(t)
	c.env["EPISODIC_CA_FILE"] = "missing.pem"
	c.fails(exitUsage, "TLS.CAFile: cannot be read: open missing.pem: no such file or directory; see $EPISODIC_CA_FILE\n", "stats", "--db", "https://127.0.0.1:1")
	c.fails(exitUsage, "see $EPISODIC_CA_FILE\n", "probe", "https://127.0.0.1:1")
}

func TestSecretsOfATargetAreNotShown(t *testing.T) {
	for target, want := range map[string]string{
		"memory.db":                              "memory.db",
		"file:///a/b.db":                         "file:///a/b.db",
		"libsql://host?authToken=SECRET":         "libsql://host",
		"https://me:SECRET@host/ns?a=SECRET#x":   "https://host/ns",
		"https://me:SECRET@host?namespace=a%20b": "https://host?namespace=a+b",
		"libsql://host:1,b?authToken=SECRET":     "libsql://host:1",
		"libsql://host:SECRET/?authToken=SECRET": "libsql://",
	} {
		if got := shownTarget(target); got != want {
			t.Errorf("shownTarget(%q) = %q, want %q", target, got, want)
		}
	}
	c := newCLI(t)
	c.env["EPISODIC_AUTH_TOKEN"] = "SECRET"
	if got := c.fails(exitFailure, "127.0.0.1:1", "stats", "--db", "http://127.0.0.1:1?authToken=SECRET"); strings.Contains(got.stdout+got.stderr, "SECRET") {
		t.Errorf("the token is in %+v", got)
	}
}

// program starts this test binary as the program.
func program(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "EPISODIC_TEST_AS_PROGRAM=1", "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, "config"), liveDirEnv+"="+filepath.Join(home, "live"), "EPISODIC_DB=", "TURSO_DATABASE_URL=")
	return cmd
}

func TestProcess(t *testing.T) {
	home := t.TempDir()
	var stdout, stderr bytes.Buffer
	start := func(args ...string) int {
		stdout.Reset()
		stderr.Reset()
		cmd := program(t, home, args...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Stdin = strings.NewReader(samples)
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode()
	}
	if code := start("import", "-"); code != exitOK || stderr.Len() > 0 {
		t.Fatalf("import: exit code %d, stderr %q", code, &stderr)
	}
	if got, want := stdout.String(), "imported 10 episodes, 51 steps; 0 were already there; 0 bad lines\n"; got != want {
		t.Errorf("import printed %q, want %q", got, want)
	}
	if runtime.GOOS == "linux" { // elsewhere the data folder is not XDG's
		if _, err := os.Stat(filepath.Join(home, "episodic", "episodic.db")); err != nil {
			t.Error(err)
		}
	}
	if code := start("search", "--json", "flaky"); code != exitOK || stderr.Len() > 0 {
		t.Errorf("search: exit code %d, stderr %q", code, &stderr)
	}
	if hits := decode[searchOutput](t, stdout.String()).Hits; len(hits) == 0 || strings.Count(stdout.String(), "\n") != 1 {
		t.Errorf("search printed %q", &stdout)
	}
	if code := start("show", "00000000"); code != exitNotFound || stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), "episodic: ") {
		t.Errorf("show: exit code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
	if code := start("nonsense"); code != exitUsage || stdout.Len() > 0 {
		t.Errorf("nonsense: exit code %d, stdout %q", code, &stdout)
	}
}

func TestInterruptEndsAnImportThatWaitsForInput(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted from here")
	}
	cmd := program(t, t.TempDir(), "import", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stderrPipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "{no JSON\n"); err != nil {
		t.Fatal(err)
	}
	stderr := bufio.NewReader(stderrPipe)
	first, err := stderr.ReadString('\n') // the import is under way
	if err != nil || !strings.HasPrefix(first, "-:1: ") {
		t.Errorf("stderr begins with %q, %v", first, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stderr)
	if err != nil || !strings.Contains(string(rest), "importing again is safe") {
		t.Errorf("stderr goes on with %q, %v", rest, err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitFailure {
		t.Errorf("exit code %d (%v), want %d", code, cmd.ProcessState, exitFailure)
	}
}
