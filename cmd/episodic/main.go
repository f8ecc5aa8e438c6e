// Command episodic keeps and finds the episodes of AI agents: import, capture, hook, setup, export, search,
// brief, list, names, show, delete, gc, verify, stats, sync, link, backup, restore, copy, redact, compact, model, probe, doctor, eval, bench, mcp, serve, token. Run it with --help, or begin with
// quickstart.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// The exit codes, as --help names them.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitNotFound = 3
)

const description = `Durable episodic memory for AI agents: what they did, what came of it, and what helped before.

The database is the first of these that is set: --db, $EPISODIC_DB, $TURSO_DATABASE_URL, and otherwise a file in the user's data folder. A server's token is $EPISODIC_AUTH_TOKEN or else $TURSO_AUTH_TOKEN; $EPISODIC_BASIC_AUTH, USER:PASSWORD, comes between them. $EPISODIC_NAMESPACE names the database on a server that has several, $EPISODIC_CA_FILE the certificates to trust, $EPISODIC_CERT_FILE and $EPISODIC_KEY_FILE the certificate and key of this program, in PEM format. The same can be part of the target: libsql://USER:PASSWORD@HOST?namespace=NAME&ca=FILE&cert=FILE&key=FILE. Replicas, which answer reads too, follow the primary's host: libsql://HOST,HOST,HOST. Proxies are $HTTPS_PROXY, $HTTP_PROXY and $NO_PROXY. A server's memory is read from a replica in the user's cache folder, which sync tells of; with EPISODIC_REPLICA=0 there is none. With EPISODIC_INDEX_STEPS=1 the words of steps are sent to a server too, so that search finds them there without a replica. A file on a network file system is opened with EPISODIC_NETWORK_FILE=1 only; one machine at a time may use it.

With --offline queue (or else EPISODIC_OFFLINE=queue) commands work without the server, once they have reached it: import and delete queue what they write, and say how much of it the server does not have yet; what they read comes from a replica on this machine. See sync --help.

With --project (or else $EPISODIC_PROJECT; . is the project of this folder) and --user (or else $EPISODIC_USER) a command stores, finds, counts and deletes only what belongs to them. backup, compact, copy, doctor, link, probe, restore and the sizes that stats prints concern the whole database.

Secrets are taken out of what is stored (see --no-redact, or EPISODIC_REDACT=0); $EPISODIC_REDACT_ALLOW lists what is none, a line each, as --redact-allow does.

Exit codes: 0 done; 1 failed, or some of the input was bad, or something acknowledged is missing (verify), or some of what is stored is damaged (then the rest is printed, and stderr says what is missing); 2 the command line is wrong; 3 no such episode (show, delete).`

// globals are the flags that all commands have.
type globals struct {
	DB             *string  `name:"db" placeholder:"TARGET" help:"The database: a file path, libsql://HOST, https://HOST, or http://127.0.0.1:PORT."`
	Project        *string  `placeholder:"NAME" help:"Only what belongs to this project; what is imported will."`
	User           *string  `placeholder:"NAME" help:"Only what belongs to this user; what is imported will."`
	Offline        *string  `placeholder:"queue|through" help:"queue: what is written to a server is acknowledged when it is on this machine's disk, and pushed when the server can be reached; through: when the server has it (the default)."`
	NoRedact       bool     `help:"Store secrets as they are. Otherwise keys, tokens, passwords and private keys become [redacted:KIND] before they are stored."`
	RedactAllow    []string `sep:"none" placeholder:"TEXT|/REGEXP/" help:"What is no secret: the whole of it, or an expression that the whole of it matches; repeatable."`
	AllowPlaintext bool     `help:"Let http:// reach hosts other than this machine, and serve be reached from them, unencrypted."`
}

// agentCommands are those that agent programs start, some at each step.
type agentCommands struct {
	Hook hookCmd `cmd:"" help:"Record an event of an agent program, which runs this as a hook, and say what helps with it."`
	MCP  mcpCmd  `cmd:"" name:"mcp" help:"Offer the memory to an agent by the Model Context Protocol, on stdin and stdout."`
}

type commands struct {
	globals

	Quickstart quickstartCmd `cmd:"" help:"Store a few sample episodes in a fresh database, search them, and say what to type next."`
	Import     importCmd     `cmd:"" help:"Store episodes from what agents have recorded: sessions, transcripts, traces, JSONL."`
	Capture    captureCmd    `cmd:"" help:"Follow the sessions of the agents on this machine, and keep the memory up to date with them."`
	agentCommands
	Setup   setupCmd   `cmd:"" help:"Make the agent programs on this machine use the memory: MCP server, hooks, instructions."`
	Export  exportCmd  `cmd:"" help:"Write what is stored, as import reads it, for people, or as chat transcripts."`
	Search  searchCmd  `cmd:"" help:"Find the episodes that fit some words best."`
	Brief   briefCmd   `cmd:"" help:"Say what helped with a task like this before, for a prompt; nothing if nothing fits."`
	List    listCmd    `cmd:"" help:"List episodes, the newest first."`
	Names   namesCmd   `cmd:"" help:"List the tags, domains, projects, users or agents, with the number of their episodes."`
	Show    showCmd    `cmd:"" help:"Show one episode with all its steps."`
	Delete  deleteCmd  `cmd:"" help:"Delete episodes."`
	GC      gcCmd      `cmd:"" name:"gc" help:"Delete old episodes, by age, outcome, number and size."`
	Verify  verifyCmd  `cmd:"" help:"Say of receipts of earlier writes whether what was acknowledged is still there."`
	Stats   statsCmd   `cmd:"" help:"Count what the database holds."`
	Sync    syncCmd    `cmd:"" help:"Say how new this machine's replica of a server's memory is, bring it up to date, or delete it."`
	Link    linkCmd    `cmd:"" help:"Make a local memory a shared one, on a server, and back."`
	Backup  backupCmd  `cmd:"" help:"Write the whole memory to a new file, checked, while it is used."`
	Restore restoreCmd `cmd:"" help:"Put a backup in the place of a local memory."`
	Copy    copyCmd    `cmd:"" help:"Add all of a memory to another one, file or server, and compare them."`
	Redact  redactCmd  `cmd:"" help:"Take secrets out of what is stored already."`
	Compact compactCmd `cmd:"" help:"Compress again, better, what is stored."`
	Model   modelCmd   `cmd:"" help:"List, download and choose embedding models for searches."`
	Probe   probeCmd   `cmd:"" help:"Say whether a database can be used, how far away it is, and what it can do."`
	Doctor  doctorCmd  `cmd:"" help:"Say what is wrong with a database, repair it, or save what a damaged file holds."`
	Eval    evalCmd    `cmd:"" help:"Measure how well searches find what a dataset of questions and evidence says they should."`
	Bench   benchCmd   `cmd:"" help:"Try whether a database keeps what it acknowledges."`
	Serve   serveCmd   `cmd:"" help:"Offer the memory to agents, on this machine and others, by the Model Context Protocol over HTTP."`
	Token   tokenCmd   `cmd:"" help:"Make, list and revoke the tokens with which clients reach what serve offers."`
	Version versionCmd `cmd:"" help:"Say which episodic this is."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal kills
	os.Exit(run(ctx, os.Args[1:], processSystem()))
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, sys system) int {
	a := newApp(sys)
	err := a.execute(ctx, args)
	if flushErr := a.out.Flush(); flushErr != nil && err == nil {
		err = fmt.Errorf("write output: %w", flushErr)
	}
	if err == nil {
		return exitOK
	}
	if a.hook || asHook(err) {
		a.logHook(err)
		return exitOK
	}
	if !errors.Is(err, errReported) {
		a.complain("%v%s", err, nextStep(err))
	}
	return exitCode(err)
}

func (a *app) execute(ctx context.Context, args []string) error {
	cli := new(commands)
	given, grammar := &cli.globals, any(cli)
	if len(args) > 0 && (args[0] == hookName || args[0] == mcpName) {
		few := new(struct { // to set up the parser of all would be a third of what a hook takes
			globals
			agentCommands
		})
		given, grammar = &few.globals, few
	}
	helped := false
	parser, err := newParser(grammar,
		kong.Writers(a.out, a.stderr),
		kong.Exit(func(int) { helped = true }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(a),
	)
	if err != nil {
		return err
	}
	chosen, err := parser.Parse(args)
	if helped {
		return nil // kong goes on parsing after it has printed the help
	}
	if err != nil {
		return err
	}
	a.hook = chosen.Selected().Name == hookName
	a.db, a.allowPlaintext = given.DB, given.AllowPlaintext
	a.project, a.user = given.Project, given.User
	a.redact = a.redactFrom(given.NoRedact, given.RedactAllow)
	if a.offline, err = offlineFrom(given.Offline, a.getenv(offlineEnv)); err != nil {
		return err
	}
	return chosen.Run()
}

// newParser returns what reads a command line into grammar, a pointer to a struct of commands.
func newParser(grammar any, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(grammar, append(options,
		kong.Name("episodic"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"formats": strings.Join(transcript.Formats(), ", "), "sources": strings.Join(transcript.Sources(), ", "), "clients": clientNames(), "setups": setupNames()},
	)...)
}

// isDamaged reports whether err is that of an item which cannot be read.
func isDamaged(err error) bool {
	_, ok := errors.AsType[*episodic.DamagedError](err)
	return ok
}

// errReported ends a run whose problems have been told already, one by one.
var errReported = errors.New("some of the input was bad")

func exitCode(err error) int {
	_, badUsage := errors.AsType[*kong.ParseError](err)
	switch {
	case badUsage, errors.Is(err, episodic.ErrInvalid):
		// import tells invalid input itself; any other comes from the command line.
		return exitUsage
	case errors.Is(err, episodic.ErrNotFound):
		return exitNotFound
	}
	return exitFailure
}

// nextStep is what the user can do about err, to be put behind it.
func nextStep(err error) string {
	if _, ok := errors.AsType[*kong.ParseError](err); ok {
		return " (see episodic --help)"
	}
	invalid, _ := errors.AsType[*episodic.InvalidError](err)
	switch {
	case invalid != nil && invalid.Field == "target":
		return "; see --db and --allow-plaintext in episodic --help"
	case invalid != nil && variables[invalid.Field] != "":
		return "; see $" + variables[invalid.Field]
	case errors.Is(err, episodic.ErrNotFound):
		return "; episodic list shows what there is"
	case errors.Is(err, episodic.ErrCorrupt) && !isDamaged(err): // whose text says it
		return "; episodic doctor says what is damaged, and what can be saved"
	case errors.Is(err, episodic.ErrUnauthorized):
		return "; set EPISODIC_AUTH_TOKEN to a token of this server"
	case errors.Is(err, episodic.ErrSchema):
		return "; choose another database with --db"
	case episodic.Retryable(err):
		return "; try again"
	}
	return ""
}
