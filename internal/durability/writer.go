package durability

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
)

// Each step, and each episode and heuristic, has a token of its own in its text, by which what
// is stored twice is found.

// write makes writes of all kinds until the process is to end.
func (p *process) write(ctx context.Context) error {
	text := make([]byte, 200+p.rand.IntN(3000))
	for i := range text {
		text[i] = byte('a' + p.rand.IntN(26))
	}
	for {
		var err error
		switch p.rand.IntN(6) {
		case 0:
			err = p.put(ctx)
		case 1:
			err = p.heuristic(ctx)
		default:
			err = p.life(ctx, string(text))
		}
		if err != nil {
			return err
		}
		select {
		case <-p.ended:
			return nil
		default:
		}
	}
}

// errEnds says that the process is to end, and the write was not acknowledged.
var errEnds = errors.New("the process ends")

func ended(err error) error {
	if errors.Is(err, errEnds) {
		return nil
	}
	return err
}

// token returns a text that no other write has.
func (p *process) token() string { return episodic.NewID().String() }

// life records an episode step by step.
func (p *process) life(ctx context.Context, text string) error {
	id := episodic.NewID()
	e := &episodic.Episode{ID: id, Description: "run " + p.token()}
	err := p.try(ctx, id, "start episode", false, func(ctx context.Context) error {
		err := p.memory.StartEpisode(ctx, e)
		if errors.Is(err, episodic.ErrConflict) {
			return nil // an earlier attempt has stored it
		}
		return err
	})
	for range 1 + p.rand.IntN(6) {
		if err != nil {
			return ended(err)
		}
		token := p.token()
		step := episodic.Step{Tool: "write", Action: token, Result: &episodic.Result{Kind: episodic.ResultOutput, Text: text}}
		err = p.try(ctx, id, "append steps", false, func(ctx context.Context) error {
			_, err := p.memory.AppendStepsOnce(ctx, id, token, step)
			return err
		})
	}
	if err == nil && p.rand.IntN(3) == 0 {
		err = p.try(ctx, id, "change tags", false, func(ctx context.Context) error { return p.memory.AddTags(ctx, id, "tried") })
	}
	if err == nil {
		done := episodic.Completion{Outcome: episodic.Outcome{Kind: episodic.Success}, End: time.Now()}
		err = p.try(ctx, id, "complete episode", false, func(ctx context.Context) error { return p.memory.CompleteEpisode(ctx, id, done) })
	}
	if err == nil && p.rand.IntN(8) == 0 {
		err = p.try(ctx, id, "delete item", true, func(ctx context.Context) error {
			err := p.memory.DeleteEpisode(ctx, id)
			if errors.Is(err, episodic.ErrNotFound) {
				return nil // an earlier attempt has deleted it
			}
			return err
		})
	}
	return ended(err)
}

// put stores a whole episode, and then another one over it.
func (p *process) put(ctx context.Context) error {
	id := episodic.NewID()
	for range 1 + p.rand.IntN(2) {
		e := &episodic.Episode{ID: id, Description: "put " + p.token(), Steps: []episodic.Step{{Action: p.token()}, {Action: p.token()}}}
		if err := p.try(ctx, id, "put episode", false, func(ctx context.Context) error {
			e.Revision = 0 // whatever there is
			return p.memory.PutEpisode(ctx, e)
		}); err != nil {
			return ended(err)
		}
	}
	return nil
}

// heuristic stores a heuristic, and deletes it now and then.
func (p *process) heuristic(ctx context.Context) error {
	h := &episodic.Heuristic{ID: episodic.NewID(), Condition: p.token(), Action: "write"}
	err := p.try(ctx, h.ID, "put heuristic", false, func(ctx context.Context) error {
		h.Revision = 0
		return p.memory.PutHeuristic(ctx, h)
	})
	if err == nil && p.rand.IntN(2) == 0 {
		err = p.try(ctx, h.ID, "delete item", true, func(ctx context.Context) error {
			err := p.memory.DeleteHeuristic(ctx, h.ID)
			if errors.Is(err, episodic.ErrNotFound) {
				return nil
			}
			return err
		})
	}
	return ended(err)
}

// try makes a write until it is acknowledged, and says so, before and after. Errors: errEnds; an error that
// does not pass.
func (p *process) try(ctx context.Context, id episodic.ID, write string, deletes bool, do func(context.Context) error) error {
	s := said{Item: id, Write: write, Deletes: deletes, Began: time.Now()}
	if err := p.say.Encode(s); err != nil {
		return err
	}
	p.n++
	full := p.Full > 0 && p.n%p.Full == 0
	if full {
		if err := fillUp(p.Files); err != nil {
			return err
		}
	}
	for {
		s.Receipts = nil
		err := do(episodic.WithReceipts(ctx, func(r episodic.Receipt) { s.Receipts = append(s.Receipts, r) }))
		if full {
			full = false
			if roomErr := makeRoom(); roomErr != nil {
				return errors.Join(err, roomErr)
			}
			if err != nil {
				if err := p.say.Encode(said{Error: "disk full", Detail: err.Error(), Forced: true}); err != nil {
					return err
				}
				continue
			}
		}
		if err == nil {
			s.Done, s.Took = true, time.Since(s.Began)
			return p.say.Encode(s)
		}
		if err := p.say.Encode(said{Error: kindOf(err), Detail: err.Error()}); err != nil {
			return err
		}
		if errors.Is(err, episodic.ErrInvalid) || errors.Is(err, episodic.ErrUnauthorized) || errors.Is(err, episodic.ErrReplaced) {
			return fmt.Errorf("%s: %w", write, err)
		}
		if p.ends(ctx, pause) {
			return errEnds
		}
	}
}
