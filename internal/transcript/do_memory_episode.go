package transcript

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/episodic-memory/episodic"
)

// episode reads a row of episodes with what belongs to it, or an episode of a backup.
func (r *memoryRow) episode() error {
	e, m := r.e, r.e.Metadata
	own := r.object(m, "metadata")
	for _, f := range own.fields() { // first: they keep their names
		keep(m, f.key, anyText(f.value))
	}
	e.ID = r.id(m, "episode_id")
	e.TaskType = episodic.TaskType(r.name(m, "task_type", snakeCase(r.text("task_type"))))
	e.Description = cmp.Or(r.text("task_description"), "a run without a recorded task")
	e.Context = r.where(m, r.object(m, "context"))
	for _, tag := range texts(r.n.get("tags")) {
		e.Context.Tags = r.tag(m, e.Context.Tags, tag)
	}
	for _, row := range r.of.items("episode_tags") {
		e.Context.Tags = r.tag(m, e.Context.Tags, anyText(row.get("tag")))
	}
	r.steps()
	r.outcome(r.json(m, "outcome"))
	r.reward(r.json(m, "reward"))
	r.reflection(r.object(m, "reflection"))
	r.times()
	r.applied(r.array(m, "applied_patterns"))
	for _, name := range []string{"patterns", "heuristics", "checkpoints", "salient_features"} {
		switch v := r.json(m, name); {
		case len(v.items()) > 0, v.isObject():
			keep(m, name, v.json())
		case v.there() && !v.isArray():
			r.strange(m, name, anyText(v), "is no array and no object")
		}
	}
	r.belongings()
	rest(m, r.n, "episode_id", "task_type", "task_description", "context", "start_time", "end_time", "steps", "outcome", "reward", "reflection",
		"patterns", "heuristics", "applied_patterns", "salient_features", "metadata", "tags", "checkpoints", "domain", "language", "created_at")
	r.emit(r.run)
	return nil
}

// snakeCase is the name of an enum's variant as the database has it.
func snakeCase(name string) string {
	var b strings.Builder
	for i, c := range name {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// times are those of the episode. One that has an outcome has ended, although it may not say
// when.
func (r *memoryRow) times() {
	e, m := r.e, r.e.Metadata
	e.Start, e.End = r.stamp(m, "start_time"), r.stamp(m, "end_time")
	for i := range e.Steps {
		r.seen(e.Steps[i].Time)
	}
	if e.Start.IsZero() {
		e.Start = r.start
	}
	if e.Start.IsZero() && !r.opts.Modified.IsZero() {
		e.Start = r.opts.Modified.UTC()
		keep(m, MetaTimeSource, "file")
	}
	if !e.End.IsZero() && e.End.Before(e.Start) {
		r.strange(m, "end_time", e.End.Format(time.RFC3339Nano), "lies before start_time")
		e.End = time.Time{}
	}
	if e.End.IsZero() && e.Outcome.Kind != "" {
		if e.End = r.end; e.End.Before(e.Start) {
			e.End = e.Start
		}
	}
}

func (r *memoryRow) steps() {
	m := r.e.Metadata
	for i, n := range r.array(m, "steps").items() {
		if !n.isObject() {
			r.strange(m, "steps"+index(i), n.json(), "is no object")
			continue
		}
		r.step(n, index(i))
	}
}

// step adds a step.
func (r *memoryRow) step(n node, at string) {
	s := episodic.Step{Tool: anyText(n.get("tool")), Action: anyText(n.get("action")), Metadata: make(map[string]string)}
	if s.Tool == "" && s.Action == "" {
		s.Action = "no action"
	}
	for _, f := range n.fields("metadata") {
		keep(s.Metadata, f.key, anyText(f.value))
	}
	strange := func(name string, v node, problem string) {
		keep(s.Metadata, name, anyText(v))
		r.wrong(invalid("steps"+at+"."+name, "%s; it is kept in the metadata of the step", problem))
	}
	if number := n.plain("step_number"); number != strconv.Itoa(len(r.e.Steps)+1) {
		keep(s.Metadata, "step_number", number)
	}
	if v := n.get("timestamp"); v.there() {
		if s.Time = v.when(); s.Time.IsZero() {
			strange("timestamp", v, "is no time")
		}
	}
	if text := cmp.Or(anyText(n.get("parameters_json")), n.json("parameters")); text != "{}" && text != "null" && !blank(text) {
		s.Parameters = episodic.JSON(arguments(text))
	}
	switch v := n.get("result"); {
	case !v.there():
	case v.str() == "Timeout", v.has("Timeout"):
		s.Result = &episodic.Result{Kind: episodic.ResultTimeout}
	case v.get("Success").isObject():
		s.Result = &episodic.Result{Kind: episodic.ResultOutput, Text: anyText(v.get("Success", "output"))}
	case v.get("Error").isObject():
		s.Result = &episodic.Result{Kind: episodic.ResultError, Text: anyText(v.get("Error", "message"))}
	default:
		strange("result", v, "is no result that is known")
	}
	if v := n.get("latency_ms"); v.there() {
		if ms, ok := v.num(); ok && ms >= 0 && ms < math.MaxInt64/float64(time.Millisecond) {
			s.Latency = time.Duration(math.Round(ms * float64(time.Millisecond)))
		} else {
			strange("latency_ms", v, "is no duration")
		}
	}
	if v := n.get("tokens_used"); v.there() {
		if f, ok := v.num(); ok && f >= 0 && f <= math.MaxInt32 {
			s.Tokens = wholeNumber(v)
		} else {
			strange("tokens_used", v, "is no number of tokens")
		}
	}
	rest(s.Metadata, n, "step_number", "timestamp", "tool", "action", "parameters_json", "parameters", "result", "latency_ms", "tokens_used", "metadata")
	r.e.Steps = append(r.e.Steps, s)
}

// outcome is what the episode came to: an object with one member, the kind.
func (r *memoryRow) outcome(n node) {
	o := &r.e.Outcome
	if v := n.get("Success"); v.isObject() {
		*o = episodic.Outcome{Kind: episodic.Success, Verdict: anyText(v.get("verdict")), Artifacts: texts(v.get("artifacts"))}
	} else if v := n.get("PartialSuccess"); v.isObject() {
		*o = episodic.Outcome{Kind: episodic.PartialSuccess, Verdict: anyText(v.get("verdict")), Completed: texts(v.get("completed")), Failed: texts(v.get("failed"))}
	} else if v := n.get("Failure"); v.isObject() {
		*o = episodic.Outcome{Kind: episodic.Failure, Reason: anyText(v.get("reason")), Details: anyText(v.get("error_details"))}
	} else if v := n.get("Abstained"); v.isObject() {
		*o = episodic.Outcome{Kind: episodic.Abstained, Reason: anyText(v.get("reason")), StoppedAtStep: wholeNumber(v.get("stopped_at_step")), Signals: texts(v.get("infeasibility_signals"))}
	} else if n.there() {
		r.strange(r.e.Metadata, "outcome", n.json(), "is no outcome that is known")
	}
	for _, kind := range n.fields() {
		rest(r.e.Metadata, kind.value, "verdict", "artifacts", "completed", "failed", "reason", "error_details", "stopped_at_step", "infeasibility_signals")
	}
}

// reward is what the episode was scored: the total, and the parts that it was made of.
func (r *memoryRow) reward(n node) {
	if !n.there() {
		return
	}
	total, ok := n.num("total")
	if !ok {
		r.strange(r.e.Metadata, "reward", n.json(), "has no total")
		return
	}
	r.e.Reward = &episodic.Reward{Total: total}
	for _, f := range n.fields() {
		v, ok := f.value.num()
		switch {
		case f.key == "total":
		case !ok:
			keep(r.e.Metadata, "reward_"+f.key, anyText(f.value))
		case r.e.Reward.Components == nil:
			r.e.Reward.Components = map[string]float64{f.key: v}
		default:
			r.e.Reward.Components[f.key] = v
		}
	}
}

func (r *memoryRow) reflection(n node) {
	m := r.e.Metadata
	r.e.Reflection = episodic.Reflection{Successes: texts(n.get("successes")), Improvements: texts(n.get("improvements")), Insights: texts(n.get("insights"))}
	keep(m, "reflection_generated_at", anyText(n.get("generated_at")))
	rest(m, n, "successes", "improvements", "insights", "generated_at")
}

// applied are the patterns that were used. The database has no column for them, a backup has.
func (r *memoryRow) applied(list node) {
	for i, n := range list.items() {
		id, err := episodic.ParseID(n.str("pattern_id"))
		effect := episodic.Effect(snakeCase(n.str("outcome")))
		switch effect {
		case episodic.Helped, episodic.NoEffect, episodic.Hindered, episodic.EffectPending:
		default:
			err = cmp.Or(err, invalid("", "unknown"))
		}
		if err != nil || id.IsZero() {
			r.strange(r.e.Metadata, "applied_patterns"+index(i), n.json(), "has no pattern or no outcome that is known")
			continue
		}
		r.e.AppliedPatterns = append(r.e.AppliedPatterns, episodic.AppliedPattern{PatternID: id, Step: wholeNumber(n.get("applied_at_step")), Effect: effect, Note: anyText(n.get("notes"))})
	}
}

// belongings are rows of other tables that have no place of their own here.
func (r *memoryRow) belongings() {
	m := r.e.Metadata
	for _, row := range r.of.items("episode_summaries") {
		keep(m, "summary", row.plain("summary_text"))
		for _, name := range []string{"key_concepts", "key_steps"} {
			if text := row.plain(name); text != "[]" {
				keep(m, name, text)
			}
		}
	}
	for _, table := range []string{"recommendation_sessions", "recommendation_feedback"} {
		r.rows(table, func(row node) string { return row.plain("payload") })
	}
	r.rows("episode_pattern_relationships", func(row node) string { return row.json() })
}

// rows keeps rows of a table that belong to the episode as an array.
func (r *memoryRow) rows(table string, of func(row node) string) {
	var list []string
	for _, row := range r.of.items(table) {
		list = append(list, cmp.Or(arguments(of(row)), `""`))
	}
	if len(list) > 0 {
		keep(r.e.Metadata, table, "["+strings.Join(list, ",")+"]")
	}
}
