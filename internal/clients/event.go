package clients

import (
	"cmp"
	"strings"
	"time"
)

// Client names an agent program. Where internal/transcript reads its sessions it is the name of
// that format.
type Client string

// The clients whose hooks are understood.
const (
	ClaudeCode Client = "claude-code"
	Codex      Client = "codex"
	Gemini     Client = "gemini"
	Cursor     Client = "cursor"
	OpenCode   Client = "opencode"
	VSCode     Client = "vscode"
	Copilot    Client = "copilot"
	Windsurf   Client = "windsurf"
	Cline      Client = "cline"
)

// All are the clients whose hooks are understood.
var All = []Client{ClaudeCode, Codex, Gemini, Cursor, OpenCode, VSCode, Copilot, Windsurf, Cline}

// Kind is what has happened.
type Kind uint8

// The kinds of an Event.
const (
	Other    Kind = iota // nothing that is recorded
	Start                // a session begins, or goes on: see Event.Source
	Prompt               // people said something
	Tool                 // a tool was called, and has answered or failed
	Reply                // the model has ended its turn
	AgentEnd             // a sub-agent has ended
	Compact              // the context is about to be compacted
	End                  // the session has ended
)

// Event is what a hook says. Fields that a client does not give are empty.
type Event struct {
	Client     Client
	Kind       Kind
	Name       string // the client's own for what has happened
	Session    string // names the session
	Agent      string // names the sub-agent that it happened in; empty: none
	Transcript string // the file of the session, or of the sub-agent at its end
	Folder     string // where the agent works
	Model      string

	Source string // of Start: startup, resume, clear, compact or fork
	Text   string // of Prompt: what people said; of Reply and AgentEnd: what the model said last

	Tool   string
	Input  string // JSON
	Result string
	Failed bool
	Took   time.Duration

	// Key tells the event from others of its session: an event that comes twice, as when two
	// clients load the same hooks, has the same.
	Key string
}

// kinds are the names that clients give what happens, without signs and in small letters.
var kinds = map[string]Kind{
	"sessionstart": Start, "sessioncreated": Start, "taskstart": Start, "taskresume": Start,

	"userpromptsubmit": Prompt, "userpromptsubmitted": Prompt, "beforeagent": Prompt, "beforesubmitprompt": Prompt,
	"preuserprompt": Prompt, "chatmessage": Prompt,

	"posttooluse": Tool, "posttoolusefailure": Tool, "aftertool": Tool, "toolexecuteafter": Tool,
	"postruncommand": Tool, "postwritecode": Tool, "postreadcode": Tool, "postmcptooluse": Tool,

	"stop": Reply, "agentstop": Reply, "afteragent": Reply, "afteragentresponse": Reply, "sessionidle": Reply,
	"postcascaderesponse": Reply,

	"subagentstop": AgentEnd,

	"precompact": Compact, "precompress": Compact, "experimentalsessioncompacting": Compact,

	"sessionend": End, "sessiondeleted": End, "taskcomplete": End, "taskcancel": End,
}

func kindOf(name string) Kind { return kinds[plainName(name)] }

// plainName is a name without what clients write differently.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// geminiOnly are events that no other client has.
var geminiOnly = map[string]bool{
	"beforeagent": true, "afteragent": true, "beforetool": true, "aftertool": true, "precompress": true,
	"beforemodel": true, "aftermodel": true, "beforetoolselection": true,
}

// clientOf tells whose payload it is.
func clientOf(p object, name string) Client {
	event := plainName(cmp.Or(p.str("hook_event_name"), name))
	switch {
	case p.str("client") != "":
		return Client(p.str("client"))
	case p.has("agent_action_name"):
		return Windsurf
	case p.has("hookName"):
		return Cline
	case p.has("conversation_id"):
		return Cursor
	case p.has("hookEventName"):
		return VSCode
	case p.has("sessionID"):
		return OpenCode
	case geminiOnly[event], p.has("timestamp") && p.has("session_id"):
		return Gemini
	case p.has("turn_id"), strings.HasPrefix(fileName(p.str("transcript_path")), "rollout-"):
		return Codex
	case p.has("session_id"):
		return ClaudeCode
	case p.has("cwd"):
		return Copilot
	}
	return ""
}

func fileName(path string) string { return path[strings.LastIndexAny(path, `/\`)+1:] }
