package payload

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/episodic-memory/episodic/internal/codec"
)

func TestUselessDictionariesAreNotUsed(t *testing.T) {
	for _, tt := range []struct {
		text   func(i int) string
		reason string
	}{
		{func(int) string { return "the same task every time" }, "too few different tasks"},
		{func(i int) string { // letters at random, and so few in common that a dictionary hardly helps
			r, text := rand.New(rand.NewPCG(7, uint64(i))), make([]byte, 4000)
			for n := range text {
				text[n] = byte('!' + r.IntN(90))
			}
			return "do this, please: " + strings.ReplaceAll(string(text), `\`, "a")
		}, "hardly better"},
	} {
		m := onFile(t)
		for i := range 30 {
			payload := encode(nil, seal{}, []byte(`{"description":"`+strings.ReplaceAll(tt.text(i), `"`, "'")+`"}`))
			m.exec(t, "INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(randomblob(16), '', '', '', '', 0, 0, 0, ?)", payload)
		}
		done, err := m.Train(t.Context())
		ok(t, err)
		if len(done) != 1 || done[0].Dictionary != 0 || !strings.Contains(done[0].Reason, tt.reason) {
			t.Errorf("training: %+v, want none because of %q", done, tt.reason)
		}
		if n := m.number(t, "SELECT count(*) FROM dictionaries"); n != 0 {
			t.Errorf("%d dictionaries are kept", n)
		}
		done, err = m.Train(t.Context())
		ok(t, err)
		if len(done) != 0 {
			t.Errorf("a second attempt: %+v", done)
		}
	}
}

// However much little payloads become, training looks at a bounded part of it.
func TestTrainingLooksAtABoundedPart(t *testing.T) {
	m := onFile(t)
	text := strings.Repeat("the same line of a log, again and again\n", 50_000) // 2 MB
	for range 10 {
		_, err := m.put(t.Context(), head{Description: "x"}, []step{{Result: text}, {Result: text}})
		ok(t, err)
	}
	samples, _, _, err := m.dictionaries.sample(t.Context(), Episodes)
	ok(t, err)
	if len(samples) < 20 {
		t.Errorf("%d samples", len(samples))
	}
	for _, x := range samples {
		if len(x.Data) > maxSample || cap(x.Data) > 2*maxSample {
			t.Errorf("a sample of %d bytes, which keeps %d", len(x.Data), cap(x.Data))
		}
	}
}

// Stores of one database come to a milestone together, and one of them trains.
func TestOneOfManyTrains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	first := open(t, path, Options{DisableTraining: true})
	first.putTasks(t, 0, 70)
	var wait sync.WaitGroup
	var all [6]*memory
	for i := range all {
		all[i] = open(t, path, Options{})
		wait.Go(func() {
			if _, err := all[i].Train(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	var trained uint64
	for _, m := range all {
		m.dictionaries.mu.Lock()
		trained += m.dictionaries.trainings
		m.dictionaries.mu.Unlock()
		if id := m.kinds[Episodes].active.Load().dictionary; id < codec.MinTrainedID {
			t.Errorf("a Store encodes with dictionary %d", id)
		}
	}
	if trained != 1 {
		t.Errorf("%d trainings, want 1", trained)
	}
}
