package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// A lesson is a Heuristic. Its ID follows from what it says, so that learning it again adds
// nothing.

// untested is the confidence in a lesson that nobody has tried.
const untested = 0.5

// beforeKey is the metadata of a lesson that was corrected: what it said before.
const beforeKey = "before"

func (c *call) learnTool(ctx context.Context) (string, error) {
	when, text := c.store.Redact(c.text("when")), c.store.Redact(c.text("text"))
	h := &episodic.Heuristic{
		ID:        transcript.DeriveID(c.store.Scope(), "lesson", when+"\n"+text),
		Condition: when, Action: text, Confidence: untested,
	}
	n, id, err := c.latest(ctx)
	if err != nil {
		return "", err
	}
	if n > 0 {
		h.Evidence.Episodes = []episodic.ID{id}
	}
	if c.Name != "" {
		h.Metadata = map[string]string{recordedBy: c.Name}
	}
	if old := c.text("replaces"); old != "" {
		return c.correct(ctx, old, h)
	}
	_, err = c.store.Heuristic(ctx, h.ID)
	if err == nil {
		return fmt.Sprintf("Lesson %s is known already.", shortID(h.ID)), nil
	}
	if !errors.Is(err, episodic.ErrNotFound) {
		return "", err
	}
	if err := c.store.PutHeuristic(ctx, h); err != nil {
		return "", err
	}
	return fmt.Sprintf("Learnt lesson %s %s.", shortID(h.ID), place(c.store.Scope())), nil
}

// correct gives a lesson another text. What was found about the old one says nothing of it.
func (c *call) correct(ctx context.Context, old string, to *episodic.Heuristic) (string, error) {
	kind, id, err := c.resolve(ctx, old)
	if err != nil {
		return "", err
	}
	if kind != episodic.ItemHeuristic {
		return "", bad("replaces names %s, which is no lesson but a %s", shortID(id), noun(kind))
	}
	err = retried(func() error {
		h, err := c.store.Heuristic(ctx, id)
		if err != nil {
			return err
		}
		if h.Condition == to.Condition && h.Action == to.Action {
			return nil
		}
		h.Metadata = map[string]string{beforeKey: h.Condition + ": " + h.Action}
		maps.Copy(h.Metadata, to.Metadata)
		h.Condition, h.Action, h.Confidence, h.Evidence, h.Updated = to.Condition, to.Action, to.Confidence, to.Evidence, time.Now()
		return c.store.PutHeuristic(ctx, h)
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Corrected lesson %s.", shortID(id)), nil
}

// retried calls f, which reads an item and stores it changed, until nobody else has written
// the item meanwhile.
func retried(f func() error) (err error) {
	const most = 5
	for range most {
		if err = f(); !errors.Is(err, episodic.ErrConflict) {
			return err
		}
	}
	return err
}

func (c *call) forgetTool(ctx context.Context) (string, error) {
	kind, id, err := c.resolve(ctx, c.text("id"))
	if err != nil {
		return "", err
	}
	what, remove := "", c.store.DeleteEpisode
	switch kind {
	case episodic.ItemHeuristic:
		h, err := c.store.Heuristic(ctx, id)
		if err != nil {
			return "", err
		}
		what, remove = h.Condition+": "+h.Action, c.store.DeleteHeuristic
	case episodic.ItemPattern:
		p, err := c.store.Pattern(ctx, id)
		if err != nil {
			return "", err
		}
		what, remove = p.Description, c.store.DeletePattern
	default:
		e, err := c.store.Episode(ctx, id)
		if err != nil {
			return "", err
		}
		what = fmt.Sprintf("%s, with %s", e.Description, counted(len(e.Steps), "step"))
	}
	if !c.flag("confirm") {
		return fmt.Sprintf("Not deleted yet: %s %s, %.200q. If the user wants that, call forget again with confirm.", noun(kind), shortID(id), line(what)), nil
	}
	if err := remove(ctx, id); err != nil {
		return "", err
	}
	return fmt.Sprintf("Deleted %s %s.", noun(kind), shortID(id)), nil
}
