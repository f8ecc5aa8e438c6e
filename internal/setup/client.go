package setup

import "slices"

// Client is an agent program that a memory can be set up for.
type Client struct {
	Name  string // as people name it on a command line
	Title string
	// Advice is what people must do before the client uses what was set up.
	Advice   string
	programs []string // on the PATH, where it is one for the shell
	// folders are those of which one is there where the client is.
	folders func(*Machine) []string
	// items are what belongs into its files.
	items func(*Machine, *Program, *Choice) []item
	// project is the MCP server in a file of a project, which has no hooks: they are the user's.
	// Its path is relative; nil: the client has no such file.
	project func(*Program, *Choice) item
}

// HasProjects reports whether a client reads MCP servers of a project from a file in it.
func (c *Client) HasProjects() bool { return c.project != nil }

// Choice is what is to be set up.
type Choice struct {
	Hooks bool // where the client has them
	// Exists reports whether a path is there.
	Exists func(path string) bool
	// ClaudeHooks says that the hooks of Claude Code are or will be there, which VS Code runs too.
	ClaudeHooks bool
	// ClaudePlugin says that Claude Code has the plug-in, beside which it needs nothing.
	ClaudePlugin bool
	// Tools are the names of the MCP server's tools, with hooks and without.
	Tools func(hooks bool) []string
}

// item is a part that belongs into a file.
type item struct {
	path string
	what string // such as "MCP server"
	part part
	// unwanted parts are taken out where an earlier setup has put them.
	unwanted bool
	program  bool // the file is run
	shared   bool // the file is for all who work on a project
}

// The kinds of items, as people read them.
const (
	whatServer = "MCP server"
	whatHooks  = "hooks"
	whatText   = "instructions"
)

// Clients are those that are known, in the order in which they are shown.
var Clients = []*Client{claudeCode, codex, gemini, cursor, vscode, opencode, copilot, windsurf, zed, cline, claudeDesktop, goose}

// Find returns the client of a name; nil if there is none.
func Find(name string) *Client {
	i := slices.IndexFunc(Clients, func(c *Client) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return Clients[i]
}

// Present reports whether a client is on a machine. lookPath finds a program on the PATH.
func (c *Client) Present(m *Machine, exists func(path string) bool, lookPath func(string) bool) bool {
	return slices.ContainsFunc(c.folders(m), exists) || slices.ContainsFunc(c.programs, lookPath)
}

// text is the item with the block for an instruction file.
func text(path string, o *Choice, hooks bool) item {
	return item{path: path, what: whatText, part: block(Block(o.Tools(hooks)))}
}
