package transcript

import (
	"cmp"
	"strings"
)

// source is where a program keeps its sessions.
type source struct {
	name string // of its format
	// folders are below home, or where a variable of the environment says; env is empty or nil
	// where it says nothing.
	folders func(env func(string) string, home, goos string) []string
	// wanted reports whether a file of the folders is a session, by the names of its path.
	wanted func(path []string, file string) bool
}

var sources = []source{
	{claudeCode.name, claudeFolders, wantedClaude},
	{codex.name, codexFolders, wantedCodex},
	{gemini.name, geminiFolders, wantedGemini},
	{cursor.name, cursorFolders, wantedCursor},
	{openCode.name, openCodeFolders, wantedOpenCode},
}

// Sources returns the names of the programs whose sessions can be found without being told
// where.
func Sources() []string {
	var names []string
	for _, s := range sources {
		names = append(names, s.name)
	}
	return names
}

// Folders returns where a program of Sources keeps its sessions, whether or not those folders
// exist. env looks up variables of the environment, which move some of them; home is the
// user's folder, and goos the operating system as runtime.GOOS has it. Of another name it
// returns none.
func Folders(name string, env func(string) string, home, goos string) []string {
	separator := "/"
	if goos == "windows" {
		separator = `\`
	}
	for _, s := range sources {
		if s.name != name {
			continue
		}
		var list []string
		for _, f := range s.folders(env, strings.TrimRight(home, `/\`), goos) {
			if goos == "windows" {
				f = strings.ReplaceAll(f, "/", separator)
			}
			list = append(list, f)
		}
		return list
	}
	return nil
}

// Wanted reports whether a file of the folders of a program is one of its sessions. path may
// begin anywhere above what Folders returned.
func Wanted(name, path string) bool {
	list := parts(path)
	if len(list) == 0 {
		return false
	}
	for _, s := range sources {
		if s.name == name {
			return s.wanted(list[:len(list)-1], list[len(list)-1])
		}
	}
	return false
}

// Placed returns which program has written a session file, by where it lies. It is for files
// that are too short to tell, as those of sessions that have just begun. Empty: its place says
// nothing.
func Placed(path string) string {
	list := parts(path)
	if len(list) == 0 {
		return ""
	}
	folder, file := list[:len(list)-1], list[len(list)-1]
	switch {
	case isCursorTranscript(folder, file):
		return cursor.name
	case wantedCodex(folder, file):
		return codex.name
	case follows(folder, "chats") && wantedGemini(folder, file):
		return gemini.name
	case (follows(folder, ".claude", "projects") || follows(folder, "claude", "projects")) && wantedClaude(folder, file):
		return claudeCode.name
	}
	return ""
}

// follows reports whether a path has these names one after the other.
func follows(path []string, names ...string) bool {
	return strings.Contains("/"+strings.Join(path, "/")+"/", "/"+strings.Join(names, "/")+"/")
}

// Claude Code: https://docs.claude.com/en/docs/claude-code/settings
func claudeFolders(env func(string) string, home, _ string) []string {
	if moved := env("CLAUDE_CONFIG_DIR"); moved != "" {
		return []string{moved + "/projects"}
	}
	config := env("XDG_CONFIG_HOME")
	if config == "" {
		config = home + "/.config"
	}
	return []string{home + "/.claude/projects", config + "/claude/projects"}
}

func wantedClaude(path []string, file string) bool {
	if !strings.HasSuffix(file, ".jsonl") {
		return false
	}
	if follows(path, "subagents") { // beside them lie journals of workflows
		return strings.HasPrefix(file, "agent-")
	}
	return strings.HasPrefix(file, "agent-") || isUUID(strings.TrimSuffix(file, ".jsonl"))
}

// isUUID reports whether a name is written as UUIDs are.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') {
			return false
		}
		if s[i] != '-' && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}

// Codex: https://developers.openai.com/codex/config-advanced
func codexFolders(env func(string) string, home, _ string) []string {
	root := env("CODEX_HOME")
	if root == "" {
		root = home + "/.codex"
	}
	return []string{root + "/sessions", root + "/archived_sessions"}
}

func wantedCodex(_ []string, file string) bool {
	return strings.HasPrefix(file, "rollout-") && (strings.HasSuffix(file, ".jsonl") || strings.HasSuffix(file, ".jsonl.zst") || strings.HasSuffix(file, ".json"))
}

// Gemini CLI: packages/core/src/config/storage.ts, and homedir in utils/paths.ts, of its source
func geminiFolders(env func(string) string, home, _ string) []string {
	if moved := env("GEMINI_CLI_HOME"); moved != "" {
		home = moved
	}
	return []string{home + "/.gemini/tmp"}
}

// wantedGemini leaves out what /chat save has written, which sessions hold too, logs, and the
// checkpoints of files.
func wantedGemini(path []string, file string) bool {
	return follows(path, "chats") && (strings.HasSuffix(file, ".json") || strings.HasSuffix(file, ".jsonl"))
}

// Cursor has its database first, which tells more than its transcripts.
func cursorFolders(env func(string) string, home, goos string) []string {
	data := cmp.Or(env("XDG_CONFIG_HOME"), home+"/.config")
	switch goos {
	case "darwin":
		data = home + "/Library/Application Support"
	case "windows":
		data = cmp.Or(env("APPDATA"), home+"/AppData/Roaming")
	}
	return []string{data + "/Cursor/User/globalStorage", home + "/.cursor/projects"}
}

func wantedCursor(path []string, file string) bool {
	return file == "state.vscdb" && follows(path, "globalStorage") || isCursorTranscript(path, file)
}

func isCursorTranscript(path []string, file string) bool {
	return follows(path, "agent-transcripts") && strings.HasSuffix(file, ".jsonl")
}

// OpenCode follows XDG on all systems: packages/opencode/src/global/index.ts of its source.
func openCodeFolders(env func(string) string, home, _ string) []string {
	return []string{cmp.Or(env("XDG_DATA_HOME"), home+"/.local/share") + "/opencode"}
}

func wantedOpenCode(_ []string, file string) bool { return file == "opencode.db" }
