package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/episodic-memory/episodic"
)

// mcpSide is a server of the Model Context Protocol whose calls are checked by what they
// answer. It cannot count, and one that has no list has none here either.
type mcpSide struct {
	*mcpServer
	added atomic.Int64
}

func (m *mcpSide) count(context.Context) (int, error) { return int(m.added.Load()), nil }

func (m *mcpSide) list(context.Context, int) (int, error) { return 0, errors.ErrUnsupported }

func (m *mcpSide) close() error {
	m.end()
	return nil
}

// observations are an episode as a list of texts, each with what it is.
func observations(e *episodic.Episode) (list []string) {
	list = append(list, "task: "+e.Description)
	for _, s := range e.Steps {
		list = append(list, "step: "+document(s))
	}
	return append(list, "outcome: "+document(e.Outcome))
}

// graphSide is a memory that keeps a graph: an episode is an entity of it, and each step
// an observation.
type graphSide struct {
	mcpSide
	// appends is whether observations can be added. Where they cannot, the entity is
	// written whole each time.
	appends bool
	most    int // bytes of an observation; 0: any number
	byName  func(id string) (tool string, arguments map[string]any)
}

func openMCPLibSQL(_ context.Context, target string) (side, error) {
	return openGraph(mcpLibSQL, "LIBSQL_URL=file:"+memoryPath(target), &graphSide{most: 4096, byName: func(id string) (string, map[string]any) {
		return "search_nodes", map[string]any{"query": id, "limit": 1}
	}})
}

func openMCPMemory(_ context.Context, target string) (side, error) {
	return openGraph(mcpMemory, "MEMORY_FILE_PATH="+filepath.Join(target, "memory.jsonl"), &graphSide{appends: true, byName: func(id string) (string, map[string]any) {
		return "open_nodes", map[string]any{"names": []string{id}}
	}})
}

func openGraph(p pinned, env string, g *graphSide) (side, error) {
	var err error
	g.mcpServer, err = startNodeMCP(p, env)
	return g, err
}

// startNodeMCP starts a server that is a package of npm.
func startNodeMCP(p pinned, env ...string) (*mcpServer, error) {
	dir, err := npm.dir()
	if err != nil {
		return nil, err
	}
	return startMCP(env, "node", filepath.Join(dir, "node_modules", p.name, "dist", "index.js"))
}

func (g *graphSide) entity(id episodic.ID, observations []string) map[string]any {
	if g.most > 0 {
		observations = slices.Clone(observations)
		for i, o := range observations {
			observations[i] = strings.ToValidUTF8(o[:min(len(o), g.most)], "")
		}
	}
	return map[string]any{"name": id.String(), "entityType": "episode", "observations": observations}
}

func (g *graphSide) create(entities ...map[string]any) error {
	_, err := g.call("create_entities", map[string]any{"entities": entities})
	if err == nil {
		g.added.Add(int64(len(entities)))
	}
	return err
}

func (g *graphSide) put(_ context.Context, e *episodic.Episode) error {
	return g.create(g.entity(episodic.NewID(), observations(e)))
}

func (g *graphSide) add(_ context.Context, list []*episodic.Episode) error {
	for some := range slices.Chunk(list, graphChunk) {
		var entities []map[string]any
		for _, e := range some {
			entities = append(entities, g.entity(e.ID, observations(e)))
		}
		if err := g.create(entities...); err != nil {
			return err
		}
	}
	return nil
}

// graphChunk is how many entities are created at once: the most that either memory takes.
const graphChunk = 50

// graphRunning is an episode that goes on.
type graphRunning struct {
	side *graphSide
	id   episodic.ID
	all  []string // observations
}

func (g *graphSide) start(_ context.Context, e episodic.Episode) (running, error) {
	r := &graphRunning{side: g, id: episodic.NewID(), all: []string{"task: " + e.Description}}
	return r, g.create(g.entity(r.id, r.all))
}

func (r *graphRunning) observe(text string) error {
	r.all = append(r.all, text)
	if !r.side.appends {
		_, err := r.side.call("create_entities", map[string]any{"entities": []any{r.side.entity(r.id, r.all)}})
		return err
	}
	_, err := r.side.call("add_observations", map[string]any{"observations": []any{map[string]any{"entityName": r.id.String(), "contents": []string{text}}}})
	return err
}

func (r *graphRunning) append(_ context.Context, s episodic.Step) error {
	return r.observe("step: " + document(s))
}

func (r *graphRunning) complete(_ context.Context, done episodic.Completion) error {
	return r.observe("outcome: " + document(done))
}

func (g *graphSide) get(_ context.Context, id episodic.ID) error {
	tool, arguments := g.byName(id.String())
	names, err := g.names(tool, arguments)
	if err == nil && (len(names) != 1 || names[0] != id.String()) {
		err = fmt.Errorf("asked for entity %v, got %q", id, names)
	}
	return err
}

// search asks for the first word alone: several would have to stand together.
func (g *graphSide) search(_ context.Context, words string) (int, error) {
	names, err := g.names("search_nodes", map[string]any{"query": strings.Fields(words)[0]})
	return len(names), err
}

// names are those of the entities that a tool answers.
func (g *graphSide) names(tool string, arguments map[string]any) (names []string, err error) {
	text, err := g.call(tool, arguments)
	if err != nil {
		return nil, err
	}
	var graph struct{ Entities []struct{ Name string } }
	if err := json.Unmarshal([]byte(text), &graph); err != nil {
		return nil, fmt.Errorf("%s: %w", tool, err)
	}
	for _, e := range graph.Entities {
		names = append(names, e.Name)
	}
	return names, nil
}

// noteSide is a memory of notes in Markdown: an episode is a note, and a step a line that
// is appended to it.
type noteSide struct{ mcpSide }

// noteFolder is the folder of the notes, a part of their names.
const noteFolder = "episodes"

func openBasicMemory(_ context.Context, target string) (side, error) {
	dir, err := basicMemoryPython.dir()
	if err != nil {
		return nil, err
	}
	n := &noteSide{}
	n.mcpServer, err = startMCP([]string{
		"HOME=" + target, "BASIC_MEMORY_HOME=" + filepath.Join(target, "notes"), "BASIC_MEMORY_CONFIG_DIR=" + filepath.Join(target, "config"),
		"BASIC_MEMORY_SEMANTIC_SEARCH_ENABLED=false", // it would download a model
	}, venvProgram(dir, "basic-memory"), "mcp")
	return n, err
}

func (n *noteSide) write(id episodic.ID, task string, observations []string) error {
	content := "# " + task + "\n"
	for _, o := range observations {
		content += noteLine(o)
	}
	_, err := n.call("write_note", map[string]any{"title": id.String(), "directory": noteFolder, "content": content})
	if err == nil {
		n.added.Add(1)
	}
	return err
}

func noteLine(observation string) string {
	kind, text, _ := strings.Cut(observation, ": ")
	return "- [" + kind + "] " + text + "\n"
}

func (n *noteSide) put(_ context.Context, e *episodic.Episode) error {
	return n.write(episodic.NewID(), e.Description, observations(e)[1:])
}

func (n *noteSide) add(_ context.Context, list []*episodic.Episode) error {
	for _, e := range list {
		if err := n.write(e.ID, e.Description, observations(e)[1:]); err != nil {
			return err
		}
	}
	return nil
}

type noteRunning struct {
	side *noteSide
	id   episodic.ID
}

func (n *noteSide) start(_ context.Context, e episodic.Episode) (running, error) {
	r := &noteRunning{n, episodic.NewID()}
	return r, n.write(r.id, e.Description, nil)
}

func (r *noteRunning) observe(text string) error {
	_, err := r.side.call("edit_note", map[string]any{"identifier": noteFolder + "/" + r.id.String(), "operation": "append", "content": noteLine(text)})
	return err
}

func (r *noteRunning) append(_ context.Context, s episodic.Step) error {
	return r.observe("step: " + document(s))
}

func (r *noteRunning) complete(_ context.Context, done episodic.Completion) error {
	return r.observe("outcome: " + document(done))
}

func (n *noteSide) get(_ context.Context, id episodic.ID) error {
	text, err := n.call("read_note", map[string]any{"identifier": noteFolder + "/" + id.String()})
	if err == nil && !strings.Contains(text, id.String()) {
		err = fmt.Errorf("asked for note %v, got %.80q", id, text)
	}
	return err
}

func (n *noteSide) list(_ context.Context, most int) (int, error) {
	return n.found("recent_activity", map[string]any{"type": "entity", "page_size": most, "timeframe": "365d", "output_format": "json"})
}

func (n *noteSide) search(_ context.Context, words string) (int, error) {
	return n.found("search_notes", map[string]any{"query": strings.Join(strings.Fields(words), " OR "), "page_size": 10, "output_format": "json"})
}

// found counts what a tool answers, a list or an object with a list of results.
func (n *noteSide) found(tool string, arguments map[string]any) (int, error) {
	text, err := n.call(tool, arguments)
	if err != nil {
		return 0, err
	}
	var list []json.RawMessage
	if json.Unmarshal([]byte(text), &list) == nil {
		return len(list), nil
	}
	var answer struct{ Results []json.RawMessage }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return 0, fmt.Errorf("%s: %w", tool, err)
	}
	return len(answer.Results), nil
}
