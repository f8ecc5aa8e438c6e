package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/mcpserver"
	"github.com/episodic-memory/episodic/internal/setup"
)

type setupCmd struct {
	Clients []string `arg:"" name:"client" optional:"" help:"Which agent programs: ${setups}. Left out, those that are on this machine."`
	NoHooks bool     `help:"Without hooks: nothing is recorded by itself, and the model gets the tools start and log."`
	Undo    bool     `xor:"do" help:"Take out what setup has put in; the files become what they were."`
	Check   bool     `xor:"do" help:"Say whether what was set up works. Exit code 1 if it does not."`
	JSON    bool     `name:"json" help:"With --check: print JSON."`
	Yes     bool     `help:"Do not ask."`
}

// Help is shown by setup --help.
func (*setupCmd) Help() string {
	return `The agent programs get the MCP server (episodic mcp), hooks by which all that they do is recorded (episodic hook), and a few lines in their instruction files. What is to be written is shown, and asked for. Comments, order and all other settings stay. What stands before setup goes with it: episodic --db TARGET setup.

Set up twice it changes nothing; with another program or other flags, only those.`
}

func (c *setupCmd) Run(ctx context.Context, a *app) error {
	s, err := c.setup(a)
	if err != nil {
		return err
	}
	chosen, err := c.chosen(s)
	if err != nil {
		return err
	}
	s.Choice.ClaudePlugin = s.HasPlugin()
	s.Choice.ClaudeHooks = !s.Choice.ClaudePlugin && claudeHooks(s, chosen, c.Undo)
	switch {
	case c.Check:
		return c.check(ctx, a, s, chosen)
	case c.JSON:
		return invalid("--json", "goes with --check")
	case len(chosen) == 0:
		return invalid("client", "must be named: none of those that are known is on this machine, which are %s", setupNames())
	}
	look := s.Plan
	if c.Undo {
		look = s.PlanUndo
	}
	plan, err := look(chosen)
	if err != nil {
		return err
	}
	return c.carry(a, s, chosen, plan)
}

// setupNames are those that the command takes.
func setupNames() string {
	var names []string
	for _, c := range setup.Clients {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// setup is what is to be written on this machine.
func (c *setupCmd) setup(a *app) (*setup.Setup, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	program, err := a.setupProgram()
	if err != nil {
		return nil, err
	}
	return &setup.Setup{
		Machine: &setup.Machine{GOOS: runtime.GOOS, Home: home, Getenv: a.getenv},
		Program: program,
		Choice: &setup.Choice{
			Hooks:  !c.NoHooks,
			Exists: func(path string) bool { _, err := os.Stat(path); return err == nil },
			Tools: func(hooks bool) []string {
				if hooks {
					return mcpserver.HookTools.Names()
				}
				return mcpserver.AllTools.Names()
			},
		},
		Records: filepath.Join(a.stateHome, "episodic", "setup.json"),
	}, nil
}

// chosen are the clients that are named, or else those that are here.
func (c *setupCmd) chosen(s *setup.Setup) (list []*setup.Client, err error) {
	for _, name := range c.Clients {
		client := setup.Find(name)
		if client == nil {
			return nil, invalid("client", "is %.40q; known are %s", name, setupNames())
		}
		if !slices.Contains(list, client) {
			list = append(list, client)
		}
	}
	if len(c.Clients) > 0 {
		return list, nil
	}
	onPath := func(name string) bool { _, err := exec.LookPath(name); return err == nil }
	done, err := s.Done()
	if err != nil {
		return nil, err
	}
	for _, client := range setup.Clients {
		if slices.Contains(done, client.Name) || client.Present(s.Machine, s.Choice.Exists, onPath) {
			list = append(list, client)
		}
	}
	return list, nil
}

// claudeHooks reports whether Claude Code has our hooks, or will have them.
func claudeHooks(s *setup.Setup, chosen []*setup.Client, undo bool) bool {
	claude := setup.Find("claude-code")
	if slices.Contains(chosen, claude) {
		return s.Choice.Hooks && !undo
	}
	return s.HasHooks(claude)
}

// carry shows a plan, asks, and carries it out.
func (c *setupCmd) carry(a *app, s *setup.Setup, chosen []*setup.Client, plan *setup.Plan) error {
	changed := map[string]bool{}
	for _, change := range plan.Changes {
		a.printf("%s\n", plain(change.Diff()))
		for _, name := range change.Clients {
			changed[name] = true
		}
	}
	for _, p := range plan.Problems {
		a.complain("%v", p)
		if p.Snippet != "" {
			a.note("this would go into it:\n\n%s", p.Snippet)
		}
	}
	if len(plan.Changes) == 0 {
		if len(plan.Problems) > 0 {
			return errReported
		}
		for _, client := range chosen {
			state := "already set up"
			if c.Undo {
				state = "not set up"
			}
			if client.Name == "claude-code" && s.Choice.ClaudePlugin && !c.Undo {
				state = "its plug-in is enabled, and has all that is needed"
			}
			a.printf("%s: %s\n", client.Title, state)
		}
		return nil
	}
	if !c.Yes {
		if err := a.agree("Go on?", "nothing was changed"); err != nil {
			return err
		}
	}
	failed := len(plan.Problems) > 0
	for _, change := range plan.Changes {
		if err := s.Carry(change); err != nil {
			a.complain("%v", err)
			failed = true
		}
	}
	for _, client := range chosen {
		switch {
		case !changed[client.Name]:
		case c.Undo:
			a.printf("%s: no longer set up; restart it\n", client.Title)
		default:
			a.printf("%s: set up; %s\n", client.Title, client.Advice)
		}
	}
	if !c.Undo && len(s.Program.Variables) > 0 {
		a.printf("%s must be set where these programs are started: it was not written down.\n", strings.Join(s.Program.Variables, ", "))
	}
	if failed {
		return errReported
	}
	if !c.Undo {
		a.printf("%s setup --check says whether all works.\n", a.self)
	}
	return nil
}

// setupProgram is this program, as agent programs are to start it: for the same memory.
func (a *app) setupProgram() (*setup.Program, error) {
	path, err := programPath()
	if err != nil {
		return nil, err
	}
	target, err := a.target(false)
	if err != nil {
		return nil, err
	}
	if a.db == nil && (a.getenv("EPISODIC_DB") != "" || a.getenv("TURSO_DATABASE_URL") != "") {
		a.db = &target // clients pass on only part of the environment
	}
	if user := a.getenv("EPISODIC_USER"); a.user == nil && user != "" {
		a.user = &user
	}
	flags, err := a.memoryFlags("setup")
	if err != nil {
		return nil, err
	}
	p := &setup.Program{Path: path, Flags: flags}
	if isServer(target) {
		for _, name := range append(slices.Clone(secretVariables), "EPISODIC_NAMESPACE", "EPISODIC_CA_FILE", "EPISODIC_CERT_FILE", "EPISODIC_KEY_FILE") {
			if a.getenv(name) != "" {
				p.Variables = append(p.Variables, name)
			}
		}
	}
	return p, nil
}

var errGoRun = errors.New("go run builds a program that is gone afterwards; go install ./cmd/episodic makes one that stays")

// programPath is the path of this program: where the PATH has it, which an update keeps, or else
// the file itself.
func programPath() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if dir := filepath.Dir(exe); strings.Contains(dir, "go-build") && filepath.Base(dir) == "exe" {
		return "", errGoRun
	}
	if found, err := exec.LookPath("episodic"); err == nil {
		if found, err = filepath.Abs(found); err == nil && sameFile(found, exe) {
			return found, nil
		}
	}
	return exe, nil
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// memoryFlags are the flags of this command line that name a memory and say how it is used, with
// absolute paths, for a program that is started elsewhere. who is the part of the command line
// that wants to write them down.
func (a *app) memoryFlags(who string) (flags []string, err error) {
	target, err := a.target(false)
	if err != nil {
		return nil, err
	}
	if u, err := parseURL(target); isServer(target) && (err != nil || u.User != nil || u.Query().Has("authToken")) {
		return nil, invalid(who, "would write the secret in the database's URL to a file; name the database without it, and give the secret as $EPISODIC_AUTH_TOKEN or $EPISODIC_BASIC_AUTH")
	}
	if a.db != nil {
		if !isServer(target) {
			if target, err = filepath.Abs(target); err != nil {
				return nil, err
			}
		}
		flags = append(flags, "--db="+target)
	}
	for _, flag := range []struct {
		name  string
		value *string
	}{{"project", a.project}, {"user", a.user}} {
		if flag.value != nil {
			flags = append(flags, "--"+flag.name+"="+*flag.value)
		}
	}
	if a.offline == episodic.Queue {
		flags = append(flags, "--offline=queue")
	}
	if a.redact.Disabled {
		flags = append(flags, "--no-redact")
	}
	for _, allowed := range a.redact.Allow {
		flags = append(flags, "--redact-allow="+allowed)
	}
	if a.allowPlaintext {
		flags = append(flags, "--allow-plaintext")
	}
	return flags, nil
}
