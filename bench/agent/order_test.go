package agent

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

func TestOrdersStoreTheirEpisodes(t *testing.T) {
	dir := t.TempDir()
	path, file := filepath.Join(dir, "memory.db"), filepath.Join(dir, "episodes.json")
	var docs []byte
	for i := range 3 {
		e := episodic.Episode{Description: "a task", Outcome: episodic.Outcome{Kind: episodic.Success, Verdict: "done"}, Steps: []episodic.Step{NewStep(0, i, 0), NewStep(0, i, 1)}}
		doc, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(append(docs, doc...), '\n')
	}
	if err := os.WriteFile(file, docs, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(orders string) ([]Event, error) {
		task, err := json.Marshal(Task{Target: path, Episodes: file})
		if err != nil {
			t.Fatal(err)
		}
		var output bytes.Buffer
		err = Run(t.Context(), strings.NewReader(string(task)+"\n"+orders), &output)
		return events(t, &output), err
	}

	all, err := run(`{"From":0,"To":3}` + "\n" + `{"From":1,"To":3,"Append":true}` + "\n")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range all {
		kinds = append(kinds, string(e.Kind))
		if (e.Kind == Stored) != (e.Took > 0) || (e.Kind == Obeyed) != (e.CPU > 0) {
			t.Errorf("%q: took %v, CPU %v", e.Kind, e.Took, e.CPU)
		}
	}
	if got, want := strings.Join(kinds, " "), "ready stored stored stored obeyed stored stored stored stored obeyed done"; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	store, err := episodic.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	page, err := store.ListEpisodes(t.Context(), nil, nil)
	if err != nil || len(page.Items) != 5 {
		t.Fatalf("%d episodes, %v; want 5", len(page.Items), err)
	}
	for _, e := range page.Items {
		if e.StepCount != 2 {
			t.Errorf("an episode has %d steps, want 2", e.StepCount)
		}
	}
	for _, bad := range []string{`{"From":2,"To":4}`, `{"From":2,"To":1}`, `{"From":-1,"To":1}`, `no`} {
		if _, err := run(bad); err == nil {
			t.Errorf("%s is obeyed", bad)
		}
	}
}
