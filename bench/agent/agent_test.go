package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

func events(t *testing.T, output io.Reader) (all []Event) {
	t.Helper()
	for decoder := json.NewDecoder(output); ; {
		var e Event
		if err := decoder.Decode(&e); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

func TestRunTellsWhatItHasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.db")
	task, err := json.Marshal(Task{Target: path, Callers: 2, Window: 50 * time.Millisecond, Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	if err := Run(t.Context(), io.MultiReader(bytes.NewReader(task), strings.NewReader("\nbegin\n")), &output); err != nil {
		t.Fatal(err)
	}
	all := events(t, &output)
	steps := map[episodic.ID]int{}
	for i, e := range all {
		switch {
		case e.Error != "":
			t.Error(e.Error)
		case (i == 0) != (e.Kind == Ready) || (i == len(all)-1) != (e.Kind == Done):
			t.Errorf("event %d of %d is %q", i, len(all), e.Kind)
		case e.Kind == Started:
			steps[e.Episode] = 0
		case e.Kind == Appended:
			steps[e.Episode]++
		}
	}
	store, err := episodic.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if len(steps) == 0 {
		t.Error("nothing was written")
	}
	for id, want := range steps {
		e, err := store.Episode(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Steps) != want {
			t.Errorf("%d steps are stored, %d were told", len(e.Steps), want)
		}
		for i, s := range e.Steps {
			if !IsStep(s, i) || IsStep(s, i+1) {
				t.Errorf("step %d is %s", i, s.Parameters)
			}
		}
	}
}

func TestTurnsAreTold(t *testing.T) {
	var output bytes.Buffer
	log := slog.New(&turns{w: &work{out: json.NewEncoder(&output)}}).With("server", "127.0.0.1:1", "machine", 7)
	log.Debug("turn used", "from", int64(1_000), "to", uint64(1_002))
	log.Info("something else", "from", 1)
	want := Event{Kind: Turn, Machine: 7, From: 1_000, To: 1_002}
	if all := events(t, &output); len(all) != 1 || all[0] != want {
		t.Errorf("told %+v, want %+v", all, want)
	}
}

func TestOptionsThatOlderCommitsLack(t *testing.T) {
	opts := &episodic.Options{}
	if set(opts, "NoSuchOption", "x") {
		t.Error("an option that does not exist was set")
	}
	if !set(opts, "CacheDir", "x") || opts.CacheDir != "x" {
		t.Errorf("options are %+v", opts)
	}
}
