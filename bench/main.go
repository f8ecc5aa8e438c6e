// Command bench measures episodic beside the plain way of doing the same work,
// checks the targets set for it, and prints the result as Markdown. README.md
// says what each scenario claims.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/bench/agent"
)

type scenario struct {
	name     string
	claim    string // what is compared, and the target
	onServer bool
	run      func(context.Context, *bench) error
}

var scenarios = []scenario{
	{"puts", putsClaim, false, puts},
	{"group", groupClaim, true, group},
	{"life", lifeClaim, true, life},
	{"start", startClaim, false, start},
	{"latency", latencyClaim, true, latency},
	{"operations", operationsClaim, true, measureOperations},
	{"reads", readsClaim, true, read},
	{"keepalive", keepaliveClaim, true, keepalive},
	{"sizing", sizingClaim, true, sizing},
	{"ttl", ttlClaim, false, ttl},
	{"cache", cacheClaim, true, caching},
	{"feed", feedClaim, true, changeFeed},
	{"recall", recallClaim, false, recall},
	{"vectors", vectorsClaim, true, vectorSearch},
	{"payload", payloadClaim, false, payload},
	{"wire", wireClaim, true, wire},
	{"rivals", rivalsClaim, true, rivals},
	{"others", othersClaim, true, others},
	{"writers", writersClaim, true, writers},
	{"replicas", replicasClaim, true, replicas},
	{"replica", replicaClaim, true, replicaScenario},
	{"scale", scaleClaim, true, scale},
	{"records", recordsClaim, false, records},
	{"durability", durabilityClaim, true, durability},
	{"ablation", ablationClaim, true, ablation},
}

// suites are scenarios under one name.
var suites = map[string][]string{
	// What tells most in a quarter of an hour.
	"overview":           {"operations", "puts", "group", "start", "latency", "keepalive", "cache", "recall", "vectors", "payload", "scale", "ablation", "others", "durability"},
	"storage_operations": {"operations", "puts", "life", "reads", "feed", "rivals", "records"},
	"vector_performance": {"vectors", "recall"},
	"pool":               {"latency", "keepalive", "sizing", "group"},
	"compression":        {"payload", "wire"},
	"competition":        {"rivals", "others"},
}

// bench is what the scenarios share.
type bench struct {
	*report
	n        int           // episodes in a filled database
	duration time.Duration // of measuring each cell
	rounds   int           // into which the duration is cut
	dir      string        // holds the databases
	data     string        // holds real texts, if it exists
	corpus   *corpus
	full     bool   // measure what takes long too
	baseline string // a writer built from another commit; "": none
	// commandBaseline is an episodic command built from another commit; "": none.
	commandBaseline string
	match           *regexp.Regexp // names of the rows or parts that are run
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal kills
	do := run
	switch {
	case os.Getenv(childVariable) != "":
		do = serve((*childTask).do)
	case os.Getenv(replicaVariable) != "":
		do = serve((*replicaTask).do)
	case os.Getenv(ablationVariable) != "":
		do = serve((*ablationTask).do)
	case os.Getenv(operationsVariable) != "":
		do = operationsChild
	case os.Getenv(workerVariable) != "":
		do = workSide
	case os.Getenv(writerVariable) != "":
		do = func(ctx context.Context) error { return agent.Run(ctx, os.Stdin, os.Stdout) }
	}
	if err := do(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	names := flag.String("scenario", "", "run only these scenarios and suites, separated by commas (default all)")
	n := flag.Int("n", 20_000, "episodes in a filled database")
	duration := flag.Duration("duration", 10*time.Second, "how long each cell is measured")
	rounds := flag.Int("rounds", 5, "turns in which the cells of a table are measured")
	short := flag.Bool("short", false, "run everything for a moment, to see that it works; overrides -n, -duration and -rounds")
	dir := flag.String("dir", os.TempDir(), "folder in which the databases lie; its disk is what is measured")
	data := flag.String("data", "../../shared/data", "folder of real texts, which are no part of this repository; a scenario that lacks them says so")
	output := flag.String("o", "", "also write the Markdown to this file, what it measured as .json beside it, and a chart of all ratios as .svg")
	full := flag.Bool("full", false, "writers: run every combination, each as often as -rounds says; recall: search ten times as many steps too; replica: measure memory with 100,000 episodes too; vectors: search 1,000,000 too; scale: up to 1,000,000 episodes on a file, 100,000 on a server")
	baseline := flag.String("baseline", "", "writers, recall: a writer built from another commit, to be measured beside; see README.md")
	commandBaseline := flag.String("command-baseline", "", "records: an episodic command built from another commit, to be measured beside")
	match := flag.String("match", "", "writers, recall, replica, ablation, scale, others: run only the rows, parts or systems whose name this regular expression matches")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the whole run to this file")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unknown argument %q; see -help", flag.Arg(0))
	case *short:
		*n, *duration, *rounds = 300, 200*time.Millisecond, 1
	case *n < 1 || *duration <= 0 || *rounds < 1:
		return errors.New("-n, -duration and -rounds must be positive")
	}
	chosen, err := choose(*names)
	if err != nil {
		return err
	}
	matched, err := regexp.Compile(*match)
	if err != nil {
		return fmt.Errorf("-match: %w", err)
	}

	b := &bench{report: &report{out: os.Stdout, short: *short}, n: *n, duration: *duration, rounds: *rounds, data: *data, corpus: newCorpus(),
		full: *full, baseline: *baseline, commandBaseline: *commandBaseline, match: matched}
	if *output != "" {
		if err := os.MkdirAll(filepath.Dir(*output), 0o755); err != nil {
			return err
		}
		f, err := os.Create(*output)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close(), b.writeBeside(*output)) }()
		b.out = io.MultiWriter(os.Stdout, f)
	}
	if b.dir, err = os.MkdirTemp(*dir, "episodic-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	// Copies of dictionaries are kept there, not with whoever runs this; what Go has built is.
	if os.Getenv("GOCACHE") == "" {
		if caches, err := os.UserCacheDir(); err == nil {
			if err := os.Setenv("GOCACHE", filepath.Join(caches, "go-build")); err != nil {
				return err
			}
		}
	}
	if err := os.Setenv("XDG_CACHE_HOME", filepath.Join(b.dir, "cache")); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}

	if err := b.header(chosen); err != nil {
		return err
	}
	var failed []error
	for _, s := range chosen {
		fmt.Fprintf(os.Stderr, "bench: running %s\n", s.name)
		b.begin(s.name, s.claim)
		b.printf("\n## %s\n\n%s\n", s.name, s.claim)
		begin := time.Now()
		err := s.run(ctx, b)
		fmt.Fprintf(os.Stderr, "bench: %s took %v\n", s.name, time.Since(begin).Round(time.Second))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the others tell all the same
			b.printf("\n**Failed:** %v\n", err)
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return errors.Join(append(failed, b.conclude())...)
}

// writeBeside writes the results once more, for other programs and as a chart.
func (r *report) writeBeside(markdown string) error {
	base := strings.TrimSuffix(markdown, ".md")
	return errors.Join(r.writeJSON(base+".json"), r.writeChart(base+".svg"))
}

func choose(names string) ([]scenario, error) {
	if names == "" {
		return scenarios, nil
	}
	known := make(map[string]scenario)
	for _, s := range scenarios {
		known[s.name] = s
	}
	var chosen []scenario
	for name := range strings.SplitSeq(names, ",") {
		if suite, is := suites[name]; is {
			for _, name := range suite {
				chosen = append(chosen, known[name])
			}
			continue
		}
		s, is := known[name]
		if !is {
			return nil, fmt.Errorf("unknown scenario %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", ")+
				"; and the suites "+strings.Join(slices.Sorted(maps.Keys(suites)), ", "))
		}
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// openFile opens a Store on a new file and returns its path too.
func (b *bench) openFile(ctx context.Context, name string) (*episodic.Store, string, error) {
	path := filepath.Join(b.dir, name)
	store, err := episodic.Open(ctx, path, nil)
	return store, path, err
}

// batchSize is how many episodes are imported by one call.
const batchSize = 100

// batches calls each with the b.n episodes of the corpus, batchSize at once.
func (b *bench) batches(ctx context.Context, each func([]*episodic.Episode) error) error {
	for from := 0; from < b.n; from += batchSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := each(b.corpus.episodes(from, min(batchSize, b.n-from))); err != nil {
			return err
		}
	}
	return nil
}
