package mcpserver

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

const (
	helped   = "helped"
	noEffect = "no_effect"
	wrong    = "wrong"
)

var verdicts = []string{helped, noEffect, wrong}

// feedbackKey is the metadata in which an item keeps what was said of it: a line for each
// giver, the newest last.
const (
	feedbackKey   = "feedback"
	feedbackLines = 20
)

func (c *call) feedbackTool(ctx context.Context) (string, error) {
	kind, id, err := c.resolve(ctx, c.text("id"))
	if err != nil {
		return "", err
	}
	giver := "-"
	if n, session, err := c.latest(ctx); err != nil {
		return "", err
	} else if n > 0 {
		giver = shortID(session)
	}
	verdict, why := c.text("verdict"), line(c.text("why"))
	err = retried(func() error {
		switch kind {
		case episodic.ItemHeuristic:
			h, err := c.store.Heuristic(ctx, id)
			if err != nil {
				return err
			}
			before, changed := noteFeedback(&h.Metadata, giver, verdict, why)
			if !changed {
				return nil
			}
			h.Confidence, h.Evidence.SuccessRate, h.Evidence.SampleSize = judged(h.Confidence, h.Evidence.SuccessRate, h.Evidence.SampleSize, before, verdict)
			h.Updated = time.Now()
			return c.store.PutHeuristic(ctx, h)
		case episodic.ItemPattern:
			p, err := c.store.Pattern(ctx, id)
			if err != nil {
				return err
			}
			before, changed := noteFeedback(&p.Metadata, giver, verdict, why)
			if !changed {
				return nil
			}
			_, p.SuccessRate, p.Occurrences = judged(0, p.SuccessRate, p.Occurrences, before, verdict)
			p.Updated = time.Now()
			return c.store.PutPattern(ctx, p)
		}
		e, err := c.store.Episode(ctx, id)
		if err != nil {
			return err
		}
		if _, changed := noteFeedback(&e.Metadata, giver, verdict, why); !changed {
			return nil
		}
		return c.store.PutEpisode(ctx, e)
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Noted on %s %s: %s.", noun(kind), shortID(id), strings.ReplaceAll(verdict, "_", " ")), nil
}

// noteFeedback writes what a giver says in an item's metadata, in place of what it said
// before, and returns that verdict. Of givers without a name each says something of its own,
// unless it is the same.
func noteFeedback(metadata *map[string]string, giver, verdict, why string) (before string, changed bool) {
	said := strings.TrimSuffix(giver+" "+verdict+": "+why, ": ")
	var lines []string
	for old := range strings.SplitSeq((*metadata)[feedbackKey], "\n") {
		if old == said {
			return "", false
		}
		if by, rest, _ := strings.Cut(old, " "); giver != "-" && by == giver {
			before, _, _ = strings.Cut(rest, ":")
			continue
		}
		if old != "" {
			lines = append(lines, old)
		}
	}
	if *metadata == nil {
		*metadata = make(map[string]string)
	}
	lines = append(lines, said)
	(*metadata)[feedbackKey] = strings.Join(lines[max(0, len(lines)-feedbackLines):], "\n")
	return before, true
}

// judged is a confidence, and the share of cases in which an item held, after another case, or
// after a verdict on a case has changed. The confidence that an item began with counts as
// two cases (Laplace's rule, for one of 1/2).
func judged(confidence, rate float64, cases int, before, verdict string) (float64, float64, int) {
	const prior = 2
	value := func(verdict string) float64 {
		if verdict == helped {
			return 1
		}
		return 0
	}
	sum, held := confidence*float64(cases+prior), math.Round(rate*float64(cases))
	if before != "" && cases > 0 {
		sum, held, cases = sum-value(before), held-value(before), cases-1
	}
	sum, held, cases = sum+value(verdict), held+value(verdict), cases+1
	within := func(x float64) float64 { return min(max(x, 0), 1) }
	return within(sum / float64(cases+prior)), within(held / float64(cases)), cases
}
