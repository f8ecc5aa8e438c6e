package setup

var windsurf = &Client{
	Name: "windsurf", Title: "Windsurf", Advice: "restart Windsurf", programs: []string{"windsurf"},
	folders: func(m *Machine) []string { return []string{m.home("", ".codeium/windsurf")} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		list := hooks{}
		for _, name := range []string{"pre_user_prompt", "post_run_command", "post_write_code", "post_mcp_tool_use", "post_cascade_response"} {
			list.events = append(list.events, event{name, entry{{"command", line(m.GOOS, p, name, "windsurf")}, {"show_output", false}}})
		}
		return []item{
			{path: m.home("", ".codeium/windsurf/mcp_config.json"), what: whatServer, part: member{"mcpServers", stdio(p, o.Hooks)}},
			{path: m.home("", ".codeium/windsurf/hooks.json"), what: whatHooks, part: list, unwanted: !o.Hooks},
			text(m.home("", ".codeium/windsurf/memories/global_rules.md"), o, o.Hooks),
		}
	},
}

var zed = &Client{
	Name: "zed", Title: "Zed", Advice: "restart Zed", programs: []string{"zed"},
	folders: func(m *Machine) []string { return []string{zedFolder(m)} },
	items: func(m *Machine, p *Program, o *Choice) []item { // it has no hooks, and no file of the user's instructions
		return []item{{path: m.join(zedFolder(m), "settings.json"), what: whatServer, part: member{"context_servers", stdio(p, false)}}}
	},
}

func zedFolder(m *Machine) string {
	if m.GOOS == "windows" {
		return m.support("Zed")
	}
	return m.xdg("zed")
}

var cline = &Client{
	Name: "cline", Title: "Cline", Advice: "restart the editor that Cline is in", programs: []string{"cline"},
	folders: func(m *Machine) []string { return []string{m.home("", ".cline"), clineInCode(m)} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		settings := m.home("", ".cline/data/settings/cline_mcp_settings.json")
		if o.Exists(clineInCode(m)) && !o.Exists(m.home("", ".cline")) {
			settings = m.join(clineInCode(m), "settings", "cline_mcp_settings.json")
		}
		run := o.Hooks && m.GOOS != "windows" // where it runs none
		items := []item{{path: settings, what: whatServer, part: member{"mcpServers", append(stdio(p, run), field{"disabled", false})}}}
		for _, name := range []string{"TaskStart", "TaskResume", "UserPromptSubmit", "PostToolUse", "PreCompact", "TaskComplete", "TaskCancel"} {
			script := whole("#!/bin/sh\n# " + mark + "; episodic setup --undo cline removes it.\nexec " + line(m.GOOS, p, name, "cline") + "\n")
			items = append(items, item{path: m.home("", "Documents/Cline/Hooks", name), what: whatHooks, part: script, unwanted: !run, program: true})
		}
		return append(items, item{path: m.home("", "Documents/Cline/Rules/episodic.md"), what: whatText, part: whole("<!-- " + mark + " -->\n" + Block(o.Tools(run)) + "\n")})
	},
}

// clineInCode is where older versions keep their files: in those of VS Code.
func clineInCode(m *Machine) string {
	return m.support("Code", "User", "globalStorage", "saoudrizwan.claude-dev")
}

var claudeDesktop = &Client{
	Name: "claude-desktop", Title: "Claude Desktop", Advice: "restart Claude Desktop",
	folders: func(m *Machine) []string { return []string{m.support("Claude")} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		return []item{{path: m.support("Claude", "claude_desktop_config.json"), what: whatServer, part: member{"mcpServers", stdio(p, false)}}}
	},
}

var goose = &Client{
	Name: "goose", Title: "Goose", Advice: "restart Goose", programs: []string{"goose"},
	folders: func(m *Machine) []string { return []string{gooseFolder(m)} },
	items: func(m *Machine, p *Program, o *Choice) []item {
		extension := entry{{"name", "episodic"}, {"type", "stdio"}, {"cmd", p.Path}, {"args", p.server(false)}, {"enabled", true}, {"timeout", 300}}
		return []item{
			{path: m.join(gooseFolder(m), "config.yaml"), what: whatServer, part: yamlMapping{"extensions", extension}},
			text(m.join(gooseFolder(m), ".goosehints"), o, false),
		}
	},
}

func gooseFolder(m *Machine) string {
	if m.GOOS == "windows" {
		return m.support("Block", "goose", "config")
	}
	return m.xdg("goose")
}
