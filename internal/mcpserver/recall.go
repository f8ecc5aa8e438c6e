package mcpserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/tokens"
)

const (
	briefTokens = 400 // of a recall's first page, and of start, at most
	frameTokens = 90  // for what stands around the hits
	hitTokens   = 60  // without which a hit tells nothing
)

func (c *call) recallTool(ctx context.Context) (string, error) {
	store, err := c.of(ctx, c.text("project"))
	if err != nil {
		return "", err
	}
	filter := episodic.EpisodeFilter{Outcome: outcomeKinds[c.text("outcome")]}
	query, cursor, budget := c.text("query"), c.text("cursor"), c.number("max_tokens")-frameTokens
	var lines strings.Builder
	waiting, damaged := 0, []*episodic.DamagedError(nil)
	if cursor == "" {
		brief, err := store.Brief(ctx, query, &episodic.BriefOptions{Budget: min(max(budget/2, 100), briefTokens), Filter: filter})
		if err != nil {
			return "", err
		}
		lines.WriteString(clean(brief.Text()))
		waiting, damaged = brief.Waiting, brief.Damaged
		budget -= tokens.Count(lines.String())
	}
	found, err := store.Search(ctx, query, &episodic.SearchOptions{
		Filter: filter, Cursor: cursor, Limit: min(max(budget/hitTokens, 1), c.number("limit")),
	})
	if err != nil {
		return "", err
	}
	// What the session itself is doing it knows.
	_, own, err := c.latest(ctx)
	if err != nil {
		return "", err
	}
	found.Hits = slices.DeleteFunc(found.Hits, func(h episodic.Hit) bool { return h.Episode.ID == own && h.Episode.Running() })
	missing := notSearched(max(waiting, found.Waiting)) + leftOut(damaged, found.Damaged)
	budget -= tokens.Count(found.Next)
	now := time.Now()
	for i := range found.Hits {
		lines.WriteString(hitText(&found.Hits[i], now, budget/len(found.Hits)))
	}
	if lines.Len() == 0 {
		text := "Nothing that fits is recorded"
		if store.Scope().Project != "" {
			text += " " + place(store.Scope())
		}
		if text += "."; cursor != "" {
			text = "There is no more."
		}
		return text + missing, nil
	}
	text := framed(store.Scope(), lines.String()) + "\nshow has the steps."
	if found.Next != "" {
		text += fmt.Sprintf(" More: the same recall with cursor %q.", found.Next)
	}
	return text + missing, nil
}

func notSearched(waiting int) string {
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf(" %s not indexed yet and could not be found.", counted(waiting, "item"))
}

// of returns the Store of a project within the bounds: that of the call if it is not named.
func (c *call) of(ctx context.Context, project string) (*episodic.Store, error) {
	if project == "" || project == c.Scope.Project {
		return c.store, nil
	}
	scope := c.Scope
	scope.Project, scope.Agent = project, ""
	if project == "*" {
		scope.Project = c.Within.Project
		return c.memory(ctx, c.Caller, scope)
	}
	if within := c.Within.Project; within != "" {
		return nil, bad("this server only has project %s", line(within))
	}
	all, err := c.memory(ctx, c.Caller, episodic.Scope{User: scope.User})
	if err != nil {
		return nil, err
	}
	var names []string
	for name, err := range all.Names(ctx, episodic.ProjectNames) {
		if err != nil {
			return nil, err
		}
		names = append(names, name.Name)
	}
	if !slices.Contains(names, project) {
		const most = 10
		known := "there are none"
		if len(names) > 0 {
			known = "known are " + strings.Join(names[:min(len(names), most)], ", ")
		}
		return nil, bad("project %.60q is not known; %s", project, line(known))
	}
	return c.memory(ctx, c.Caller, scope)
}

// hitText is a hit in at most so many tokens: a line for the episode, and one for each step.
func hitText(h *episodic.Hit, now time.Time, budget int) string {
	head := provenance(h.Episode, now) + " "
	text := head + tokens.Cut(line(h.Episode.Description), max(budget/2, hitTokens/2)-tokens.Count(head)) + "\n"
	add := func(next string) {
		if room := budget - tokens.Count(text); room > hitTokens/4 {
			text += tokens.Cut(next, room-1) + "\n"
		}
	}
	if o := &h.Episode.Outcome; o.Verdict+o.Reason != "" {
		add("  said: " + tokens.Cut(line(o.Verdict+o.Reason), budget/4))
	}
	for _, s := range h.Steps {
		add(fmt.Sprintf("  step %d %s: %s", s.Number, line(strings.TrimSpace(s.Tool+" "+string(s.Result))), line(s.Snippet)))
	}
	if note := h.Episode.Metadata[feedbackKey]; note != "" {
		add("  feedback: " + line(lastLine(note)))
	}
	if len(h.Alike) > 0 {
		var runs []string
		for _, a := range h.Alike[:min(len(h.Alike), 3)] {
			runs = append(runs, shortID(a.ID)+" "+string(a.Outcome))
		}
		add(fmt.Sprintf("  %s of this task: %s", counted(len(h.Alike), "other run"), strings.Join(runs, ", ")))
	}
	return text
}

func lastLine(text string) string {
	return text[strings.LastIndexByte(text, '\n')+1:]
}
