package redact

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// realLines calls f with the first lines of a file of real texts, which are no part of this
// repository.
func realLines(tb testing.TB, name string, most int, f func(line []byte)) {
	folder := cmp.Or(os.Getenv("EPISODIC_DATA"), "../../../shared/data")
	file, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		tb.Skipf("false alarms are counted only where EPISODIC_DATA has real texts: %v", err)
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(file); err != nil {
			tb.Fatal(err)
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for ; most > 0 && lines.Scan(); most-- {
		f(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
}

// textsIn calls f with the texts of a step, or of whatever there is.
func textsIn(v any, f func(string)) {
	switch v := v.(type) {
	case string:
		f(v)
	case []any:
		for _, e := range v {
			textsIn(e, f)
		}
	case map[string]any:
		for _, e := range v {
			textsIn(e, f)
		}
	}
}

// alarms counts the values in which something was replaced.
func alarms(t *testing.T, values []any) (n int) {
	r := &Redactor{}
	for _, v := range values {
		p := r.Pass()
		textsIn(v, func(s string) {
			if clean := p.Text(s); clean != s {
				t.Logf("%v: %s", p.Found, difference(s, clean))
			}
		})
		if p.Found != nil {
			n++
		}
	}
	return n
}

// difference is where two texts begin to differ.
func difference(a, b string) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	from := max(0, i-60)
	return strings.ToValidUTF8(a[from:min(len(a), i+60)], "?")
}

func TestFalseAlarmsInAirlineCalls(t *testing.T) {
	calls := 0
	realLines(t, "tau-bench-airline.jsonl", 100, func(line []byte) {
		var run map[string]any
		if err := json.Unmarshal(line, &run); err != nil {
			t.Fatal(err)
		}
		calls++
		if n := alarms(t, []any{run}); n > 0 {
			t.Errorf("task %v: something was taken for a secret", run["task_id"])
		}
	})
	t.Logf("%d runs", calls)
}

func TestFalseAlarmsInCodingRuns(t *testing.T) {
	steps, alarmed := 0, 0
	realLines(t, "swe-runs.jsonl.gz", testkit.Effort(10, 40, 500), func(line []byte) { // all of them take seconds
		var run struct {
			Task  string
			Steps []any
		}
		if err := json.Unmarshal(line, &run); err != nil {
			t.Fatal(err)
		}
		steps += len(run.Steps)
		alarmed += alarms(t, append(run.Steps, run.Task))
	})
	t.Logf("%d of %d steps", alarmed, steps)
	if alarmed*1000 >= steps {
		t.Errorf("%d of %d steps hold what was taken for a secret, want less than 1 in 1,000", alarmed, steps)
	}
}

func BenchmarkText(b *testing.B) {
	var texts []string
	size := 0
	realLines(b, "swe-runs.jsonl.gz", 250, func(line []byte) {
		var run struct{ Steps []any }
		if err := json.Unmarshal(line, &run); err != nil {
			b.Fatal(err)
		}
		textsIn(run.Steps, func(s string) { texts, size = append(texts, s), size+len(s) })
	})
	r := &Redactor{}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		p := r.Pass()
		for _, s := range texts {
			p.Text(s)
		}
	}
}

func BenchmarkJSON(b *testing.B) {
	var lines []string
	size := 0
	realLines(b, "tau-bench-airline.jsonl", 100, func(line []byte) { lines, size = append(lines, string(line)), size+len(line) })
	r := &Redactor{}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		p := r.Pass()
		for _, s := range lines {
			p.JSON(s)
		}
	}
}
