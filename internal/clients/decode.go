package clients

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Decode reads what a hook was given on its standard input. name is what has happened, for
// clients that do not say so in the payload; client is whose payload it is, empty to tell by
// what it holds. Errors: the payload is no JSON object, nobody's, or names no session.
func Decode(name string, client Client, payload []byte) (Event, error) {
	var p object
	if err := json.Unmarshal(payload, &p); err != nil || p == nil {
		return Event{}, fmt.Errorf("hook %.40q: the payload is no JSON object", name)
	}
	if told := clientOf(p, name); client == "" || client == ClaudeCode && (told == VSCode || told == Cursor || told == Gemini) {
		client = told // they load, or have copied, Claude Code's hooks
	}
	if !slices.Contains(All, client) {
		return Event{}, fmt.Errorf("hook %.40q: the payload is of no client that is known; --client names it", name)
	}
	e := Event{
		Client:     client,
		Name:       cmp.Or(p.str("hook_event_name", "hookEventName", "hookName", "agent_action_name", "event"), name),
		Session:    p.str("session_id", "sessionId", "sessionID", "conversation_id", "trajectory_id", "taskId"),
		Agent:      p.str("agent_id"),
		Transcript: p.str("transcript_path", "transcriptPath"),
		Folder:     cmp.Or(p.str("cwd", "directory"), folder(first(p.list("workspace_roots", "workspaceRoots")))),
		Model:      p.str("model"),
		Source:     p.str("source"),
	}
	e.Kind = kindOf(e.Name)
	if client == Cursor { // a session_id there may be of something smaller
		e.Session = cmp.Or(p.str("conversation_id"), e.Session)
	}
	if client == Copilot && e.Session == "" && e.Folder != "" {
		e.Session = "in " + e.Folder // older versions do not name sessions
	}
	if e.Session == "" {
		return Event{}, fmt.Errorf("hook %.40q of %s: the payload names no session", e.Name, client)
	}
	sum := sha256.Sum256(payload)
	e.Key = e.Name + " " + hex.EncodeToString(sum[:12])
	switch client {
	case Windsurf:
		e.windsurf(p.object("tool_info"))
	case Cline:
		e.cline(p)
	default:
		e.usual(p)
	}
	e.tidy()
	return e, nil
}

// usual reads the fields of a payload without a level below.
func (e *Event) usual(p object) {
	switch e.Kind {
	case Prompt:
		e.Text = p.str("prompt", "text")
		if id := p.str("prompt_id", "generation_id", "messageID"); id != "" {
			e.Key = "prompt " + id
		}
	case Reply:
		e.Text = p.str("last_assistant_message", "prompt_response", "text", "message")
	case AgentEnd:
		e.Text = p.str("last_assistant_message")
		e.Transcript = p.str("agent_transcript_path")
		e.Agent = cmp.Or(e.Agent, p.str("agent_name"))
	case Tool:
		e.Tool = p.str("tool_name", "toolName", "tool")
		e.Input = p.text("tool_input", "toolArgs", "args")
		if id := p.str("tool_use_id", "toolUseId", "tool_call_id", "callID"); id != "" {
			e.Key = "call " + id
		}
		e.Took = p.milliseconds("duration_ms", "duration")
		response := p.raw("tool_response", "tool_output", "toolResult", "output", "result_json")
		e.Result, e.Failed = result(response)
		if e.Client == Gemini && e.Tool == "run_shell_command" {
			e.Failed = e.Failed || geminiExit.MatchString(e.Result)
		}
		if text := p.str("error", "error_message"); text != "" {
			e.Result, e.Failed = text, true
		}
		e.Failed = e.Failed || strings.HasSuffix(plainName(e.Name), "failure")
	}
}

// windsurf reads what stands below tool_info.
func (e *Event) windsurf(info object) {
	e.Folder = cmp.Or(e.Folder, info.str("cwd"))
	switch e.Kind {
	case Prompt:
		e.Text = info.str("user_prompt")
	case Reply:
		e.Text = info.str("response")
	case Tool:
		e.Tool = cmp.Or(info.str("mcp_tool_name"), strings.TrimPrefix(e.Name, "post_"))
		if info.str("mcp_server_name") == "episodic" {
			e.Tool = "episodic_" + e.Tool
		}
		if e.Input = info.text("mcp_tool_arguments"); e.Input == "" {
			e.Input = info.json()
		}
		e.Result, e.Failed = result(info.raw("mcp_result", "output"))
	}
}

// cline reads what stands below the name of the event.
func (e *Event) cline(p object) {
	if plainName(e.Name) == "taskresume" {
		e.Source = "resume"
	}
	switch e.Kind {
	case Start:
		e.Text = p.object("taskStart").object("taskMetadata").str("initialTask", "task")
	case Prompt:
		e.Text = p.object("userPromptSubmit").str("prompt")
	case Tool:
		use := p.object("postToolUse")
		e.Tool, e.Input = use.str("toolName"), use.text("parameters")
		e.Took = use.milliseconds("executionTimeMs")
		e.Result, e.Failed = result(use.raw("result"))
		e.Failed = e.Failed || string(use["success"]) == "false"
	case End:
		e.Text = p.object("taskComplete").object("taskMetadata").str("result")
	}
}

// tidy makes of a field what can be stored.
func (e *Event) tidy() {
	for _, s := range []*string{&e.Session, &e.Agent, &e.Transcript, &e.Folder, &e.Model, &e.Source, &e.Text, &e.Tool, &e.Input, &e.Result, &e.Name, &e.Key} {
		*s = strings.ReplaceAll(strings.ToValidUTF8(*s, "\uFFFD"), "\x00", "\uFFFD")
	}
	if e.Input != "" && !json.Valid([]byte(e.Input)) {
		b, _ := json.Marshal(e.Input) // of a string it cannot fail
		e.Input = string(b)
	}
	if e.Kind == Tool && e.Tool == "" {
		e.Tool = "unknown"
	}
}

// folder is the path of a folder that may be given as a URL.
func folder(text string) string {
	if u, err := url.Parse(text); err == nil && u.Scheme == "file" {
		return u.Path
	}
	return text
}

// object is a JSON object of which only some fields are known. A missing one, and one that is
// something else than it should be, is empty.
type object map[string]json.RawMessage

func (o object) has(key string) bool { return o.raw(key) != nil }

// raw is the first of the fields that is there.
func (o object) raw(keys ...string) json.RawMessage {
	for _, key := range keys {
		if v := o[key]; len(v) > 0 && string(v) != "null" {
			return v
		}
	}
	return nil
}

// str is the first of the fields that is a string with something in it.
func (o object) str(keys ...string) string {
	for _, key := range keys {
		var s string
		if json.Unmarshal(o[key], &s) == nil && s != "" {
			return s
		}
	}
	return ""
}

// text is a field that is JSON, or a string with JSON in it.
func (o object) text(keys ...string) string {
	raw := o.raw(keys...)
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func (o object) object(key string) (in object) {
	_ = json.Unmarshal(o[key], &in) // if it is none there is nothing in it
	return in
}

func (o object) list(keys ...string) (list []string) {
	_ = json.Unmarshal(o.raw(keys...), &list)
	return list
}

func (o object) milliseconds(keys ...string) time.Duration {
	var ms float64
	if json.Unmarshal(o.raw(keys...), &ms) != nil || !(ms > 0) {
		return 0
	}
	const most = 30 * 24 * time.Hour
	return time.Duration(min(ms, float64(most/time.Millisecond)) * float64(time.Millisecond))
}

func (o object) json() string {
	b, _ := json.Marshal(o) // it was decoded
	return string(b)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
