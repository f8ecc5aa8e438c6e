package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

func transcript(t *testing.T, raw string) *episodic.Episode {
	t.Helper()
	e, err := parseDocument([]byte(raw), formatAuto, episodic.Scope{}, e0)
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return e
}

func TestCallsMeetTheirAnswers(t *testing.T) {
	e := transcript(t, `{"messages":[
 {"role":"system","content":"rules"},
 {"role":"user","content":"do it"},
 {"role":"assistant","content":"Both at once.","tool_calls":[
  {"id":"c1","function":{"name":"read","arguments":"{ \"a\": 1.0 }"}},
  {"id":"c2","function":{"name":"write","arguments":"not <json>"}},
  {"id":"c3","function":{"name":"none","arguments":""}}]},
 {"role":"tool","tool_call_id":"c2","content":"Error: disk full"},
 {"role":"tool","tool_call_id":"c1","content":" 42\n"},
 {"role":"user","content":"go on"},
 {"role":"assistant","content":null,"tool_calls":[{"id":"c1","function":{"name":"again","arguments":{"b":[2]}}}]},
 {"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"two"},{"type":"image_url","image_url":{}},{"type":"text","text":"parts"}]},
 {"role":"assistant","content":"","tool_calls":[{"function":{"name":"x"}},{"function":{"name":"y"}}]},
 {"role":"tool","content":"of x"},
 {"role":"tool","content":"of y"},
 {"role":"assistant","content":"  All done. "}]}`)
	output := func(s string) *episodic.Result { return &episodic.Result{Kind: episodic.ResultOutput, Text: s} }
	want := []episodic.Step{
		{Tool: "read", Action: "Both at once.", Parameters: `{ "a": 1.0 }`, Result: output(" 42\n")},
		{Tool: "write", Parameters: `"not <json>"`, Result: &episodic.Result{Kind: episodic.ResultError, Text: "Error: disk full"}},
		{Tool: "none"},
		{Tool: "again", Parameters: `{"b":[2]}`, Result: output("two\nparts")},
		{Tool: "x", Result: output("of x")},
		{Tool: "y", Result: output("of y")},
	}
	if !reflect.DeepEqual(e.Steps, want) {
		t.Errorf("steps are\n%+v, want\n%+v", e.Steps, want)
	}
	if e.Description != "do it" || e.TaskType != episodic.TaskOther || e.Outcome.Kind != "" || e.Reward != nil {
		t.Errorf("the episode is %+v", e)
	}
}

func TestTranscriptTask(t *testing.T) {
	const messages = `"messages":[{"role":"system","content":"s"},{"role":"assistant","content":"Hello, how can I help?"},{"role":"user","content":"first user"}]`
	for doc, want := range map[string]string{
		`{` + messages + `,"info":{"task":{"instruction":"of info"}},"task":"of task"}`:                 "of info",
		`{` + messages + `,"info":{"task":5},"task":"of task","description":"d"}`:                       "of task",
		`{` + messages + `,"task":{"not":"text"},"description":"of description"}`:                       "of description",
		`{` + messages + `,"task":" "}`:                                                                 "first user",
		`{"traj":[{"role":"user","content":null},{"role":"assistant","content":"only the assistant"}]}`: "only the assistant",
	} {
		if got := transcript(t, doc).Description; got != want {
			t.Errorf("%s: the task is %q, want %q", doc, got, want)
		}
	}
}

func TestTranscriptReward(t *testing.T) {
	for reward, want := range map[string]episodic.Outcome{
		"1":    {Kind: episodic.Success, Verdict: "bye"},
		"1.5":  {Kind: episodic.Success, Verdict: "bye"},
		"0":    {Kind: episodic.Failure, Reason: "bye"},
		"-2":   {Kind: episodic.Failure, Reason: "bye"},
		"0.25": {Kind: episodic.PartialSuccess, Verdict: "bye"},
		"null": {},
	} {
		e := transcript(t, `{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":" bye\n"}],"reward":`+reward+`}`)
		if !reflect.DeepEqual(e.Outcome, want) || (e.Reward == nil) != (reward == "null") {
			t.Errorf("reward %s: the outcome is %+v, want %+v; the reward is %v", reward, e.Outcome, want, e.Reward)
		}
	}
}

func TestTranscriptTimeAndMetadata(t *testing.T) {
	for field, want := range map[string]time.Time{
		`"created":1767225600`:                                         time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		`"created":null,"timestamp":1767225600.25`:                     time.Date(2026, 1, 1, 0, 0, 0, 250e6, time.UTC),
		`"created_at":"2026-01-01T01:00:00+01:00"`:                     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		`"task_id":7,"model":"m-1","ok":true,"none":null,"list":["x"]`: e0,
	} {
		e := transcript(t, `{"messages":[{"role":"user","content":"x"}],"task_type":"testing",`+field+`}`)
		if !e.Start.Equal(want) || !e.End.Equal(want) || e.TaskType != episodic.TaskTesting {
			t.Errorf("%s: from %v to %v, type %s", field, e.Start, e.End, e.TaskType)
		}
		metadata := map[string]string{}
		if want.Equal(e0) {
			metadata = map[string]string{"task_id": "7", "model": "m-1", "ok": "true", "time_source": "import"}
		}
		if !maps.Equal(e.Metadata, metadata) {
			t.Errorf("%s: the metadata is %v, want %v", field, e.Metadata, metadata)
		}
	}
}

func TestUnusualTranscriptShapes(t *testing.T) {
	for name, tt := range map[string]struct{ messages, want string }{
		"parallel calls in two messages": {
			`{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"a","arguments":"{}"}}]},{"role":"assistant","tool_calls":[{"id":"2","function":{"name":"b","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"A"},{"role":"tool","tool_call_id":"2","content":"B"}`,
			"a=A b=B",
		},
		"a repeated id": {
			`{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"a","arguments":"{}"}}]},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"b","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"B"}`,
			"a b=B",
		},
		"functions": {
			`{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"F"}`,
			"f=F",
		},
		"a beginning that was cut off": {
			`{"role":"tool","tool_call_id":"c9","name":"g","content":"G"},{"role":"tool","tool_call_id":"c8","content":"H"}`,
			"g=G unknown=H",
		},
	} {
		e, err := parseDocument([]byte(`{"messages":[{"role":"user","content":"x"},`+tt.messages+`]}`), formatAuto, episodic.Scope{}, e0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, s := range e.Steps {
			text := s.Tool
			if s.Result != nil {
				text += "=" + s.Result.Text
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: steps %v, want %s", name, got, tt.want)
		}
	}
}

func TestTranscriptRefusalsNameTheField(t *testing.T) {
	for doc, want := range map[string]string{
		`{"messages":{}}`: "messages: holds an object, want an array",
		`{"traj":[]}`:     "task: is missing",
		`{"traj":[{"role":"user","content":"x"},{"role":"usr"}]}`: `traj[1].role: is "usr"`,
		`{"messages":[{"role":5}]}`:                               "messages[0].role: holds a number, want a string",
		`{"messages":["hi"]}`:                                     "messages[0]: holds a string, want an object",
		`{"messages":[{"role":"user","content":5}]}`:              "messages[0].content: holds a number, want a string",
		`{"messages":[{"role":"assistant","content":"x","tool_calls":[{"id":"c","function":{}}]}]}`:                              "messages[0].tool_calls[0].function.name: is missing",
		`{"messages":[{"role":"user","content":"x"}],"reward":"high"}`:                                                           "reward: holds a string, want a finite number",
		`{"messages":[{"role":"user","content":"x"}],"created_at":"monday"}`:                                                     `created_at: is "monday"`,
		`{"messages":[{"role":"user","content":"x"}],"created":1767225600000}`:                                                   "created: is 1767225600000",
		`{"messages":[{"role":"assistant","content":"x","tool_calls":[{"id":"c","function":{"name":"f","arguments":"\xff"}}]}]}`: ": is not JSON",
	} {
		_, err := parseDocument([]byte(doc), formatAuto, episodic.Scope{}, e0)
		if !errors.Is(err, episodic.ErrInvalid) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}

// sourceStep is a step as the source has it, read without this program's parser.
type sourceStep struct {
	tool, arguments, answer string
	answered                bool
}

func sourceSteps(t *testing.T, trajectory []any) (steps []sourceStep) {
	t.Helper()
	turn := 0 // where the steps of this turn begin
	for _, m := range trajectory {
		m := m.(map[string]any)
		switch m["role"] {
		case "assistant":
			turn = len(steps)
			calls, _ := m["tool_calls"].([]any)
			for _, call := range calls {
				function := call.(map[string]any)["function"].(map[string]any)
				steps = append(steps, sourceStep{tool: function["name"].(string), arguments: function["arguments"].(string)})
			}
		case "tool":
			// This source has one call a turn.
			if len(steps) != turn+1 || steps[turn].answered {
				t.Fatal("an answer without its call")
			}
			steps[turn].answer, steps[turn].answered = m["content"].(string), true
		}
	}
	return steps
}

func TestRealTrajectoriesAreKeptByteForByte(t *testing.T) {
	path := sharedData(t, "tau-bench-airline.jsonl")
	c := newCLI(t)
	if out, want := c.ok("import", path, "--domain", "airline"), "imported 100 episodes, 621 steps; 0 were already there; 0 bad lines\n"; !strings.HasPrefix(out, want) {
		t.Errorf("import printed %q, want %q", out, want)
	}
	if out, want := c.ok("import", path), "imported 0 episodes, 0 steps; 100 were already there; 0 bad lines\n"; out != want {
		t.Errorf("the second import printed %q, want %q", out, want)
	}
	store := c.store()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	episodes, steps := 0, 0
	for lines.Scan() {
		var source map[string]any
		if err := json.Unmarshal(lines.Bytes(), &source); err != nil {
			t.Fatal(err)
		}
		e, err := store.Episode(t.Context(), derivedID(formatOpenAI, episodic.Scope{}, slices.Clone(lines.Bytes())))
		if err != nil {
			t.Fatal(err)
		}
		episodes++
		want := sourceSteps(t, source["traj"].([]any))
		if len(e.Steps) != len(want) {
			t.Fatalf("episode %v has %d steps, want %d", e.ID, len(e.Steps), len(want))
		}
		for i, s := range e.Steps {
			steps++
			got := sourceStep{tool: s.Tool, arguments: string(s.Parameters)}
			if s.Result != nil {
				got.answer, got.answered = s.Result.Text, true
				if isError := strings.HasPrefix(s.Result.Text, "Error"); isError != (s.Result.Kind == episodic.ResultError) {
					t.Errorf("episode %v, step %d: %.20q is kept as %s", e.ID, i+1, s.Result.Text, s.Result.Kind)
				}
			}
			if got != want[i] {
				t.Errorf("episode %v, step %d is %+v, want %+v", e.ID, i+1, got, want[i])
			}
		}
		instruction := source["info"].(map[string]any)["task"].(map[string]any)["instruction"].(string)
		kind := map[float64]episodic.OutcomeKind{0: episodic.Failure, 1: episodic.Success}[source["reward"].(float64)]
		if e.Description != instruction || e.Outcome.Kind != kind || e.Context.Domain != "airline" || e.Metadata["trial"] == "" || e.Metadata["time_source"] != "import" {
			t.Errorf("episode %v is %+v", e.ID, e)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if episodes != 100 || steps != 621 {
		t.Errorf("compared %d episodes with %d steps", episodes, steps)
	}
}
