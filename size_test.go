package episodic

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/testkit"
)

func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// decoded returns copies of v as reading makes them.
func decoded[T any](t *testing.T, v T, n int) []T {
	t.Helper()
	text, err := json.Marshal(v)
	ok(t, err)
	all := make([]T, n)
	for i := range all {
		ok(t, json.Unmarshal(text, &all[i]))
	}
	return all
}

// longEpisode has 100 steps with metadata.
func longEpisode(i int) *Episode {
	e := &Episode{Description: fmt.Sprint("task ", i), Outcome: Outcome{Kind: Success}}
	for j := range 100 {
		e.Steps = append(e.Steps, Step{Tool: "t", Result: &Result{Kind: ResultOutput, Text: "k"}, Metadata: map[string]string{"a": fmt.Sprint(j), "b": "2", "c": "3"}})
	}
	return e
}

func manyEntries(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprintf("key number %d", i)] = fmt.Sprintf("value %d", i)
	}
	return m
}

// sizeCase compares a size with what many such values take.
func sizeCase[T any](v T, size func(T) int) func(t *testing.T, n int) (said, took float64) {
	return func(t *testing.T, n int) (said, took float64) {
		before := heapBytes()
		all := decoded(t, v, n)
		grown := heapBytes() - before
		said = float64(size(all[0]))
		var element T
		took = float64(grown)/float64(n) - float64(reflect.TypeOf(&element).Elem().Size())
		runtime.KeepAlive(all)
		return said, took
	}
}

func TestSizes(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes memory of its own")
	}
	small := &Episode{ID: NewID(), TaskType: "debugging", Description: "Fix the race", Context: Context{Domain: "web", Tags: []string{"go", "race"}}}
	text := &Episode{Description: strings.Repeat("much the same ", 300), Metadata: manyEntries(3)}
	page := &Page[*Episode]{Items: []*Episode{small, text, small, small, small}, Next: "next"}
	p := &Pattern{Description: "x", Evidence: []ID{NewID(), NewID()}, Metadata: manyEntries(100), ErrorRecovery: &ErrorRecovery{Error: "EOF", Steps: []string{"wait", "again"}}}
	h := &Heuristic{Condition: "if it fails", Action: "look at the log", Evidence: Evidence{Episodes: []ID{NewID()}}}
	for _, test := range []struct {
		name    string
		n       int
		measure func(t *testing.T, n int) (said, took float64)
	}{
		{"100 steps", 200, sizeCase(longEpisode(1), (*Episode).size)},
		{"small episode", 5000, sizeCase(small, (*Episode).size)},
		{"long text", 2000, sizeCase(text, (*Episode).size)},
		{"page", 1000, sizeCase(page, func(p *Page[*Episode]) int { return p.size((*Episode).size) })},
		{"pattern", 1000, sizeCase(p, (*Pattern).size)},
		{"heuristic", 5000, sizeCase(h, (*Heuristic).size)},
		{"9 in a map", 2000, sizeCase(&Heuristic{Metadata: manyEntries(9)}, (*Heuristic).size)},
		{"16 in a map", 2000, sizeCase(&Heuristic{Metadata: manyEntries(16)}, (*Heuristic).size)},
	} {
		var said, took float64
		fits := false
		for range 5 { // the heap also changes by what earlier tests have left behind
			said, took = test.measure(t, test.n)
			if fits = said >= 0.9*took && said <= 1.15*took; fits {
				break
			}
		}
		t.Logf("%s: %.0f bytes, the heap %.0f (%.2f)", test.name, said, took, said/took)
		if !fits {
			t.Errorf("%s: size is %.0f bytes, the heap grew by %.0f", test.name, said, took)
		}
	}
}

// sizeOf is the size of what v points to, by reflection.
func sizeOf(v reflect.Value) (n int) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		return 0 // of what is read all are in UTC, which needs no memory
	}
	switch v.Kind() {
	case reflect.String:
		return allocated(v.Len())
	case reflect.Pointer:
		if !v.IsNil() {
			n = allocated(int(v.Type().Elem().Size())) + sizeOf(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += sizeOf(v.Field(i))
		}
	case reflect.Slice:
		n = allocated(v.Cap() * int(v.Type().Elem().Size()))
		for i := range v.Len() {
			n += sizeOf(v.Index(i))
		}
	case reflect.Map:
		switch m := v.Interface().(type) {
		case map[string]string:
			n = mapSize(m)
		case map[string]float64:
			n = mapSize(m)
		default:
			panic(fmt.Sprintf("the size of a %T is not known", m))
		}
		for k, e := range v.Seq2() {
			n += sizeOf(k) + sizeOf(e)
		}
	}
	return n
}

// No field is left out of a size.
func TestSizesKnowAllFields(t *testing.T) {
	check := func(v any, size int) {
		t.Helper()
		if want := sizeOf(reflect.ValueOf(v)); size != want {
			t.Errorf("%T: size %d, its fields have %d", v, size, want)
		}
	}
	for n := range 4 {
		var (
			e Episode
			p Pattern
			h Heuristic
			l Page[*Episode]
			s Hit
		)
		for _, v := range []any{&e, &p, &h, &l, &s} {
			fill(reflect.ValueOf(v).Elem(), n)
		}
		if n == 0 {
			s.Episode = &Episode{}
		}
		check(&e, e.size())
		check(&p, p.size())
		check(&h, h.size())
		check(&l, l.size((*Episode).size))
		check(s, s.size())
	}
}

// MaxBytes bounds what the cache takes of the heap.
func TestCacheMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes memory of its own")
	}
	for _, test := range []struct {
		name  string
		bound int64
		n     int
		make  func(i int) *Episode
	}{
		{"100 steps", 8 << 20, 300, longEpisode},
		{"small", 8 << 20, 12_000, func(i int) *Episode { return &Episode{Description: fmt.Sprint("task ", i)} }},
		{"100 steps", 64 << 20, 1400, longEpisode},
	}[:testkit.Effort(1, 2, 3)] {
		s := open(t, filepath.Join(t.TempDir(), "m.db"), &Options{Cache: Cache{MaxBytes: test.bound}, Compression: Compression{DisableDictionaries: true}})
		var ids []ID
		for len(ids) < test.n {
			var some []*Episode
			for range min(200, test.n-len(ids)) {
				some = append(some, test.make(len(ids)+len(some)))
			}
			_, err := s.AddEpisodes(t.Context(), some...)
			ok(t, err)
			for _, e := range some {
				ids = append(ids, e.ID)
			}
		}
		for range 20 { // what reading needs once
			_, err := s.Pattern(t.Context(), NewID())
			if err == nil {
				t.Fatal("found")
			}
		}
		before := heapBytes()
		for _, id := range ids {
			_, err := s.Episode(t.Context(), id)
			ok(t, err)
		}
		grown := heapBytes() - before
		c := s.Stats().Cache
		t.Logf("%s, MaxBytes %d MiB: %d entries are said to take %.1f MiB; the heap grew by %.1f MiB, %.2f of MaxBytes",
			test.name, test.bound>>20, c.Entries, float64(c.Bytes)/(1<<20), float64(grown)/(1<<20), float64(grown)/float64(test.bound))
		if float64(grown) > 1.3*float64(test.bound) || float64(c.Bytes) < 0.8*float64(test.bound) || c.Evictions == 0 {
			t.Errorf("%s: MaxBytes is %d, the heap grew by %d; %+v", test.name, test.bound, grown, c)
		}
		ok(t, s.Close())
	}
}
