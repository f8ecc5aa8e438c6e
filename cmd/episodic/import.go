package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
)

type importCmd struct {
	Files  []string `arg:"" name:"file" help:"Files of one JSON object a line, or of one JSON array of objects; - is standard input."`
	Format string   `enum:"auto,episodic,openai" default:"auto" help:"What the objects are: episodic, as show --json prints them; openai, chat transcripts in messages or traj; auto, decided object by object."`
	Domain string   `help:"Domain of the imported episodes that have none."`
	Tag    []string `sep:"none" help:"Tag for all imported episodes, besides their own; repeatable."`
}

// Help is shown by import --help.
func (*importCmd) Help() string {
	return `An episode that is stored already is left as it is, so importing twice is harmless. Without an id of its own, an episode gets one that follows from its JSON. Bad lines are told on stderr and left out.

Of a transcript, each tool call with its answer becomes a step; info.task.instruction, task, description or the first message says what the task was; reward is 1 for success and 0 for failure, and the last words of the assistant are its verdict; other plain fields become metadata. What else was said is not kept.`
}

func (c *importCmd) Run(ctx context.Context, a *app) error {
	return a.withStore(ctx, func(store *episodic.Store) error {
		a.publish(store)
		im := &importer{app: a, store: store, format: c.Format, domain: c.Domain, tags: c.Tag}
		for _, name := range c.Files {
			if err := im.file(ctx, name); err != nil {
				return err
			}
		}
		err := im.finish()
		im.train(ctx)
		return err
	})
}

// maxLine bounds the memory that a file without line ends can take, in bytes.
// It is far above what the largest episode takes as JSON.
const maxLine = 256 << 20

// Bounds of a batch.
const (
	batchEpisodes = 100
	batchBytes    = 4 << 20 // of source
)

// importer stores what it reads in batches.
type importer struct {
	*app
	store    *episodic.Store
	format   string
	domain   string
	tags     []string
	progress *progress

	batch []item
	bytes int

	episodes, steps, present, badLines, badFiles int
}

// item is an episode to be stored, and where it came from.
type item struct {
	at      string
	episode *episodic.Episode
	added   int
	err     error
}

// file imports a file. Its error is about the database; what is wrong with the
// file is told and counted.
func (im *importer) file(ctx context.Context, name string) error {
	r, size, err := im.open(ctx, name)
	if err != nil {
		im.badFile(err)
		return nil
	}
	defer r.Close()
	im.progress = newProgress(im.stderr, name, size, true)
	defer im.progress.done()
	return im.records(ctx, name, io.TeeReader(r, im.progress))
}

func (im *importer) open(ctx context.Context, name string) (r io.ReadCloser, size int64, err error) {
	if name == "-" {
		return interruptible(ctx, im.stdin), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	size = -1
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	return f, size, nil
}

// interruptible returns a reader of r that fails when ctx ends, even while
// nobody types anything.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	return pr
}

// records imports all records of r, which errors call name.
func (im *importer) records(ctx context.Context, name string, r io.Reader) error {
	for rec, err := range records(r, maxLine) {
		at := fmt.Sprintf("%s:%d", name, rec.line)
		var e *episodic.Episode
		if err == nil {
			e, err = parseDocument(rec.raw, im.format, im.store.Scope(), time.Now())
		}
		switch {
		case errors.Is(err, episodic.ErrInvalid):
			im.badLine(at, err)
		case ctx.Err() != nil:
			return im.stopped(at, ctx.Err())
		case err != nil:
			im.badFile(fmt.Errorf("%s: %w", at, err))
		default:
			if e.Context.Domain == "" {
				e.Context.Domain = im.domain
			}
			e.Context.Tags = append(e.Context.Tags, im.tags...)
			im.batch = append(im.batch, item{at: at, episode: e})
			im.bytes += len(rec.raw)
		}
		if len(im.batch) >= batchEpisodes || im.bytes >= batchBytes {
			if err := im.flush(ctx); err != nil {
				return err
			}
		}
	}
	return im.flush(ctx)
}

// flush stores the batch. Each episode is a call of its own, because only then
// does the Store say which of them it had, and which of them it refuses; calls
// that are under way together share transactions and round trips.
func (im *importer) flush(ctx context.Context) error {
	var calls sync.WaitGroup
	for i := range im.batch {
		calls.Go(func() {
			it := &im.batch[i]
			it.added, it.err = im.store.AddEpisodes(ctx, it.episode)
		})
	}
	calls.Wait()
	var failed *item
	for i := range im.batch {
		switch it := &im.batch[i]; {
		case errors.Is(it.err, episodic.ErrInvalid):
			im.badLine(it.at, it.err)
		case it.err != nil:
			if failed == nil {
				failed = it
			}
		case it.added == 0:
			im.present++
		default:
			im.episodes++
			im.steps += len(it.episode.Steps)
		}
	}
	if failed != nil {
		return im.stopped(failed.at, failed.err)
	}
	clear(im.batch)
	im.batch, im.bytes = im.batch[:0], 0
	return nil
}

var errInterrupted = errors.New("interrupted")

// stopped is the error of an import that the database, or the user, ended.
func (im *importer) stopped(at string, err error) error {
	if errors.Is(err, context.Canceled) {
		err = errInterrupted // whatever was under way
	}
	return fmt.Errorf("import stopped at %s, with %s stored and %d found stored: %w; importing again is safe",
		at, count(im.episodes, "episode"), im.present, err)
}

func (im *importer) badLine(at string, err error) {
	im.badLines++
	reason := err.Error()
	if in, ok := errors.AsType[*episodic.InvalidError](err); ok {
		reason = in.Error()
		if in.Field == "" {
			reason = in.Problem
		}
	}
	im.progress.clear()
	im.note("%s: %s", at, short(reason))
}

func (im *importer) badFile(err error) {
	im.badFiles++
	im.progress.clear()
	im.complain("%v", err)
}

// short keeps a reason that quotes the input readable.
func short(reason string) string { return cut(oneLine(reason), 500) }

// train makes a dictionary of what was imported, if it is time to: the process
// ends before the Store would in the background. What was imported is stored
// whatever becomes of it.
func (im *importer) train(ctx context.Context) {
	if im.episodes == 0 {
		return
	}
	trained, err := im.store.TrainDictionaries(ctx)
	im.printTrained(trained)
	if err != nil {
		im.complain("%v; episodic compact tries again", err)
	}
}

// finish says what was imported.
func (im *importer) finish() error {
	im.printf("imported %s, %s; %d were already there; %s\n",
		count(im.episodes, "episode"), count(im.steps, "step"), im.present, count(im.badLines, "bad line"))
	if im.badFiles > 0 {
		im.printf("%s could not be read\n", count(im.badFiles, "file"))
	}
	if im.badLines+im.badFiles > 0 {
		return errReported
	}
	return nil
}
