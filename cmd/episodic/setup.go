package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/mcpserver"
	"github.com/episodic-memory/episodic/internal/setup"
)

type setupCmd struct {
	Clients []string `arg:"" name:"client" optional:"" help:"Which agent programs: ${setups}. Left out, those that are on this machine."`
	NoHooks bool     `help:"Without hooks: nothing is recorded by itself, and the model gets the tools start and log."`
	Here    bool     `help:"Only the MCP server, in the files of the project in this folder, for all who work on it; they need episodic on the PATH."`
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
	s.Choice.ClaudePlugin = !c.Here && s.HasPlugin()
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
	program, err := a.setupProgram(!c.Here)
	if err != nil {
		return nil, err
	}
	s := &setup.Setup{
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
	}
	if c.Here {
		if a.workDir == "" {
			return nil, invalid("--here", "needs a folder, and the one it was started in is not known")
		}
		s.Project = a.workDir
		s.Records = filepath.Join(a.stateHome, "episodic", "setup-projects.json")
	}
	return s, nil
}

// chosen are the clients that are named, or else those that are here.
func (c *setupCmd) chosen(s *setup.Setup) (list []*setup.Client, err error) {
	for _, name := range c.Clients {
		client := setup.Find(name)
		if client == nil {
			return nil, invalid("client", "is %.40q; known are %s", name, setupNames())
		}
		if c.Here && !client.HasProjects() {
			return nil, invalid("--here", "does not go with %s, which reads no files of projects", name)
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
		if c.Here && !client.HasProjects() {
			continue
		}
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
		if diff := change.Diff(); diff != "" {
			a.printf("%s\n", plain(diff))
		}
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
	if runtime.GOOS == "windows" && strings.Contains(s.Program.Path, " ") && s.Choice.Hooks && !c.Undo {
		a.complain("%s has a space in it, with which the shells of some clients cannot start hooks; install it elsewhere if --check or the client says that they fail", s.Program.Path)
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
		case c.Here:
			a.printf("%s: set up in this project; restart it, and allow the server if it asks\n", client.Title)
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
		command := a.self + " setup --check"
		if c.Here {
			command += " --here"
		}
		a.printf("%s says whether all works.\n", command)
	}
	return nil
}
