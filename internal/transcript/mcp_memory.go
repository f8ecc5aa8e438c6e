package transcript

import (
	"cmp"
	"strings"

	"github.com/episodic-memory/episodic"
)

// The knowledge graph of the MCP memory server: entities with observations, and relations
// between them. It tells of no run, so that each entity becomes a heuristic.
// https://github.com/modelcontextprotocol/servers/tree/main/src/memory

var mcpMemory = &format{name: "mcp-memory", title: "a knowledge graph of the MCP memory server", fits: fitsMCPMemory, all: readMCPMemory}

func fitsMCPMemory(h *head) bool {
	n := h.first()
	return isEntity(n) || isRelation(n) || n.get("entities").isArray() && n.get("relations").isArray()
}

func isEntity(n node) bool { return n.has("entityType") && n.has("name") }

func isRelation(n node) bool { return n.has("relationType") && n.has("from") && n.has("to") }

// graph is what of a file has been read. Relations may stand anywhere in it, so it is held
// as a whole, as the server does.
type graph struct {
	in        *records
	entities  []*entity
	named     map[string]*entity
	relations []relation
	known     map[relation]bool
}

type entity struct {
	b            *builder
	name, kind   string
	observations []string
	relations    []string
}

type relation struct{ from, kind, to string }

func readMCPMemory(r *records) error {
	g := &graph{in: r, named: make(map[string]*entity), known: make(map[relation]bool)}
	for line, n := range r.all() {
		if !n.get("entities").isArray() && !n.get("relations").isArray() {
			g.record(n, line)
			continue
		}
		for _, key := range []string{"entities", "relations"} {
			for _, one := range n.items(key) {
				g.record(one, line)
			}
		}
	}
	g.finish()
	return nil
}

// record adds an entity or a relation.
func (g *graph) record(n node, line int) {
	switch {
	case isRelation(n):
		rel := relation{n.plain("from"), n.plain("relationType"), n.plain("to")}
		if !g.known[rel] {
			g.known[rel] = true
			g.relations = append(g.relations, rel)
		}
	case isEntity(n) && n.plain("name") != "":
		g.entity(n, line)
	default:
		g.in.problem(&Problem{Line: line, Text: "is neither an entity nor a relation"})
	}
}

func (g *graph) entity(n node, line int) {
	name := n.plain("name")
	e := g.named[name]
	if e == nil {
		e = &entity{b: g.in.begin(line), name: name}
		e.b.run.Key = name
		g.named[name] = e
		g.entities = append(g.entities, e)
	}
	e.b.add(n)
	e.kind = cmp.Or(e.kind, n.plain("entityType"))
	list := n.get("observations")
	if list.there() && !list.isArray() {
		e.b.odd("observations", "is no array: "+clip(list.json(), 60))
	}
	for _, o := range list.items() {
		if text := strings.TrimSpace(e.b.content(o)); text != "" {
			e.observations = append(e.observations, text)
		}
	}
}

// finish gives the entities, with the relations in which they are.
func (g *graph) finish() {
	var loose int
	for _, rel := range g.relations {
		text := rel.from + " " + rel.kind + " " + rel.to
		from, to := g.named[rel.from], g.named[rel.to]
		if from != nil {
			from.relate(text)
		}
		if to != nil && to != from {
			to.relate(text)
		}
		if from == nil && to == nil {
			loose++
		}
	}
	for _, e := range g.entities {
		e.finish()
	}
	if loose > 0 {
		b := g.in.begin(1)
		b.run.Episode = nil
		b.left("relation between unknown entities", loose)
		b.emit(b.run)
	}
}

func (e *entity) relate(text string) {
	e.relations = append(e.relations, text)
	n, _ := parse(quoted(text)) // it is JSON
	e.b.add(n)
}

func (e *entity) finish() {
	b := e.b
	h := &episodic.Heuristic{
		Condition: e.name,
		Action:    strings.Join(append(e.observations, e.relations...), "\n"),
		Metadata:  make(map[string]string),
		Created:   b.opts.Modified,
	}
	if e.kind != "" {
		h.Condition += " (" + e.kind + ")"
		h.Metadata["entity_type"] = e.kind
	}
	h.Action = cmp.Or(h.Action, "is a "+cmp.Or(e.kind, "thing of which no more is known"))
	b.run.Episode, b.run.Heuristic = nil, h
	b.emit(b.run)
}
