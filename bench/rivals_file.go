package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/episodic-memory/episodic"
)

const (
	rivalChunk  = 1000 // episodes of one import
	rivalPool   = 500  // different ones that are put
	rivalList   = 50
	rivalGrowth = 10 // pairs of episodes that get many steps

	memoryBytes   = 200 << 20 // of a file
	memoryWindow  = 2 * time.Second
	memoryReaders = 8
	memoryIDs     = 10_000 // of which a reader knows
)

// rivalFiles are both sides on local files with the same episodes.
type rivalFiles struct {
	data                  *repeats
	uncached, cached, its side // two Stores on one file, and the rival
	ids                   []episodic.ID
	words                 tally
}

func fileRivals(ctx context.Context, b *bench, data *repeats) (err error) {
	f := &rivalFiles{data: data}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.open(ctx, b); err != nil {
		return err
	}
	for _, part := range []func(context.Context, *bench) error{f.fill, f.reads, f.growth, f.writes} {
		if err := part(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (f *rivalFiles) open(ctx context.Context, b *bench) (err error) {
	path := filepath.Join(b.dir, "rivals.db")
	if f.uncached, err = openOurSide(ctx, path, uncached()); err != nil {
		return err
	}
	if f.cached, err = openOurSide(ctx, path, nil); err != nil {
		return err
	}
	f.its, err = newRawFile(ctx, filepath.Join(b.dir, "rivals-raw.db"))
	return err
}

func newRawFile(ctx context.Context, path string) (side, error) {
	r, err := openRawFile(path)
	if err != nil {
		return nil, err
	}
	return r.fresh(ctx)
}

func (f *rivalFiles) close() (err error) {
	for _, s := range []side{f.uncached, f.cached, f.its} {
		if s != nil {
			err = errors.Join(err, s.close())
		}
	}
	return err
}

// fill imports the episodes into both sides by turns.
func (f *rivalFiles) fill(ctx context.Context, b *bench) error {
	sides := []side{f.cached, f.its}
	took := make([]time.Duration, len(sides))
	for from := 0; from < b.n; from += rivalChunk {
		list, err := f.data.episodes(from, min(rivalChunk, b.n-from))
		if err != nil {
			return err
		}
		for turn := range sides {
			i := (from/rivalChunk + turn) % len(sides)
			begin := time.Now()
			if err := sides[i].add(ctx, list); err != nil {
				return fmt.Errorf("import: %w", err)
			}
			took[i] += time.Since(begin)
		}
		for _, e := range list {
			f.ids = append(f.ids, e.ID)
			if err := f.words.add(e); err != nil {
				return err
			}
		}
	}
	rate := func(i int) string { return digits(float64(b.n) / took[i].Seconds()) }
	b.printf("\nImport of %d episodes of %.1f KB (as JSON) into local files, %d at once: ours %s/s, the bare driver %s/s.\n\n",
		b.n, float64(f.words.bytes)/float64(b.n)/1024, min(rivalChunk, b.n), rate(0), rate(1))
	got := took[1].Seconds() / took[0].Seconds()
	b.judge(got >= 1, "file: import at least the rival's rate", "%.2fx", got)
	return nil
}

func (f *rivalFiles) reads(ctx context.Context, b *bench) error {
	get := func(name string, s side) *cell { return loadCell(name, 1, getting(s, f.ids)) }
	ours, cached, its := get("get, no cache", f.uncached), get("get, cache", f.cached), get("get, bare driver", f.its)
	list := func(s side) *cell { return loadCell("list", 1, listing(s, min(rivalList, b.n))) }
	words := f.words.wordsOf(frequencies[0])
	search := func(s side) *cell { return loadCell("search", 1, searching(s, words)) }
	contests := []contest{
		{"get, no cache", ours, its, 1.3},
		{"get, cache", cached, its, 1.3},
		{fmt.Sprintf("list the newest %d, no cache", rivalList), list(f.uncached), list(f.its), 4.7},
		{"search three rare words, no cache", search(f.uncached), search(f.its), 0},
	}
	if err := b.interleave(ctx, ours, cached, its); err != nil {
		return err
	}
	for _, c := range contests[2:] {
		if err := b.interleave(ctx, c.ours, c.its); err != nil {
			return err
		}
	}
	b.contests("file", "bare driver", contests)
	return nil
}

// growth appends to episodes with few steps and with many.
func (f *rivalFiles) growth(ctx context.Context, b *bench) error {
	pairs := rivalGrowth
	if b.short {
		pairs = 1
	}
	list, err := b.growing(pairs)
	if err != nil {
		return err
	}
	sides := []side{f.cached, f.its}
	var early, late [2][]time.Duration
	for n, e := range list {
		for turn := range sides {
			i := (n + turn) % len(sides)
			took, err := appendTimes(ctx, sides[i], e)
			if err != nil {
				return fmt.Errorf("append: %w", err)
			}
			early[i] = append(early[i], took[growEarly:growEarly+growPlace]...)
			late[i] = append(late[i], took[growLate:growLate+growPlace]...)
		}
	}
	table := [][]string{{"append, p50", "steps 3 to 7", "steps 78 to 82", "ratio"}}
	var grown [2]float64
	for i, name := range []string{"ours", "bare driver"} {
		few, many := percentile(early[i], 0.5), percentile(late[i], 0.5)
		grown[i] = many.Seconds() / few.Seconds()
		table = append(table, []string{name, ms(few), ms(many), fmt.Sprintf("%.2fx", grown[i])})
	}
	b.table(table...)
	b.judge(grown[0] <= 1.1, "file: an append at step 80 at most 1.1x the time of one at step 5", "%.2fx", grown[0])
	return checkHeld(ctx, f.its, b.n+len(list))
}

// appendTimes lets an episode run, and returns how long each append took.
func appendTimes(ctx context.Context, s side, e *episodic.Episode) (took []time.Duration, err error) {
	r, err := s.start(ctx, begun(e))
	if err != nil {
		return nil, err
	}
	for _, step := range e.Steps {
		begin := time.Now()
		if err := r.append(ctx, step); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	return took, r.complete(ctx, episodic.Completion{Outcome: episodic.Outcome{Kind: episodic.Success}})
}

func (f *rivalFiles) writes(ctx context.Context, b *bench) (err error) {
	pool, err := f.data.episodes(b.n, rivalPool)
	if err != nil {
		return err
	}
	long, err := f.data.long(b.n, rivalPool)
	if err != nil {
		return err
	}
	life := func(s side) *cell { return loadCell("life", 1, living(s, long)) }
	put := func(s side, callers int) *cell { return loadCell("put", callers, putting(s, pool)) }
	contests := []contest{
		{"put, " + callersOf(1), put(f.cached, 1), put(f.its, 1), 0.9},
		{"put, " + callersOf(manyPuters), put(f.cached, manyPuters), put(f.its, manyPuters), 2.5},
		{fmt.Sprintf("life of %d steps", longSteps), life(f.cached), life(f.its), 1.1},
	}
	floor, err := newSyncedFile(b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, floor.close()) }()
	synced := loadCell("synced write", 1, floor.write)

	before, err := f.counts(ctx)
	if err != nil {
		return err
	}
	if err := b.interleave(ctx, contests[2].ours, contests[2].its); err != nil {
		return err
	}
	one, many := contests[0], contests[1]
	if err := b.interleave(ctx, one.ours, one.its, synced, many.ours, many.its); err != nil {
		return err
	}
	b.contests("file", "bare driver", contests)
	got := slower(one.ours, synced)
	b.judge(got.median <= 2, "file: a put's p50 at most 3x that of a synced write of 4 KB", "%v of %s",
		ratio{1 + got.median, 1 + got.low, 1 + got.high}, ms(synced.percentile(0.5)))

	for i, s := range []side{f.cached, f.its} {
		for _, c := range contests {
			before[i] += []*cell{c.ours, c.its}[i].acknowledged()
		}
		if err := checkHeld(ctx, s, before[i]); err != nil {
			return err
		}
	}
	return nil
}

// counts is how many episodes ours and the rival hold.
func (f *rivalFiles) counts(ctx context.Context) (n [2]int, err error) {
	for i, s := range []side{f.cached, f.its} {
		if n[i], err = s.count(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

// syncedFile is what no durable write can do without: a file that is written in
// place and synced.
type syncedFile struct {
	*os.File
	next int64 // page
}

const (
	syncedPage  = 4096
	syncedPages = 1024
)

func newSyncedFile(dir string) (*syncedFile, error) {
	f, err := os.Create(filepath.Join(dir, "synced"))
	if err != nil {
		return nil, err
	}
	_, err = f.Write(make([]byte, syncedPages*syncedPage))
	if err = errors.Join(err, f.Sync()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &syncedFile{File: f}, nil
}

func (f *syncedFile) write(context.Context, int) error {
	page := make([]byte, syncedPage)
	page[0] = byte(f.next)
	if _, err := f.WriteAt(page, f.next%syncedPages*syncedPage); err != nil {
		return err
	}
	f.next++
	return syscall.Fdatasync(int(f.Fd()))
}

func (f *syncedFile) close() error { return f.Close() }

// memoryRivals compares how much memory readers of a large file take.
func memoryRivals(ctx context.Context, b *bench, data *repeats) error {
	tasks := []*childTask{
		{Ours: true, Uncached: true, Target: filepath.Join(b.dir, "large.db")},
		{Target: filepath.Join(b.dir, "large-raw.db")},
	}
	for _, t := range tasks {
		t.Window, t.Callers = memoryWindow, memoryReaders
		if b.short {
			t.Window = b.duration
		}
		if err := t.grow(ctx, b, data); err != nil {
			return err
		}
	}
	var peaks, gets [2][]int
	var ratios []float64
	for range b.rounds {
		for i, t := range tasks {
			result, err := t.run(ctx)
			if err != nil {
				return err
			}
			peaks[i], gets[i] = append(peaks[i], result.PeakKB), append(gets[i], result.Gets)
		}
		ratios = append(ratios, float64(peaks[0][len(ratios)])/float64(peaks[1][len(ratios)]))
	}
	table := [][]string{{fmt.Sprintf("%d readers in a process", memoryReaders), "MB of the file", "peak resident MB", "gets/s"}}
	for i, name := range []string{"ours, no cache", fmt.Sprintf("bare driver, %d connections", rawConns)} {
		info, err := os.Stat(tasks[i].Target)
		if err != nil {
			return err
		}
		mb := func(bytes float64) string { return digits(bytes / (1 << 20)) }
		table = append(table, []string{name, mb(float64(info.Size())), mb(1024 * float64(middle(peaks[i]))), digits(float64(middle(gets[i])) / tasks[i].Window.Seconds())})
	}
	b.table(table...)
	got := middle(ratios)
	b.judge(got <= 2, "file: readers of 200 MB take at most 2x the driver's memory", "%.2fx", got)
	return nil
}

// middle is the median; of two in the middle the lower one.
func middle[T int | int64 | float64 | time.Duration](list []T) T {
	return slices.Sorted(slices.Values(list))[(len(list)-1)/2]
}

// grow fills the file of a task until it is large, and tells the task of some of
// the episodes.
func (t *childTask) grow(ctx context.Context, b *bench, data *repeats) (err error) {
	var s side
	if t.Ours {
		s, err = openOurSide(ctx, t.Target, nil)
	} else {
		s, err = newRawFile(ctx, t.Target)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	large := int64(memoryBytes)
	if b.short {
		large = 0
	}
	chunk := min(rivalChunk, b.n)
	for from := 0; ; from += chunk {
		list, err := data.episodes(from, chunk)
		if err != nil {
			return err
		}
		if err := s.add(ctx, list); err != nil {
			return err
		}
		for _, e := range list {
			t.IDs = append(t.IDs, e.ID)
		}
		size, err := sizeOf(t.Target)
		if err != nil {
			return err
		}
		if size >= large {
			break
		}
	}
	rand.Shuffle(len(t.IDs), func(i, k int) { t.IDs[i], t.IDs[k] = t.IDs[k], t.IDs[i] })
	t.IDs = t.IDs[:min(memoryIDs, len(t.IDs))]
	return nil
}

// sizeOf is how many bytes a database has, with those that are in its log.
func sizeOf(path string) (size int64, err error) {
	for _, p := range []string{path, path + "-wal"} {
		info, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}
