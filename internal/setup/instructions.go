package setup

import (
	"slices"
	"strings"
)

// advice are the lines of the block for instruction files, each with the tools that it speaks of.
var advice = []struct {
	tools []string
	text  string
}{
	{[]string{"recall", "show"}, "Before a task, and when an error looks familiar: `recall` it in words; `show` has the steps of what was found."},
	{[]string{"start", "log"}, "At the beginning of a task: `start`. Then `log` what you do."},
	{[]string{"complete"}, "When the task is settled: `complete` with the outcome and a summary."},
	{[]string{"learn"}, "What later sessions should know, such as a decision, a convention or a correction by the user: `learn`."},
	{[]string{"feedback"}, "When something recalled has helped, or was wrong: `feedback`."},
	{[]string{"forget"}, "Only when the user asks for it: `forget`."},
}

// The lines around what is ours in an instruction file. The number is that of its form.
const (
	blockStart = "<!-- episodic:start v1 -->"
	blockEnd   = "<!-- episodic:end -->"
)

// Block is what the instruction files of clients are told, of the tools that are offered.
func Block(tools []string) string {
	lines := []string{blockStart, "## Memory of earlier runs: the tools of the MCP server episodic"}
	for _, a := range advice {
		if !slices.ContainsFunc(a.tools, func(tool string) bool { return !slices.Contains(tools, tool) }) {
			lines = append(lines, "- "+a.text)
		}
	}
	return strings.Join(append(lines, blockEnd), "\n")
}
