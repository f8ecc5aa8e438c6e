package eval

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The real datasets are no part of this repository.
const realData = "../../../shared/data"

func TestRealDatasets(t *testing.T) {
	for _, tt := range []struct{ format, file, queries, want string }{
		{"locomo", "locomo-dev.json", "", "3 collections, 70 documents, 1451 parts, 383 questions, 114 left out, 1 missing"},
		{"swe", "swe-runs.jsonl.gz", "swe-queries-dev.json", "1 collections, 500 documents, 20163 parts, 152 questions, 0 left out, 0 missing"},
	} {
		t.Run(tt.format, func(t *testing.T) {
			file, queries := filepath.Join(realData, tt.file), ""
			if tt.queries != "" {
				queries = filepath.Join(realData, tt.queries)
			}
			if _, err := os.Stat(file); err != nil {
				t.Skipf("the dataset is not here: %v", err)
			}
			if raceEnabled && tt.format == "swe" {
				t.Skip("the race detector makes 37 MB of JSON take half a minute, and nothing here is concurrent")
			}
			d, err := Load(t.Context(), tt.format, file, queries)
			if err != nil {
				t.Fatal(err)
			}
			var documents, parts, questions, missing int
			for _, c := range d.Collections {
				documents += len(c.Documents)
				questions += len(c.Questions)
				for _, doc := range c.Documents {
					parts += len(doc.Parts)
				}
			}
			for _, task := range d.Tasks(Episodes) {
				missing += task.Missing
			}
			if got := fmt.Sprintf("%d collections, %d documents, %d parts, %d questions, %d left out, %d missing",
				len(d.Collections), documents, parts, questions, d.LeftOut, missing); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
