package episodic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/rank"
)

const (
	embedAtOnce      = 32       // documents whose vectors are made and stored together
	embedBytesAtOnce = 64 << 10 // of their texts, about
	episodesAtOnce   = 64       // episodes that are looked for together

	// Bounds of what of a document is embedded, in bytes: of a task or of a step's action with
	// its parameters, and of a step's result.
	maxEmbedText   = 2000
	maxEmbedResult = 500
	// leastEmbedText is a length in bytes that no model finds too long.
	leastEmbedText = 128
)

// knownText is one that every model takes: if it does, it does not take another text for
// that text's sake.
const knownText = "text"

// embedding makes vectors of documents that have none.
type embedding struct {
	*embedder
	id       int64 // of the model
	removals int64 // when the episodes were looked for
	docs     []document
	bytes    int

	progress  func(done, all int64)
	have, all int64
}

// document is a task or a step whose vector is to be made.
type document struct {
	place int64
	rev   int64 // of the episode
	text  string
}

// errReplaced means that a document may have been replaced while its vector was made.
var errReplaced = errors.New("an episode was replaced meanwhile")

// fill makes the vectors that are missing, one caller at a time.
func (e *embedder) fill(ctx context.Context, progress func(done, all int64)) error {
	select {
	case e.busy <- struct{}{}:
		defer func() { <-e.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	run := &embedding{embedder: e, progress: progress}
	err := run.fillAll(ctx)
	if err != nil && ctx.Err() == nil {
		e.count(func(s *EmbedderStats) { s.Failures++; s.LastFailure = withoutTexts(err) })
	}
	return err
}

func (e *embedding) fillAll(ctx context.Context) error {
	if err := e.measure(ctx); err != nil {
		return err
	}
	var damage []error
	for gone := 0; ; {
		more, err := e.window(ctx, &damage)
		switch {
		case errors.Is(err, errReplaced):
		case payload.IsDictionaryGone(err) && gone < 3:
			gone++ // payloads are being compressed again
		case err != nil:
			return errors.Join(append(damage, err)...)
		case !more:
			return errors.Join(damage...)
		}
	}
}

// measure counts what there is to do, if somebody is told about it.
func (e *embedding) measure(ctx context.Context) error {
	if e.progress == nil {
		return nil
	}
	models, err := e.store.searchModels(ctx)
	if err != nil {
		return err
	}
	r, err := e.store.engine.Query(ctx, engine.Stmt{SQL: sqlCountDocuments})
	if err != nil {
		return err
	}
	in := engine.Row{Values: r[0].Rows[0]}
	e.all = in.Int(0)
	for _, m := range models {
		if m.Name == e.model.Name() {
			e.have = m.Embedded + m.Refused
		}
	}
	return in.Err
}

// register makes the model known, and notes its number.
func (e *embedding) register(ctx context.Context) error {
	name, dim := e.model.Name(), int64(e.model.Dim())
	for range 2 {
		r, err := e.store.engine.Query(ctx, engine.Stmt{SQL: sqlModel, Args: []any{name}})
		if err != nil {
			return err
		}
		if len(r[0].Rows) > 0 {
			in := engine.Row{Values: r[0].Rows[0]}
			if e.id = in.Int(0); in.Err != nil {
				return in.Err
			}
			return e.checkStored(ctx, e.store.engine)
		}
		if _, err := e.store.engine.Repeatable(ctx, engine.Stmt{SQL: sqlAddModel, Args: []any{name, dim}}); err != nil {
			return err
		}
	}
	return errReplaced // it was dropped twice at this moment
}

// window makes the vectors of some episodes; more is false if there were none to look at.
func (e *embedding) window(ctx context.Context, damage *[]error) (more bool, err error) {
	e.docs, e.bytes = e.docs[:0], 0
	if err := e.register(ctx); err != nil {
		return false, err
	}
	name := e.model.Name()
	r, _, err := halving(episodesAtOnce, func(n int) ([]engine.Result, error) {
		return e.store.engine.Query(ctx, engine.Stmt{SQL: sqlNotEmbedded, Args: []any{e.id, name, int64(n)}})
	})
	if err != nil || len(r[0].Rows) == 0 {
		return false, err
	}
	var last int64
	for _, row := range r[0].Rows {
		in := engine.Row{Values: row}
		last = in.Int(0)
		ep := lacking{seq: in.Int(1), rev: in.Int(2), steps: in.Int(3), columns: row[4:11], payload: row[11], next: in.Int(13)}
		e.removals = in.Int(12)
		if in.Err != nil {
			return false, fmt.Errorf("episode %v: %w: %w", row[1], ErrCorrupt, in.Err)
		}
		id, err := idFrom(row[4])
		if ep.id = id; err != nil {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		} else {
			err = e.episode(ctx, &ep)
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				return false, err
			}
			*damage = append(*damage, fmt.Errorf("episode number %d: %w", ep.seq, err)) // the others are not kept from their vectors
		}
	}
	if err := e.flush(ctx); err != nil {
		return false, err
	}
	_, err = e.store.engine.Repeatable(ctx, engine.Stmt{SQL: sqlModelDone, Args: []any{last, e.id, name}})
	return true, err
}

// lacking is an episode whose documents from a place on have no vectors.
type lacking struct {
	id              ID
	seq, rev, steps int64
	columns         []any // see boundHead
	payload         any
	next            int64
}

// episode adds the documents of an episode that have no vectors.
func (e *embedding) episode(ctx context.Context, ep *lacking) error {
	head := ep.seq << rank.NumberBits
	if ep.next == head {
		var p episodePayload
		if err := e.store.payloads.Decode(ctx, ep.payload, boundHead(ep.columns), &p); err != nil {
			return err
		}
		if err := e.add(ctx, document{head, ep.rev, cutUTF8(p.Description, maxEmbedText)}); err != nil {
			return err
		}
		ep.next++
	}
	for ep.next <= head+ep.steps {
		r, err := e.store.engine.Query(ctx, engine.Stmt{SQL: sqlRunOfStep, Args: []any{ep.next, head}})
		if err != nil {
			return err
		}
		var place, count int64
		if len(r[0].Rows) > 0 {
			in := engine.Row{Values: r[0].Rows[0]}
			if place, count = in.Int(0), in.Int(1); in.Err != nil {
				return fmt.Errorf("%w: %w", ErrCorrupt, in.Err)
			}
		}
		if place+count <= ep.next {
			return e.missing(ctx, ep)
		}
		stored := storedSteps{hint: int(count)}
		if err := e.store.payloads.Decode(ctx, r[0].Rows[0][2], boundRun(ep.id, int(count)), &stored); err != nil {
			return err
		}
		for i := ep.next - place; i < int64(len(stored.steps)) && ep.next <= head+ep.steps; i++ {
			step := Step(stored.steps[i])
			if err := e.add(ctx, document{ep.next, ep.rev, embeddedText(&step)}); err != nil {
				return err
			}
			ep.next++
		}
		if int64(len(stored.steps)) < count {
			return fmt.Errorf("%w: %d steps stored at %d, want %d", ErrCorrupt, len(stored.steps), place, count)
		}
	}
	return nil
}

// missing is the error for a step that is not stored: the episode was deleted or replaced
// after it was looked for, or is damaged.
func (e *embedding) missing(ctx context.Context, ep *lacking) error {
	r, err := e.store.engine.Query(ctx, engine.Stmt{SQL: `SELECT n FROM removals WHERE kind = 'episode'`})
	if err != nil {
		return err
	}
	if n, err := intFrom(r[0].Rows[0][0]); err != nil || int64(n) != e.removals {
		return cmp.Or(err, errReplaced)
	}
	return fmt.Errorf("%w: step %d is missing", ErrCorrupt, ep.next&(1<<rank.NumberBits-1))
}

// embeddedText is what of a step its vector is made of. The tool is left out if there is more:
// that a query names it is found by words.
func embeddedText(s *Step) string {
	text := cmp.Or(strings.TrimSpace(s.Action+"\n"+parametersText(s.Parameters)), s.Tool)
	text = cutUTF8(text, maxEmbedText)
	if s.Result != nil {
		text += "\n" + cutUTF8(s.Result.Text, maxEmbedResult)
	}
	return text
}

// cutUTF8 returns at most so many bytes of a text, of whole characters.
func cutUTF8(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
