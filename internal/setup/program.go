package setup

import (
	"slices"
	"strings"
)

// Program is what clients are to run.
type Program struct {
	Path      string   // absolute
	Flags     []string // that stand before each command, such as --db
	Variables []string // names of variables that it needs and that some clients hide, such as EPISODIC_AUTH_TOKEN
}

// server are the arguments of the MCP server.
func (p *Program) server(hooks bool) []string {
	args := append(slices.Clone(p.Flags), "mcp")
	if hooks {
		args = append(args, "--tools", "hooks")
	}
	return args
}

// hook are the arguments of a hook. Without a client it tells by the payload whose it is.
func (p *Program) hook(event, client string) []string {
	args := append(slices.Clone(p.Flags), "hook", event)
	if client != "" {
		args = append(args, "--client", client)
	}
	return args
}

// shell is a command line for POSIX shells, or for what Windows has.
func shell(goos string, words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(goos, word)
	}
	return strings.Join(quoted, " ")
}

func quote(goos, word string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`_-./:@%+,=`, r) || r == '\\' && goos == "windows"
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !safe(r) }) < 0 {
		return word
	}
	if goos == "windows" {
		return `"` + strings.ReplaceAll(word, `"`, `\"`) + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
