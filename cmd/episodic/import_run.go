package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// Bounds of a batch. One of them is stored, and one read meanwhile.
const (
	batchEpisodes = 400
	batchBytes    = 8 << 20 // of source
)

// toldErrors is how many of the errors of a file are told; the others are counted.
const toldErrors = 5

// importer stores what it reads in batches, while it reads on.
type importer struct {
	*app
	store    *episodic.Store // nil: nothing is stored
	opts     transcript.Options
	domain   string
	tags     []string
	replace  bool
	undelete bool
	since    time.Time

	progress *progress
	told     map[string]int       // errors of each file
	seen     map[episodic.ID]bool // ids in the file

	counts  importCounts
	left    map[string]int
	old     int // files that were changed before since
	foreign foreign
	parents []parent
	leading leading
	deleted map[episodic.ID]bool // episodes that stay so
}

func newImporter(a *app, store *episodic.Store) *importer {
	return &importer{app: a, store: store, left: make(map[string]int), seen: make(map[episodic.ID]bool), told: make(map[string]int), deleted: make(map[episodic.ID]bool)}
}

type importCounts struct {
	episodes, steps, notes, others       int // that were added
	present, updated, differing, deleted int
	stepless                             int
	badLines, badFiles                   int
}

// parent says that a run was started by another one.
type parent struct{ from, to episodic.ID }

// item is what was read of a file: a run, what is wrong, or its end.
type item struct {
	file  string
	run   *transcript.Run
	err   error
	ended bool
	found bool // the file was, in a folder
}

// pending are records that are stored together, and where they come from.
type pending struct {
	records []episodic.Record
	places  []place
	files   map[episodic.ID]string
}

// place is a line of a file, or a row of a database.
type place struct {
	file string
	line int
	row  string // empty: it is the line
}

func (p place) String() string {
	if p.row != "" {
		return p.file + ": " + p.row
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// run imports files, and says what has become of them. Its error is about the database; what
// is wrong with a file is told and counted.
func (im *importer) run(ctx context.Context, files []source) error {
	im.progress = newProgress(im.stderr, nameOf(files), sizeOf(files), true)
	defer im.progress.done()
	readUntil, stop := context.WithCancel(ctx)
	batches := make(chan []item)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop()
	reading.Go(func() {
		defer close(batches)
		r := &reader{importer: im, ctx: readUntil, batches: batches}
		for _, f := range files {
			r.read(f)
		}
		r.send()
	})
	for b := range batches {
		if err := im.take(ctx, b); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return im.stopped("", ctx.Err())
	}
	if err := im.relate(ctx); err != nil {
		return err
	}
	return im.finish()
}

func nameOf(files []source) string {
	if len(files) == 1 {
		return files[0].name
	}
	return count(len(files), "file")
}

// sizeOf is how large files are together; -1 if that is not known of one.
func sizeOf(files []source) (size int64) {
	for _, f := range files {
		if f.size < 0 {
			return -1
		}
		size += f.size
	}
	return size
}

// reader reads files, and sends what is in them in batches, until ctx ends.
type reader struct {
	*importer
	ctx     context.Context
	batches chan<- []item
	batch   []item
	size    int64 // of source, in bytes
}

// send sends the batch.
func (r *reader) send() {
	select {
	case r.batches <- r.batch:
	case <-r.ctx.Done():
	}
	r.batch, r.size = nil, 0
}

// add adds an item to the batch. What comes from a pipe is stored as soon as it can be.
func (r *reader) add(it item, pipe bool) {
	r.batch = append(r.batch, it)
	if it.run != nil {
		r.size += it.run.Bytes
	}
	switch {
	case len(r.batch) >= batchEpisodes || r.size >= batchBytes:
		r.send()
	case pipe:
		select {
		case r.batches <- r.batch:
			r.batch, r.size = nil, 0
		default:
		}
	}
}

func (r *reader) read(f source) {
	pipe := f.name == "-"
	defer func() { r.add(item{file: f.name, ended: true}, pipe) }()
	in, err := r.open(r.ctx, f)
	if err != nil {
		r.add(item{file: f.name, err: err}, pipe)
		return
	}
	defer in.Close()
	o := r.opts
	o.Modified, o.Pipe, o.Found = f.changed, pipe, f.found
	o.Format = cmp.Or(o.Format, transcript.Placed(f.name)) // a session that has just begun does not tell
	for run, err := range transcript.Read(io.TeeReader(in, r.progress), f.name, &o) {
		if r.ctx.Err() != nil {
			return
		}
		r.add(item{file: f.name, run: run, err: err, found: f.found}, pipe)
	}
}

// problem tells what is wrong with a file, or a place in it.
func (im *importer) problem(name string, err error) {
	p, placed := errors.AsType[*transcript.Problem](err)
	_, path := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, context.Canceled):
	case path:
		im.badFile(err)
	case !placed:
		im.badFile(fmt.Errorf("%s: %w", name, err))
	case p.Line == 0:
		im.badFile(fmt.Errorf("%s %w", name, err))
	default:
		im.badLine(place{name, p.Line, p.Place}, p.Text)
	}
}

// take stores what is in a batch, and tells what is wrong with it.
func (im *importer) take(ctx context.Context, items []item) error {
	p := &pending{files: make(map[episodic.ID]string)}
	var ended []string
	for _, it := range items {
		switch {
		case it.ended:
			ended = append(ended, it.file)
			clear(im.seen)
		case it.found && errors.Is(it.err, transcript.ErrUnknown):
			im.foreign.add(it.file, it.err)
		case it.err != nil:
			im.problem(it.file, it.err)
		default:
			if err := im.takeRun(ctx, it.file, it.run, p); err != nil {
				return err
			}
		}
	}
	if err := im.storeRecords(ctx, p); err != nil {
		return err
	}
	for _, file := range ended {
		if more := im.told[file] - toldErrors; more > 0 {
			im.progress.clear()
			im.note("%s: and %d more", file, more)
		}
		delete(im.told, file)
	}
	return nil
}

// takeRun adds a run to those that are stored together, or stores it if it is no episode.
func (im *importer) takeRun(ctx context.Context, file string, run *transcript.Run, p *pending) error {
	at := place{file, run.Line, run.Place}
	im.foreign.others = true
	for what, n := range run.Left {
		im.left[what] += n
	}
	for _, odd := range run.Odd {
		im.tell(at, "%s %s; it is left out", odd.Name, odd.Problem)
	}
	switch {
	case run.Heuristic != nil:
		if err := im.storeNote(ctx, run); err != nil {
			return im.stopped(at.String(), err)
		}
	case run.Episode != nil:
		r, err := im.record(ctx, run)
		if err != nil {
			return im.stopped(at.String(), err)
		}
		id := r.Episode.ID
		if of, there := p.files[id]; there && of != file { // within a file the later one counts
			if err := im.storeRecords(ctx, p); err != nil {
				return err
			}
		}
		p.records, p.places, p.files[id] = append(p.records, r), append(p.places, at), file
	case run.Pattern != nil, run.Relation != nil, run.Embedding != nil, run.Deleted != nil:
		if err := im.storeRecords(ctx, p); err != nil { // it may be of those
			return err
		}
		if err := im.storeExported(ctx, run, at); err != nil {
			return im.stopped(at.String(), err)
		}
	}
	return nil
}

// record is a run as the Store takes it. Of two with one id in a file the later one counts.
func (im *importer) record(ctx context.Context, run *transcript.Run) (r episodic.Record, err error) {
	e, scope := run.Episode, im.scope()
	if im.store != nil && slices.Contains(transcript.Sources(), run.Format) {
		if scope, err = im.sessionScope(ctx, im.store, sessionOf(run)); err != nil {
			return r, err
		}
		e.Scope = scope
	}
	e.ID = run.ID(scope)
	e.Context.Domain = cmp.Or(e.Context.Domain, im.domain)
	e.Context.Tags = append(e.Context.Tags, im.tags...)
	if len(e.Steps) == 0 {
		im.counts.stepless++
	}
	if run.Parent != "" {
		im.parents = append(im.parents, parent{transcript.DeriveID(scope, run.Format, run.Parent), e.ID})
	}
	r = episodic.Record{Episode: e, Hash: im.hash(run), Replace: im.replace || im.seen[e.ID], Undelete: im.undelete}
	im.seen[e.ID] = true
	return r, nil
}

// storeRecords stores what is pending, which is nothing then.
func (im *importer) storeRecords(ctx context.Context, p *pending) error {
	records, places := p.records, p.places
	p.records, p.places = nil, nil
	clear(p.files)
	if im.store == nil {
		for _, r := range records {
			im.counts.episodes++
			im.counts.steps += len(r.Episode.Steps)
		}
		return nil
	}
	if len(records) == 0 {
		return nil
	}
	results, err := im.store.Import(ctx, records)
	at := places[0]
	for i, res := range results {
		switch res.Outcome {
		case episodic.ImportFailed:
			if res.Err != nil {
				im.badLine(places[i], reason(res.Err))
			} else {
				at = places[i]
			}
		case episodic.ImportAdded:
			im.counts.episodes++
			im.counts.steps += res.Steps
		case episodic.ImportUpdated:
			im.counts.updated++
			im.counts.steps += res.Steps
		case episodic.ImportDiffers:
			im.counts.differing++
			im.tell(places[i], "differs from the episode %v that is stored under its id; --replace takes it", records[i].Episode.ID)
		case episodic.ImportDeleted:
			im.counts.deleted++
			im.deleted[records[i].Episode.ID] = true
		default:
			im.counts.present++
		}
	}
	if err != nil {
		return im.stopped(at.String(), err)
	}
	return nil
}

// scope is what the imported episodes belong to.
func (im *importer) scope() episodic.Scope {
	if im.store == nil {
		return episodic.Scope{}
	}
	return im.store.Scope()
}

// hash is that of a run, and of what the command line adds to it.
func (im *importer) hash(run *transcript.Run) []byte {
	return hashOf(run, im.domain, im.tags, &im.opts)
}

func hashOf(run *transcript.Run, domain string, tags []string, o *transcript.Options) []byte {
	b := bytes.NewBuffer(run.Hash[:])
	fmt.Fprintf(b, "%q %q %v %q %d", domain, tags, o.System, o.OutcomeField, o.Split)
	sum := sha256.Sum256(b.Bytes())
	return sum[:16]
}

// relate notes which runs were started by which.
func (im *importer) relate(ctx context.Context) error {
	if im.store == nil {
		return nil
	}
	for _, p := range im.parents {
		err := im.store.PutRelation(ctx, &episodic.Relation{From: p.from, Type: episodic.ParentOf, To: p.to, By: "import"})
		if err != nil && !errors.Is(err, episodic.ErrNotFound) && !errors.Is(err, episodic.ErrConflict) {
			return im.stopped("", err)
		}
	}
	return nil
}

var errInterrupted = errors.New("interrupted")

// stopped is the error of an import that the database, or the user, ended.
func (im *importer) stopped(at string, err error) error {
	if errors.Is(err, context.Canceled) {
		err = errInterrupted // whatever was under way
	}
	if at != "" {
		at = " at " + at
	}
	return fmt.Errorf("import stopped%s, with %s stored and %d found stored: %w; importing again is safe",
		at, count(im.counts.episodes+im.counts.updated, "episode"), im.counts.present, err)
}

// tell tells something of a place in a file, unless enough was told of that file.
func (im *importer) tell(at place, format string, args ...any) {
	if im.told[at.file]++; im.told[at.file] <= toldErrors {
		im.progress.clear()
		im.note("%v: %s", at, short(fmt.Sprintf(format, args...)))
	}
}

func (im *importer) badLine(at place, text string) {
	im.counts.badLines++
	im.tell(at, "%s", text)
}

func (im *importer) badFile(err error) {
	im.counts.badFiles++
	im.progress.clear()
	im.complain("%v", err)
}

// reason is what is wrong with a record.
func reason(err error) string {
	if in, ok := errors.AsType[*episodic.InvalidError](err); ok {
		if in.Field == "" {
			return in.Problem
		}
		return in.Error()
	}
	return err.Error()
}

// short keeps a reason that quotes the input readable.
func short(reason string) string { return cut(oneLine(reason), 500) }

// train makes a dictionary of what was imported, if it is time to: the process
// ends before the Store would in the background. What was imported is stored
// whatever becomes of it.
func (im *importer) train(ctx context.Context) {
	if im.counts.episodes == 0 || queueStats(im.store).Queued > 0 { // what is queued is not there yet
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
	c := &im.counts
	if f := &im.foreign; f.files > 0 && !f.others { // what was asked for is not there
		im.badFile(f.first)
	}
	did := "imported"
	if im.store == nil {
		did = "would import at most"
	}
	im.printf("%s %s, %s; %d were already there; %s\n", did, count(c.episodes, "episode"), count(c.steps, "step"), c.present, count(c.badLines, "bad line"))
	for _, line := range []struct {
		n    int
		text string
	}{
		{c.notes, "heuristics"},
		{c.others, "patterns, relations, embeddings and deletions"},
		{c.updated, "had grown, and were updated"},
		{c.differing, "differ from what is stored under their ids, and were left out; --replace takes them"},
		{c.deleted, "were deleted after an earlier import, and stay so; --undelete brings them back"},
		{c.stepless, "have no step"},
		{im.old, "files were changed before --since, and were not read"},
	} {
		if line.n > 0 {
			im.printf("%d %s\n", line.n, line.text)
		}
	}
	if im.store != nil {
		if found := im.store.Stats().Redacted; len(found) > 0 {
			im.printf("redacted: %s\n", kindsFound(found))
		}
	}
	if len(im.left) > 0 {
		var parts []string
		for _, what := range slices.Sorted(maps.Keys(im.left)) {
			parts = append(parts, fmt.Sprintf("%d x %s", im.left[what], what))
		}
		im.printf("left out: %s\n", strings.Join(parts, ", "))
	}
	if im.foreign.files > 0 {
		im.printf("%v\n", &im.foreign)
	}
	if c.badFiles > 0 {
		im.printf("%s could not be read\n", count(c.badFiles, "file"))
	}
	if c.badLines+c.badFiles > 0 {
		return errReported
	}
	return nil
}
