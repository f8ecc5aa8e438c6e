package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// turn is a message of a transcript.
type turn struct {
	Role       string     `json:"role"`
	Content    any        `json:"content"`
	ToolCalls  []chatCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
}

type chatCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// chat is an episode as one line of a data set.
type chat struct {
	Messages []turn            `json:"messages"`
	Outcome  string            `json:"outcome,omitempty"`
	Reward   *float64          `json:"reward,omitempty"`
	Created  *time.Time        `json:"created_at,omitempty"`
	ID       episodic.ID       `json:"episode_id"`
	TaskType episodic.TaskType `json:"task_type,omitempty"`
}

func chatOf(e *episodic.Episode) *chat {
	c := &chat{ID: e.ID, TaskType: e.TaskType, Outcome: string(e.Outcome.Kind), Created: &e.Start}
	if e.Reward != nil {
		c.Reward = &e.Reward.Total
	}
	return c
}

// prompts gives what people said, and the steps that followed.
func prompts(e *episodic.Episode, said func(string), step func(int, *episodic.Step)) {
	said(e.Description)
	for i := range e.Steps {
		s := &e.Steps[i]
		if p := s.Metadata[transcript.MetaPrompt]; p != "" {
			said(p)
		}
		step(i, s)
	}
	if p := e.Metadata[transcript.MetaLastPrompt]; p != "" {
		said(p)
	}
}

func finalWords(e *episodic.Episode) string { return cmp.Or(e.Outcome.Verdict, e.Outcome.Reason) }

// openAIChat is an episode in the form of OpenAI's chat completions.
func openAIChat(e *episodic.Episode) *chat {
	c := chatOf(e)
	add := func(t turn) { c.Messages = append(c.Messages, t) }
	if text := e.Metadata[transcript.MetaSystem]; text != "" {
		add(turn{Role: "system", Content: text})
	}
	prompts(e, func(text string) { add(turn{Role: "user", Content: text}) }, func(i int, s *episodic.Step) {
		t := turn{Role: "assistant"}
		if s.Action != "" {
			t.Content = s.Action
		}
		if s.Tool == "" {
			add(t)
			return
		}
		call := chatCall{ID: fmt.Sprintf("call_%d", i+1), Type: "function"}
		call.Function.Name, call.Function.Arguments = s.Tool, cmp.Or(string(s.Parameters), "{}")
		t.ToolCalls = []chatCall{call}
		add(t)
		if s.Result != nil {
			add(turn{Role: "tool", ToolCallID: call.ID, Content: s.Result.Text})
		}
	})
	if text := finalWords(e); text != "" {
		add(turn{Role: "assistant", Content: text})
	}
	return c
}

// block is a part of a message of Anthropic's.
type block struct {
	Type      string          `json:"type"`
	Text      string          `json:"text,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
	ToolUseID string          `json:"tool_use_id,omitempty"`
	Content   string          `json:"content,omitempty"`
	IsError   bool            `json:"is_error,omitempty"`
}

// anthropicChat is an episode in the form of Anthropic's messages, whose turns alternate.
func anthropicChat(e *episodic.Episode) any {
	c := chatOf(e)
	add := func(role string, b block) {
		if last := len(c.Messages) - 1; last >= 0 && c.Messages[last].Role == role {
			c.Messages[last].Content = append(c.Messages[last].Content.([]block), b)
			return
		}
		c.Messages = append(c.Messages, turn{Role: role, Content: []block{b}})
	}
	prompts(e, func(text string) { add("user", block{Type: "text", Text: text}) }, func(i int, s *episodic.Step) {
		if s.Action != "" {
			add("assistant", block{Type: "text", Text: s.Action})
		}
		if s.Tool == "" {
			return
		}
		id := fmt.Sprintf("toolu_%d", i+1)
		add("assistant", block{Type: "tool_use", ID: id, Name: s.Tool, Input: inputOf(s.Parameters)})
		r := block{Type: "tool_result", ToolUseID: id}
		if s.Result != nil {
			r.Content, r.IsError = s.Result.Text, s.Result.Kind != episodic.ResultOutput
		}
		add("user", r) // a call without one is refused
	})
	if text := finalWords(e); text != "" {
		add("assistant", block{Type: "text", Text: text})
	}
	return struct {
		System string `json:"system,omitempty"`
		*chat
	}{e.Metadata[transcript.MetaSystem], c}
}

// inputOf are parameters as the object that they must be there.
func inputOf(p episodic.JSON) json.RawMessage {
	if strings.HasPrefix(strings.TrimSpace(string(p)), "{") {
		return json.RawMessage(p)
	}
	if p == "" {
		return json.RawMessage("{}")
	}
	return json.RawMessage(`{"input":` + string(p) + `}`)
}

// writeMarkdown writes an episode for people, whose terminal it may not steer.
func writeMarkdown(w io.Writer, e *episodic.Episode) error {
	b := &strings.Builder{}
	title := cmp.Or(e.Metadata[transcript.MetaTitle], strings.Join(strings.Fields(e.Description), " "))
	fmt.Fprintf(b, "# %s\n\n", cut(title, 100))
	fmt.Fprintf(b, "%s · %s · %s\n\n", e.ID, e.Start.UTC().Format(time.RFC3339), outcomeName(e))
	said := func(text string) { fmt.Fprintf(b, "%s\n\n", quotedMarkdown(text)) }
	prompts(e, said, func(i int, s *episodic.Step) {
		fmt.Fprintf(b, "## %d. %s\n\n", i+1, cmp.Or(s.Tool, "said"))
		if s.Action != "" {
			fmt.Fprintf(b, "%s\n\n", s.Action)
		}
		if s.Parameters != "" {
			fencedMarkdown(b, "json", string(s.Parameters))
		}
		if s.Result != nil {
			if s.Result.Kind != episodic.ResultOutput {
				fmt.Fprintf(b, "%s:\n\n", s.Result.Kind)
			}
			fencedMarkdown(b, "", s.Result.Text)
		}
	})
	if text := finalWords(e); text != "" {
		fmt.Fprintf(b, "## Result\n\n%s\n\n", text)
	}
	for _, list := range []struct {
		name  string
		items []string
	}{{"Went well", e.Reflection.Successes}, {"Improve", e.Reflection.Improvements}, {"Insights", e.Reflection.Insights}} {
		if len(list.items) > 0 {
			fmt.Fprintf(b, "## %s\n\n", list.name)
			for _, item := range list.items {
				fmt.Fprintf(b, "- %s\n", item)
			}
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, plain(b.String()))
	return err
}

func quotedMarkdown(text string) string {
	return "> " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n> ")
}

// fencedMarkdown writes a text between fences that are longer than any in it.
func fencedMarkdown(b *strings.Builder, kind, text string) {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	fmt.Fprintf(b, "%s%s\n%s\n%s\n\n", fence, kind, strings.TrimSuffix(text, "\n"), fence)
}
