package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// longSteps is how many steps an episode has where its size is compared.
const longSteps = 20

// material is episodes of one kind: some that a dictionary is trained of, and
// others to measure with.
type material struct {
	name        string
	real        bool
	train, test []*episodic.Episode
	// long are episodes of longSteps steps; those of test have any number. joined
	// are such whose results are longer than those of real ones.
	long, joined []*episodic.Episode
}

// resultSizes are about how many bytes a tool answers with in generated episodes.
var resultSizes = []int{500, 2000, 8000}

// materials returns the episodes of tau-bench, if they are there, and generated
// ones with test episodes of each size.
func (b *bench) materials(test int) ([]*material, error) {
	var list []*material
	runs, err := airlineRuns(b.data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b.printf("\nThe episodes of tau-bench were left out, because they are not in %s.\n", b.data)
	case err != nil:
		return nil, err
	default:
		list = append(list, airline(runs, test))
	}
	train := retrainAt
	if b.short {
		train = 20 // the least
	}
	for i, size := range resultSizes {
		m := &material{name: fmt.Sprintf("generated, results of %g KB", float64(size)/1000)}
		for n := range train + test {
			e := b.corpus.longEpisode(10_000*(i+1)+n, size)
			if n < train {
				m.train = append(m.train, e)
			} else {
				m.long = append(m.long, e)
			}
		}
		m.test = m.long
		list = append(list, m)
	}
	return list, nil
}

// airline makes material of runs, by the tasks' numbers: nothing is trained of an
// even one, and nothing measured with an odd one. So many long episodes are made
// of the steps of those measured with.
func airline(runs []airlineRun, long int) *material {
	m := &material{name: "tau-bench", real: true}
	var steps []episodic.Step
	for i := range runs {
		e := runs[i].episode()
		if runs[i].Task%2 == 1 {
			m.train = append(m.train, e)
			continue
		}
		m.test = append(m.test, e)
		steps = append(steps, e.Steps...)
	}
	m.long = lengthen(m.test, steps, long)
	m.joined = lengthen(m.test, joinResults(steps, 2000), long)
	return m
}

// lengthen makes n episodes of longSteps steps, going round.
func lengthen(episodes []*episodic.Episode, steps []episodic.Step, n int) (long []*episodic.Episode) {
	for i := range n {
		e := *episodes[i%len(episodes)]
		e.Steps = nil
		r := rand.New(rand.NewPCG(10, uint64(i)))
		for k := range longSteps {
			s := steps[(i*longSteps+k)%len(steps)]
			s.Time = moment(r, e.Start, k)
			e.Steps = append(e.Steps, s)
			e.End = s.Time
		}
		long = append(long, &e)
	}
	return long
}

// joinResults makes fewer steps, each with the results of several: so many bytes
// or more. No result is in two of them, so that nothing repeats by that.
func joinResults(steps []episodic.Step, size int) (joined []episodic.Step) {
	known := make(map[string]bool)
	var texts []string
	length := 0
	for _, s := range steps {
		if s.Result == nil || known[s.Result.Text] {
			continue
		}
		known[s.Result.Text] = true
		texts = append(texts, s.Result.Text)
		if length += len(s.Result.Text); length >= size {
			s.Result = &episodic.Result{Kind: episodic.ResultOutput, Text: strings.Join(texts, "\n")}
			joined = append(joined, s)
			texts, length = nil, 0
		}
	}
	return joined
}

// moment is some time within the four seconds that step i has.
func moment(r *rand.Rand, start time.Time, i int) time.Time {
	return start.Add(time.Duration(i)*4*time.Second + time.Duration(r.IntN(4e6))*time.Microsecond)
}

// longEpisode makes an episode of longSteps steps whose results have about so
// many bytes.
func (c *corpus) longEpisode(number, size int) *episodic.Episode {
	e, w := c.episode(number), c.writer(-number)
	e.ID, e.Steps = episodic.ID{}, nil
	e.Context.Tags = slices.Compact(e.Context.Tags) // as they are stored
	for i := range longSteps {
		s := w.step(moment(w.r, e.Start, i))
		s.Result.Text = w.output(s.Tool, size)
		e.Steps = append(e.Steps, s)
		e.End = s.Time
	}
	return e
}

// fields are what the records of a tool's answers may have, besides an id.
var fields = []struct {
	name  string
	value func(w writer) string // in JSON
}{
	{"status", func(w writer) string { return `"` + w.one(tags) + `"` }},
	{"name", func(w writer) string { return `"` + w.words(2) + `"` }},
	{"amount", func(w writer) string { return fmt.Sprintf("%d.%02d", w.r.IntN(1000), w.r.IntN(100)) }},
	{"description", func(w writer) string { return `"` + w.words(9) + `"` }},
	{"owner", func(w writer) string { return fmt.Sprintf(`"u_%06d"`, w.r.IntN(1e6)) }},
	{"active", func(w writer) string { return fmt.Sprint(w.r.IntN(3) > 0) }},
	{"created_at", func(w writer) string {
		return time.Unix(1767225600+w.r.Int64N(2e7), 0).UTC().Format(`"2006-01-02T15:04:05Z"`)
	}},
	{"count", func(w writer) string { return fmt.Sprint(w.r.IntN(500)) }},
	{"path", func(w writer) string { return `"/` + strings.ReplaceAll(w.words(4), " ", "/") + `"` }},
}

// output is a list of records of about so many bytes. Every tool has fields of
// its own.
func (w writer) output(tool string, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"request_id": "%016x", "items": [`, w.r.Uint64())
	for n := 0; n == 0 || b.Len() < size; n++ {
		if n > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `{"id": "%08x"`, w.r.Uint32())
		for i := range 5 {
			f := fields[(len(tool)+2*i)%len(fields)]
			fmt.Fprintf(&b, `, "%s": %s`, f.name, f.value(w))
		}
		b.WriteString("}")
	}
	b.WriteString("]}")
	return b.String()
}
