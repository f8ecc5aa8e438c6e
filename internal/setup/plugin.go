package setup

import (
	"encoding/json"
	"strings"

	"github.com/episodic-memory/episodic/internal/confedit"
)

// PluginFiles are those of the plug-in for Claude Code, by their paths in its folder. It runs the
// program of the PATH, and has the same as setup puts into files.
func PluginFiles(tools []string) map[string]string {
	p := &Program{Path: name}
	list := entry{}
	for _, e := range claudeEvents {
		hook := entry{{"type", "command"}, {"command", p.Path}, {"args", p.hook(e.name, "claude-code")}, {"timeout", hookSeconds}}
		if e.async {
			hook = append(hook, field{"async", true})
		}
		list = append(list, field{e.name, []entry{group(hook)}})
	}
	const about = "Episodic memory: what was done before, what worked, what was learnt. It needs the program episodic on the PATH."
	return map[string]string{
		".claude-plugin/plugin.json": indented(entry{
			{"name", name}, {"version", "0.1.0"}, {"description", about}, {"author", entry{{"name", "episodic"}}},
			{"homepage", "https://github.com/episodic-memory/episodic"}, {"license", "MIT"}, {"keywords", []string{"memory", "mcp", "hooks"}},
		}),
		".mcp.json":        indented(entry{{"mcpServers", entry{{name, stdio(p, true)}}}}),
		"hooks/hooks.json": indented(entry{{"description", "Records what is done, and tells what helps."}, {"hooks", list}}),
		"skills/episodic/SKILL.md": "---\nname: episodic\ndescription: What was done before, what worked, what was learnt. Use it before a task, when an error looks familiar, and when a task is settled.\n---\n\n" +
			strings.TrimSuffix(strings.TrimPrefix(Block(tools), blockStart+"\n#"), "\n"+blockEnd) + "\n",
	}
}

func indented(v any) string {
	text, err := marshal(v)
	if err != nil {
		panic(err) // it is of this file
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(json.RawMessage(text)) // it is JSON, and b takes all
	return b.String()
}

// HasPlugin reports whether the plug-in is enabled in Claude Code: then nothing else is needed
// there.
func (s *Setup) HasPlugin() bool {
	file, err := readFile(claudeSettings(s.Machine))
	if err != nil {
		return false
	}
	v, _, err := confedit.FindJSON(file.text, "enabledPlugins")
	plugins, _ := v.(map[string]any)
	for key, enabled := range plugins {
		if strings.HasPrefix(key, name+"@") && enabled != false {
			return err == nil
		}
	}
	return false
}
