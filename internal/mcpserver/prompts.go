package mcpserver

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// addPrompts adds what people choose from a menu. They ask for tools by name, so that the
// model sees what is recalled as what it is.
func (s *Server) addPrompts() {
	add := func(name, title, about, text string, arguments ...*mcp.PromptArgument) {
		s.mcp.AddPrompt(&mcp.Prompt{Name: name, Title: title, Description: about, Arguments: arguments}, func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			said := text
			for _, a := range arguments {
				if value := req.Params.Arguments[a.Name]; value != "" {
					said += "\n\n" + value
				}
			}
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: said}}}}, nil
		})
	}
	if s.o.Tools.include(toolNamed("recall")) {
		add("before", "What is known of a task", "Recall what worked and what failed before you begin.", "Before you begin with this task, call recall with it, look with show at what fits, and tell me in a few lines what worked, what failed and what you will do otherwise.",
			&mcp.PromptArgument{Name: "task", Description: "in words", Required: true})
		add("handoff", "Hand over to another session", "What another session needs to go on with this one.", "Write a handover for another session: what was asked for, what is done and how that was checked, what is open, what to try next and what not to try again. Name the episodes and files.")
	}
	if s.o.Tools.include(toolNamed("complete")) {
		add("retrospective", "Look back", "Record how this session ended, and what was learnt.", "Look back at this session. Call complete with how it ended, if it is settled; feedback for what was recalled; and learn for each thing that a later session should know and could not read in the code, at most three.")
	}
}

func toolNamed(name string) *tool {
	for i := range tools {
		if tools[i].name == name {
			return &tools[i]
		}
	}
	panic("no tool " + name)
}
