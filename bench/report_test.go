package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMissedTargetsAreNamed(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out}
	r.begin("reads", "what is compared")
	r.judge(true, "at most 9 ms", "%d ms", 8)
	r.judge(false, "at least 2x", "%.2fx", 1.67)
	if err := r.conclude(); err == nil || !strings.Contains(out.String(), "| reads | 2 | 1 | at least 2x: 1.67x |") {
		t.Errorf("%v, %s", err, out.String())
	}
}

func TestResultsBeside(t *testing.T) {
	r := &report{out: io.Discard}
	r.begin("reads", "what is compared")
	r.table([]string{"a <file>", "ours", "to theirs"}, []string{"get", "1 ms", "1.67x (1.52 to 2.00)"}, []string{"all on", "", "1"}, []string{"put & get", "", "0.74x (0.70 to 0.80)"})
	r.judge(false, "at least 2x", "%.2fx", 1.67)
	base := filepath.Join(t.TempDir(), "results")
	if err := r.writeBeside(base + ".md"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(base + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var back []scenarioReport
	if err := json.Unmarshal(b, &back); err != nil || len(back) != 1 || len(back[0].Tables[0]) != 4 || *back[0].Targets[0].Met || back[0].Targets[0].Found != "1.67x" {
		t.Errorf("%v, %+v", err, back)
	}
	svg, err := os.ReadFile(base + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	bars := 0
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		if e, is := token.(xml.StartElement); is && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 3 { // the page and two ratios
		t.Errorf("%d rectangles in %s", bars, svg)
	}
}
