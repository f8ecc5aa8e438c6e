package mcpserver

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/tokens"
)

func (c *call) showTool(ctx context.Context) (string, error) {
	kind, id, err := c.resolve(ctx, c.text("id"))
	if err != nil {
		return "", err
	}
	budget := c.number("max_tokens") - frameTokens
	switch kind {
	case episodic.ItemHeuristic:
		h, err := c.store.Heuristic(ctx, id)
		if err != nil {
			return "", err
		}
		return framed(h.Scope, tokens.Cut(lessonText(h), budget)), nil
	case episodic.ItemPattern:
		p, err := c.store.Pattern(ctx, id)
		if err != nil {
			return "", err
		}
		return framed(p.Scope, tokens.Cut(patternText(p), budget)), nil
	}
	e, err := c.store.Episode(ctx, id)
	if err != nil {
		return "", err
	}
	return showEpisode(e, c.text("steps"), budget)
}

// resolve finds the item that an id, or the beginning of one, names.
func (c *call) resolve(ctx context.Context, id string) (episodic.ItemKind, episodic.ID, error) {
	return c.store.Resolve(ctx, strings.Trim(id, " []`\"'"))
}

// showEpisode is the outline of an episode, or the chosen steps in full, in about so many
// tokens, and says how to get the rest.
func showEpisode(e *episodic.Episode, steps string, budget int) (string, error) {
	chosen, err := chooseSteps(e, steps)
	if err != nil {
		return "", err
	}
	if steps != "" && len(chosen) == 0 {
		return fmt.Sprintf("No step of episode %s failed; it has %s.", shortID(e.ID), counted(len(e.Steps), "step")), nil
	}
	text, each := "", stepText
	if steps == "" {
		text, each = outline(e, budget/2), stepLine
	}
	used, shown := tokens.Count(text), 0
	for _, s := range chosen {
		next := each(s)
		n := tokens.Count(next)
		if used+n > budget {
			if shown > 0 {
				break
			}
			next, n = tokens.Cut(next, max(budget-used, hitTokens))+"\n", budget
		}
		text, used, shown = text+next, used+n, shown+1
	}
	text = framed(e.Scope, text)
	switch {
	case shown < len(chosen) && steps == "errors":
		text += fmt.Sprintf("\n%s more: show with steps \"errors\" and a larger max_tokens, or one of them by its number.", counted(len(chosen)-shown, "error"))
	case shown < len(chosen):
		text += fmt.Sprintf("\n%s more: show with steps \"%d-%d\".", counted(len(chosen)-shown, "step"), chosen[shown].Number, chosen[len(chosen)-1].Number)
	case steps == "" && shown > 0:
		text += "\nSteps in full: show with steps, such as \"1-5\" or \"errors\"."
	}
	return text, nil
}

// chooseSteps are the steps that "7", "5-12", "40-", "errors", or several of these between
// commas, name; all of them if nothing does.
func chooseSteps(e *episodic.Episode, which string) (chosen []*episodic.Step, err error) {
	take := make([]bool, len(e.Steps)+1)
	for part := range strings.SplitSeq(strings.ToLower(strings.TrimSpace(which)), ",") {
		part = strings.TrimSpace(part)
		if part == "errors" || part == "error" {
			for i := range e.Steps {
				take[i+1] = take[i+1] || e.Steps[i].Result != nil && e.Steps[i].Result.Kind == episodic.ResultError
			}
			continue
		}
		first, last, ranged := strings.Cut(part, "-")
		from, errFrom := strconv.Atoi(cmp.Or(strings.TrimSpace(first), "1"))
		to, errTo := strconv.Atoi(cmp.Or(strings.TrimSpace(last), strconv.Itoa(len(e.Steps))))
		if errFrom != nil || errTo != nil {
			return nil, bad(`steps is %.40q; it must be like "7", "5-12", "40-" or "errors"`, which)
		}
		if !ranged && part != "" {
			to = from
		}
		if from > len(e.Steps) && part != "" || from < 1 {
			return nil, bad("steps is %.40q, but the episode has %s", which, counted(len(e.Steps), "step"))
		}
		for n := from; n <= min(to, len(e.Steps)); n++ {
			take[n] = true
		}
	}
	for i := range e.Steps {
		if take[i+1] {
			chosen = append(chosen, &e.Steps[i])
		}
	}
	return chosen, nil
}

// outline is what is known of an episode besides its steps, in at most so many tokens.
func outline(e *episodic.Episode, budget int) string {
	var w strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&w, "%s: %s\n", name, tokens.Cut(line(value), budget/4))
		}
	}
	w.WriteString(provenance(e, time.Now()) + "\n")
	field("task", e.Description)
	field("started", e.Start.Format(time.RFC3339))
	field("tags", strings.Join(e.Context.Tags, ", "))
	field("said", e.Outcome.Verdict)
	field("reason", strings.TrimSpace(e.Outcome.Reason+" "+e.Outcome.Details))
	field("done", strings.Join(e.Outcome.Completed, "; "))
	field("not done", strings.Join(e.Outcome.Failed, "; "))
	if e.Reward != nil {
		field("reward", fmt.Sprint(e.Reward.Total))
	}
	field("went well", strings.Join(e.Reflection.Successes, "; "))
	field("to improve", strings.Join(e.Reflection.Improvements, "; "))
	field("insights", strings.Join(e.Reflection.Insights, "; "))
	metadata(e.Metadata, field)
	return tokens.Cut(w.String(), budget) + "\n"
}

func metadata(m map[string]string, field func(name, value string)) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		field(line(name), m[name])
	}
}

// stepLine is a step on one line.
func stepLine(s *episodic.Step) string {
	text := fmt.Sprintf("%d %s %s", s.Number, line(s.Tool), tokens.Cut(line(s.Action+" "+string(s.Parameters)), 30))
	if s.Result != nil && s.Result.Kind == episodic.ResultError {
		text += " -> error: " + tokens.Cut(line(s.Result.Text), 30)
	}
	return strings.TrimSpace(text) + "\n"
}

// stepText is a step in full.
// sheet is the text of an item, a field on each line.
type sheet struct{ strings.Builder }

// field adds a field, unless it is empty.
func (w *sheet) field(name, value string) {
	if value != "" {
		fmt.Fprintf(w, "%s: %s\n", name, strings.TrimRight(clean(value), "\n"))
	}
}

func stepText(s *episodic.Step) string {
	var w sheet
	fmt.Fprintf(&w, "Step %d %s\n", s.Number, line(s.Tool))
	w.field("action", s.Action)
	w.field("input", string(s.Parameters))
	if s.Result != nil {
		w.field(string(s.Result.Kind), s.Result.Text)
	}
	metadata(s.Metadata, w.field)
	return w.String()
}

func lessonText(h *episodic.Heuristic) string {
	var w sheet
	fmt.Fprintf(&w, "[%s, lesson, learnt %s]\n", shortID(h.ID), ago(time.Since(h.Created)))
	w.field("when", h.Condition)
	w.field("lesson", h.Action)
	w.field("confidence", fmt.Sprintf("%.2f", h.Confidence))
	if n := h.Evidence.SampleSize; n > 0 {
		w.field("held", fmt.Sprintf("in %.0f of %s", h.Evidence.SuccessRate*float64(n), counted(n, "case")))
	}
	for _, id := range h.Evidence.Episodes {
		w.field("from episode", shortID(id))
	}
	metadata(h.Metadata, w.field)
	return w.String()
}

func patternText(p *episodic.Pattern) string {
	var w sheet
	fmt.Fprintf(&w, "[%s, pattern, recorded %s]\n", shortID(p.ID), ago(time.Since(p.Created)))
	w.field("pattern", p.Description)
	switch {
	case p.ToolSequence != nil:
		w.field("tools", strings.Join(p.ToolSequence.Tools, ", "))
	case p.DecisionPoint != nil:
		w.field("when", p.DecisionPoint.Condition)
		w.field("do", p.DecisionPoint.Action)
	case p.ErrorRecovery != nil:
		w.field("error", p.ErrorRecovery.Error)
		w.field("recovery", strings.Join(p.ErrorRecovery.Steps, "; "))
	case p.ContextPattern != nil:
		w.field("features", strings.Join(p.ContextPattern.Features, ", "))
		w.field("approach", p.ContextPattern.Approach)
	}
	w.field("succeeded", fmt.Sprintf("in %.0f %% of %s", 100*p.SuccessRate, counted(p.Occurrences, "case")))
	metadata(p.Metadata, w.field)
	return w.String()
}
