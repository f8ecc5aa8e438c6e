package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// repeats are episodes without end: those of the runs of tau-bench again and
// again, with other names and times each time. The same number always gives the
// same episode.
type repeats struct {
	corpus *corpus
	docs   [][]passage // of an episode each, as JSON; none: those of the corpus
}

// passage is a text that stays as it is, with a name behind it that changes;
// empty if there is none.
type passage struct{ text, name string }

// changing finds user ids, means of payment, days, and what may be the id of a
// reservation.
var changing = regexp.MustCompile(`\b[a-z]+_[a-z]+_\d{4}\b|\b(?:credit_card|gift_card|certificate)_\d{7}\b|\b2024-05-\d{2}\b|\b[A-Z0-9]{6}\b`)

// repeats reads the runs, and says so if there are none.
func (b *bench) repeats() (*repeats, error) {
	r := &repeats{corpus: b.corpus}
	runs, err := airlineRuns(b.data)
	if errors.Is(err, fs.ErrNotExist) {
		b.printf("\nThe episodes are generated, because those of tau-bench are not in %s.\n", b.data)
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range runs {
		doc, err := json.Marshal(runs[i].episode())
		if err != nil {
			return nil, err
		}
		r.docs = append(r.docs, passages(string(doc)))
	}
	return r, nil
}

func passages(doc string) (list []passage) {
	from := 0
	for _, at := range changing.FindAllStringIndex(doc, -1) {
		name := doc[at[0]:at[1]]
		if len(name) == 6 && (!isReservation(name) || doc[at[0]-1] == '.') { // a time ends in .12345Z
			continue
		}
		list = append(list, passage{doc[from:at[0]], name})
		from = at[1]
	}
	return append(list, passage{text: doc[from:]})
}

// isReservation tells the id of a reservation from a word, a number and a flight.
func isReservation(name string) bool {
	const letters, digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	return strings.ContainsAny(name, letters) && strings.ContainsAny(name, digits) && !strings.HasPrefix(name, "HAT")
}

// surnames is how many there are, so that most are rare words.
const surnames = 1000

// renamed is what a name is in a repetition, wherever it stands.
func (r *repeats) renamed(name string, repetition int) string {
	h := fnv.New64a()
	h.Write([]byte(name))
	random := rand.New(rand.NewPCG(h.Sum64(), uint64(repetition)))
	stem := name[:strings.LastIndexByte(name, '_')+1]
	switch digits := len(name) - len(stem); {
	case strings.HasPrefix(name, "2024-"):
		return fmt.Sprintf("2024-05-%02d", 1+random.IntN(30))
	case stem == "":
		const signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		id := make([]byte, len(name))
		for i := range id {
			id[i] = signs[random.IntN(len(signs))]
		}
		return string(id)
	case digits == 7:
		return fmt.Sprintf("%s%07d", stem, random.IntN(1e7))
	}
	first, _, _ := strings.Cut(name, "_")
	words := r.corpus.words[len(r.corpus.words)-surnames:] // made-up ones
	return fmt.Sprintf("%s_%s_%04d", first, words[random.IntN(surnames)], random.IntN(1e4))
}

func (r *repeats) episodes(from, n int) ([]*episodic.Episode, error) {
	if r.docs == nil {
		return r.corpus.episodes(from, n), nil
	}
	list := make([]*episodic.Episode, n)
	for i := range list {
		var err error
		if list[i], err = r.episode(from + i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (r *repeats) episode(number int) (*episodic.Episode, error) {
	var doc strings.Builder
	for _, p := range r.docs[number%len(r.docs)] {
		doc.WriteString(p.text)
		if p.name != "" {
			doc.WriteString(r.renamed(p.name, number/len(r.docs)))
		}
	}
	e := &episodic.Episode{}
	if err := json.Unmarshal([]byte(doc.String()), e); err != nil {
		return nil, fmt.Errorf("episode %d: %w", number, err)
	}
	w := r.corpus.writer(number)
	later := time.Date(2026, 1, 1, 0, number, 0, 0, time.UTC).Sub(e.Start)
	e.Start, e.End = e.Start.Add(later), e.End.Add(later)
	e.ID = w.id(e.Start)
	for i := range e.Steps {
		s := &e.Steps[i]
		s.Time = s.Time.Add(later)
		s.Latency += time.Duration(w.r.IntN(1e6))
	}
	return e, nil
}

// long makes n episodes of longSteps steps.
func (r *repeats) long(from, n int) ([]*episodic.Episode, error) {
	list, err := r.episodes(from, 100)
	if err != nil {
		return nil, err
	}
	var steps []episodic.Step
	for _, e := range list {
		steps = append(steps, e.Steps...)
	}
	return lengthen(list, steps, n), nil
}

// Appends are compared at two places of an episode, the steps with these indexes.
const (
	growSteps = 85
	growPlace = 5  // steps at each place
	growEarly = 2  // the first of the steps 3 to 7
	growLate  = 77 // the first of the steps 78 to 82
)

// growing makes pairs of episodes of growSteps steps of a coding agent. Of each
// pair one has the steps of the two places the other way round, so that what is
// appended at both is the same.
func (b *bench) growing(pairs int) (list []*episodic.Episode, err error) {
	steps, err := codingSteps(b.data, pairs*growSteps)
	if errors.Is(err, fs.ErrNotExist) {
		b.printf("\nThe steps of the coding agent are generated, because there are no runs of one in %s.\n", b.data)
		steps, err = b.corpus.longSteps(pairs*growSteps), nil
	}
	if err != nil {
		return nil, err
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for own := range slices.Chunk(steps, growSteps) {
		turned := slices.Clone(own)
		copy(turned[growEarly:], own[growLate:growLate+growPlace])
		copy(turned[growLate:], own[growEarly:growEarly+growPlace])
		for _, s := range [][]episodic.Step{own, turned} {
			list = append(list, &episodic.Episode{Description: "Mend what the issue describes.", Context: episodic.Context{Domain: "coding"}, Start: start, Steps: s})
		}
	}
	return list, nil
}

// codingSteps reads the first n steps of the runs of a coding agent in a folder of
// data. Where there are none the error is fs.ErrNotExist.
func codingSteps(dir string, n int) (steps []episodic.Step, err error) {
	path := filepath.Join(dir, "swe-runs.jsonl.gz")
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 10<<20)
	for len(steps) < n && lines.Scan() {
		var run struct {
			Steps []struct {
				Thought    string `json:"thought"`
				Command    string `json:"command"`
				ReturnCode int    `json:"returncode"`
				Result     string `json:"result"`
			} `json:"steps"`
		}
		if err := json.Unmarshal(lines.Bytes(), &run); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, s := range run.Steps {
			result := &episodic.Result{Kind: episodic.ResultOutput, Text: s.Result}
			if s.ReturnCode != 0 {
				result.Kind = episodic.ResultError
			}
			steps = append(steps, episodic.Step{
				Time: time.Date(2026, 1, 1, 0, 0, len(steps), 0, time.UTC), Tool: "bash", Action: s.Thought,
				Parameters: episodic.JSON(document(map[string]string{"command": s.Command})), Result: result,
			})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(steps) < n {
		return nil, fmt.Errorf("%s has %d steps, not %d", path, len(steps), n)
	}
	return steps[:n], nil
}

// longSteps generates steps with results of 2 KB.
func (c *corpus) longSteps(n int) (steps []episodic.Step) {
	for number := 0; len(steps) < n; number++ {
		steps = append(steps, c.longEpisode(number, 2000).Steps...)
	}
	return steps[:n]
}
