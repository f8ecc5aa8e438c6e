package main

import (
	"cmp"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/episodic-memory/episodic"
)

const (
	vocabularySize = 15_000
	stepsEach      = 8
)

// words.txt is in the order of frequency.
//
//go:embed words.txt
var commonWords string

var (
	domains   = strings.Fields("airline retail billing payments search catalog identity reporting shipping support scheduling infrastructure")
	languages = strings.Fields("go python typescript rust java sql")
	tags      = strings.Fields("regression flaky urgent refund migration timeout concurrency parsing permissions cache schema rollout audit encoding retry cleanup")
	tools     = strings.Fields(`read_file write_file search_code run_tests run_command list_files apply_patch query_database get_user_details
		update_reservation cancel_order find_orders send_email fetch_url create_ticket calculate`)
	keys = strings.Fields("path user_id order_id query amount reason limit target")
)

// corpus makes episodes; the same number always gives the same episode. Its
// words are distributed as those of a language are: a few stand nearly
// everywhere, most hardly anywhere.
type corpus struct {
	words []string // the most frequent first
}

// newCorpus follows the listed words with made-up ones.
func newCorpus() *corpus {
	c := &corpus{words: strings.Fields(commonWords)}
	known := make(map[string]bool)
	for _, w := range c.words {
		known[w] = true
	}
	r := rand.New(rand.NewPCG(1, 0))
	pick := func(s string) byte { return s[r.IntN(len(s))] }
	for len(c.words) < vocabularySize {
		var w []byte
		for range 2 + r.IntN(3) {
			w = append(w, pick("bcdfghklmnprtvz"), pick("aeiou"))
		}
		w = append(w, pick("lmnrtk"))
		if !known[string(w)] {
			known[string(w)] = true
			c.words = append(c.words, string(w))
		}
	}
	return c
}

func (c *corpus) episodes(from, n int) []*episodic.Episode {
	list := make([]*episodic.Episode, n)
	for i := range list {
		list[i] = c.episode(from + i)
	}
	return list
}

// episode makes an episode of about 6 KB.
func (c *corpus) episode(number int) *episodic.Episode {
	w := c.writer(number)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(number) * time.Minute)
	e := &episodic.Episode{
		ID:          w.id(start),
		TaskType:    []episodic.TaskType{episodic.TaskDebugging, episodic.TaskCodeGeneration, episodic.TaskAnalysis, episodic.TaskOther}[w.r.IntN(4)],
		Description: w.text(35),
		Context: episodic.Context{
			Domain:     w.one(domains),
			Language:   w.one(languages),
			Complexity: episodic.Moderate,
			Tags:       []string{w.one(tags), w.one(tags)},
		},
		Start: start,
		End:   start.Add(time.Duration(1+w.r.IntN(600)) * time.Second),
		Reward: &episodic.Reward{
			Total:      float64(w.r.IntN(100)) / 100,
			Components: map[string]float64{"correctness": float64(w.r.IntN(10)) / 10, "efficiency": float64(w.r.IntN(10)) / 10},
		},
		Reflection: episodic.Reflection{Successes: []string{w.text(10)}, Improvements: []string{w.text(10)}, Insights: []string{w.text(15)}},
		Metadata:   map[string]string{"agent": "bench", "session": fmt.Sprintf("s-%06d", w.r.IntN(1_000_000))},
	}
	switch p := w.r.IntN(20); {
	case p < 12:
		e.Outcome = episodic.Outcome{Kind: episodic.Success, Verdict: w.text(10), Artifacts: []string{w.words(2)}}
	case p < 15:
		e.Outcome = episodic.Outcome{Kind: episodic.PartialSuccess, Verdict: w.text(10), Completed: []string{w.words(3)}, Failed: []string{w.words(3)}}
	case p < 19:
		e.Outcome = episodic.Outcome{Kind: episodic.Failure, Reason: w.text(10), Details: w.text(20)}
	default:
		e.Outcome = episodic.Outcome{Kind: episodic.Abstained, Reason: w.text(10)}
	}
	for i := range stepsEach {
		e.Steps = append(e.Steps, w.step(start.Add(time.Duration(i)*time.Second)))
	}
	return e
}

// writer writes one text of the corpus.
type writer struct {
	corpus *corpus
	r      *rand.Rand
	zipf   *rand.Zipf
}

func (c *corpus) writer(number int) writer {
	r := rand.New(rand.NewPCG(2, uint64(number)))
	return writer{c, r, rand.NewZipf(r, 1.05, 3, uint64(len(c.words)-1))}
}

// id makes a UUIDv7.
func (w writer) id(at time.Time) episodic.ID {
	var id episodic.ID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000|w.r.Uint64N(0x1000))
	binary.BigEndian.PutUint64(id[8:], 1<<63|w.r.Uint64N(1<<62))
	return id
}

func (w writer) step(at time.Time) episodic.Step {
	result := &episodic.Result{Kind: episodic.ResultOutput, Text: w.text(65)}
	if w.r.IntN(8) == 0 {
		result.Kind = episodic.ResultError
	}
	return episodic.Step{
		Time:       at,
		Tool:       w.one(tools),
		Action:     w.text(7),
		Parameters: episodic.JSON(fmt.Sprintf(`{"%s":"%s","%s":%d,"%s":"%s"}`, w.one(keys[:3]), w.words(2), keys[4], w.r.IntN(10_000), w.one(keys[5:]), w.words(4))),
		Result:     result,
		Latency:    time.Duration(w.r.IntN(3000)) * time.Millisecond,
		Tokens:     w.r.IntN(2000),
	}
}

func (w writer) one(list []string) string { return list[w.r.IntN(len(list))] }

func (w writer) words(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = w.corpus.words[w.zipf.Uint64()]
	}
	return strings.Join(list, " ")
}

// text is n words, a number and an end.
func (w writer) text(n int) string {
	return fmt.Sprintf("%s %d.", w.words(n), w.r.IntN(1000))
}

// row is a text of so many bytes.
func (c *corpus) row(number, size int) string {
	text := c.writer(number).words(size)
	return text[:size]
}

// tally counts in how many episodes a word stands where a search looks for it.
type tally struct {
	episodes int
	bytes    int // as JSON
	of       map[string]int
}

func (t *tally) add(e *episodic.Episode) error {
	doc, err := json.Marshal(e)
	if err != nil {
		return err
	}
	parts := []string{e.Description, e.Outcome.Verdict, e.Outcome.Reason, e.Outcome.Details}
	for _, list := range [][]string{e.Outcome.Artifacts, e.Outcome.Completed, e.Outcome.Failed} {
		parts = append(parts, list...)
	}
	for _, s := range e.Steps {
		parts = append(parts, s.Action)
	}
	seen := make(map[string]bool)
	for w := range strings.FieldsFuncSeq(strings.Join(parts, " "), func(r rune) bool { return !unicode.IsLetter(r) }) {
		seen[w] = true
	}
	if t.of == nil {
		t.of = make(map[string]int)
	}
	for w := range seen {
		t.of[w]++
	}
	t.episodes++
	t.bytes += len(doc)
	return nil
}

// frequency is a class of words: those in about this part of the episodes.
type frequency struct {
	name string
	part float64
}

var frequencies = []frequency{{"rare", 0.001}, {"middling", 0.02}, {"common", 0.4}}

// wordsOf returns the 30 words that come nearest to a frequency, in the order of
// the alphabet. Short words are left out: some of them are not searched for.
func (t *tally) wordsOf(f frequency) []string {
	off := func(w string) float64 {
		return math.Abs(math.Log(float64(t.of[w]) / float64(t.episodes) / f.part))
	}
	list := slices.Sorted(maps.Keys(t.of))
	list = slices.DeleteFunc(list, func(w string) bool { return len(w) < 5 })
	slices.SortStableFunc(list, func(a, b string) int { return cmp.Compare(off(a), off(b)) })
	list = list[:min(30, len(list))]
	slices.Sort(list)
	return list
}

// query is three different words of a list.
func query(list []string) string {
	p := rand.Perm(len(list))
	return list[p[0]] + " " + list[p[1]] + " " + list[p[2]]
}
