package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// workerVariable makes this program a worker of the scenario others, with the opener of
// that name, instead of measuring.
const workerVariable = "EPISODIC_BENCH_WORKER"

// sideOpener opens the side at a target: a folder of its own, or the URL of a server.
type sideOpener func(ctx context.Context, target string) (side, error)

var sideOpeners = map[string]sideOpener{
	"cached": func(ctx context.Context, target string) (side, error) {
		return openOurSide(ctx, memoryPath(target), direct())
	},
	"uncached": func(ctx context.Context, target string) (side, error) {
		return openOurSide(ctx, memoryPath(target), uncached())
	},
	"driver": func(ctx context.Context, target string) (side, error) {
		path := memoryPath(target)
		_, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return newRawFile(ctx, path)
		}
		r, err := openRawFile(path)
		if err != nil {
			return nil, err
		}
		return r, r.prepare(ctx)
	},
	"mcp-libsql":   openMCPLibSQL,
	"mcp-memory":   openMCPMemory,
	"basic-memory": openBasicMemory,
}

// memoryPath is where the database of a target is: a file in its folder, or its server.
func memoryPath(target string) string {
	if strings.HasPrefix(target, "http") {
		return target
	}
	return filepath.Join(target, "memory.db")
}

// sideWorker does what a worker is told on a side.
type sideWorker struct {
	opener     sideOpener
	side       side
	operations map[string]op
}

// workSide is a worker, on the standard input and output, until it is told to close.
func workSide(ctx context.Context) error {
	name := os.Getenv(workerVariable)
	w := &sideWorker{opener: sideOpeners[name]}
	if w.opener == nil {
		return fmt.Errorf("there is no worker %q", name)
	}
	lines := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c workerCall
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		answer, err := w.do(ctx, c)
		if err != nil {
			answer = workerAnswer{Failed: 1, Error: err.Error()}
		}
		if err := answers.Encode(answer); err != nil || c.Op == "close" {
			return err
		}
	}
	return lines.Err()
}

func (w *sideWorker) do(ctx context.Context, c workerCall) (workerAnswer, error) {
	switch c.Op {
	case "open":
		return workerAnswer{}, w.open(ctx, c)
	case "fill":
		n, err := w.fill(ctx, c)
		return workerAnswer{Done: float64(n)}, err
	case "close":
		return workerAnswer{}, w.side.close()
	}
	f := w.operations[c.Op]
	if f == nil {
		return workerAnswer{}, fmt.Errorf("there is no operation %q", c.Op)
	}
	s := load(ctx, time.Duration(c.WindowMS)*time.Millisecond, c.Callers, f)
	a := workerAnswer{Done: s.done, Failed: len(s.errs)}
	for _, l := range s.latencies {
		a.LatenciesUS = append(a.LatenciesUS, l.Microseconds())
	}
	if len(s.errs) > 0 {
		a.Error = s.errs[0].Error()
	}
	return a, nil
}

func (w *sideWorker) open(ctx context.Context, c workerCall) (err error) {
	if !strings.HasPrefix(c.Target, "http") {
		if err := os.MkdirAll(c.Target, 0o700); err != nil {
			return err
		}
	}
	known, err := readKnown(c.Data, c.Episodes)
	if err != nil {
		return err
	}
	pool, err := readMaterial(c.Data, "put", -1)
	if err != nil {
		return err
	}
	long, err := readMaterial(c.Data, "life", -1)
	if err != nil {
		return err
	}
	if w.side, err = w.opener(ctx, c.Target); err != nil {
		return err
	}
	w.operations = map[string]op{
		"put": putting(w.side, pool), "life": living(w.side, long), "get": getting(w.side, known.IDs),
		"list": listing(w.side, known.List), "search": searching(w.side, known.Words),
	}
	return nil
}

func (w *sideWorker) fill(ctx context.Context, c workerCall) (int, error) {
	list, err := readMaterial(c.Data, "fill", c.Episodes)
	if err != nil {
		return 0, err
	}
	for from := 0; from < len(list); from += batchSize {
		if err := w.side.add(ctx, list[from:min(from+batchSize, len(list))]); err != nil {
			return from, err
		}
	}
	return len(list), nil
}

// materialLine is an episode as the workers read it. Those in other languages store the
// texts that are searched apart.
type materialLine struct {
	ID      episodic.ID       `json:"id"`
	Start   int64             `json:"start"` // in µs
	Domain  string            `json:"domain"`
	Outcome string            `json:"outcome"` // its kind
	Task    string            `json:"task"`
	Words   string            `json:"words"` // of all steps
	Out     string            `json:"out"`
	Episode *episodic.Episode `json:"episode"`
}

// materialKnown is what is known of the first episodes of the material.
type materialKnown struct {
	IDs   []episodic.ID `json:"ids"`
	Words []string      `json:"words"` // rare ones
	List  int           `json:"list"`  // how many are listed at once
}

func materialPath(dir, name string) string { return filepath.Join(dir, name+".jsonl") }

func knownPath(dir string, episodes int) string {
	return filepath.Join(dir, fmt.Sprintf("known-%d.json", episodes))
}

func writeMaterial(dir, name string, list []*episodic.Episode) (err error) {
	f, err := os.Create(materialPath(dir, name))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	defer func() { err = errors.Join(err, out.Flush(), f.Close()) }()
	lines := json.NewEncoder(out)
	for _, e := range list {
		var words strings.Builder
		for i := range e.Steps {
			addWords(&words, &e.Steps[i])
		}
		if err := lines.Encode(materialLine{
			e.ID, e.Start.UnixMicro(), e.Context.Domain, string(e.Outcome.Kind), e.Description, words.String(), outcomeWords(&e.Outcome), e,
		}); err != nil {
			return err
		}
	}
	return nil
}

// readMaterial reads the first n episodes of a file; all if n is negative.
func readMaterial(dir, name string, n int) (list []*episodic.Episode, err error) {
	f, err := os.Open(materialPath(dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := json.NewDecoder(f); lines.More() && len(list) != n; {
		var l materialLine
		if err := lines.Decode(&l); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		list = append(list, l.Episode)
	}
	return list, nil
}

func writeKnown(dir string, list []*episodic.Episode) error {
	known := materialKnown{List: min(rivalList, len(list))}
	var words tally
	for _, e := range list {
		known.IDs = append(known.IDs, e.ID)
		if err := words.add(e); err != nil {
			return err
		}
	}
	// Ids of reservations are no words for those who keep letters and digits together.
	maps.DeleteFunc(words.of, func(w string, _ int) bool { return w != strings.ToLower(w) })
	known.Words = words.wordsOf(frequencies[0])
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return os.WriteFile(knownPath(dir, len(list)), text, 0o600)
}

func readKnown(dir string, episodes int) (known materialKnown, err error) {
	text, err := os.ReadFile(knownPath(dir, episodes))
	if err != nil {
		return known, err
	}
	return known, json.Unmarshal(text, &known)
}
