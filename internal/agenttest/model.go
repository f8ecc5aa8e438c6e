package agenttest

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Model is a language model that says what a script has it say, on loopback, to programs of all
// the dialects below. What it was sent can be asked for.
type Model struct {
	URL string // without a path

	mu       sync.Mutex
	script   []Turn
	requests []*Request
	calls    int
}

// Turn is what a Model says once: the tools it calls, or else a text.
type Turn struct {
	Calls []Call
	Text  string
}

// Call is a call of a tool.
type Call struct {
	Space string // the namespace of the tool; empty: none
	Tool  string // as the program calls it
	Input map[string]any
}

// Request is what a Model was sent: the prompt of one turn.
type Request struct {
	Path  string
	Body  json.RawMessage
	Tools []string // that it may call
	// Prompt is all text that it is to read but for the tools' declarations: the program's
	// instructions, what people and the model have said, and the tools' answers.
	Prompt string
}

// dialect is a protocol in which a program asks its model.
type dialect struct {
	// path is the end of that which it posts to.
	path string
	// tools are those that a request offers.
	tools func(body map[string]any) []string
	// answer writes a turn; id is a prefix of identifiers for this one.
	answer func(w http.ResponseWriter, turn Turn, id string)
}

var dialects = []*dialect{&messages, &responses, &generate, &completions}

// NewModel returns a Model that says the turns one after the other, and then that it is done.
// It stops with the test.
func NewModel(t testing.TB, script ...Turn) *Model {
	m := &Model{script: script}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.URL = server.URL
	return m
}

// Say sets what the Model says from now on, and forgets what it was sent.
func (m *Model) Say(script ...Turn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.script, m.requests = script, nil
}

// Requests are those that the Model was sent since it was made, or Say was called, and which it
// answered from the script.
func (m *Model) Requests() []*Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests
}

// ServeHTTP answers programs.
func (m *Model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var body map[string]any
	for _, d := range dialects {
		if !strings.HasSuffix(r.URL.Path, d.path) {
			continue
		}
		if err := json.Unmarshal(raw, &body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		turn, id := m.turn(&Request{Path: r.URL.Path, Body: raw, Tools: d.tools(body), Prompt: prompt(body)})
		d.answer(w, turn, id)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"data": [], "models": []}`)
}

// turn is what is said to a request. One that offers no tools asks for something beside the
// conversation, such as a title of it.
func (m *Model) turn(r *Request) (turn Turn, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	id = fmt.Sprint("fake", m.calls)
	if len(r.Tools) == 0 {
		return Turn{Text: "A title"}, id
	}
	m.requests = append(m.requests, r)
	if len(m.script) == 0 {
		return Turn{Text: "That is all."}, id
	}
	turn, m.script = m.script[0], m.script[1:]
	return turn, id
}

// prompt is all text of a request but for the tools' declarations.
func prompt(body map[string]any) string {
	var b strings.Builder
	var add func(v any)
	add = func(v any) {
		switch v := v.(type) {
		case string:
			b.WriteString(v + "\n")
		case []any:
			for _, item := range v {
				add(item)
			}
		case map[string]any:
			for _, item := range v {
				add(item)
			}
		}
	}
	for _, key := range []string{"system", "instructions", "systemInstruction", "messages", "input", "contents"} {
		add(body[key])
	}
	return b.String()
}

var frames = regexp.MustCompile(`(?s)<episodic-memory .*?</episodic-memory>`)

// Frames are what stands of the memory in the request's prompt, with the tags around it. Gemini
// CLI escapes them.
func (r *Request) Frames() []string { return frames.FindAllString(html.UnescapeString(r.Prompt), -1) }

// stream writes events as server-sent ones, with their types as names.
func stream(w http.ResponseWriter, events ...map[string]any) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		if name, ok := e["type"]; ok {
			fmt.Fprintf(w, "event: %s\n", name)
		}
		fmt.Fprintf(w, "data: %s\n\n", text(e))
	}
}

// text is a value as JSON.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return string(b)
}

// list is a field of a request that is a list of objects.
func list(body map[string]any, key string) (objects []map[string]any) {
	items, _ := body[key].([]any)
	for _, item := range items {
		if o, ok := item.(map[string]any); ok {
			objects = append(objects, o)
		}
	}
	return objects
}

// names are those of some tools.
func names(tools []map[string]any) (names []string) {
	for _, tool := range tools {
		if name, ok := tool["name"].(string); ok {
			names = append(names, name)
		}
	}
	return names
}

// object is a JSON object.
type object = map[string]any
