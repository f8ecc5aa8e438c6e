package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// report prints Markdown, and keeps what it has printed in tables and as verdicts.
type report struct {
	out            io.Writer
	short          bool
	judged, missed int
	scenarios      []*scenarioReport
}

// scenarioReport is a part of a report, as the file beside the Markdown has it in JSON.
type scenarioReport struct {
	Name    string         `json:"name"` // empty: of the run as a whole
	Claim   string         `json:"claim,omitempty"`
	Tables  [][][]string   `json:"tables,omitempty"` // the first row is the head
	Targets []targetReport `json:"targets,omitempty"`
}

type targetReport struct {
	Target string `json:"target"`
	Found  string `json:"found"`
	Met    *bool  `json:"met"` // null: not judged
}

// begin begins a part of the report. There is one from the start, of the run as a whole.
func (r *report) begin(name, claim string) {
	r.scenarios = append(r.scenarios, &scenarioReport{Name: name, Claim: claim})
}

func (r *report) part() *scenarioReport {
	if len(r.scenarios) == 0 {
		r.begin("", "")
	}
	return r.scenarios[len(r.scenarios)-1]
}

// writeJSON writes what was measured for other programs.
func (r *report) writeJSON(path string) error {
	b, err := json.MarshalIndent(r.scenarios, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func (r *report) printf(format string, args ...any) { fmt.Fprintf(r.out, format, args...) }

// table prints rows of cells; the first row is the head.
func (r *report) table(rows ...[]string) {
	r.part().Tables = append(r.part().Tables, rows)
	r.printf("\n")
	for i, row := range rows {
		r.printf("| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			r.printf("|---%s\n", strings.Repeat("|---:", len(row)-1)+"|")
		}
	}
	r.printf("\n")
}

// judge prints whether a target was met, and what was found.
func (r *report) judge(met bool, target, format string, args ...any) {
	r.judged++
	verdict, t := "**met**", targetReport{Target: target, Found: fmt.Sprintf(format, args...), Met: &met}
	switch {
	case r.short:
		verdict, t.Met = "not judged", nil
	case !met:
		verdict = "**MISSED**"
		r.missed++
	}
	r.part().Targets = append(r.part().Targets, t)
	r.printf("- %s: %s. %s\n", target, t.Found, verdict)
}

// conclude prints the end of the report; missed targets are an error.
func (r *report) conclude() error {
	r.printf("\n## Verdict\n\n")
	switch {
	case r.short:
		r.printf("%d targets, none judged: -short is too short to tell.\n", r.judged)
	case r.judged == 0:
		r.printf("Nothing was to be judged.")
	case r.missed == 0:
		r.printf("All %d targets met.", r.judged)
	default:
		r.printf("%d of %d targets missed.", r.missed, r.judged)
	}
	if !r.short {
		r.printf(" Load average at the end: %s.\n", loadAverage())
		r.overview()
	}
	if r.missed > 0 {
		return fmt.Errorf("%d of %d targets missed", r.missed, r.judged)
	}
	return nil
}

// overview prints how many targets each scenario has met, and those it has not.
func (r *report) overview() {
	table := [][]string{{"scenario", "targets", "met", "missed"}}
	for _, s := range r.scenarios {
		met, missed := 0, []string{}
		for _, t := range s.Targets {
			if *t.Met {
				met++
			} else {
				missed = append(missed, fmt.Sprintf("%s: %s", t.Target, t.Found))
			}
		}
		if len(s.Targets) > 0 {
			table = append(table, []string{s.Name, strconv.Itoa(len(s.Targets)), strconv.Itoa(met), strings.Join(missed, "; ")})
		}
	}
	if len(table) > 1 {
		r.begin("", "")
		r.table(table...)
	}
}

// header says where, when and of what the measurements are.
func (b *bench) header(chosen []scenario) error {
	sync, err := syncTime(b.dir)
	if err != nil {
		return err
	}
	var names []string
	server := "not used"
	for _, s := range chosen {
		names = append(names, s.name)
		if s.onServer && server == "not used" {
			if server, err = serverVersion(b.dir); err != nil {
				return err
			}
		}
	}
	texts, err := hashes(b.data)
	if err != nil {
		return err
	}
	b.printf("# Benchmark: %s\n", strings.Join(names, ", "))
	b.table(
		[]string{"", ""},
		[]string{"date", time.Now().UTC().Format("2006-01-02 15:04 UTC")},
		[]string{"commit", commit()},
		[]string{"CPU", fmt.Sprintf("%s, %d cores, %s/%s", cpuModel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)},
		[]string{"disk", fmt.Sprintf("%s; write and fsync of 4 KB: p50 %s", filepath.Dir(b.dir), ms(sync))},
		[]string{"Go", runtime.Version()},
		[]string{"server", server},
		[]string{"texts, SHA-256", texts},
		[]string{"load average before", loadAverage()},
		[]string{"settings", fmt.Sprintf("%d episodes, %v a cell, rounds: %d", b.n, b.duration, b.rounds)},
	)
	b.printf("Cells side by side were measured by turns. A ratio is the median of the rounds' ratios, with the lowest and the highest.\n")
	return nil
}

// hashes names the files of texts in a folder, each with the beginning of its SHA-256.
func hashes(dir string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json*"))
	if err != nil {
		return "", err
	}
	if len(paths) == 0 {
		return "none", nil
	}
	var all []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf("%s %.4x", filepath.Base(path), sha256.Sum256(text)))
	}
	return strings.Join(all, ", "), nil
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // absent outside Linux
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func loadAverage() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(load))[:3], " ")
}

// startServer runs a server with a folder of its own in dir.
func startServer(dir string) (*hranatest.Server, error) {
	dir, err := os.MkdirTemp(dir, "server-")
	if err != nil {
		return nil, err
	}
	return hranatest.Run(dir)
}

func serverVersion(dir string) (string, error) {
	server, err := startServer(dir)
	if err != nil {
		return "", err
	}
	defer server.Kill()
	resp, err := http.Get(server.URL() + "/version")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(text)), err
}

// syncTime is what the disk needs to make 4 KB durable.
func syncTime(dir string) (_ time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := bytes.Repeat([]byte{1}, 4096)
	var all []time.Duration
	for range 50 {
		begin := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(begin))
	}
	return percentile(all, 0.5), nil
}

// digits shows x with three digits or so.
func digits(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

func ms(d time.Duration) string { return digits(d.Seconds()*1000) + " ms" }
