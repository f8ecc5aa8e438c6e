package agentstore

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

var update = flag.Bool("update", false, "write testdata/do_memory/runs.jsonl anew")

// sampleMemory is a database that the crates have made; see testdata/do_memory/README.md.
func sampleMemory(t *testing.T) string {
	t.Helper()
	f, err := os.Open("testdata/do_memory/memory.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "memory.db")
	text, err := io.ReadAll(r)
	if err := errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// readMemory returns what package transcript makes of a memory, and what it tells of it, with
// the places.
func readMemory(t *testing.T, path string, since time.Time) (runs []*transcript.Run, problems []string) {
	t.Helper()
	r, err := Open(t.Context(), path, since)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for run, err := range transcript.Read(r, path, nil) {
		var p *transcript.Problem
		switch {
		case errors.As(err, &p):
			problems = append(problems, p.Place+": "+p.Text)
		case err != nil:
			problems = append(problems, err.Error())
		default:
			runs = append(runs, run)
		}
	}
	return runs, problems
}

// items are what is in runs, a line of JSON each; long texts are cut.
func items(t *testing.T, runs []*transcript.Run) string {
	t.Helper()
	var lines bytes.Buffer
	for _, run := range runs {
		item := struct {
			Place     string
			Key       string              `json:",omitempty"`
			Episode   *episodic.Episode   `json:",omitempty"`
			Pattern   *episodic.Pattern   `json:",omitempty"`
			Heuristic *episodic.Heuristic `json:",omitempty"`
			Relation  *episodic.Relation  `json:",omitempty"`
			Embedding string              `json:",omitempty"`
			Left      transcript.Left     `json:",omitempty"`
			Odd       []transcript.Field  `json:",omitempty"`
		}{run.Place, run.Key, run.Episode, run.Pattern, run.Heuristic, run.Relation, "", run.Left, run.Odd}
		if e := run.Embedding; e != nil {
			item.Embedding = fmt.Sprintf("%s %v by %s: %v of %d", e.Kind, e.Item, e.Model, e.Vector[:3], len(e.Vector))
		}
		if e := item.Episode; e != nil {
			e.Description = short(e.Description)
			for i := range e.Steps {
				if r := e.Steps[i].Result; r != nil {
					r.Text = short(r.Text)
				}
			}
			for k, v := range e.Metadata {
				e.Metadata[k] = short(v)
			}
		}
		enc := json.NewEncoder(&lines)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(item); err != nil {
			t.Fatal(err)
		}
	}
	return lines.String()
}

func short(text string) string {
	if len(text) < 500 {
		return text
	}
	return fmt.Sprintf("%s... (%d bytes)", text[:20], len(text))
}

func TestDoMemory(t *testing.T) {
	t.Parallel()
	runs, problems := readMemory(t, sampleMemory(t), time.Time{})
	if len(problems) > 0 {
		t.Errorf("problems %q", problems)
	}
	got := items(t, runs)
	const golden = "testdata/do_memory/runs.jsonl"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := "", ""
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if g != w {
			t.Errorf("line %d is\n%s\nwant\n%s", i+1, g, w)
		}
	}
}

var _ = context.Background
var _ = sql.ErrNoRows
