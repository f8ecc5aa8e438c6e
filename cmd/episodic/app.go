package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/adrg/xdg"
	"golang.org/x/term"

	"github.com/episodic-memory/episodic"
)

// system is all that a run touches of the process it runs in.
type system struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	dataHome       string        // the user's data folder
	configHome     string        // the user's folder of settings
	stateHome      string        // the user's folder of what programs note
	workDir        string        // empty if it is not known
	self           string        // what a shell runs to start this program again
	hookWait       time.Duration // for how long a hook works
	// command runs a program of the system, and returns what it says.
	command func(name string, args ...string) (string, error)
}

func processSystem() system {
	workDir, _ := os.Getwd()
	return system{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		getenv: os.Getenv, dataHome: xdg.DataHome, configHome: xdg.ConfigHome, stateHome: xdg.StateHome, workDir: workDir, self: startedAs(), hookWait: hookWait,
		command: func(name string, args ...string) (string, error) {
			out, err := exec.Command(name, args...).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		},
	}
}

// app is what the commands share.
type app struct {
	system
	out *bufio.Writer // to stdout; run flushes it

	db             *string // --db; nil if it was not given
	allowPlaintext bool
	offline        episodic.Offline // when writes to a server are acknowledged

	reads bool // the command only reads
	hook  bool // the command is that of a hook, which must not fail

	folders     map[string]knownProject
	aliasesTold bool // that the file of aliases cannot be read

	redact        episodic.Redact
	project, user *string         // --project, --user; nil if they were not given
	whole         *episodic.Store // the open database without a scope; nil if there is none

	modelSpec string      // of the embedding model to use; empty: what the database names
	model     *namedModel // which is used; nil: none
}

func newApp(sys system) *app {
	return &app{system: sys, out: bufio.NewWriter(sys.stdout)}
}

// target is the database to use. The default one's folder is made if create is
// set.
func (a *app) target(create bool) (string, error) {
	if a.db != nil {
		return *a.db, nil
	}
	for _, name := range []string{"EPISODIC_DB", "TURSO_DATABASE_URL"} {
		if t := a.getenv(name); t != "" {
			return t, nil
		}
	}
	dir := filepath.Join(a.dataHome, "episodic")
	if create {
		// What agents did may hold secrets of their users.
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("make the default database's folder: %w; choose a database with --db", err)
		}
	}
	return filepath.Join(dir, "episodic.db"), nil
}

// otherHosts are those of a target with several: no URL has them.
var otherHosts = regexp.MustCompile(`^([^/]*//[^/?#,]*),[^/?#@]*`)

// parseURL parses a target as the URL of its first host.
func parseURL(target string) (*url.URL, error) {
	return url.Parse(otherHosts.ReplaceAllString(target, "$1"))
}

// options are those of the command line and of the environment for target. What target
// carries itself was given for this very server, and comes first.
func (a *app) options(target string) *episodic.Options {
	o := &episodic.Options{AllowPlaintext: a.allowPlaintext, AllowNetworkFile: a.getenv("EPISODIC_NETWORK_FILE") == "1"}
	var carries url.Values
	if u, err := parseURL(target); err == nil {
		carries = u.Query()
		if u.User != nil {
			carries.Set("authToken", "") // there is one of them
		}
	}
	if !carries.Has("authToken") {
		if t := a.getenv("EPISODIC_AUTH_TOKEN"); t != "" {
			o.AuthToken = episodic.StaticToken(t)
		} else if o.BasicAuth = a.getenv("EPISODIC_BASIC_AUTH"); o.BasicAuth == "" && a.getenv("TURSO_AUTH_TOKEN") != "" {
			o.AuthToken = episodic.StaticToken(a.getenv("TURSO_AUTH_TOKEN"))
		}
	}
	o.Replica.Offline = a.offline
	o.Redact = a.redact
	o.IndexSteps = a.getenv("EPISODIC_INDEX_STEPS") == "1"
	if !carries.Has("namespace") {
		o.Namespace = a.getenv("EPISODIC_NAMESPACE")
	}
	if !carries.Has("ca") {
		o.TLS.CAFile = a.getenv("EPISODIC_CA_FILE")
	}
	if !carries.Has("cert") && !carries.Has("key") {
		o.TLS.CertFile, o.TLS.KeyFile = a.getenv("EPISODIC_CERT_FILE"), a.getenv("EPISODIC_KEY_FILE")
	}
	return o
}

// variables are the environment's for options that may be wrong.
var variables = map[string]string{
	"BasicAuth": "EPISODIC_BASIC_AUTH", "Namespace": "EPISODIC_NAMESPACE",
	"Redact.Allow": "EPISODIC_REDACT_ALLOW",
	"TLS.CAFile":   "EPISODIC_CA_FILE", "TLS.CertFile": "EPISODIC_CERT_FILE", "TLS.KeyFile": "EPISODIC_KEY_FILE",
}

// errNoMemory says that the database to read from is not there, perhaps because
// its name was mistyped: commands that read create none.
var errNoMemory = errors.New("nothing has been stored there yet")

// withMemory opens a database that must be there, calls f and closes it.
func (a *app) withMemory(ctx context.Context, f func(*episodic.Store) error) error {
	err := a.open(ctx, true, f)
	if errors.Is(err, errNoMemory) {
		return fmt.Errorf("%w; episodic import stores something, and --db names another database", err)
	}
	return err
}

// toRead is withMemory for commands that only read: they leave a file of an older version to the
// programs that made it.
func (a *app) toRead(ctx context.Context, f func(*episodic.Store) error) error {
	a.reads = true
	return a.withMemory(ctx, f)
}

// withStore opens the database, or creates it, calls f and closes it.
func (a *app) withStore(ctx context.Context, f func(*episodic.Store) error) error {
	return a.open(ctx, false, f)
}

func (a *app) open(ctx context.Context, mustExist bool, f func(*episodic.Store) error) error {
	store, err := a.openStore(ctx, mustExist)
	if err != nil {
		return err
	}
	scope, err := a.scope()
	var narrow *episodic.Store
	if err == nil {
		narrow, err = store.Scoped(scope)
	}
	if err == nil {
		a.whole = store
		err = f(narrow)
		err = errors.Join(err, a.tellQueued(ctx, store))
		a.whole = nil
	}
	return errors.Join(err, store.Close())
}

// tell tells what opening a database has come to.
func (a *app) tell(notices []string) {
	for _, notice := range notices {
		a.complain("%s", notice)
	}
}

// openStore opens the database without a scope; it is the caller's to close.
func (a *app) openStore(ctx context.Context, mustExist bool) (*episodic.Store, error) {
	target, err := a.target(!mustExist)
	if err != nil {
		return nil, err
	}
	options := a.options(target)
	options.MustExist, options.DisableUpgrade = mustExist, a.reads
	if a.model == nil {
		a.model = a.chooseModel(ctx, target, options)
	}
	if a.model != nil {
		options.Embedder = a.model
	}
	store, err := episodic.Open(ctx, target, options)
	if errors.Is(err, episodic.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", shownTarget(target), errNoMemory)
	}
	if err == nil {
		a.tell(store.Notices())
	}
	return store, err
}

// shownTarget is a target without the secrets that a URL can carry.
func shownTarget(target string) string {
	if !isServer(target) {
		return target
	}
	u, err := parseURL(target)
	if err != nil {
		scheme, _, _ := strings.Cut(target, "://")
		return scheme + "://"
	}
	namespace := u.Query().Get("namespace")
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	if namespace != "" {
		u.RawQuery = url.Values{"namespace": {namespace}}.Encode()
	}
	return u.String()
}

// complain tells the user something on stderr.
func (a *app) complain(format string, args ...any) {
	a.note("episodic: "+format, args...)
}

// missing tells which items a command has gone on without, and fails if there are any.
func (a *app) missing(damaged []*episodic.DamagedError) error {
	if len(damaged) == 0 {
		return nil
	}
	if err := a.out.Flush(); err != nil { // they come after the rest
		return err
	}
	for _, damage := range damaged {
		a.complain("missing: %v", damage)
	}
	return errReported
}

// note writes a line to stderr. It may hold text of files, arguments or servers.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.stderr, plain(fmt.Sprintf(format, args...)))
}

// printf writes to stdout. Stored text among args must have passed plain or oneLine.
func (a *app) printf(format string, args ...any) {
	fmt.Fprintf(a.out, format, args...) // run reports what the flush says
}

// printJSON writes v to stdout, on one line for programs, indented for people.
func (a *app) printJSON(v any) error {
	enc := jsonEncoder(a.out)
	if isTerminal(a.stdout) {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// agree asks a question whose answer is no unless somebody says yes; not is what was not done
// then, as the error says.
func (a *app) agree(question, not string) error {
	a.printf("%s [y/N] ", question)
	if err := a.out.Flush(); err != nil {
		return err
	}
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		if err != nil && answer == "" { // nobody is there to ask
			return invalid("--yes", "is needed where nobody can be asked; %s", not)
		}
		return errors.New(not)
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// width is the number of columns that a line of stdout may take.
func (a *app) width() int {
	const usual = 100 // where there is no terminal
	if f, ok := a.stdout.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return usual
}

// startedAs is the command that started this program, quoted for a shell.
func startedAs() string {
	self := os.Args[0]
	// go run starts a binary that is gone afterwards.
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		self = "go run github.com/episodic-memory/episodic/cmd/episodic"
		if _, err := os.Stat("cmd/episodic"); err == nil {
			self = "go run ./cmd/episodic"
		}
		return self
	}
	return shellQuote(self)
}

// shellQuote quotes s for POSIX shells, if it must be.
func shellQuote(s string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`_-./:@%+,=\`, r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) || r == '\\' && filepath.Separator != '\\' }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
