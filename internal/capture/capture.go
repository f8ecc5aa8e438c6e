package capture

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// Store is what Capture needs of an *episodic.Store.
type Store interface {
	Scope() episodic.Scope
	Import(ctx context.Context, records []episodic.Record) ([]episodic.ImportResult, error)
	AppendSteps(ctx context.Context, id episodic.ID, steps ...episodic.Step) (first int, err error)
	Episode(ctx context.Context, id episodic.ID) (*episodic.Episode, error)
	Episodes(ctx context.Context, f *episodic.EpisodeFilter) iter.Seq2[*episodic.Episode, error]
	PutEpisode(ctx context.Context, e *episodic.Episode) error
	PutRelation(ctx context.Context, r *episodic.Relation) error
}

// Folder is a place where session files are, with all that is below it.
type Folder struct {
	Path string
	// Format is whose sessions they are, one of transcript.Sources. Empty: files of any format,
	// each told by how it begins.
	Format string
}

// Options say what is followed.
type Options struct {
	Folders []Folder
	// Since is when a file must have been changed to be read at the start. Earlier ones are read
	// once they change. Sessions that are open in the memory are read in any case.
	Since time.Time
	// Idle is how long a file must rest for its session to have ended. Default: DefaultIdle.
	Idle time.Duration
	Read transcript.Options // Split must be BySession
	// Hash is that of a run that has ended, as Store.Import takes it; those of one that goes on
	// are made of it too. Required.
	Hash func(run *transcript.Run) []byte
	// Scope is whom a run belongs to, within the Store's scope. It is asked once for each. Nil:
	// all belong to the Store's.
	Scope func(ctx context.Context, run *transcript.Run) (episodic.Scope, error)
	// Tell is given what is wrong, each thing once, in a sentence. Nil: nobody listens.
	Tell func(text string)
	// Began is given what the first look has found: how many files there are, and how many of
	// them are read because they were changed since some moment. Nil: nobody listens.
	Began func(files, recent int, since time.Time)
	// Stored is given what was stored of a session. Nil: nobody listens.
	Stored func(u Update)
}

// DefaultIdle is how long a file rests before its session counts as ended. Sessions are
// taken up again after a break; one that is opens its episode again.
const DefaultIdle = 2 * time.Hour

// Update is what was stored of a session.
type Update struct {
	Path  string
	ID    episodic.ID
	Steps int  // that were added
	Ended bool // the session
}

// Stats is what Capture has done since it began.
type Stats struct {
	Files    int             // that there are
	Read     int             // of which something was read
	Sessions int             // of which something was stored
	Steps    int             // that were added to the memory
	Ended    int             // sessions that have ended
	Deleted  int             // sessions whose episodes were deleted, and stay so
	Problems int             // places that could not be read, and records that were refused
	Left     transcript.Left // what of the files is not in the memory
}

// Capture follows session files. One at a time may call its methods.
type Capture struct {
	store Store
	o     Options
	tree  *tree

	scopes  map[sessionKey]episodic.Scope
	news    bool              // there are runs or relations that were not there at the last look
	parents map[relation]bool // whether they are stored
	stats   Stats
	gone    transcript.Left // of files that are not there any more
	down    bool            // the memory cannot be written, which was told
}

// relation says that a run was started by another one.
type relation struct{ from, to episodic.ID }

// sessionKey is what a run is known by in any scope.
type sessionKey struct{ format, key string }

// New returns a Capture that has not looked yet.
func New(store Store, o Options) *Capture {
	if o.Idle == 0 {
		o.Idle = DefaultIdle
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	if o.Began == nil {
		o.Began = func(int, int, time.Time) {}
	}
	if o.Stored == nil {
		o.Stored = func(Update) {}
	}
	return &Capture{store: store, o: o, tree: newTree(o.Folders), scopes: make(map[sessionKey]episodic.Scope), parents: make(map[relation]bool), gone: make(transcript.Left)}
}

// Times of Run.
const (
	every     = 500 * time.Millisecond // looks at the files
	firstWait = time.Second            // after the memory could not be written
	lastWait  = 30 * time.Second       // as well, having doubled
)

// Run follows the files until ctx ends, which is no error. While the memory cannot be written
// for a reason that passes, it waits and tries again. Errors: those of the Store that do not
// pass.
func (c *Capture) Run(ctx context.Context) error {
	for wait := firstWait; ; {
		err := c.Once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && c.down:
			c.down, wait = false, firstWait
			c.o.Tell("the memory can be written again")
		case err == nil:
		case !passes(err):
			return err
		case !c.down:
			c.down = true
			c.o.Tell(fmt.Sprintf("%v; nothing is lost: sessions are read again until it can be stored", err))
		}
		next := every
		if err != nil {
			next, wait = wait, min(2*wait, lastWait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(next):
		}
	}
}

// passes reports whether an error may be gone later without anybody doing something here.
func passes(err error) bool {
	return episodic.Retryable(err) || errors.Is(err, episodic.ErrUnknownOutcome) || errors.Is(err, episodic.ErrFull)
}

// Once looks at the files, and stores what has changed since the last look. The first look
// decides which files are of interest; see Options.Since. Errors: those of the Store.
func (c *Capture) Once(ctx context.Context) error {
	first := c.tree.looks == 0
	since := c.o.Since
	if first {
		opened, err := c.firstOpened(ctx)
		if err != nil {
			return err
		}
		if !opened.IsZero() && opened.Before(since) {
			since = opened
		}
	}
	now := time.Now()
	changed, lost, problems := c.tree.look(now)
	for _, p := range problems {
		c.problem(p)
	}
	for _, f := range lost {
		if err := c.lost(ctx, f); err != nil {
			return err
		}
	}
	if first {
		recent := changed[:0]
		for _, f := range changed {
			if !f.now.ModTime().Before(since) {
				recent = append(recent, f)
			} else {
				f.rest()
			}
		}
		changed = recent
		c.o.Began(len(c.tree.files), len(changed), since)
	}
	for i, f := range changed {
		if err := c.update(ctx, f, now); err != nil {
			for _, f := range changed[i:] {
				f.due = now
			}
			return err
		}
	}
	if !c.news {
		return nil
	}
	err := c.relate(ctx)
	c.news = err != nil
	return err
}

// firstOpened is when the first of the sessions began that are open in the memory: what an
// earlier Capture has not seen the end of. A session that is open for longer than openFor is
// not waited for.
func (c *Capture) firstOpened(ctx context.Context) (first time.Time, err error) {
	const openFor = 30 * 24 * time.Hour
	f := &episodic.EpisodeFilter{State: episodic.StateRunning, From: time.Now().Add(-openFor)}
	for e, err := range c.store.Episodes(ctx, f) {
		if _, damaged := errors.AsType[*episodic.DamagedError](err); damaged {
			c.problem(err)
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
		if e.Metadata[transcript.MetaSession] != "" && (first.IsZero() || e.Start.Before(first)) {
			first = e.Start
		}
	}
	return first, nil
}

// Stats returns what was done so far.
func (c *Capture) Stats() Stats {
	s := c.stats
	s.Files, s.Left = len(c.tree.files), maps.Clone(c.gone)
	for _, f := range c.tree.files {
		for what, n := range f.left {
			s.Left[what] += n
		}
	}
	return s
}

func (c *Capture) problem(err error) {
	c.stats.Problems++
	c.o.Tell(err.Error())
}
