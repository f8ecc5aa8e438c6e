package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// message is one of a chat-completions transcript.
type message struct {
	Role       string     `json:"role"`
	Content    content    `json:"content"`
	ToolCalls  []toolCall `json:"tool_calls"`
	ToolCallID string     `json:"tool_call_id"`
	Name       string     `json:"name"` // of the tool, in its answer

	// The form of a call before tool_calls; answered by the role function.
	FunctionCall *function `json:"function_call"`

	path string // in the document, for errors
}

type toolCall struct {
	ID       string   `json:"id"`
	Function function `json:"function"`
}

type function struct {
	Name      string        `json:"name"`
	Arguments episodic.JSON `json:"arguments"`
}

// content is a message's text: a string, null, or the parts of type text.
type content string

func (c *content) UnmarshalJSON(b []byte) error {
	if b[0] != '[' {
		return json.Unmarshal(b, (*string)(c))
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	var texts []string
	for _, p := range parts {
		if p.Type == "text" {
			texts = append(texts, p.Text)
		}
	}
	*c = content(strings.Join(texts, "\n"))
	return nil
}

func (c content) blank() bool { return strings.TrimSpace(string(c)) == "" }

func hasMessages(fields object) bool {
	return fields["messages"] != nil || fields["traj"] != nil
}

// parseTranscript makes an episode of an object that holds a chat-completions
// transcript in "messages" or "traj". It takes fields from the object.
func parseTranscript(fields object, now time.Time) (*episodic.Episode, error) {
	messages, err := takeMessages(fields)
	if err != nil {
		return nil, err
	}
	e := &episodic.Episode{}
	if e.Steps, err = transcriptSteps(messages); err != nil {
		return nil, err
	}
	if e.Description, err = takeTask(fields, messages); err != nil {
		return nil, err
	}
	if e.Reward, err = takeReward(fields); err != nil {
		return nil, err
	}
	e.Outcome = outcomeOf(e.Reward, lastWords(messages))
	taskType, _ := takeString(fields, "task_type")
	e.TaskType = cmp.Or(episodic.TaskType(taskType), episodic.TaskOther)
	start, err := takeTime(fields)
	if err != nil {
		return nil, err
	}
	e.Metadata = scalars(fields)
	if start.IsZero() {
		start = now
		e.Metadata["time_source"] = "import"
	}
	e.Start, e.End = start, start
	return e, nil
}

func takeMessages(fields object) ([]message, error) {
	key := "messages"
	if fields[key] == nil {
		key = "traj"
	}
	if fields[key] == nil {
		return nil, invalid("messages", "is missing; a transcript has messages (or traj)")
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(fields[key], &raw); err != nil {
		return nil, problem(key, err)
	}
	messages := make([]message, len(raw))
	for i := range raw {
		m := &messages[i]
		m.path = fmt.Sprintf("%s[%d].", key, i)
		if err := json.Unmarshal(raw[i], m); err != nil {
			return nil, problem(strings.TrimSuffix(m.path+typePath(err), "."), err)
		}
		switch m.Role {
		case "system", "developer", "user", "assistant", "tool", "function":
		default:
			return nil, invalid(m.path+"role", "is %.60q; it must be one of system, developer, user, assistant, tool, function", m.Role)
		}
	}
	delete(fields, key)
	return messages, nil
}

// transcriptSteps makes a step of each tool call and its answer. Ids repeat
// within transcripts, so an answer belongs to the latest call of its id that is
// still open. An answer whose call is not there, as where the beginning was cut
// off, is a step too.
func transcriptSteps(messages []message) ([]episodic.Step, error) {
	type waiting struct {
		id   string
		step int
		turn int // the message it was made in
	}
	var steps []episodic.Step
	var calls []waiting // not answered yet
	for i := range messages {
		m := &messages[i]
		switch m.Role {
		case "assistant":
			if m.FunctionCall != nil {
				m.ToolCalls = append(m.ToolCalls, toolCall{Function: *m.FunctionCall})
			}
			for j, call := range m.ToolCalls {
				if call.Function.Name == "" {
					return nil, invalid(fmt.Sprintf("%stool_calls[%d].function.name", m.path, j), "is missing")
				}
				step := episodic.Step{Tool: call.Function.Name, Parameters: callParameters(call.Function.Arguments)}
				if j == 0 && !m.Content.blank() {
					step.Action = string(m.Content)
				}
				calls = append(calls, waiting{call.ID, len(steps), i})
				steps = append(steps, step)
			}
		case "tool", "function":
			at := -1
			for c, w := range calls {
				if m.ToolCallID != "" && w.id == m.ToolCallID {
					at = c
				}
				// Without ids, answers come in the order of the calls of a turn.
				if m.ToolCallID == "" && (at < 0 || w.turn > calls[at].turn) && (m.Name == "" || steps[w.step].Tool == m.Name) {
					at = c
				}
			}
			result := &episodic.Result{Kind: episodic.ResultOutput, Text: string(m.Content)}
			if strings.HasPrefix(result.Text, "Error") {
				result.Kind = episodic.ResultError
			}
			if at < 0 {
				steps = append(steps, episodic.Step{Tool: cmp.Or(m.Name, "unknown"), Result: result})
				continue
			}
			steps[calls[at].step].Result = result
			calls = slices.Delete(calls, at, at+1)
		}
	}
	return steps, nil
}

// callParameters keeps the arguments byte for byte. A model may write arguments
// that are no JSON; those become a JSON string.
func callParameters(arguments episodic.JSON) episodic.JSON {
	if arguments == "" || json.Valid([]byte(arguments)) {
		return arguments
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(string(arguments)); err != nil {
		panic(err) // a string always has a JSON form
	}
	return episodic.JSON(strings.TrimSuffix(b.String(), "\n"))
}

// takeTask returns what the task was in words.
func takeTask(fields object, messages []message) (string, error) {
	var info struct {
		Task struct {
			Instruction string `json:"instruction"`
		} `json:"task"`
	}
	// Whatever else stands in info is not for us.
	if err := json.Unmarshal(fields["info"], &info); err == nil && strings.TrimSpace(info.Task.Instruction) != "" {
		return info.Task.Instruction, nil
	}
	for _, key := range []string{"task", "description"} {
		if text, ok := takeString(fields, key); ok && strings.TrimSpace(text) != "" {
			return text, nil
		}
	}
	for _, role := range []string{"user", "assistant"} {
		for i := range messages {
			if m := &messages[i]; m.Role == role && !m.Content.blank() {
				return string(m.Content), nil
			}
		}
	}
	return "", invalid("task", "is missing, and no message says what the task was")
}

func takeReward(fields object) (*episodic.Reward, error) {
	raw := fields["reward"]
	delete(fields, "reward")
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	var total float64
	if err := json.Unmarshal(raw, &total); err != nil {
		return nil, problem("reward", err)
	}
	return &episodic.Reward{Total: total}, nil
}

func outcomeOf(reward *episodic.Reward, last string) episodic.Outcome {
	switch {
	case reward == nil:
		return episodic.Outcome{}
	case reward.Total >= 1:
		return episodic.Outcome{Kind: episodic.Success, Verdict: last}
	case reward.Total <= 0:
		return episodic.Outcome{Kind: episodic.Failure, Reason: last}
	}
	return episodic.Outcome{Kind: episodic.PartialSuccess, Verdict: last}
}

// lastWords is the last thing that the assistant said.
func lastWords(messages []message) string {
	for i := len(messages) - 1; i >= 0; i-- {
		if m := &messages[i]; m.Role == "assistant" && !m.Content.blank() {
			return strings.TrimSpace(string(m.Content))
		}
	}
	return ""
}

// takeTime returns when the transcript began; zero if it does not say.
func takeTime(fields object) (time.Time, error) {
	for _, key := range []string{"created", "created_at", "timestamp"} {
		raw := fields[key]
		if raw == nil || string(raw) == "null" {
			continue
		}
		delete(fields, key)
		var seconds float64
		if json.Unmarshal(raw, &seconds) == nil {
			const year9999 = 253402300799
			if math.Abs(seconds) <= year9999 {
				return time.UnixMicro(int64(math.Round(seconds * 1e6))).UTC(), nil
			}
		}
		var text string
		if json.Unmarshal(raw, &text) == nil {
			if t, err := time.Parse(time.RFC3339, text); err == nil {
				return t, nil
			}
		}
		return time.Time{}, invalid(key, "is %.60s, which is neither unix seconds nor an RFC 3339 time such as 2026-01-31T09:30:00Z", raw)
	}
	return time.Time{}, nil
}

// takeString returns a field that is a string.
func takeString(fields object, key string) (text string, ok bool) {
	if raw := fields[key]; len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return "", false
	}
	delete(fields, key)
	return text, true
}

// scalars returns the fields that are a string, a number or a boolean.
func scalars(fields object) map[string]string {
	m := make(map[string]string)
	for key, raw := range fields {
		switch raw[0] {
		case '{', '[', 'n':
		case '"':
			m[key], _ = takeString(fields, key)
		default:
			m[key] = string(raw)
		}
	}
	return m
}
