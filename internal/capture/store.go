package capture

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// storeRuns stores what is new of the runs of a file. begun is when it began to be read.
func (c *Capture) storeRuns(ctx context.Context, f *file, runs []*transcript.Run, ending bool, begun time.Time) error {
	var records []episodic.Record
	var of []*run
	var as []*episodic.Episode
	for _, read := range runs {
		if read.Episode == nil {
			if read.Heuristic != nil || read.Pattern != nil || read.Relation != nil || read.Embedding != nil || read.Deleted != nil {
				f.left["item that is no session"]++
			}
			continue
		}
		e := read.Episode
		scope, err := c.scopeOf(ctx, read)
		if err != nil {
			return err
		}
		e.ID, e.Scope = read.ID(scope), scope
		if read.Parent != "" {
			parent := relation{transcript.DeriveID(scope, read.Format, read.Parent), e.ID}
			if _, known := c.parents[parent]; !known {
				c.parents[parent], c.news = false, true
			}
		}
		r := f.runs[e.ID]
		if r == nil {
			r = &run{}
			f.runs[e.ID] = r
		}
		if r.dead {
			continue
		}
		running := !ending && e.Outcome.Kind == ""
		if running {
			e.End, e.Steps = time.Time{}, settled(e.Steps)
		}
		what, steps, later := r.next(e, running, ending, time.Now())
		if what == storeSteps {
			err := c.addSteps(ctx, f, e, r, steps)
			if refused(err) {
				what = storeAll // it is not as it was left
			} else if err != nil {
				return err
			}
		}
		switch what {
		case storeAll:
			given := *e // which is redacted, and completed; e stays as it was read, to be compared
			records = append(records, episodic.Record{Episode: &given, Hash: c.hash(f, read, running), Ongoing: true})
			of, as = append(of, r), append(as, e)
		case storeSteps, wait:
			r.stale = true
			if f.due.IsZero() || later.Before(f.due) {
				f.due = later
			}
		default:
			// There is nothing to be done.
		}
	}
	if len(records) == 0 {
		return nil
	}
	results, err := c.store.Import(ctx, records)
	if err != nil {
		return err
	}
	cost := time.Since(begun) / time.Duration(len(records))
	for i, res := range results {
		c.stored(f, as[i], of[i], res, cost)
	}
	return nil
}

// scopeOf is whom a run belongs to.
func (c *Capture) scopeOf(ctx context.Context, read *transcript.Run) (scope episodic.Scope, err error) {
	if c.o.Scope == nil || read.Key == "" {
		return c.store.Scope(), nil
	}
	of := sessionKey{read.Format, read.Key}
	scope, known := c.scopes[of]
	if !known {
		if scope, err = c.o.Scope(ctx, read); err == nil {
			c.scopes[of] = scope
		}
	}
	return scope, err
}

// hash is that of a run as Store.Import knows it. While the run goes on it is of the file's
// state: parts of it may change that the run's own hash leaves out.
func (c *Capture) hash(f *file, read *transcript.Run, running bool) []byte {
	h := c.o.Hash(read)
	if !running {
		return h
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "open %x %d %d", h, f.now.Size(), f.now.ModTime().UnixNano()))
	return sum[:16]
}

// stored notes what has become of a record.
func (c *Capture) stored(f *file, e *episodic.Episode, r *run, res episodic.ImportResult, cost time.Duration) {
	running := e.End.IsZero()
	ended := r.running && !running
	switch res.Outcome {
	case episodic.ImportFailed:
		c.fileProblem(f, fmt.Errorf("is refused: %w", res.Err))
		if r.dead = !errors.Is(res.Err, episodic.ErrConflict); !r.dead {
			r.stale, f.due = true, time.Now().Add(lastWait)
		}
		return
	case episodic.ImportDeleted:
		r.dead = true
		c.stats.Deleted++
		return
	case episodic.ImportAdded, episodic.ImportUpdated:
		c.news = c.news || res.Outcome == episodic.ImportAdded
		c.counted(r)
		c.stats.Steps += res.Steps
		ended = !running
		c.o.Stored(Update{Path: f.path, ID: e.ID, Steps: res.Steps, Ended: ended})
	}
	if ended {
		c.stats.Ended++
	}
	*r = run{stored: e, running: running, at: time.Now(), cost: cost, counted: r.counted}
}

func (c *Capture) counted(r *run) {
	if !r.counted {
		r.counted = true
		c.stats.Sessions++
	}
}

// refused reports whether steps cannot be added to an episode as it is.
func refused(err error) bool {
	return errors.Is(err, episodic.ErrConflict) || errors.Is(err, episodic.ErrNotFound) || errors.Is(err, episodic.ErrInvalid)
}

// appendBytes is about how much is added at once.
const appendBytes = 128 << 10

// addSteps adds steps behind those that are stored. Their numbers see to it that none is added
// twice, whoever else does.
func (c *Capture) addSteps(ctx context.Context, f *file, e *episodic.Episode, r *run, steps []episodic.Step) error {
	for len(steps) > 0 {
		n, size := 0, 0
		for n < len(steps) && (n == 0 || size < appendBytes) {
			s := &steps[n]
			size += len(s.Action) + len(s.Parameters)
			if s.Result != nil {
				size += len(s.Result.Text)
			}
			n++
		}
		from := len(r.stored.Steps)
		steps[0].Number = from + 1
		if _, err := c.store.AppendSteps(ctx, e.ID, steps[:n]...); err != nil {
			return err
		}
		r.stored.Steps = e.Steps[: from+n : from+n]
		r.stale = true
		c.counted(r)
		c.stats.Steps += n
		c.o.Stored(Update{Path: f.path, ID: e.ID, Steps: n})
		steps = steps[n:]
	}
	return nil
}

// relate notes which runs were started by which, as soon as both are stored.
func (c *Capture) relate(ctx context.Context) error {
	for p, done := range c.parents {
		if done {
			continue
		}
		err := c.store.PutRelation(ctx, &episodic.Relation{From: p.from, Type: episodic.ParentOf, To: p.to, By: "import"})
		switch {
		case err == nil, errors.Is(err, episodic.ErrConflict):
			c.parents[p] = true
		case errors.Is(err, episodic.ErrNotFound): // the parent is not stored, yet or any more
		default:
			return err
		}
	}
	return nil
}
