package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic"
)

type showCmd struct {
	ID   string `arg:"" name:"id" help:"The episode's id, or enough of its first digits."`
	JSON bool   `name:"json" help:"Print the episode as JSON, which import reads."`
}

func (c *showCmd) Run(ctx context.Context, a *app) error {
	return a.toRead(ctx, func(store *episodic.Store) error {
		id, err := resolve(ctx, store, c.ID)
		if err != nil {
			return err
		}
		e, err := store.Episode(ctx, id)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.printJSON(e)
		}
		a.showEpisode(e)
		return nil
	})
}

// resolve returns the ID that begins with prefix; a whole one need not exist.
func resolve(ctx context.Context, store *episodic.Store, prefix string) (episodic.ID, error) {
	if id, err := episodic.ParseID(prefix); err == nil {
		return id, nil
	}
	return store.ResolveEpisode(ctx, prefix)
}

const timeLayout = "2006-01-02 15:04:05 UTC"

func (a *app) showEpisode(e *episodic.Episode) {
	x := &e.Context
	a.printf("%s\n\n", plain(e.Description))
	a.field("id", e.ID.String())
	a.field("task", joined(string(e.TaskType), string(x.Complexity), x.Language, x.Framework))
	a.field("domain", x.Domain)
	a.field("tags", strings.Join(x.Tags, ", "))
	a.field("project", e.Scope.Project)
	a.field("user", e.Scope.User)
	a.field("agent", e.Scope.Agent)
	a.field("started", e.Start.Format(timeLayout))
	if !e.Running() {
		a.field("ended", fmt.Sprintf("%s (%v)", e.End.Format(timeLayout), e.End.Sub(e.Start)))
	}
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		a.field(key, e.Metadata[key])
	}
	for i := range e.Steps {
		a.showStep(&e.Steps[i])
	}
	a.printf("\n")
	a.showOutcome(e)
}

func (a *app) showStep(s *episodic.Step) {
	head := []string{s.Tool}
	if !s.Time.IsZero() {
		head = append(head, s.Time.Format(timeLayout))
	}
	if s.Latency > 0 {
		head = append(head, s.Latency.String())
	}
	if s.Tokens > 0 {
		head = append(head, count(s.Tokens, "token"))
	}
	a.printf("\nstep %d  %s\n", s.Number, oneLine(joined(head...)))
	a.text(s.Action)
	if s.Parameters != "" {
		a.printf("  parameters\n")
		a.text(string(s.Parameters))
	}
	if s.Result != nil {
		a.printf("  %s\n", plain(string(s.Result.Kind)))
		a.text(s.Result.Text)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Metadata)) {
		a.field("  "+key, s.Metadata[key])
	}
}

func (a *app) showOutcome(e *episodic.Episode) {
	o, f := &e.Outcome, &e.Reflection
	a.field("outcome", outcomeName(e))
	a.field("verdict", o.Verdict)
	a.field("reason", o.Reason)
	a.field("details", o.Details)
	if o.StoppedAtStep > 0 {
		a.field("stopped at", fmt.Sprintf("step %d", o.StoppedAtStep))
	}
	a.fields("made", o.Artifacts)
	a.fields("completed", o.Completed)
	a.fields("failed", o.Failed)
	a.fields("signal", o.Signals)
	if r := e.Reward; r != nil {
		a.field("reward", fmt.Sprint(r.Total))
		for _, key := range slices.Sorted(maps.Keys(r.Components)) {
			a.field("  "+key, fmt.Sprint(r.Components[key]))
		}
	}
	a.fields("went well", f.Successes)
	a.fields("improve", f.Improvements)
	a.fields("insight", f.Insights)
	for _, p := range e.AppliedPatterns {
		a.field("pattern", joined(p.PatternID.String(), string(p.Effect), p.Note))
	}
}

// field prints a named value, unless it is empty. Its further lines are indented.
func (a *app) field(name, value string) {
	if value != "" {
		const margin = "             "
		a.printf("%-12s %s\n", plain(name), strings.TrimPrefix(indent(plain(value), margin), margin))
	}
}

func (a *app) fields(name string, values []string) {
	for _, v := range values {
		a.field(name, v)
	}
}

// text prints stored text, indented so that it cannot pass for this program's.
func (a *app) text(s string) {
	if s != "" {
		a.printf("%s\n", indent(plain(s), "    "))
	}
}

// joined joins what is not empty.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " · ")
}
