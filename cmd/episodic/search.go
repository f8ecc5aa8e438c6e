package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

type searchCmd struct {
	Query []string `arg:"" help:"Plain words; an episode that has more of them, and rarer ones, ranks higher. Words in quotes rank higher where they follow one another."`
	N     int      `short:"n" name:"limit" default:"10" help:"Print at most this many."`
	Page  string   `placeholder:"CURSOR" help:"Go on behind the page that printed this."`
	filterFlags
	Tool    string `placeholder:"NAME" help:"Only steps of this tool."`
	Steps   bool   `help:"Find steps instead of episodes."`
	EachRun bool   `name:"each-run" help:"Print every run of a task, not the best with the others named."`
	Explain bool   `help:"Say why each hit was found."`
	Model   string `placeholder:"none|SPEC" help:"Compare meanings by this embedding model, as of model use, or by none."`
	JSON    bool   `name:"json" help:"Print JSON."`

	quiet bool // part of another command
}

func (c *searchCmd) Run(ctx context.Context, a *app) error {
	a.modelSpec = c.Model
	return a.toRead(ctx, func(store *episodic.Store) error { return c.search(ctx, a, store) })
}

func (c *searchCmd) search(ctx context.Context, a *app, store *episodic.Store) error {
	if err := checkLimit(c.N); err != nil {
		return err
	}
	found, err := store.Search(ctx, strings.Join(c.Query, " "), &episodic.SearchOptions{
		Filter: *c.filter(), Tool: c.Tool, Limit: c.N, Cursor: c.Page, Steps: c.Steps, EachRun: c.EachRun, Explain: c.Explain,
	})
	if err != nil {
		return err
	}
	if found.Waiting > 0 {
		a.complain("%d of the items are not indexed yet and cannot be found; episodic compact indexes them", found.Waiting)
	}
	if m := a.model; m != nil && found.Model == "" && len(found.Hits) > 0 {
		if reason := m.reason(); reason != nil {
			a.complain("%v; this was found without the model", reason)
		} else {
			a.complain("%s took no part: it does not answer, or has not seen what is stored; episodic compact tells", oneLine(m.name))
		}
	}
	if c.JSON {
		found.Hits = append([]episodic.Hit{}, found.Hits...)
		return errors.Join(a.printJSON(found), a.missing(found.Damaged))
	}
	if len(found.Hits)+len(found.Damaged) == 0 {
		a.complain("no episode fits; try other words, or episodic list")
		if err := a.explainNone(ctx, store, &c.filterFlags); err != nil {
			return err
		}
	}
	for i := range found.Hits {
		c.print(a, i+1, &found.Hits[i])
	}
	if found.Next != "" && !c.quiet {
		a.complain("there are more: add --page %s", found.Next)
	}
	return a.missing(found.Damaged)
}

func (c *searchCmd) print(a *app, n int, hit *episodic.Hit) {
	const margin = "           "
	line := func(format string, args ...any) {
		a.printf("%s%s\n", margin, cut(oneLine(fmt.Sprintf(format, args...)), a.width()-len(margin)))
	}
	e := hit.Episode
	head := fmt.Sprintf("%2d. %5.2f  %-15s  %s  ", n, hit.Score, outcomeName(e), e.Start.Format(time.DateOnly))
	a.printf("%s%s\n", head, cut(oneLine(e.Description), a.width()-len(head)))
	if hit.Snippet != "" && (len(hit.Steps) == 0 || hit.Snippet != hit.Steps[0].Snippet) {
		line("%s", hit.Snippet)
	}
	for _, step := range hit.Steps {
		failed := ""
		if step.Result == episodic.ResultError || step.Result == episodic.ResultTimeout {
			failed = " (" + string(step.Result) + ")"
		}
		line("step %d %s%s: %s", step.Number, step.Tool, failed, step.Snippet)
	}
	for _, other := range hit.Alike {
		line("also %s %s %v", cmp.Or(string(other.Outcome), "not judged"), other.Start.Format(time.DateOnly), other.ID)
	}
	if w := hit.Why; w != nil {
		var words []string
		for _, word := range w.Words {
			words = append(words, fmt.Sprintf("%s %.2f+%.2f", word.Word, word.Step, word.Episode))
		}
		line("why: step %.2f + neighbours %.2f + episode %.2f + meaning %.2f, x %.2f for the outcome, x %.2f for recency, x %.2f for phrases", w.Own, w.Neighbours, w.Episode, w.Meaning, w.Outcome, w.Recency, w.Phrase)
		if len(words) == 0 {
			words = []string{"none of the query; found by what it means"}
		}
		line("words, in the step + in the episode: %s", strings.Join(words, ", "))
	}
	a.printf("%s%v\n", margin, e.ID)
}
