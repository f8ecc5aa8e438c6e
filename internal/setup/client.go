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
}

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

// claudeEvents are the hooks of Claude Code. It does not wait for asynchronous ones, but ends
// them when it ends.
var claudeEvents = []struct {
	name  string
	async bool
}{{"SessionStart", false}, {"UserPromptSubmit", false}, {"PostToolUse", true}, {"PostToolUseFailure", false}, {"SubagentStop", false}, {"Stop", false}, {"PreCompact", false}, {"SessionEnd", false}}

var claudeCode = &Client{
	Name: "claude-code", Title: "Claude Code", Advice: "restart Claude Code", programs: []string{"claude"},
	folders: func(m *Machine) []string { return []string{claudeFolder(m), claudeFile(m)} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		settings := hooks{}
		for _, e := range claudeEvents {
			settings.events = append(settings.events, event{e.name, group(claudeHook(m.GOOS, p, e.name, e.async))})
		}
		instructions := text(m.join(claudeFolder(m), "CLAUDE.md"), o, o.Hooks)
		instructions.unwanted = o.ClaudePlugin
		return []item{
			{path: claudeFile(m), what: whatServer, part: member{"mcpServers", append(entry{{"type", "stdio"}}, stdio(p, o.Hooks)...)}, unwanted: o.ClaudePlugin},
			{path: claudeSettings(m), what: whatHooks, part: settings, unwanted: !o.Hooks || o.ClaudePlugin},
			instructions,
		}
	},
}

func claudeFolder(m *Machine) string { return m.home("CLAUDE_CONFIG_DIR", ".claude") }

func claudeSettings(m *Machine) string { return m.join(claudeFolder(m), "settings.json") }

// claudeFile is where Claude Code keeps the user's MCP servers, and much else.
func claudeFile(m *Machine) string { return m.home("CLAUDE_CONFIG_DIR", "", ".claude.json") }

// claudeHook is a hook of Claude Code. VS Code and Cursor run the same file, and know the form
// with args as little as older versions do: they would run the bare program. So it is a command
// line, but for Windows, where shells take too long. Nor does it name the client, because it may
// be one of those.
func claudeHook(goos string, p *Program, event string, async bool) entry {
	e := entry{{"type", "command"}}
	if goos == "windows" {
		e = append(e, field{"command", p.Path}, field{"args", p.hook(event, "")})
	} else {
		e = append(e, field{"command", shell(goos, append([]string{p.Path}, p.hook(event, "")...)...)})
	}
	e = append(e, field{"timeout", hookSeconds})
	if async {
		e = append(e, field{"async", true})
	}
	return e
}

// hookSeconds is how long clients wait for a hook, which gives up sooner by itself.
const hookSeconds = 5

// group is an element of a list of hooks as Claude Code, Codex and Gemini CLI have it: for all
// tools.
func group(hook entry) entry { return entry{{"hooks", []entry{hook}}} }

// stdio is an MCP server as most clients name it.
func stdio(p *Program, hooks bool) entry {
	return entry{{"command", p.Path}, {"args", p.server(hooks)}}
}

var codex = &Client{
	Name: "codex", Title: "Codex", programs: []string{"codex"},
	Advice:  "restart Codex, enter /hooks in it and trust those of episodic: until then they are not run",
	folders: func(m *Machine) []string { return []string{m.home("CODEX_HOME", ".codex")} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		server := stdio(p, o.Hooks)
		if len(p.Variables) > 0 {
			server = append(server, field{"env_vars", p.Variables})
		}
		list := hooks{}
		for _, name := range []string{"SessionStart", "UserPromptSubmit", "PostToolUse", "SubagentStop", "Stop", "PreCompact", "SessionEnd"} {
			seconds := hookSeconds
			if name == "SessionEnd" {
				seconds = 3 // it warns of more
			}
			list.events = append(list.events, event{name, group(entry{{"type", "command"}, {"command", line(m.GOOS, p, name, "codex")}, {"timeout", seconds}})})
		}
		// Of the two files of instructions it reads one.
		instructions := m.home("CODEX_HOME", ".codex", "AGENTS.override.md")
		if !o.Exists(instructions) {
			instructions = m.home("CODEX_HOME", ".codex", "AGENTS.md")
		}
		return []item{
			{path: m.home("CODEX_HOME", ".codex", "config.toml"), what: whatServer, part: tomlTable{"mcp_servers", server}},
			{path: m.home("CODEX_HOME", ".codex", "hooks.json"), what: whatHooks, part: list, unwanted: !o.Hooks},
			text(instructions, o, o.Hooks),
		}
	},
}

// line is the command line of a hook for clients that have it run by a shell.
func line(goos string, p *Program, event, client string) string {
	return shell(goos, append([]string{p.Path}, p.hook(event, client)...)...)
}

var gemini = &Client{
	Name: "gemini", Title: "Gemini CLI", Advice: "restart Gemini CLI", programs: []string{"gemini"},
	folders: func(m *Machine) []string { return []string{geminiFolder(m)} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		server := stdio(p, o.Hooks)
		if len(p.Variables) > 0 { // it hides them from servers otherwise
			env := entry{}
			for _, v := range p.Variables {
				env = append(env, field{v, "$" + v})
			}
			server = append(server, field{"env", env})
		}
		list := hooks{}
		for _, name := range []string{"SessionStart", "BeforeAgent", "AfterTool", "AfterAgent", "PreCompress", "SessionEnd"} {
			list.events = append(list.events, event{name, group(entry{{"name", "episodic"}, {"type", "command"}, {"command", line(m.GOOS, p, name, "gemini")}, {"timeout", 1000 * hookSeconds}})})
		}
		settings := m.join(geminiFolder(m), "settings.json")
		return []item{
			{path: settings, what: whatServer, part: member{"mcpServers", server}},
			{path: settings, what: whatHooks, part: list, unwanted: !o.Hooks},
			text(m.join(geminiFolder(m), "GEMINI.md"), o, o.Hooks),
		}
	},
}

// geminiFolder is below the folder of $GEMINI_CLI_HOME where that is set.
func geminiFolder(m *Machine) string { return m.home("GEMINI_CLI_HOME", "", ".gemini") }

var cursor = &Client{
	Name: "cursor", Title: "Cursor", Advice: "restart Cursor", programs: []string{"cursor", "cursor-agent"},
	folders: func(m *Machine) []string { return []string{m.home("", ".cursor")} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		list := hooks{version: true}
		for _, name := range []string{"sessionStart", "beforeSubmitPrompt", "postToolUse", "postToolUseFailure", "afterAgentResponse", "preCompact", "sessionEnd"} {
			list.events = append(list.events, event{name, entry{{"command", line(m.GOOS, p, name, "cursor")}, {"timeout", hookSeconds}}})
		}
		return []item{ // the user's instructions are not in a file
			{path: m.home("", ".cursor", "mcp.json"), what: whatServer, part: member{"mcpServers", stdio(p, o.Hooks)}},
			{path: m.home("", ".cursor", "hooks.json"), what: whatHooks, part: list, unwanted: !o.Hooks},
		}
	},
}

var vscode = &Client{
	Name: "vscode", Title: "VS Code", Advice: "restart VS Code", programs: []string{"code"},
	folders: func(m *Machine) []string { return []string{m.support("Code")} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		return []item{
			{path: m.support("Code", "User", "mcp.json"), what: whatServer, part: member{"servers", append(entry{{"type", "stdio"}}, stdio(p, o.Hooks)...)}},
			{path: copilotHooks(m), what: whatHooks, part: copilotFile(m.GOOS, p), unwanted: !o.Hooks || o.ClaudeHooks},
			{path: m.support("Code", "User", "prompts", "episodic.instructions.md"), what: whatText,
				part: whole("---\ndescription: " + mark + "\napplyTo: '**'\n---\n" + Block(o.Tools(o.Hooks)) + "\n")},
		}
	},
}

var copilot = &Client{
	Name: "copilot", Title: "Copilot CLI", Advice: "restart Copilot CLI", programs: []string{"copilot"},
	folders: func(m *Machine) []string {
		return []string{m.home("COPILOT_HOME", ".copilot", "config.json"), m.home("COPILOT_HOME", ".copilot", "mcp-config.json")}
	},
	items: func(m *Machine, p *Program, o *Choice) []item {
		server := append(append(entry{{"type", "local"}}, stdio(p, o.Hooks)...), field{"tools", []string{"*"}})
		return []item{
			{path: m.home("COPILOT_HOME", ".copilot", "mcp-config.json"), what: whatServer, part: member{"mcpServers", server}},
			{path: copilotHooks(m), what: whatHooks, part: copilotFile(m.GOOS, p), unwanted: !o.Hooks},
			text(m.home("COPILOT_HOME", ".copilot", "copilot-instructions.md"), o, o.Hooks),
		}
	},
}

// copilotHooks is a file that Copilot CLI and VS Code read.
func copilotHooks(m *Machine) string {
	return m.home("COPILOT_HOME", ".copilot", "hooks", "episodic.json")
}

// copilotFile has the hooks of Copilot CLI, which VS Code understands. It names no client.
func copilotFile(goos string, p *Program) hooks {
	list := hooks{version: true}
	for _, name := range []string{"sessionStart", "userPromptSubmitted", "postToolUse", "agentStop", "sessionEnd"} {
		command := line(goos, p, name, "")
		shell := field{"bash", command}
		if goos == "windows" {
			shell = field{"powershell", "& " + command}
		}
		list.events = append(list.events, event{name, entry{{"type", "command"}, shell, {"timeoutSec", hookSeconds}}})
	}
	return list
}

var opencode = &Client{
	Name: "opencode", Title: "OpenCode", Advice: "restart OpenCode", programs: []string{"opencode"},
	folders: func(m *Machine) []string { return []string{m.xdg("opencode")} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		config := m.xdg("opencode", "opencode.jsonc")
		if !o.Exists(config) {
			config = m.xdg("opencode", "opencode.json")
		}
		server := entry{{"type", "local"}, {"command", append([]string{p.Path}, p.server(o.Hooks)...)}, {"enabled", true}}
		items := []item{
			{path: config, what: whatServer, part: member{"mcp", server}},
			{path: m.xdg("opencode", "plugins", "episodic.js"), what: whatHooks, part: whole(plugin(p)), unwanted: !o.Hooks},
		}
		// Without a file of its own it reads that of Claude Code, which a new one would hide.
		if own := m.xdg("opencode", "AGENTS.md"); o.Exists(own) || !o.Exists(m.join(claudeFolder(m), "CLAUDE.md")) {
			items = append(items, text(own, o, o.Hooks))
		}
		return items
	},
}
