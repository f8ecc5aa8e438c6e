package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/episodic-memory/episodic"
)

// tool is what clients are told of a tool, and what it does.
type tool struct {
	name, title, about string
	arguments          []argument
	writes             bool
	destroys           bool // what it does cannot be undone
	repeatable         bool // doing it twice is doing it once
	// always keeps clients that load tools on demand from leaving it out.
	always bool
	run    func(*call, context.Context) (string, error)
}

// call is a call of a tool.
type call struct {
	*Server
	Caller
	store *episodic.Store // narrowed to Caller.Scope
	arguments
	client string // the program that calls; empty: it has not said
	use    string // the client's id of this call, the same if it repeats it; empty: none
}

var outcomes = []string{"success", "partial", "failure", "abandoned"}

var outcomeKinds = map[string]episodic.OutcomeKind{
	"success": episodic.Success, "partial": episodic.PartialSuccess, "failure": episodic.Failure, "abandoned": episodic.Abstained,
}

var openEpisode = argument{name: "episode", kind: textArgument, about: "id; left out: the open one of this session"}

var tools = [...]tool{
	{
		name: "recall", title: "Recall", always: true, repeatable: true, run: (*call).recallTool,
		about: "Search the memory of earlier runs for a task or an error: what worked, what failed, lessons learnt. Use it before a task, and when something fails.",
		arguments: []argument{
			{name: "query", kind: textArgument, required: true, about: "the task or error, in words"},
			{name: "outcome", kind: textArgument, enum: outcomes},
			{name: "project", kind: textArgument, about: "another project, or * for all"},
			{name: "limit", kind: numberArgument, least: 1, most: 20, usual: 5},
			{name: "max_tokens", kind: numberArgument, least: 300, most: 20_000, usual: 1500},
			{name: "cursor", kind: textArgument, about: "of the answer before, for more"},
		},
	},
	{
		name: "show", title: "Show", repeatable: true, run: (*call).showTool,
		about: "Show an episode that recall named: its outline, or some of its steps in full. Also lessons and patterns.",
		arguments: []argument{
			{name: "id", kind: textArgument, required: true, about: "or its first digits"},
			{name: "steps", kind: textArgument, about: `"7", "5-12", "40-" or "errors"`},
			{name: "max_tokens", kind: numberArgument, least: 300, most: 20_000, usual: 2000},
		},
	},
	{
		name: "start", title: "Start an episode", writes: true, run: (*call).startTool,
		about: "Begin to record a task, and recall what is known of it.",
		arguments: []argument{
			{name: "task", kind: textArgument, required: true, about: "in words, as the user put it"},
			{name: "tags", kind: tagsArgument},
		},
	},
	{
		name: "log", title: "Log steps", writes: true, run: (*call).logTool,
		about: "Record steps of the open episode, several at once.",
		arguments: []argument{
			{name: "steps", kind: stepsArgument, required: true},
			openEpisode,
		},
	},
	{
		name: "complete", title: "Complete the episode", writes: true, repeatable: true, always: true, run: (*call).completeTool,
		about: "Record how the task ended, once it is settled.",
		arguments: []argument{
			{name: "outcome", kind: textArgument, required: true, enum: outcomes},
			{name: "summary", kind: textArgument, required: true, about: "what was done, or why it failed"},
			openEpisode,
		},
	},
	{
		name: "learn", title: "Learn a lesson", writes: true, repeatable: true, run: (*call).learnTool,
		about: "Keep what later sessions should know: a decision, a convention, a correction.",
		arguments: []argument{
			{name: "text", kind: textArgument, required: true, about: "what to do or know, and why"},
			{name: "when", kind: textArgument, required: true, about: "the situation, in words that a task will have"},
			{name: "replaces", kind: textArgument, about: "id of a lesson that this corrects"},
		},
	},
	{
		name: "feedback", title: "Give feedback", writes: true, repeatable: true, run: (*call).feedbackTool,
		about: "Say whether something recalled helped.",
		arguments: []argument{
			{name: "id", kind: textArgument, required: true},
			{name: "verdict", kind: textArgument, required: true, enum: verdicts},
			{name: "why", kind: textArgument},
		},
	},
	{
		name: "forget", title: "Forget", writes: true, destroys: true, run: (*call).forgetTool,
		about: "Delete an episode, lesson or pattern for good, only on the user's wish. Without confirm it only says what would go.",
		arguments: []argument{
			{name: "id", kind: textArgument, required: true},
			{name: "confirm", kind: flagArgument},
		},
	},
}

func (t *tool) declaration() *mcp.Tool {
	open := false
	d := &mcp.Tool{
		Name: t.name, Description: t.about, InputSchema: schema(t.arguments),
		Annotations: &mcp.ToolAnnotations{
			Title: t.title, ReadOnlyHint: !t.writes, DestructiveHint: &t.destroys, IdempotentHint: t.repeatable, OpenWorldHint: &open,
		},
	}
	if t.always {
		d.Meta = mcp.Meta{"anthropic/alwaysLoad": true}
	}
	return d
}

// callPatience bounds a call. A write goes on that long, whatever becomes of the client.
const callPatience = 45 * time.Second

func (s *Server) handler(t *tool) mcp.ToolHandler {
	return func(ctx context.Context, req *mcp.CallToolRequest) (res *mcp.CallToolResult, _ error) {
		defer func() {
			if r := recover(); r != nil {
				s.panicked("tool "+t.name, r)
				res = answer(fmt.Sprintf("%s failed by a defect of episodic; go on without it.", t.name), true)
			}
		}()
		if t.writes {
			ctx = context.WithoutCancel(ctx)
		}
		ctx, cancel := context.WithTimeout(ctx, callPatience)
		defer cancel()
		text, err := s.call(ctx, t, req)
		if err != nil {
			return answer(explain(t.name, err), true), nil
		}
		return answer(text, false), nil
	}
}

func (s *Server) call(ctx context.Context, t *tool, req *mcp.CallToolRequest) (string, error) {
	args, err := read(t.arguments, req.Params.Arguments)
	if err != nil {
		return "", err
	}
	by := s.caller(ctx)
	store, err := s.memory(ctx, by, by.Scope)
	if err != nil {
		return "", err
	}
	c := &call{Server: s, Caller: by, store: store, arguments: args}
	if info := req.ClientInfo(); info != nil {
		c.client = info.Name
	}
	if s.o.SessionOf != nil {
		if told, ok := s.o.SessionOf(c.client, req.Params.Meta); ok {
			c.Session = told
		}
	}
	c.use, _ = req.Params.Meta["claudecode/toolUseId"].(string)
	return t.run(c, ctx)
}

func answer(text string, failed bool) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}, IsError: failed}
}

// explain is an error in a sentence or two for a model: what is wrong, and what to do.
func explain(tool string, err error) string {
	if wrong, ok := errors.AsType[*badArgument](err); ok {
		return tool + ": " + wrong.text + "."
	}
	advice := ""
	switch {
	case errors.Is(err, episodic.ErrNotFound):
		advice = "recall finds what there is"
	case errors.Is(err, episodic.ErrUnknownOutcome):
		advice = "it may be stored or not: look with show or recall before repeating it"
	case errors.Is(err, episodic.ErrInvalid), errors.Is(err, episodic.ErrConflict):
	case errors.Is(err, episodic.ErrUnauthorized):
		advice = "tell the user to set EPISODIC_AUTH_TOKEN to a token of this server, and go on without the memory"
	case errors.Is(err, episodic.ErrFull):
		advice = "tell the user to make room on the disk, and go on without the memory"
	case errors.Is(err, episodic.ErrServerStuck):
		advice = "tell the user that the memory's server must be restarted; reading still works"
	case errors.Is(err, episodic.ErrReadOnly):
		advice = "tell the user that the memory cannot be written; reading still works"
	case errors.Is(err, episodic.ErrCorrupt):
		advice = "tell the user to run episodic doctor, and go on without it"
	case episodic.Retryable(err), errors.Is(err, context.DeadlineExceeded):
		advice = "go on without the memory, and try once more later"
	default:
		advice = "tell the user to run episodic probe, and go on without the memory"
	}
	text := clean(strings.TrimSuffix(err.Error(), "."))
	if advice != "" {
		text += ". What to do: " + advice
	}
	return tool + ": " + text + "."
}

// Names are those of the tools that are offered, in order.
func (o Tools) Names() (names []string) {
	for i := range tools {
		if o.include(&tools[i]) {
			names = append(names, tools[i].name)
		}
	}
	return names
}
