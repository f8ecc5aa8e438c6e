package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const ablationClaim = "The same work with each system switched off, one at a time: what does each bring? " +
	"Eight agents of one process, of which each records episodes step by step, and reads: popular episodes (Zipf), the newest ones, searches. " +
	"On a server 20 ms away, without a replica of its memory on the machine and with one, and on a local file, where they do eight times as much. Each cell is a process of its own; CPU and memory are its, the server's are not counted. " +
	"What has an option is switched off by it. Group commit and the batching of reads have none: without the former the agents' writes wait for each other before they reach the Store, so that none are joined; " +
	"without the latter each agent reads from a Store of its own, without a cache on both sides, since a cache shares loads too. Without protobuf the server's `/v3-protobuf` is hidden by a proxy, so that Hrana is spoken in JSON. " +
	"**payloads:** stored payloads are JSON in frames, by zstd with a dictionary of this memory, and sealed; beside them the same JSON by plain zstd. " +
	"**meaning:** LoCoMo's questions, ranked with the table of word meanings and without. " +
	"A ratio is what the work takes without the system to what it takes with everything on, above 1 is more. Nothing is judged: the last table has the largest change that each system makes, of those that go in the same direction in all rounds. " +
	"The work has no silences, so keep-alive can bring nothing here, and its row shows the noise: scenario `keepalive` measures it."

const (
	ablationRTT      = 20 * time.Millisecond
	ablationEpisodes = 1000
	ablationAgents   = 8
	ablationQueries  = 20
	// With -short.
	fewEpisodes, fewAgents = 40, 2
)

// system is one that can be switched off.
type system struct {
	name string
	off  func(*episodic.Options)
	how  agentWays
	// stores says that without it something else is stored.
	stores bool
	// against is the row that it is compared with; empty: everything on.
	against         string
	onFile, replica bool // it is at work on a local file, or where there is a replica
}

// agentWays are ways to do without a system that has no option.
type agentWays struct {
	ownStores  bool // each agent has a Store of its own
	ownReaders bool // each agent reads from a Store of its own
	oneWrite   bool // the writes of all agents wait for each other
	inJSON     bool // the server does not know Hrana in protobuf
}

const wholeWork = "everything on"

var systems = []system{
	{name: wholeWork, onFile: true, replica: true},
	{name: "adaptive pool size (always 10)", off: func(o *episodic.Options) { o.Pool = episodic.Pool{MinConns: 10, MaxConns: 10} }, replica: true},
	{name: "adaptive pool size (always 2)", off: func(o *episodic.Options) { o.Pool = episodic.Pool{MinConns: 2, MaxConns: 2} }, replica: true},
	{name: "keep-alive pings", off: func(o *episodic.Options) { o.KeepAlive.Disabled = true }, replica: true},
	{name: "sharing (a Store each)", how: agentWays{ownStores: true}, onFile: true, replica: true},
	{name: "group commit (one write at a time)", how: agentWays{oneWrite: true}, onFile: true, replica: true},
	{name: "cache", off: withoutCache, onFile: true, replica: true},
	{name: "batching of reads (a Store each to read)", off: withoutCache, how: agentWays{ownReaders: true}, against: "cache"},
	{name: "protobuf (Hrana in JSON)", how: agentWays{inJSON: true}},
	{name: "compression", off: func(o *episodic.Options) { o.Compression.Codec = episodic.Uncompressed }, stores: true, onFile: true, replica: true},
	{name: "dictionaries", off: func(o *episodic.Options) { o.Compression.DisableDictionaries = true }, stores: true, onFile: true, replica: true},
	{name: "redaction", off: func(o *episodic.Options) { o.Redact.Disabled = true }, onFile: true, replica: true},
}

func withoutCache(o *episodic.Options) { o.Cache.Disabled = true }

// options are those of a Store without the system.
func (s *system) options() *episodic.Options {
	o := new(episodic.Options)
	if s.off != nil {
		s.off(o)
	}
	return o
}

// ablationPlace is where the agents work.
type ablationPlace struct {
	name            string
	server, replica bool
	times           int // how often they do their work
}

func (p *ablationPlace) has(s system) bool {
	if !p.server {
		return s.onFile
	}
	return !p.replica || s.replica
}

func ablation(ctx context.Context, b *bench) error {
	w, err := newAblationWork(b)
	if err != nil {
		return err
	}
	var findings []finding
	var servers [][]ablated // everything on, without a replica and with one
	for _, p := range []ablationPlace{
		{name: "server, no replica", server: true, times: 1},
		{name: "server, replica", server: true, replica: true, times: 1},
		{name: "local file", times: 8},
	} {
		if !b.match.MatchString(p.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: ablation: %s\n", p.name)
		chosen := slices.DeleteFunc(slices.Clone(systems), func(s system) bool { return !p.has(s) })
		results := make([][]ablated, len(chosen))
		for round := range b.rounds {
			for i := range chosen {
				i = (round + i) % len(chosen)
				got, err := w.cell(ctx, b, &p, &chosen[i])
				if err != nil {
					return fmt.Errorf("%s, without %s: %w", p.name, chosen[i].name, err)
				}
				results[i] = append(results[i], got)
			}
		}
		if p.server {
			servers = append(servers, results[0])
		}
		findings = append(findings, ablationTable(b, p.name, chosen, results)...)
	}
	if len(servers) == 2 {
		pair := []system{{name: "everything on, with a replica"}, {name: "replica"}}
		findings = append(findings, ablationTable(b, "server", pair, [][]ablated{servers[1], servers[0]})...)
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, *bench, []*episodic.Episode) ([]finding, error)
	}{{"payloads", ablatePayloads}, {"meaning", ablateMeaning}} {
		if !b.match.MatchString(part.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: ablation: %s\n", part.name)
		more, err := part.run(ctx, b, w.pool)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		findings = append(findings, more...)
	}
	bringTable(b, findings)
	return nil
}

// ablationWork is what all cells begin with: the same in every round.
type ablationWork struct {
	pool    []*episodic.Episode
	queries []string
	filled  map[string]string // folders with what is stored, by what that is
}

func newAblationWork(b *bench) (*ablationWork, error) {
	n := min(b.n, ablationEpisodes)
	if b.short {
		n = fewEpisodes
	}
	w := &ablationWork{pool: b.corpus.episodes(0, n), filled: make(map[string]string)}
	var words tally
	for _, e := range w.pool {
		if err := words.add(e); err != nil {
			return nil, err
		}
	}
	for list := words.wordsOf(frequencies[1]); len(w.queries) < ablationQueries; {
		w.queries = append(w.queries, query(list))
	}
	return w, nil
}

// cell lets the agents work without a system, in a process of its own.
func (w *ablationWork) cell(ctx context.Context, b *bench, p *ablationPlace, s *system) (got ablated, err error) {
	dir, err := os.MkdirTemp(b.dir, "ablation-")
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	filled, err := w.fill(ctx, b, p.server, s)
	if err != nil {
		return got, err
	}
	if err := os.CopyFS(dir, os.DirFS(filled)); err != nil {
		return got, err
	}
	task := ablationTask{System: s.name, Target: filepath.Join(dir, ablationFile), Server: p.server, Replica: p.replica, Agents: ablationAgents, Times: p.times, Queries: w.queries}
	if b.short {
		task.Agents = fewAgents
	}
	for _, e := range w.pool {
		task.IDs = append(task.IDs, e.ID)
	}
	task.Like = w.pool[:min(len(w.pool), task.Agents*ablationLives)]
	if p.server {
		err = task.runFar(ctx, b, dir, s, &got)
	} else {
		err = runChild(ctx, ablationVariable, &task, &got)
	}
	if err == nil {
		got.disk, err = bytesIn(dir)
	}
	return got, err
}

// runFar runs the child against a server on the files in dir, and ends that.
func (t *ablationTask) runFar(ctx context.Context, b *bench, dir string, s *system, got *ablated) error {
	server, err := hranatest.Run(dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	to := server.URL()
	if s.how.inJSON {
		front, err := hideProtobuf(to)
		if err != nil {
			return err
		}
		defer front.Close()
		to = front.URL
	}
	rtt := ablationRTT
	if b.short {
		rtt = shortRTT
	}
	m, err := newMachine(b, to, rtt)
	if err != nil {
		return err
	}
	defer m.link.Close()
	t.Target, t.Dir = m.link.URL(), m.dir
	if err := runChild(ctx, ablationVariable, t, got); err != nil {
		return err
	}
	got.link, err = m.passed(ctx)
	return err
}

// ablationFile is a local file's name in its folder.
const ablationFile = "memory.db"

// fill returns a folder with a file, or a server's files, that holds the pool as it is stored
// without the system. It is made once.
func (w *ablationWork) fill(ctx context.Context, b *bench, server bool, s *system) (dir string, err error) {
	key, o := fmt.Sprint(server), new(episodic.Options)
	if s.stores {
		key, o = key+s.name, s.options()
	}
	if dir, is := w.filled[key]; is {
		return dir, nil
	}
	if dir, err = os.MkdirTemp(b.dir, "filled-"); err != nil {
		return "", err
	}
	target := filepath.Join(dir, ablationFile)
	if server {
		run, err := hranatest.Run(dir)
		if err != nil {
			return "", err
		}
		defer run.Kill()
		target, o.Replica.Disabled = run.URL(), true
	}
	store, err := episodic.Open(ctx, target, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := addAll(ctx, store, w.pool); err != nil {
		return "", err
	}
	if _, err := store.TrainDictionaries(ctx); err != nil { // or the cells would, in the background
		return "", err
	}
	w.filled[key] = dir
	return dir, nil
}

// bytesIn is the size of all files below a folder.
func bytesIn(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// ablationColumns are what is compared of the work.
var ablationColumns = []struct {
	name string
	of   func(*ablated) float64
	show func(float64) string
}{
	{"time of writes", func(a *ablated) float64 { return a.Writes.Seconds() }, showSeconds},
	{"time of reads", func(a *ablated) float64 { return a.Reads.Seconds() }, showSeconds},
	{"CPU", func(a *ablated) float64 { return a.CPU.Seconds() }, showSeconds},
	{"peak memory", func(a *ablated) float64 { return float64(a.PeakKB) / 1024 }, func(x float64) string { return digits(x) + " MiB" }},
	{"bytes on the socket", func(a *ablated) float64 { return float64(a.link.BytesUp + a.link.BytesDown) }, showKB},
	{"requests", func(a *ablated) float64 { return float64(a.link.Requests) }, showNumber},
	{"connections", func(a *ablated) float64 { return float64(a.link.Accepted) }, showNumber},
	{"bytes on disk", func(a *ablated) float64 { return float64(a.disk) }, showKB},
}

func showSeconds(x float64) string { return digits(x) + " s" }
func showKB(x float64) string      { return digits(x/1000) + " KB" }
func showNumber(x float64) string  { return fmt.Sprintf("%.0f", x) }

// ablationTable prints what the first of the systems took, and what the work takes without the
// others, of which results are by round. Columns in which it takes nothing are left out.
func ablationTable(b *bench, place string, chosen []system, results [][]ablated) (findings []finding) {
	table := [][]string{{place}, {chosen[0].name}}
	for _, s := range chosen[1:] {
		table = append(table, []string{"without " + s.name})
	}
	var notes []string
	for _, c := range ablationColumns {
		var base []float64
		for i := range results[0] {
			base = append(base, c.of(&results[0][i]))
		}
		if slices.Min(base) == 0 {
			continue
		}
		table[0], table[1] = append(table[0], c.name), append(table[1], c.show(ratioOf(base).median))
		for i := 1; i < len(chosen); i++ {
			s := &chosen[i]
			against := max(0, slices.IndexFunc(chosen, func(other system) bool { return other.name == s.against }))
			var all []float64
			for round := range results[i] {
				all = append(all, c.of(&results[i][round])/c.of(&results[against][round]))
			}
			r := ratioOf(all)
			table[i+1] = append(table[i+1], r.String())
			findings = append(findings, finding{s.name, place, c.name, r})
		}
	}
	for _, s := range chosen {
		if s.against != "" {
			notes = append(notes, fmt.Sprintf("%s is compared with the work without %s.", s.name, s.against))
		}
	}
	b.table(table...)
	if len(notes) > 0 {
		b.printf("%s\n", strings.Join(notes, " "))
	}
	return findings
}
