package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// bench is a Recorder on a memory of its own, whose sessions belong to one project.
type bench struct {
	*Recorder
	t     *testing.T
	path  string // of the memory
	store *episodic.Store
	clock time.Time
	tick  sync.Mutex
}

const ourProject = "github.com/we/pumps"

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, path: filepath.Join(t.TempDir(), "memory.db"), clock: time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)}
	store, err := episodic.Open(t.Context(), b.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.store = store
	t.Cleanup(func() { _ = store.Close() })
	b.Recorder = recorderOf(filepath.Join(t.TempDir(), "hooks"), b.path)
	b.Open = func(context.Context) (*episodic.Store, func() error, error) {
		return store, func() error { return nil }, nil
	}
	b.rest = -1
	b.now = func() time.Time {
		b.tick.Lock()
		defer b.tick.Unlock()
		b.clock = b.clock.Add(time.Second)
		return b.clock
	}
	return b
}

func recorderOf(dir, path string) *Recorder {
	return &Recorder{
		Dir: dir,
		Open: func(ctx context.Context) (*episodic.Store, func() error, error) {
			store, err := episodic.Open(ctx, path, nil)
			if err != nil {
				return nil, nil, err
			}
			return store, store.Close, nil
		},
		Scope: func(context.Context, *episodic.Store, string, string, string) (episodic.Scope, error) {
			return episodic.Scope{Project: ourProject}, nil
		},
		Hash: func(run *transcript.Run) []byte { return run.Hash[:16] },
	}
}

// payload is that of an event of Claude Code, with more fields.
func payload(session, event string, more map[string]any) []byte {
	m := map[string]any{"session_id": session, "cwd": "/work/pumps", "hook_event_name": event}
	for key, value := range more {
		m[key] = value
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func event(t testing.TB, p []byte) *clients.Event {
	t.Helper()
	e, err := clients.Decode("", "", p)
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

// hook records an event of Claude Code, and returns what the model is told.
func (b *bench) hook(session, name string, more map[string]any) string {
	b.t.Helper()
	text, err := b.Record(b.t.Context(), event(b.t, payload(session, name, more)))
	if err != nil {
		b.t.Fatalf("%s: %v", name, err)
	}
	return text
}

func (b *bench) prompt(session, text string) string {
	b.t.Helper()
	return b.hook(session, "UserPromptSubmit", map[string]any{"prompt": text, "prompt_id": "p" + text})
}

func (b *bench) call(session, id, result string) string {
	b.t.Helper()
	text, err := b.Record(b.t.Context(), event(b.t, callPayload(session, id, result)))
	if err != nil {
		b.t.Fatalf("call %s: %v", id, err)
	}
	return text
}

func callPayload(session, id, result string) []byte {
	return payload(session, "PostToolUse", map[string]any{
		"tool_name": "Bash", "tool_input": map[string]any{"command": "run " + id}, "tool_response": map[string]any{"stdout": result, "stderr": ""}, "tool_use_id": id, "duration_ms": 5,
	})
}

func (b *bench) fail(session, id, text string) string {
	b.t.Helper()
	return b.hook(session, "PostToolUseFailure", map[string]any{
		"tool_name": "Bash", "tool_input": map[string]any{"command": "run " + id}, "error": text, "tool_use_id": id,
	})
}

func (b *bench) stop(session, text string) {
	b.t.Helper()
	b.hook(session, "Stop", map[string]any{"last_assistant_message": text})
}

func (b *bench) end(session string) {
	b.t.Helper()
	b.hook(session, "SessionEnd", map[string]any{"reason": "other"})
}

func idOf(client clients.Client, key string) episodic.ID {
	return transcript.DeriveID(episodic.Scope{Project: ourProject}, string(client), key)
}

// episode is that of a session of Claude Code; nil if there is none.
func (b *bench) episode(key string) *episodic.Episode { return b.episodeOf(clients.ClaudeCode, key) }

func (b *bench) episodeOf(client clients.Client, key string) *episodic.Episode {
	b.t.Helper()
	e, err := b.store.Episode(episodic.WithFresh(b.t.Context()), idOf(client, key))
	if errors.Is(err, episodic.ErrNotFound) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

// told is an episode in short, a line for each step.
func told(e *episodic.Episode) string {
	if e == nil {
		return "nothing"
	}
	var s strings.Builder
	state := "ended"
	if e.Running() {
		state = "running"
	}
	fmt.Fprintf(&s, "%s, %s", e.Description, state)
	if e.Outcome.Kind != "" {
		fmt.Fprintf(&s, ", %s", e.Outcome.Kind)
	}
	if e.Outcome.Verdict != "" {
		fmt.Fprintf(&s, ": %s", e.Outcome.Verdict)
	}
	for _, st := range e.Steps {
		s.WriteString("\n")
		if p := st.Metadata[transcript.MetaPrompt]; p != "" {
			fmt.Fprintf(&s, "(%s) ", p)
		}
		s.WriteString(st.Tool + st.Action + string(st.Parameters))
		if st.Result != nil {
			fmt.Fprintf(&s, " -> %s %s", st.Result.Kind, st.Result.Text)
		}
	}
	return s.String()
}

func (b *bench) want(key, want string) {
	b.t.Helper()
	if got := told(b.episode(key)); got != want {
		b.t.Fatalf("session %s is\n%s\n\nwant\n%s", key, got, want)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.hook("s", "SessionStart", map[string]any{"source": "startup", "model": "m"})
	b.want("s", "nothing")
	b.prompt("s", "mend the valve of the pump")
	b.want("s", "mend the valve of the pump, running")
	b.call("s", "a", "opened")
	b.fail("s", "b", "Exit code 3")
	b.stop("s", "the valve is mended")
	want := "mend the valve of the pump, running\n" + `Bash{"command":"run a"} -> output opened` + "\n" + `Bash{"command":"run b"} -> error Exit code 3`
	b.want("s", want) // the end of a turn is not that of the session
	b.prompt("s", "and now the gasket please")
	b.call("s", "c", "cut")
	b.hook("s", "PreCompact", map[string]any{"trigger": "auto"})
	want += "\nthe valve is mended\n(and now the gasket please) " + `Bash{"command":"run c"} -> output cut`
	b.want("s", want)
	b.stop("s", "the gasket fits")
	b.end("s")
	b.want("s", strings.Replace(want, "running", "ended: the gasket fits", 1))
	e := b.episode("s")
	if e.Metadata[transcript.MetaFolder] != "/work/pumps" || e.Metadata[transcript.MetaModel] != "m" || e.Metadata[transcript.MetaSession] != "s" || e.Context.Domain != "pumps" {
		t.Errorf("metadata %v, domain %q", e.Metadata, e.Context.Domain)
	}
	if len(e.Steps) == 0 || e.Steps[0].Latency != 5*time.Millisecond || !e.Start.Before(e.Steps[0].Time) {
		t.Errorf("steps %+v", e.Steps)
	}

	// It goes on, and ends again.
	b.hook("s", "SessionStart", map[string]any{"source": "resume"})
	b.prompt("s", "one thing more to do")
	b.call("s", "d", "ok")
	b.want("s", want+"\nthe gasket fits\n(one thing more to do) "+`Bash{"command":"run d"} -> output ok`)
	b.end("s")
	if e := b.episode("s"); e.Running() || e.StepCount != 6 {
		t.Errorf("it has %d steps, and is running: %v", e.StepCount, e.Running())
	}
}

// A call that comes after the end, because its hook was not waited for, opens nothing.
func TestLateCall(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.prompt("s", "mend it")
	b.end("s")
	b.call("s", "late", "x")
	b.want("s", "mend it, ended\n"+`Bash{"command":"run late"} -> output x`)
}

// The same event twice is one, as where two clients load the same hooks.
func TestTwice(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 2 {
		b.hook("s", "SessionStart", map[string]any{"source": "startup"})
	}
	for range 2 {
		b.prompt("s", "mend it")
	}
	for range 3 {
		b.call("s", "a", "x")
	}
	for range 2 {
		b.stop("s", "done")
	}
	for range 2 {
		b.prompt("s", "again")
	}
	b.call("s", "b", "y")
	for range 2 {
		b.stop("s", "done")
	}
	b.hook("s", "UserPromptSubmit", map[string]any{"prompt": "continue"}) // without an id
	b.hook("s", "UserPromptSubmit", map[string]any{"prompt": "continue"})
	b.stop("s", "more")
	b.hook("s", "UserPromptSubmit", map[string]any{"prompt": "continue"})
	b.call("s", "c", "z")
	b.want("s", "mend it, running\n"+`Bash{"command":"run a"} -> output x`+"\ndone\n(again) "+`Bash{"command":"run b"} -> output y`+
		"\ndone\n(continue) more\n(continue) "+`Bash{"command":"run c"} -> output z`)
}

// Each client's events become an episode.
func TestClients(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		client   clients.Client
		session  string
		payloads []string
		events   []string // names on the command line
	}{
		{clients.Codex, "c1", []string{
			`{"session_id":"c1","turn_id":"t0","transcript_path":null,"cwd":"/w","hook_event_name":"SessionStart","model":"m","source":"startup"}`,
			`{"session_id":"c1","turn_id":"t1","cwd":"/w","hook_event_name":"UserPromptSubmit","prompt":"do it"}`,
			`{"session_id":"c1","turn_id":"t1","cwd":"/w","hook_event_name":"PostToolUse","tool_name":"sh","tool_input":{"command":"ls"},"tool_response":"a","tool_use_id":"k1"}`,
			`{"session_id":"c1","turn_id":"t1","cwd":"/w","hook_event_name":"Stop","last_assistant_message":"did"}`,
			`{"session_id":"c1","turn_id":"t1","cwd":"/w","hook_event_name":"SessionEnd","reason":"other"}`,
		}, nil},
		{clients.Gemini, "g1", []string{
			`{"session_id":"g1","cwd":"/w","hook_event_name":"SessionStart","timestamp":"2026-11-28T07:00:00Z","source":"startup"}`,
			`{"session_id":"g1","cwd":"/w","hook_event_name":"BeforeAgent","timestamp":"2026-11-28T07:00:01Z","prompt":"do it"}`,
			`{"session_id":"g1","cwd":"/w","hook_event_name":"AfterTool","timestamp":"2026-11-28T07:00:02Z","tool_name":"sh","tool_input":{"command":"ls"},"tool_response":{"llmContent":"a","error":null}}`,
			`{"session_id":"g1","cwd":"/w","hook_event_name":"AfterAgent","timestamp":"2026-11-28T07:00:03Z","prompt":"do it","prompt_response":"did"}`,
			`{"session_id":"g1","cwd":"/w","hook_event_name":"SessionEnd","timestamp":"2026-11-28T07:00:04Z","reason":"exit"}`,
		}, nil},
		{clients.Cursor, "u1", []string{
			`{"conversation_id":"u1","hook_event_name":"sessionStart","workspace_roots":["/w"]}`,
			`{"conversation_id":"u1","generation_id":"n1","hook_event_name":"beforeSubmitPrompt","workspace_roots":["/w"],"prompt":"do it"}`,
			`{"conversation_id":"u1","hook_event_name":"postToolUse","workspace_roots":["/w"],"tool_name":"sh","tool_input":{"command":"ls"},"tool_output":"a","tool_use_id":"k1"}`,
			`{"conversation_id":"u1","hook_event_name":"afterAgentResponse","workspace_roots":["/w"],"text":"did"}`,
			`{"conversation_id":"u1","hook_event_name":"stop","workspace_roots":["/w"],"status":"completed"}`,
			`{"conversation_id":"u1","hook_event_name":"sessionEnd","workspace_roots":["/w"],"reason":"completed"}`,
		}, nil},
		{clients.VSCode, "v1", []string{
			`{"timestamp":"2026-11-28T07:00:00Z","sessionId":"v1","hookEventName":"SessionStart","cwd":"/w","source":"new"}`,
			`{"timestamp":"2026-11-28T07:00:01Z","sessionId":"v1","hookEventName":"UserPromptSubmit","cwd":"/w","prompt":"do it"}`,
			`{"timestamp":"2026-11-28T07:00:02Z","sessionId":"v1","hookEventName":"PostToolUse","cwd":"/w","tool_name":"sh","tool_input":{"command":"ls"},"tool_use_id":"x1","tool_response":"a"}`,
			`{"timestamp":"2026-11-28T07:00:03Z","sessionId":"v1","hookEventName":"Stop","cwd":"/w","last_assistant_message":"did"}`,
			`{"timestamp":"2026-11-28T07:00:04Z","sessionId":"v1","hookEventName":"SessionEnd","cwd":"/w"}`,
		}, nil},
		{clients.Copilot, "in /w", []string{
			`{"timestamp":1,"cwd":"/w","source":"new"}`,
			`{"timestamp":2,"cwd":"/w","prompt":"do it"}`,
			`{"timestamp":3,"cwd":"/w","toolName":"sh","toolArgs":"{\"command\":\"ls\"}","toolResult":{"resultType":"success","textResultForLlm":"a"}}`,
			`{"timestamp":4,"cwd":"/w","message":"did"}`,
			`{"timestamp":5,"cwd":"/w","reason":"complete"}`,
		}, []string{"sessionStart", "userPromptSubmitted", "postToolUse", "agentStop", "sessionEnd"}},
		{clients.Cline, "l1", []string{
			`{"hookName":"TaskStart","taskId":"l1","workspaceRoots":["/w"],"taskStart":{"taskMetadata":{"initialTask":"do it"}}}`,
			`{"hookName":"PostToolUse","taskId":"l1","workspaceRoots":["/w"],"postToolUse":{"toolName":"sh","parameters":{"command":"ls"},"result":"a","success":true}}`,
			`{"hookName":"TaskComplete","taskId":"l1","workspaceRoots":["/w"],"taskComplete":{"taskMetadata":{"result":"did"}}}`,
		}, nil},
		{clients.OpenCode, "o1", []string{
			`{"client":"opencode","event":"session.created","sessionID":"o1","directory":"/w"}`,
			`{"client":"opencode","event":"chat.message","sessionID":"o1","directory":"/w","messageID":"m1","text":"do it"}`,
			`{"client":"opencode","event":"tool.execute.after","sessionID":"o1","directory":"/w","callID":"q1","tool":"sh","args":{"command":"ls"},"output":"a"}`,
			`{"client":"opencode","event":"session.idle","sessionID":"o1","directory":"/w","text":"did"}`,
			`{"client":"opencode","event":"session.deleted","sessionID":"o1","directory":"/w"}`,
		}, nil},
	} {
		t.Run(string(tt.client), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for i, p := range tt.payloads {
				name := ""
				if tt.events != nil {
					name = tt.events[i]
				}
				e, err := clients.Decode(name, "", []byte(p))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := b.Record(t.Context(), &e); err != nil {
					t.Fatal(err)
				}
			}
			want := "do it, ended: did\n" + `sh{"command":"ls"} -> output a`
			if got := told(b.episodeOf(tt.client, tt.session)); got != want {
				t.Errorf("it is\n%s\n\nwant\n%s", got, want)
			}
		})
	}
	t.Run("windsurf", func(t *testing.T) { // it has no sessions: what rests has ended
		t.Parallel()
		b := newBench(t)
		for _, p := range []string{
			`{"agent_action_name":"pre_user_prompt","trajectory_id":"w1","tool_info":{"user_prompt":"do it"}}`,
			`{"agent_action_name":"post_mcp_tool_use","trajectory_id":"w1","tool_info":{"mcp_server_name":"x","mcp_tool_name":"sh","mcp_tool_arguments":{"command":"ls"},"mcp_result":"a"}}`,
			`{"agent_action_name":"post_cascade_response","trajectory_id":"w1","tool_info":{"response":"did"}}`,
		} {
			if _, err := b.Record(t.Context(), event(t, []byte(p))); err != nil {
				t.Fatal(err)
			}
		}
		b.clock = b.clock.Add(3 * time.Hour)
		if err := b.Sweep(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		want := "do it, ended: did\n" + `sh{"command":"ls"} -> output a`
		if got := told(b.episodeOf(clients.Windsurf, "w1")); got != want {
			t.Errorf("it is\n%s\n\nwant\n%s", got, want)
		}
	})
}

// What a sub-agent does is an episode of its own, a child of the session's.
func TestSubagent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.prompt("s", "mend it")
	b.hook("s", "PostToolUse", map[string]any{"agent_id": "x", "tool_name": "Read", "tool_input": map[string]any{}, "tool_response": "text", "tool_use_id": "a"})
	b.hook("s", "SubagentStop", map[string]any{"agent_id": "x", "last_assistant_message": "found"})
	b.call("s", "b", "y")
	b.want("s", "mend it, running\n"+`Bash{"command":"run b"} -> output y`)
	b.want("s/x", "a run without a recorded task, ended: found\nRead{} -> output text")
	for r, err := range b.store.Relations(t.Context(), idOf(clients.ClaudeCode, "s/x"), nil) {
		if err != nil || r.From != idOf(clients.ClaudeCode, "s") || r.Type != episodic.ParentOf {
			t.Errorf("relation %+v, %v", r, err)
		}
		return
	}
	t.Error("it is nobody's child")
}

// An episode that somebody deleted stays so, whatever its session does.
func TestDeleted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.prompt("s", "mend it")
	b.call("s", "a", "x")
	if err := b.store.DeleteEpisode(t.Context(), idOf(clients.ClaudeCode, "s")); err != nil {
		t.Fatal(err)
	}
	b.call("s", "b", "y")
	b.prompt("s", "go on with what you do")
	b.stop("s", "did")
	b.end("s")
	b.want("s", "nothing")
	// Also where nothing is known of the session any more, as on another machine.
	b.Dir = t.TempDir()
	b.prompt("s", "mend it")
	b.call("s", "c", "z")
	b.want("s", "nothing")
}

// What cannot be stored is, once it can.
func TestAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	open, tries := recorderOf(b.Dir, b.path).Open, 0
	b.Open = func(context.Context) (*episodic.Store, func() error, error) {
		tries++
		return nil, nil, context.DeadlineExceeded
	}
	record := func(name string, more map[string]any) error {
		_, err := b.Record(t.Context(), event(t, payload("s", name, more)))
		return err
	}
	if err := record("UserPromptSubmit", map[string]any{"prompt": "mend it"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("it was away: %v", err)
	}
	b.call("s", "a", "x")
	b.stop("s", "")
	if tries != 1 {
		t.Errorf("it was tried %d times", tries)
	}
	if err := b.Sweep(t.Context(), 10); err != nil || tries != 1 {
		t.Errorf("swept: %v, tried %d times", err, tries)
	}
	b.Open = open
	b.call("s", "b", "y") // it is not tried yet
	b.want("s", "nothing")
	if err := b.Sweep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	want := "mend it, running\n" + `Bash{"command":"run a"} -> output x` + "\n" + `Bash{"command":"run b"} -> output y`
	b.want("s", want)
	if _, err := os.Stat(filepath.Join(b.Dir, awayFile)); err == nil {
		t.Error("it is still taken to be away")
	}
	b.end("s")
	b.want("s", strings.Replace(want, "running", "ended", 1))
}

// Calls are put down, and stored together with what comes next.
func TestCallsRest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.rest = time.Hour
	opened := 0
	open := b.Open
	b.Open = func(ctx context.Context) (*episodic.Store, func() error, error) {
		opened++
		return open(ctx)
	}
	b.prompt("s", "mend it")
	want := "mend it, running"
	for i := range 3 * sentSteps {
		id := fmt.Sprint("c", i)
		b.call("s", id, "x")
		want += "\n" + `Bash{"command":"run ` + id + `"} -> output x`
	}
	if opened != 1 {
		t.Errorf("the memory was opened %d times", opened)
	}
	b.want("s", "mend it, running")
	b.stop("s", "")
	b.want("s", want)
	b.Remote, b.rest = true, -1
	b.call("s", "last", "x")
	b.want("s", want)
	b.end("s")
	b.want("s", strings.Replace(want, "running", "ended", 1)+"\n"+`Bash{"command":"run last"} -> output x`)
}

// Nothing is written anywhere before it is redacted.
func TestRedacted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const secret = "ghp_" + "012345678901234567890123456789abcdef"
	redact, err := episodic.Redact{}.Redactor()
	if err != nil {
		t.Fatal(err)
	}
	b.Redact = redact
	b.Open = func(context.Context) (*episodic.Store, func() error, error) {
		return nil, nil, context.DeadlineExceeded
	}
	for _, p := range [][]byte{
		payload("s", "UserPromptSubmit", map[string]any{"prompt": "use " + secret + " for it"}),
		payload("s", "PostToolUse", map[string]any{"tool_name": "Bash", "tool_input": map[string]any{"env": secret}, "tool_response": secret, "tool_use_id": "a"}),
		payload("s", "Stop", map[string]any{"last_assistant_message": "I used " + secret}),
	} {
		_, _ = b.Record(t.Context(), event(t, p))
		files := 0
		err := filepath.WalkDir(b.Dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			text, err := os.ReadFile(path)
			if strings.Contains(string(text), secret) {
				t.Errorf("%s has it: %s", path, text)
			}
			if info, err := d.Info(); err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return err
		})
		if err != nil || files == 0 {
			t.Fatal(files, err)
		}
	}
}

// Sessions are forgotten after thirty days, stored or not, and only then.
func TestForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.hook("empty", "SessionStart", map[string]any{"source": "startup"})
	b.prompt("stored", "mend it")
	b.end("stored")
	b.prompt("open", "mend it")
	folders := func() (n int) {
		entries, err := os.ReadDir(b.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		after time.Duration
		left  int
	}{{3 * time.Hour, 3}, {29 * 24 * time.Hour, 3}, {2 * 24 * time.Hour, 0}} {
		b.clock = b.clock.Add(tt.after)
		if err := b.Sweep(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if n := folders(); n != tt.left {
			t.Errorf("after %v there are %d, want %d", tt.after, n, tt.left)
		}
	}
	b.want("open", "mend it, ended")
	b.want("empty", "nothing")
}

// A file that cannot be read is put aside, and the session goes on.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.prompt("s", "mend it")
	folder := filepath.Join(b.Dir, name(clients.ClaudeCode, "s"))
	if err := errors.Join(os.WriteFile(filepath.Join(folder, sessionFile), nil, 0o600), os.WriteFile(filepath.Join(folder, arrivalPrefix+"x"), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Record(t.Context(), event(t, payload("s", "PostToolUse", map[string]any{"tool_name": "Bash", "tool_use_id": "a", "tool_response": "x"}))); err == nil || !strings.Contains(err.Error(), "put aside") || !strings.Contains(err.Error(), "is lost") {
		t.Errorf("error %v", err)
	}
	b.call("s", "b", "y")
	b.want("s", "mend it, running\nBash -> output x\n"+`Bash{"command":"run b"} -> output y`)
}
