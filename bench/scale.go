package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const scaleClaim = "One memory that grows, on a local file and on a libSQL server of this machine: filled to each size in turn, and measured there, without a cache and without a replica. " +
	"Then machines with replicas of their own on one server. " +
	"Times are p50/p99; the growth is that of the p50 per tenfold size, the median of all steps with the least and the greatest. " +
	"Targets: on the file an import, a put, an append, a get, a list and a search for what ten episodes hold take at most twice as long per tenfold size; " +
	"what one machine writes is seen by all others within 7 s, and sixteen machines that rest take at most 5 % of a core of the server."

const (
	scaleBends      = 2.0 // growth per tenfold size
	scaleWrites     = 500 // at most, of a kind and size, and a tenth of the size
	scaleRunning    = 5   // episodes that are appended to
	scaleOpens      = 10
	scaleWhole      = 100_000 // episodes that are looked at as a whole, by doctor and Compact, at most: more take an hour
	scaleVocabulary = 10_000  // episodes whose words are counted

	// The marked episodes are few, however many there are.
	scaleMarked = 10
	scaleMark   = "zyzzyva"
)

// isMarked tells the episodes, spread over the first 300, that have a word, a domain, a language,
// a tag and a project of their own.
func isMarked(number int) bool { return number%30 == 0 && number < 30*scaleMarked }

func scale(ctx context.Context, b *bench) error {
	for _, part := range []struct {
		name string
		run  func(context.Context, *bench) error
	}{{"file", scaleFile}, {"server", scaleServer}, {"machines", scaleMachines}} {
		if !b.match.MatchString(part.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: scale: %s\n", part.name)
		b.printf("\n### %s\n\n", part.name)
		if err := part.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// scaleSizes are the numbers of episodes at which a memory is measured: the first ones, and with
// -full all.
func (b *bench) scaleSizes(usual int, all ...int) []int {
	switch {
	case b.short:
		return []int{b.n}
	case b.full:
		return all
	}
	return all[:usual]
}

// growth is how something changes with a size.
type growth struct {
	name   string
	within float64 // growth per tenfold size that is no bend
	values []float64
	cells  []string
}

// growthTable has a column for each size, and a last one for the growth.
type growthTable struct {
	head  string
	what  string // that there are so many of
	sizes []int
	rows  []*growth
}

// add adds what was found at the size that was begun last.
func (t *growthTable) add(name string, within, value float64, cell string) {
	row := t.row(name)
	if row == nil {
		row = &growth{name: name, within: within}
		t.rows = append(t.rows, row)
	}
	row.values, row.cells = append(row.values, value), append(row.cells, cell)
	fmt.Fprintf(os.Stderr, "bench: scale: %s, %d: %s: %s\n", t.head, t.sizes[len(t.sizes)-1], name, cell)
}

// row is the row with a name; nil: there is none.
func (t *growthTable) row(name string) *growth {
	for _, row := range t.rows {
		if row.name == name {
			return row
		}
	}
	return nil
}

// time adds the p50 and p99 of some latencies.
func (t *growthTable) time(name string, latencies []time.Duration) {
	p50 := percentile(latencies, 0.5)
	t.add(name, scaleBends, p50.Seconds(), fmt.Sprintf("%s/%s", digits(p50.Seconds()*1000), ms(percentile(latencies, 0.99))))
}

// whole adds the time of what looks at the whole memory, and so may grow as it does.
func (t *growthTable) whole(name string, took time.Duration) {
	t.add(name, 10*scaleBends, took.Seconds(), seconds(took))
}

// steps are the growths per tenfold size from each size to the next; none if there is nothing to
// compare.
func (t *growthTable) steps(row *growth) (list []float64) {
	if slices.Contains(row.values, 0) {
		return nil
	}
	for i := range len(row.values) - 1 {
		tenfolds := math.Log10(float64(t.sizes[i+1]) / float64(t.sizes[i]))
		list = append(list, math.Pow(row.values[i+1]/row.values[i], 1/tenfolds))
	}
	return list
}

// print prints the table, and below it where something grows more than it may.
func (t *growthTable) print(b *bench) {
	head := []string{t.head}
	for _, n := range t.sizes {
		head = append(head, fmt.Sprint(n))
	}
	table := [][]string{append(head, "growth per tenfold")}
	var bends []string
	for _, row := range t.rows {
		steps, grown := t.steps(row), "-"
		for i, g := range steps {
			if g > row.within {
				bends = append(bends, fmt.Sprintf("- %s: %.1f times per tenfold size from %d to %d %s, %s to %s", row.name, g, t.sizes[i], t.sizes[i+1], t.what, row.cells[i], row.cells[i+1]))
				break
			}
		}
		if len(steps) > 0 {
			grown = ratioOf(steps).String()
		}
		cells := append([]string{row.name}, row.cells...)
		for len(cells) <= len(t.sizes) {
			cells = append(cells, "-") // not measured at so many
		}
		table = append(table, append(cells, grown))
	}
	b.table(table...)
	switch {
	case len(t.sizes) <= 1:
		b.printf("With less than two sizes there is no growth.\n\n")
	case len(bends) == 0:
		b.printf("Nothing bends: nothing grows more than %g times per tenfold size, nor more than %g times what looks at everything.\n\n", scaleBends, 10*scaleBends)
	default:
		b.printf("First bends, where something grows more than %g times per tenfold size (what looks at everything: %g times):\n\n", scaleBends, 10*scaleBends)
		for _, bend := range bends {
			b.printf("%s\n", bend)
		}
		b.printf("\n")
	}
}

// judge judges how much the rows with these names grow, where there are several sizes.
func (t *growthTable) judge(b *bench, names ...string) {
	for _, name := range names {
		row := t.row(name)
		if steps := t.steps(row); len(steps) > 0 {
			worst := ratioOf(steps).high
			b.judge(worst <= row.within, fmt.Sprintf("%s, %s: at most %g times per tenfold size", t.head, name, row.within), "%.2f times", worst)
		}
	}
}

// scaled is a memory that grows.
type scaled struct {
	*growthTable
	data   *repeats
	target string
	stored func() (int64, error) // its bytes on the disk
	floor  op                    // a synced write to the same disk; nil: none
	// headsOnly says that the words of steps are not searched.
	headsOnly bool

	ids   []episodic.ID
	tasks []string // of some episodes
	words tally
}

func newScaled(b *bench, place, target string, stored func() (int64, error)) (*scaled, error) {
	data, err := b.repeats()
	return &scaled{growthTable: &growthTable{head: place, what: "episodes"}, data: data, target: target, stored: stored}, err
}

// grow measures the memory at each size. If that fails, what was measured is printed nevertheless: it
// may have taken an hour.
func (s *scaled) grow(b *bench, sizes []int, measure func(n int) error) error {
	for _, n := range sizes {
		if err := measure(n); err != nil {
			s.print(b)
			return fmt.Errorf("%d episodes: %w", n, err)
		}
	}
	s.print(b)
	return nil
}

// fill adds episodes until there are n, and trains dictionaries as a Store does by itself.
func (s *scaled) fill(ctx context.Context, n int) (err error) {
	store, err := episodic.Open(ctx, s.target, direct())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	s.sizes = append(s.sizes, n)
	begun, took := len(s.ids), time.Duration(0)
	for len(s.ids) < n {
		list, err := s.episodes(len(s.ids), min(rivalChunk, n-len(s.ids)))
		if err != nil {
			return err
		}
		begin := time.Now()
		added, err := store.AddEpisodes(ctx, list...)
		took += time.Since(begin)
		if err == nil && added != len(list) {
			err = fmt.Errorf("added %d of %d", added, len(list))
		}
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
	}
	each := took.Seconds() / float64(n-begun)
	s.add("import", scaleBends, each, digits(1/each)+" /s")
	return nil
}

// episodes makes the episodes from a number on, and counts their words.
func (s *scaled) episodes(from, n int) ([]*episodic.Episode, error) {
	list, err := s.data.episodes(from, n)
	for i, e := range list {
		e.Scope.Project = "many"
		if isMarked(from + i) {
			e.Description += " " + scaleMark
			e.Scope.Project, e.Context.Domain, e.Context.Language = scaleMark, scaleMark, scaleMark
			e.Context.Tags = append(e.Context.Tags, scaleMark)
		}
		s.ids = append(s.ids, e.ID)
		if len(s.ids) <= scaleVocabulary {
			s.tasks = append(s.tasks, e.Description)
			searched := *e
			if s.headsOnly {
				searched.Steps = nil
			}
			if err := s.words.add(&searched); err != nil {
				return nil, err
			}
		}
	}
	return list, err
}

// measure measures the memory as it is.
func (s *scaled) measure(ctx context.Context, b *bench) error {
	size, err := s.stored()
	if err != nil {
		return err
	}
	s.bytes("bytes an episode", size)
	opened := fixedCell("open, get, close", scaleOpens, b.rounds, func(ctx context.Context, _ int) error {
		store, err := episodic.Open(ctx, s.target, direct())
		if err != nil {
			return err
		}
		_, err = store.Episode(ctx, s.ids[rand.IntN(len(s.ids))])
		return errors.Join(err, store.Close())
	})
	if err := s.timed(ctx, b, opened); err != nil {
		return err
	}
	if err := s.use(ctx, b); err != nil {
		return err
	}
	if len(s.ids) > scaleWhole {
		return nil
	}
	begin := time.Now()
	x, err := episodic.Examine(ctx, s.target, direct())
	if err != nil {
		return err
	}
	if !x.Clean() {
		return fmt.Errorf("doctor: %+v %v", x.Findings, x.Skipped)
	}
	s.whole("doctor", time.Since(begin))
	return s.compact(ctx)
}

// use reads the memory, and writes a little into it.
func (s *scaled) use(ctx context.Context, b *bench) (err error) {
	store, err := episodic.Open(ctx, s.target, uncached())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := s.timed(ctx, b, s.reads(store)...); err != nil {
		return err
	}
	writes, err := s.writes(ctx, b, store)
	if err != nil {
		return err
	}
	return s.timed(ctx, b, writes...)
}

func (s *scaled) timed(ctx context.Context, b *bench, cells ...*cell) error {
	fifth := *b // of the time, as there are many
	fifth.duration /= 5
	if err := fifth.interleave(ctx, cells...); err != nil {
		return err
	}
	for _, c := range cells {
		s.time(c.name, c.latencies())
	}
	return nil
}

func (s *scaled) bytes(name string, n int64) {
	each := float64(n) / float64(len(s.ids))
	s.add(name, scaleBends, each, fmt.Sprintf("%.0f", each))
}

func (s *scaled) memory(name string, n int64) {
	s.add(name, scaleBends, float64(n), fmt.Sprintf("%.0f MB", float64(n)/(1<<20)))
}

// reads are the cells of what agents read.
func (s *scaled) reads(store *episodic.Store) []*cell {
	side := &ourSide{store}
	one := func(name string, f op) *cell { return loadCell(name, 1, f) }
	few := func(what string, f episodic.EpisodeFilter) *cell {
		return one(fmt.Sprintf("list the ten of a %s", what), func(ctx context.Context, _ int) error {
			page, err := store.ListEpisodes(ctx, &f, &episodic.Paging{Limit: rivalList})
			if err == nil && len(page.Items) != scaleMarked {
				err = fmt.Errorf("listed %d episodes, not %d", len(page.Items), scaleMarked)
			}
			return err
		})
	}
	mine := episodic.EpisodeFilter{Scope: episodic.Scope{Project: scaleMark}}
	common := s.words.wordsOf(frequencies[2])
	cells := []*cell{
		one("get", getting(side, s.ids)),
		one(fmt.Sprintf("list the newest %d", rivalList), listing(side, rivalList)),
		few("domain", episodic.EpisodeFilter{Domain: scaleMark}), few("tag", episodic.EpisodeFilter{Tags: []string{scaleMark}}),
		few("language", episodic.EpisodeFilter{Language: scaleMark}), few("project", mine),
		one("list what is running", func(ctx context.Context, _ int) error {
			_, err := store.ListEpisodes(ctx, &episodic.EpisodeFilter{State: episodic.StateRunning}, nil)
			return err
		}),
		one("Counts", func(ctx context.Context, _ int) error {
			_, err := store.Counts(ctx)
			return err
		}),
		one("search a word of ten", func(ctx context.Context, _ int) error {
			n, err := side.search(ctx, scaleMark)
			if err == nil && n == 0 {
				err = errors.New("nothing found")
			}
			return err
		}),
	}
	for _, f := range frequencies {
		cells = append(cells, one(fmt.Sprintf("search three %s words", f.name), searching(side, s.words.wordsOf(f))))
	}
	return append(cells,
		one("search three common words in a project of ten", func(ctx context.Context, _ int) error {
			_, err := store.Search(ctx, query(common), &episodic.SearchOptions{Filter: mine})
			return err
		}),
		one("Brief", func(ctx context.Context, _ int) error {
			_, err := store.Brief(ctx, s.tasks[rand.IntN(len(s.tasks))], nil)
			return err
		}))
}

// writes are the cells of what agents write, of which there is little beside what is stored.
func (s *scaled) writes(ctx context.Context, b *bench, store *episodic.Store) ([]*cell, error) {
	times := min(scaleWrites, len(s.ids)/10)
	// They are made anew for each size, so that none was stored before.
	pool, err := s.data.episodes(1<<30+len(s.ids), times)
	if err != nil {
		return nil, err
	}
	var running []episodic.ID
	var steps []episodic.Step
	for _, e := range pool[:min(scaleRunning, times)] {
		begun := begun(e)
		if err := store.StartEpisode(ctx, &begun); err != nil {
			return nil, err
		}
		running, steps = append(running, begun.ID), append(steps, e.Steps...)
	}
	next := counter()
	appends := func(ctx context.Context, _ int) error {
		n := next()
		step := steps[n%len(steps)]
		step.Number = 0
		_, err := store.AppendSteps(ctx, running[n%len(running)], step)
		return err
	}
	cells := []*cell{fixedCell("put", times, b.rounds, putter(store, pool)), fixedCell("append a step", times, b.rounds, appends)}
	if s.floor != nil {
		cells = append(cells, fixedCell("(4 KB synced to the same disk)", times, b.rounds, s.floor))
	}
	return cells, nil
}

// fixedCell is a cell of a number of calls, whatever time they take.
func fixedCell(name string, times, rounds int, f op) *cell {
	return &cell{name: name, measure: func(ctx context.Context, _ time.Duration) (sample, error) {
		s := repeat(ctx, (times+rounds-1)/rounds, f)
		return s, errors.Join(s.errs...)
	}}
}

// compact compacts the memory, which then grows from there.
func (s *scaled) compact(ctx context.Context) (err error) {
	store, err := episodic.Open(ctx, s.target, direct())
	if err != nil {
		return err
	}
	begin := time.Now()
	_, err = store.Compact(ctx, nil)
	s.whole("Compact", time.Since(begin))
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	size, err := s.stored()
	s.bytes("bytes an episode after Compact", size)
	return err
}

// queries are some searches for another process.
func (s *scaled) queries() (list []string) {
	for _, f := range frequencies {
		words := s.words.wordsOf(f)
		for range 20 {
			list = append(list, query(words))
		}
	}
	return list
}

func scaleFile(ctx context.Context, b *bench) (err error) {
	path := filepath.Join(b.dir, "scale.db")
	s, err := newScaled(b, "local file", path, func() (int64, error) { return sizeOf(path) })
	if err != nil {
		return err
	}
	floor, err := newSyncedFile(b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, floor.close()) }()
	s.floor = floor.write
	err = s.grow(b, b.scaleSizes(2, 1000, 10_000, 100_000, 300_000, 1_000_000), func(n int) error {
		if err := s.fill(ctx, n); err != nil {
			return err
		}
		task := replicaTask{Target: path, Path: path, LockDir: b.dir, Queries: s.queries()}
		got, err := task.run(ctx)
		if err != nil {
			return err
		}
		s.add("a process from Open to its first search", scaleBends, got.First.Seconds(), ms(got.First))
		s.memory("memory of that process after 60 searches", got.Anonymous)
		return s.measure(ctx, b)
	})
	if err != nil {
		return err
	}
	s.judge(b, "import", "put", "append a step", "get", fmt.Sprintf("list the newest %d", rivalList), "search a word of ten")
	return nil
}

func scaleServer(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp(b.dir, "server-")
	if err != nil {
		return err
	}
	server, err := hranatest.Run(dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	s, err := newScaled(b, "libSQL server", server.URL(), func() (int64, error) { return bytesIn(dir) })
	if err != nil {
		return err
	}
	s.headsOnly = true
	return s.grow(b, b.scaleSizes(2, 1000, 10_000, 100_000), func(n int) error {
		if err := s.fill(ctx, n); err != nil {
			return err
		}
		if err := s.fresh(ctx, b, server); err != nil {
			return fmt.Errorf("a fresh replica: %w", err)
		}
		if err := s.measure(ctx, b); err != nil {
			return err
		}
		used, err := processMemory(server.Pid())
		if err != nil {
			return err
		}
		s.memory("memory of the server", used["RssAnon"])
		return nil
	})
}

// fresh lets a client on another machine, in a process of its own, get all that there is.
func (s *scaled) fresh(ctx context.Context, b *bench, server *hranatest.Server) error {
	m, err := newMachine(b, server.URL(), 0)
	if err != nil {
		return err
	}
	defer m.link.Close()
	task := replicaTask{Target: m.link.URL(), Path: m.path(), LockDir: m.dir, Queries: s.queries()}
	got, err := task.run(ctx)
	if err != nil {
		return err
	}
	s.add("a fresh replica's first search", scaleBends, got.First.Seconds(), ms(got.First))
	s.whole("a fresh replica is complete", got.Complete)
	s.bytes("its bytes down, an episode", m.link.Counts().BytesDown)
	s.bytes("its file, bytes an episode", got.Stored)
	s.memory("memory of its process after 60 searches", got.Anonymous)
	return os.RemoveAll(m.dir)
}
