package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/transcript"
)

func TestCompact(t *testing.T) {
	for name, target := range map[string]func(c *cli) string{
		"file": func(c *cli) string { return c.env["EPISODIC_DB"] },
		"sqld": func(c *cli) string { return hranatest.Start(c.t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCLI(t)
			c.env["EPISODIC_DB"] = target(c)
			plain, err := episodic.Open(t.Context(), c.env["EPISODIC_DB"], &episodic.Options{Compression: episodic.Compression{Codec: episodic.Uncompressed}})
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			for i := range 30 {
				e := sample(i, fmt.Sprintf("Task %x: check whether the reservation of customer %d may be changed without a fee", i*7919, i*i))
				for n := range 3 {
					e.Steps = append(e.Steps, episodic.Step{
						Tool: "get_reservation_details", Action: fmt.Sprintf("look whether %x is a basic economy fare", rand.Uint64()),
						Result: &episodic.Result{Kind: episodic.ResultOutput, Text: fmt.Sprintf(`{"cabin":"basic_economy","price":%d,"insurance":"no"}`, n*rand.IntN(1000))},
					})
				}
				if err := plain.PutEpisode(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			out := c.ok("compact")
			if !strings.Contains(out, "new dictionary for episodes, made of ") || !strings.Contains(out, "60 payloads rewritten: ") || !strings.Contains(out, " saved (") {
				t.Errorf("compact printed %q", out)
			}
			if strings.Contains(out, "\ngave back ") != (name == "file") {
				t.Errorf("of what was free compact said %q", out)
			}
			if again := c.ok("compact"); again != "no new dictionary for episodes: it is hardly better than the one in use\n0 payloads rewritten\n" {
				t.Errorf("a second compact printed %q", again)
			}
			if got := decode[episodic.Compaction](t, c.ok("compact", "--json")); got.Payloads != 0 || len(got.Trained) != 1 || got.Trained[0].Dictionary != 0 {
				t.Errorf("a third compact did %+v", got)
			}
			if out := c.ok("stats"); !strings.Contains(out, "\nbesides     1 dictionary in ") {
				t.Errorf("stats printed %q", out)
			}
			if n := len(decode[listOutput](t, c.ok("list", "--json", "-n", "100")).Episodes); n != 30 {
				t.Errorf("%d episodes are left", n)
			}
		})
	}
}

func TestCompactCreatesNoDatabase(t *testing.T) {
	newCLI(t).fails(exitFailure, "nothing has been stored there yet", "compact")
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1 kB", 1_540_000: "1.5 MB", 99_500_000: "100 MB", -2000: "-2 kB"} {
		if got := size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

// What the Store makes of real trajectories of tasks that it has not seen, and of
// the very first ones.
func TestRealTrajectoriesGetSmall(t *testing.T) {
	text, err := os.ReadFile(sharedData(t, "tau-bench-airline.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "m.db")
	// put stores the tasks that which chooses, and returns stored and plain bytes.
	put := func(which func(task int) bool, train bool) float64 {
		// As on a server; what is written fast to a file is this small after Compact.
		store, err := episodic.Open(t.Context(), target, &episodic.Options{Compression: episodic.Compression{Level: episodic.LevelBetter}})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		for line := range bytes.Lines(text) {
			var source struct {
				Task int `json:"task_id"`
			}
			if err := json.Unmarshal(line, &source); err != nil {
				t.Fatal(err)
			}
			if !which(source.Task) {
				continue
			}
			for run, err := range transcript.Read(bytes.NewReader(line), "runs.jsonl", nil) {
				if err == nil {
					err = store.PutEpisode(t.Context(), run.Episode)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if train {
			if trained, err := store.TrainDictionaries(t.Context()); err != nil {
				t.Fatal(trained, err)
			}
		}
		s := store.Stats().Compression.Episodes
		t.Logf("%+v", s)
		return float64(s.StoredBytes) / float64(s.PlainBytes)
	}
	test := func(task int) bool { return task%5 == 0 }
	if first := put(func(task int) bool { return task == 1 }, false); first > 0.45 {
		t.Errorf("the first episodes take %.3f of their size", first)
	}
	put(func(task int) bool { return !test(task) }, true)
	if ratio := put(test, false); ratio > 0.17 {
		t.Errorf("episodes of other tasks take %.3f of their size", ratio)
	}
}
