package transcript

import (
	"slices"
	"time"
)

// mark is how far a run had come, so that what followed can be dropped.
type mark struct {
	run                          *Run
	steps, prompts               int
	description                  string
	prompt, thought, said, spoke string
	saidAt                       time.Time
	calls                        []openCall
}

func (b *builder) mark() *mark {
	return &mark{
		run: b.run, steps: len(b.e.Steps), prompts: b.prompts, description: b.e.Description,
		prompt: b.prompt, thought: b.thought, said: b.said, spoke: b.spoke, saidAt: b.saidAt,
		calls: slices.Clone(b.calls),
	}
}

// rewind drops what came after a mark, where people went back to it and asked for something
// else, and counts it. Times and tokens stay: they were spent. With ByPrompt the run of the
// mark may have ended; then what came after stays, as runs of their own.
func (b *builder) rewind(m *mark) {
	if b.run != m.run {
		return
	}
	b.left("prompt that was taken back", b.prompts-m.prompts)
	b.left("step that was taken back", len(b.e.Steps)-m.steps)
	clear(b.e.Steps[m.steps:])
	b.e.Steps, b.e.Description = b.e.Steps[:m.steps], m.description
	b.prompts, b.prompt, b.thought, b.said, b.spoke = m.prompts, m.prompt, m.thought, m.said, m.spoke
	b.saidAt, b.calls = m.saidAt, slices.Clone(m.calls)
}
