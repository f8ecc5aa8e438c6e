package setup

import (
	_ "embed"
	"strings"
)

//go:embed opencode.js
var pluginText string

// plugin is the plug-in for OpenCode.
func plugin(p *Program) string {
	command, err := marshal(append([]string{p.Path}, append(p.Flags[:len(p.Flags):len(p.Flags)], "hook")...))
	if err != nil {
		panic(err) // of strings it cannot fail
	}
	return strings.Replace(pluginText, `["episodic", "hook"]`, strings.ReplaceAll(command, `","`, `", "`), 1)
}
