package transcript

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// heuristic reads a row of heuristics.
func (r *memoryRow) heuristic() error {
	m := make(map[string]string)
	h := &episodic.Heuristic{
		ID:         r.id(m, "heuristic_id"),
		Condition:  cmp.Or(r.text("condition_text"), "no condition"),
		Action:     cmp.Or(r.text("action_text"), "no action"),
		Confidence: r.fraction(m, "confidence", r.n.get("confidence")),
		Created:    r.stamp(m, "created_at"), Updated: r.stamp(m, "updated_at"),
	}
	n := r.object(m, "evidence")
	h.Evidence = episodic.Evidence{Episodes: r.evidence(m, n.get("episode_ids")), SuccessRate: r.fraction(m, "evidence_success_rate", n.get("success_rate")), SampleSize: wholeNumber(n.get("sample_size"))}
	rest(m, n, "episode_ids", "success_rate", "sample_size")
	rest(m, r.n, "heuristic_id", "condition_text", "action_text", "confidence", "evidence", "created_at", "updated_at")
	h.Metadata = orNone(m)
	r.run.Episode, r.run.Heuristic = nil, h
	r.emit(r.run)
	return nil
}

// orNone is metadata as it is read back: none, if it is empty.
func orNone(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

// evidence are the episodes that an item names, and those that name it.
func (r *memoryRow) evidence(m map[string]string, list node) []episodic.ID {
	ids := r.ids(m, "evidence", list)
	for _, row := range r.of.items("episodes") {
		if id, err := episodic.ParseID(row.str("episode_id")); err == nil && !id.IsZero() && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// procedure reads a row of procedural_memory: a skill is a heuristic whose action has steps.
func (r *memoryRow) procedure() error {
	m := make(map[string]string)
	h := &episodic.Heuristic{
		ID:        r.id(m, "procedural_id"),
		Condition: cmp.Or(strings.Trim(r.text("name")+": "+r.text("description"), ": "), "no condition"),
		Created:   r.stamp(m, "created_at"), Updated: r.stamp(m, "updated_at"),
	}
	steps := r.array(m, "steps")
	var lines []string
	for i, n := range steps.items() {
		line := strconv.Itoa(i+1) + ". " + cmp.Or(anyText(n.get("action")), n.json())
		if tool := anyText(n.get("tool_hint")); tool != "" {
			line += " (" + tool + ")"
		}
		if result := anyText(n.get("expected_result")); result != "" {
			line += " -> " + result
		}
		lines = append(lines, line)
	}
	h.Action = cmp.Or(strings.Join(lines, "\n"), "no action")
	n := r.object(m, "effectiveness")
	h.Evidence = episodic.Evidence{Episodes: r.ids(m, "source_episodes", r.json(m, "source_episodes")), SampleSize: wholeNumber(n.get("times_applied"))}
	if h.Evidence.SampleSize > 0 {
		h.Evidence.SuccessRate = min(float64(wholeNumber(n.get("success_when_applied")))/float64(h.Evidence.SampleSize), 1)
		h.Confidence = h.Evidence.SuccessRate
	}
	keep(m, "kind", "procedural_memory")
	keep(m, "steps", steps.json())
	keep(m, "context", r.json(m, "context").json())
	keep(m, "effectiveness", n.json())
	keep(m, "source_patterns", r.json(m, "source_patterns").json())
	rest(m, r.n, "procedural_id", "name", "description", "context", "steps", "effectiveness", "source_episodes", "source_patterns", "created_at", "updated_at")
	h.Metadata = orNone(m)
	r.run.Episode, r.run.Heuristic = nil, h
	r.emit(r.run)
	return nil
}

// pattern reads a row of patterns. The column pattern_type has the whole of it as Rust prints
// it; pattern_data has a description, from which nothing but a decision can be made.
func (r *memoryRow) pattern() error {
	m := make(map[string]string)
	data := r.object(m, "pattern_data")
	p := &episodic.Pattern{
		ID:          r.id(m, "pattern_id"),
		Description: anyText(data.get("description")),
		SuccessRate: r.fraction(m, "success_rate", r.n.get("success_rate")),
		Occurrences: wholeNumber(r.n.get("occurrence_count")),
		Evidence:    r.evidence(m, node{}),
		Created:     r.stamp(m, "created_at"), Updated: r.stamp(m, "updated_at"),
	}
	printed := r.text("pattern_type")
	n, err := parseRust(printed)
	where := data.get("context")
	if n.get("context").isObject() {
		where = n.get("context")
	}
	if err != nil || !r.kind(m, p, n) {
		if n.get(rustName).there() || err != nil {
			r.strange(m, "pattern_type", printed, "is no pattern that is known")
		} else {
			keep(m, "pattern_type", printed)
		}
		p.DecisionPoint = &episodic.DecisionPoint{
			Condition: cmp.Or(anyText(data.get("heuristic", "condition")), p.Description, "no condition"),
			Action:    cmp.Or(anyText(data.get("heuristic", "action")), "no action"),
		}
		rest(m, data, "description", "context")
	}
	p.Context = r.where(m, where)
	if tags := r.array(m, "context_tags"); !where.there() {
		for _, tag := range tags.items() {
			p.Context.Tags = r.tag(m, p.Context.Tags, tag.str())
		}
	}
	rest(m, n, rustName, "id", "tools", "context", "success_rate", "avg_latency", "occurrence_count", "condition", "action", "outcome_stats",
		"error_type", "recovery_steps", "context_features", "recommended_approach", "evidence")
	rest(m, r.n, "pattern_id", "pattern_type", "pattern_data", "success_rate", "context_domain", "context_language", "context_tags", "occurrence_count", "created_at", "updated_at")
	p.Metadata = orNone(m)
	r.run.Episode, r.run.Pattern = nil, p
	r.emit(r.run)
	return nil
}

// kind sets what kind of pattern it is, and reports whether it is known and has what it is
// about. The crate counts as occurrences of the last two kinds how many steps and features they
// have.
func (r *memoryRow) kind(m map[string]string, p *episodic.Pattern, n node) bool {
	tools, steps, features := texts(n.get("tools")), texts(n.get("recovery_steps")), texts(n.get("context_features"))
	switch name := n.str(rustName); {
	case name == "ToolSequence" && len(tools) > 0:
		p.ToolSequence = &episodic.ToolSequence{Tools: tools, MeanLatency: timeDelta(n.get("avg_latency"))}
	case name == "DecisionPoint":
		s := n.get("outcome_stats")
		p.DecisionPoint = &episodic.DecisionPoint{
			Condition: cmp.Or(n.str("condition"), "no condition"), Action: cmp.Or(n.str("action"), "no action"),
			Successes: wholeNumber(s.get("success_count")), Failures: wholeNumber(s.get("failure_count")),
		}
		if f, ok := s.num("avg_duration_secs"); ok {
			p.DecisionPoint.MeanLatency = seconds(f)
		}
	case name == "ErrorRecovery" && len(steps) > 0:
		p.ErrorRecovery = &episodic.ErrorRecovery{Error: cmp.Or(n.str("error_type"), "unknown"), Steps: steps}
		p.Occurrences = max(1, len(p.Evidence))
	case name == "ContextPattern" && len(features) > 0:
		p.ContextPattern = &episodic.ContextPattern{Features: features, Approach: cmp.Or(n.str("recommended_approach"), "no approach")}
		p.Evidence = r.evidence(m, n.get("evidence"))
		p.Occurrences = max(1, len(p.Evidence))
	default:
		return false
	}
	return true
}

// timeDelta is a duration as chrono prints it.
func timeDelta(n node) time.Duration {
	secs, ok := n.num("secs")
	if !ok || secs < 0 || secs > 1e9 {
		return 0
	}
	return time.Duration(secs)*time.Second + time.Duration(n.integer("nanos"))
}

// relations are the types that have another name here.
var relations = map[string]episodic.RelationType{"parent_child": episodic.ParentOf}

// relation reads a row of episode_relationships.
func (r *memoryRow) relation() error {
	m := make(map[string]string)
	from, err := episodic.ParseID(r.text("from_episode_id"))
	if err != nil {
		return invalid("from_episode_id", "is no UUID; the relation is left out")
	}
	to, err := episodic.ParseID(r.text("to_episode_id"))
	if err != nil {
		return invalid("to_episode_id", "is no UUID; the relation is left out")
	}
	typ := episodic.RelationType(r.text("relationship_type"))
	rel := &episodic.Relation{
		From: from, Type: cmp.Or(relations[string(typ)], typ), To: to,
		Reason: r.text("reason"), By: r.text("created_by"), Created: r.stamp(m, "created_at"),
	}
	if rel.Priority = wholeNumber(r.n.get("priority")); rel.Priority > 10 {
		r.strange(m, "priority", r.text("priority"), "is more than 10")
		rel.Priority = 0
	}
	for _, f := range r.object(m, "metadata").fields() {
		keep(m, f.key, anyText(f.value))
	}
	rest(m, r.n, "from_episode_id", "to_episode_id", "relationship_type", "reason", "created_by", "priority", "metadata", "created_at")
	rel.Metadata = orNone(m)
	r.run.Episode, r.run.Relation = nil, rel
	r.emit(r.run)
	return nil
}
