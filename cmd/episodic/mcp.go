package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/hook"
	"github.com/episodic-memory/episodic/internal/mcpserver"
)

type mcpCmd struct {
	Tools string `default:"all" enum:"all,hooks,read" help:"all; hooks: without start and log, where hooks record what is done; read: recall and show only."`
}

// Help is shown by mcp --help.
func (*mcpCmd) Help() string {
	return `A client starts it, and ends it by closing its stdin. In most clients it is registered as:

  {"mcpServers": {"episodic": {"command": "episodic", "args": ["mcp"]}}}

with the path of this program, and flags such as --db before mcp. The memory is opened by the first call that needs it. See docs/agents.md.`
}

func (c *mcpCmd) Run(ctx context.Context, a *app) error {
	within, err := a.scope()
	if err != nil {
		return err
	}
	session := a.agentSession()
	signal.Ignore(syscall.SIGPIPE) // a client that is gone is no reason to die in the middle of a write
	server := mcpserver.New(mcpserver.Options{
		Open:      func(ctx context.Context) (*episodic.Store, error) { return a.openStore(ctx, false) },
		Within:    within,
		Scope:     a.agentScope(within, session),
		Session:   session,
		SessionOf: a.agentSessionOf,
		Folder:    a.agentFolder(),
		Tools:     mcpserver.Tools(c.Tools),
		Version:   buildVersion().Version,
		Logger:    slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	return errors.Join(server.Serve(ctx, a.stdin, a.stdout), server.Close())
}

// agentScope is that of what an agent records and recalls: what the command line or the
// environment names, and otherwise the project of its session, or else of the folder that it
// works in.
func (a *app) agentScope(within episodic.Scope, s mcpserver.Session) episodic.Scope {
	if within.Project != "" {
		return within
	}
	if placed, ok := hook.Placed(a.hookDir(), clients.Client(s.Format), s.ID); ok && placed.User == within.User {
		return placed
	}
	if folder := a.agentFolder(); folder != "" {
		if name := a.projectOf(folder); knownHere(name, folder) {
			within.Project = name
		}
	}
	return within
}

// agentSession is the session of the agent that started this program. Where the agent does not
// tell, this process is one.
func (a *app) agentSession() mcpserver.Session {
	if id := a.getenv("CLAUDE_CODE_SESSION_ID"); id != "" {
		return mcpserver.Session{Format: "claude-code", ID: id}
	}
	return mcpserver.Session{Format: "mcp", ID: episodic.NewID().String()}
}

// agentSessionOf is the session of the agent program that calls, where its environment does not
// tell: what the request says, or else what its hooks have said of this folder.
func (a *app) agentSessionOf(name string, meta map[string]any) (mcpserver.Session, bool) {
	client := clients.OfMCP(name)
	if client == "" || a.getenv("CLAUDE_CODE_SESSION_ID") != "" {
		return mcpserver.Session{}, false
	}
	id := client.SessionOfMCP(meta)
	if id == "" {
		id, _ = hook.Current(a.hookDir(), client, a.agentFolder())
	}
	return mcpserver.Session{Format: string(client), ID: id}, id != ""
}

// agentFolder is where the agent works; empty if it is not known.
func (a *app) agentFolder() string {
	return cmp.Or(a.getenv("CLAUDE_PROJECT_DIR"), a.workDir)
}
