package episodic

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mergedOf(t testing.TB, base, ours, theirs any) (string, []string) {
	t.Helper()
	var sides [3]fields
	for i, v := range []any{base, ours, theirs} {
		var err error
		sides[i], err = fieldsOf(v)
		ok(t, err)
	}
	merged, lost := mergeFields(sides[0], sides[1], sides[2])
	var document map[string]any
	ok(t, documentOf(merged, &document))
	text, err := json.Marshal(document)
	ok(t, err)
	return string(text), lost
}

func TestMergeFields(t *testing.T) {
	type doc map[string]any
	tests := []struct {
		name               string
		base, ours, theirs doc
		merged             string
		lost               string
	}{
		{"nobody", doc{"a": 1}, doc{"a": 1}, doc{"a": 1}, `{"a":1}`, ""},
		{"ours only", doc{"a": 1}, doc{"a": 2}, doc{"a": 1}, `{"a":2}`, ""},
		{"theirs only", doc{"a": 1}, doc{"a": 1}, doc{"a": 2}, `{"a":2}`, ""},
		{"different fields", doc{"a": 1, "b": 1}, doc{"a": 2, "b": 1}, doc{"a": 1, "b": 2}, `{"a":2,"b":2}`, ""},
		{"both, equal", doc{"a": 1}, doc{"a": 2}, doc{"a": 2}, `{"a":2}`, ""},
		{"both, different", doc{"a": 1}, doc{"a": 2}, doc{"a": 3}, `{"a":2}`, "a"},
		{"removed by ours, changed by theirs", doc{"a": 1}, doc{}, doc{"a": 3}, `{}`, "a"},
		{"removed by theirs, changed by ours", doc{"a": 1}, doc{"a": 2}, doc{}, `{"a":2}`, "a"},
		{"removed by theirs", doc{"a": 1}, doc{"a": 1}, doc{}, `{}`, ""},
		{"new on both sides", doc{}, doc{"a": 2}, doc{"a": 3}, `{"a":2}`, "a"},
		{"a whole object", doc{"outcome": doc{"kind": "failure"}}, doc{"outcome": doc{"kind": "success", "verdict": "a"}}, doc{"outcome": doc{"kind": "failure", "reason": "b"}},
			`{"outcome":{"kind":"success","verdict":"a"}}`, "outcome"},
		{"metadata", doc{"metadata": doc{"x": "1", "y": "1"}}, doc{"metadata": doc{"x": "2", "y": "1", "n.m": "o"}}, doc{"metadata": doc{"y": "3", "t": "t"}},
			`{"metadata":{"n.m":"o","t":"t","x":"2","y":"3"}}`, "metadata.x"},
		{"tags", doc{"context": doc{"tags": []string{"a", "b", "c"}}}, doc{"context": doc{"tags": []string{"a", "c", "o"}, "domain": "d"}}, doc{"context": doc{"tags": []string{"t", "a", "b"}}},
			`{"context":{"domain":"d","tags":["a","o","t"]}}`, ""},
		{"no tags left", doc{"context": doc{"tags": []string{"a", "b"}}}, doc{"context": doc{"tags": []string{"a"}}}, doc{"context": doc{"tags": []string{"b"}}}, `{}`, ""},
		{"no clock decides", doc{"updated": "1"}, doc{"updated": "2"}, doc{"updated": "3"}, `{"updated":"2"}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			merged, lost := mergedOf(t, tt.base, tt.ours, tt.theirs)
			if merged != tt.merged || strings.Join(lost, " ") != tt.lost {
				t.Errorf("got %s, lost %v; want %s, lost %s", merged, lost, tt.merged, tt.lost)
			}
		})
	}
}

// anyHead is the head of an episode with few possible values, so that sides are often equal.
var anyHead = rapid.Custom(func(t *rapid.T) *Episode {
	few := func(name string) string { return rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, name) }
	some := func(name string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), 0, 3, rapid.ID[string]).Draw(t, name)
	}
	e := &Episode{Description: "d" + few("description"), Context: Context{Domain: few("domain"), Tags: some("tags")}, Reflection: Reflection{Insights: some("insights")}}
	if kind := few("outcome"); kind != "" {
		e.Outcome = Outcome{Kind: Success, Verdict: kind}
	}
	for _, k := range []string{"k", "l"} {
		if v := few(k); v != "" {
			if e.Metadata == nil {
				e.Metadata = make(map[string]string)
			}
			e.Metadata[k] = v
		}
	}
	return e
})

// What is merged, and what is named as lost, together hold all that either side has changed.
func TestMergeLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sides [3]fields
		for i, name := range []string{"base", "ours", "theirs"} {
			var err error
			sides[i], err = fieldsOf(anyHead.Draw(t, name))
			if err != nil {
				t.Fatal(err)
			}
		}
		base, ours, theirs := sides[0], sides[1], sides[2]
		equal := func(what string, got, want fields, lost []string) {
			t.Helper()
			if names := got.differing(want); len(names) > 0 || len(lost) > 0 {
				t.Errorf("%s differs in %v, lost %v", what, names, lost)
			}
		}
		merged, lost := mergeFields(base, ours, base)
		equal("merge(b, o, b)", merged, ours, lost)
		merged, lost = mergeFields(base, base, theirs)
		equal("merge(b, b, t)", merged, theirs, lost)
		merged, lost = mergeFields(base, ours, ours)
		equal("merge(b, o, o)", merged, ours, lost)
		merged, lost = mergeFields(base, ours, theirs)
		again, _ := mergeFields(base, merged, theirs)
		equal("merged again", again, merged, nil)
		for _, name := range ours.differing(base) {
			if !slices.Contains(mergedByElement, name) && string(merged[name]) != string(ours[name]) {
				t.Errorf("%s of ours is lost: %s", name, merged[name])
			}
		}
		for _, name := range theirs.differing(base) {
			if !slices.Contains(mergedByElement, name) && string(merged[name]) != string(theirs[name]) && !slices.Contains(lost, name) {
				t.Errorf("%s of theirs is lost: %s", name, merged[name])
			}
		}
		tags := func(f fields) (list []string) {
			_ = json.Unmarshal(f["context.tags"], &list) // none
			return list
		}
		for _, tag := range []string{"x", "y", "z"} {
			b, o, th := slices.Contains(tags(base), tag), slices.Contains(tags(ours), tag), slices.Contains(tags(theirs), tag)
			want := o && th || o != th && !b
			if got := slices.Contains(tags(merged), tag); got != want && string(ours["context.tags"]) != string(base["context.tags"]) && string(theirs["context.tags"]) != string(base["context.tags"]) {
				t.Errorf("tag %s: %v; in the base %v, ours %v, theirs %v", tag, got, b, o, th)
			}
		}
		var e Episode
		if err := documentOf(merged, &e); err != nil {
			t.Fatal(err)
		}
		round, err := fieldsOf(&e)
		if err != nil {
			t.Fatal(err)
		}
		equal("the document", round, merged, nil)
	})
}

func stepsOf(words string) (steps []Step) {
	for _, word := range strings.Fields(words) {
		steps = append(steps, Step{Number: len(steps) + 1, Tool: word})
	}
	return steps
}

func wordsOf(steps []Step) string {
	var words []string
	for _, s := range steps {
		words = append(words, s.Tool)
	}
	return strings.Join(words, " ")
}

// after is what the steps of an episode are that had others.
func (m stepsMerge) after(stored []Step) []Step {
	if m.stored {
		return append(slices.Clip(stored), m.steps...)
	}
	return m.steps
}

func readOf(t testing.TB, steps []Step) stepsRead {
	t.Helper()
	keys, err := stepKeys(steps)
	ok(t, err)
	return readSteps(keys)
}

func TestMergeSteps(t *testing.T) {
	tests := []struct{ name, base, ours, theirs, want string }{
		{"nobody", "a b", "a b", "a b", "a b"},
		{"ours appended", "a", "a b", "a", "a b"},
		{"theirs appended", "a", "a", "a b", "a b"},
		{"both appended", "a", "a o", "a t", "a t o"},
		{"both, the same", "a", "a x", "a x", "a x"},
		{"theirs has what ours has, and more", "a", "a x", "a x y", "a x y"},
		{"both new", "", "o", "t", "t o"},
		{"ours changed one, theirs appended", "a b", "A b", "a b t", "A b t"},
		{"theirs changed one, ours appended", "a b", "a b o", "A b", "A b o"},
		{"both changed one", "a b c", "A b c", "a B c", "a B c A b"},
		{"ours removed one", "a b", "a", "a b", "a"},
		{"theirs removed one", "a b", "a b", "a", "a"},
		{"ours removed one, theirs appended", "a b", "a", "a b t", "a t"},
		{"what ours appended was appended there before", "a o", "a o p", "a t o", "a t o p"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			theirs := stepsOf(tt.theirs)
			m, err := mergeSteps(readOf(t, stepsOf(tt.base)), stepsOf(tt.ours), theirs)
			ok(t, err)
			if got := wordsOf(m.after(theirs)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	m, err := mergeSteps(unknownSteps, stepsOf("a b o"), stepsOf("a b t"))
	ok(t, err)
	if got := wordsOf(m.after(stepsOf("a b t"))); got != "a b t o" {
		t.Errorf("of an unknown base: %s", got)
	}
}

// No step that a side has added is lost, and none is doubled.
func TestMergeStepsLosesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base := stepsOf("a b c d"[:rapid.SampledFrom([]int{0, 1, 3, 7}).Draw(rt, "base")])
		side := func(name string) (steps []Step) {
			if rapid.Bool().Draw(rt, name+" keeps") {
				steps = slices.Clone(base)
			} else {
				for _, s := range base {
					if rapid.Bool().Draw(rt, name+" keeps one") {
						steps = append(steps, s)
					}
				}
			}
			for i := range rapid.IntRange(0, 3).Draw(rt, name+" adds") {
				at := len(steps)
				if rapid.IntRange(0, 3).Draw(rt, name+" inserts") == 0 {
					at = rapid.IntRange(0, len(steps)).Draw(rt, name+" at")
				}
				steps = slices.Insert(steps, at, Step{Tool: fmt.Sprint(name, i)})
			}
			return steps
		}
		ours, theirs := side("o"), side("t")
		read := readOf(t, base)
		merge := func(ours, theirs []Step) []Step {
			m, err := mergeSteps(read, ours, theirs)
			if err != nil {
				rt.Fatal(err)
			}
			return m.after(theirs)
		}
		if got := wordsOf(merge(ours, base)); got != wordsOf(ours) {
			rt.Errorf("merge(b, o, b) is %s", got)
		}
		if got := wordsOf(merge(base, theirs)); got != wordsOf(theirs) {
			rt.Errorf("merge(b, b, t) is %s", got)
		}
		merged := merge(ours, theirs)
		// Where each side has dropped what the other keeps, both together begin with what was
		// read, and then look as if nothing had been dropped.
		undone := len(base) > 0 && strings.HasPrefix(wordsOf(merged)+" ", wordsOf(base)+" ")
		if got := wordsOf(merge(merged, theirs)); got != wordsOf(merged) && !undone {
			rt.Errorf("%s, merged again %s", wordsOf(merged), got)
		}
		times := make(map[string]int)
		for _, s := range merged {
			times[s.Tool]++
		}
		for _, s := range append(slices.Clone(ours), theirs...) {
			if n := times[s.Tool]; n > 1 || n == 0 && !slices.ContainsFunc(base, func(b Step) bool { return b.Tool == s.Tool }) {
				rt.Errorf("%s of %q, %q over %q: %d times in %q", s.Tool, wordsOf(ours), wordsOf(theirs), wordsOf(base), n, wordsOf(merged))
			}
		}
	})
}
