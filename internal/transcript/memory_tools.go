package transcript

import (
	"regexp"
	"slices"

	"github.com/episodic-memory/episodic"
)

// memoryTools are the tools of episodic mcp, as clients name them where it is registered as episodic.
var memoryTools = regexp.MustCompile(`^(mcp[_-]+)?(plugin[_-]episodic[_-])?episodic[._/-]+(recall|show|start|log|complete|learn|feedback|forget)$`)

// IsMemoryTool reports whether a tool is one of episodic mcp. Its calls are no steps of a run: what they
// recall is stored already, and what they record they store themselves.
func IsMemoryTool(tool string) bool { return memoryTools.MatchString(tool) }

// dropMemoryTools leaves out the calls of episodic's own tools. What was said, thought or asked for
// before one stays.
func (b *builder) dropMemoryTools() {
	all := b.e.Steps
	if !slices.ContainsFunc(all, func(s episodic.Step) bool { return IsMemoryTool(s.Tool) }) {
		return
	}
	b.e.Steps = nil
	prompt, thought := "", "" // of calls before
	for _, s := range all {
		if IsMemoryTool(s.Tool) {
			b.left("call of episodic's own tools", 1)
			if s.Action == "" {
				prompt, thought = join(prompt, s.Metadata[MetaPrompt]), join(thought, s.Metadata[MetaThought])
				continue
			}
			s = episodic.Step{Time: s.Time, Action: s.Action, Tokens: s.Tokens, Metadata: s.Metadata}
		}
		b.e.Steps = append(b.e.Steps, s)
		i := len(b.e.Steps) - 1
		b.note(i, MetaPrompt, join(prompt, s.Metadata[MetaPrompt]))
		b.note(i, MetaThought, join(thought, s.Metadata[MetaThought]))
		prompt, thought = "", ""
	}
	b.prompt, b.thought = join(prompt, b.prompt), join(thought, b.thought)
}
