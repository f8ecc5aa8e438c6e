package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const recordsClaim = "`episodic import` of real runs (tau-bench, repeated with differing contents) into a new local file, importing the same again, and `episodic export` of it; " +
	"with -command-baseline beside a command of another commit, by turns. Of each the least time of the rounds counts. Targets: the first import at least 1.3 times and the second " +
	"4 times the rate of the baseline's, in at most 250 MB of memory."

const recordsMemory = 250 // MB

// recordsRun is a run of a command.
type recordsRun struct {
	took, processor time.Duration
	peak            int64 // bytes of memory
}

// recordsProgram is a command, and the best that it has done.
type recordsProgram struct {
	name, path             string
	first, second, written recordsRun
}

func records(ctx context.Context, b *bench) error {
	input := filepath.Join(b.dir, "records.jsonl")
	size, err := repeatAirline(b.data, input, b.n)
	if errors.Is(err, fs.ErrNotExist) {
		b.printf("\nNothing is measured: %v.\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	program := filepath.Join(b.dir, "episodic")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/episodic")
	build.Dir = ".." // of the folder of this module
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the command: %w\n%s", err, out)
	}
	programs := []*recordsProgram{{name: "this commit", path: program}}
	if b.commandBaseline != "" {
		programs = append(programs, &recordsProgram{name: "baseline", path: b.commandBaseline})
	}
	for range min(b.rounds, 3) {
		for i, p := range programs {
			if err := p.measure(ctx, b.dir, input, i == 0); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}

	rate := func(r recordsRun) float64 { return float64(b.n) / r.took.Seconds() }
	table := [][]string{{"", "episodes/s", "s", "s of processors", "peak MB"}}
	for _, p := range programs {
		for _, row := range []struct {
			name string
			run  recordsRun
		}{{"import", p.first}, {"import again", p.second}, {"export", p.written}} {
			if row.run.took > 0 {
				table = append(table, []string{row.name + ", " + p.name, digits(rate(row.run)), digits(row.run.took.Seconds()), digits(row.run.processor.Seconds()), fmt.Sprint(row.run.peak >> 20)})
			}
		}
	}
	b.printf("\n%d episodes, %d MB.\n", b.n, size>>20)
	b.table(table...)
	ours := programs[0]
	peak := max(ours.first.peak, ours.second.peak, ours.written.peak) >> 20
	b.judge(peak <= recordsMemory, fmt.Sprintf("at most %d MB", recordsMemory), "%d MB", peak)
	if len(programs) == 1 {
		b.printf("There is no -command-baseline, so rates are not judged.\n")
		return nil
	}
	its := programs[1]
	first, second := rate(ours.first)/rate(its.first), rate(ours.second)/rate(its.second)
	b.judge(first >= 1.3, "the import at least 1.3 times the rate of the baseline", "%.2f times", first)
	b.judge(second >= 4, "importing again at least 4 times the rate of the baseline", "%.2f times", second)
	b.printf("Importing again is %.2f times as fast as the import.\n", rate(ours.second)/rate(ours.first))
	return nil
}

// repeatAirline writes so many runs, each with a field of its own, and returns their size.
func repeatAirline(data, to string, n int) (size int64, err error) {
	text, err := os.ReadFile(filepath.Join(data, "tau-bench-airline.jsonl"))
	if err != nil {
		return 0, err
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	f, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		line := bytes.TrimSuffix(bytes.TrimSpace(lines[i%len(lines)]), []byte("}"))
		written, err := fmt.Fprintf(w, "%s, \"copy\": %d}\n", line, i/len(lines))
		if size += int64(written); err != nil {
			return 0, err
		}
	}
	return size, w.Flush()
}

// measure imports into a new file, imports again, and exports if the command can.
func (p *recordsProgram) measure(ctx context.Context, dir, input string, exports bool) error {
	db := filepath.Join(dir, "records.db")
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(db + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, run := range []struct {
		best *recordsRun
		args []string
	}{
		{&p.first, []string{"import", input}}, {&p.second, []string{"import", input}}, {&p.written, []string{"export"}},
	} {
		if run.args[0] == "export" && !exports {
			continue
		}
		got, err := runRecords(ctx, p.path, db, run.args...)
		if err != nil {
			return err
		}
		if run.best.took == 0 || got.took < run.best.took {
			run.best.took, run.best.processor = got.took, got.processor
		}
		run.best.peak = max(run.best.peak, got.peak)
	}
	return nil
}

func runRecords(ctx context.Context, program, db string, args ...string) (recordsRun, error) {
	c := exec.CommandContext(ctx, program, args...)
	c.Env = append(os.Environ(), "EPISODIC_DB="+db)
	var said bytes.Buffer
	c.Stderr = &said // what is exported goes nowhere
	begun := time.Now()
	if err := c.Run(); err != nil {
		return recordsRun{}, fmt.Errorf("episodic %v: %w: %s", args, err, said.Bytes())
	}
	r := recordsRun{took: time.Since(begun), processor: c.ProcessState.UserTime() + c.ProcessState.SystemTime()}
	if usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.peak = usage.Maxrss << 10 // Linux counts KiB
	}
	return r, nil
}
