package main

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestGeneratedResultsHaveTheirSize(t *testing.T) {
	c := newCorpus()
	for _, size := range resultSizes {
		e := c.longEpisode(7, size)
		if len(e.Steps) != longSteps {
			t.Errorf("%d steps", len(e.Steps))
		}
		for _, s := range e.Steps {
			if n := len(s.Result.Text); n < size || n > size+300 {
				t.Errorf("a result of %d bytes, want %d", n, size)
			}
		}
	}
	if document(c.longEpisode(7, 500)) != document(newCorpus().longEpisode(7, 500)) {
		t.Error("the same number gives another episode")
	}
}

func TestNothingIsMeasuredThatWasTrainedOf(t *testing.T) {
	runs, err := airlineRuns("../../shared/data")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := airline(runs, 22)
	trained := make(map[string]bool)
	for _, e := range m.train {
		trained[e.Metadata["task_id"]] = true
	}
	if len(m.train)+len(m.test) != len(runs) || len(m.train) >= retrainAt-5 {
		t.Errorf("%d of %d runs are trained of, %d measured with; few agents may live at once", len(m.train), len(runs), len(m.test))
	}
	for _, e := range m.test {
		if trained[e.Metadata["task_id"]] {
			t.Errorf("task %s is in both", e.Metadata["task_id"])
		}
		for _, s := range e.Steps {
			if s.Result == nil {
				t.Errorf("task %s: a call of %s was not answered", e.Metadata["task_id"], s.Tool)
			}
		}
	}
	for _, e := range m.joined {
		if len(e.Steps) != longSteps {
			t.Errorf("%d steps", len(e.Steps))
		}
		for _, s := range e.Steps {
			if len(s.Result.Text) < 2000 {
				t.Errorf("a joined result of %d bytes", len(s.Result.Text))
			}
		}
	}
}

func TestLZ4TextIsReadBack(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat(`{"a": 1}`, 1000)} {
		packed, err := lz4Text(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := fromLZ4Text(packed)
		if err != nil || got != text {
			t.Errorf("%d bytes came back as %d, error %v", len(text), len(got), err)
		}
		if long := len(text) > 1000; strings.HasPrefix(packed, lz4Prefix) != long || long && len(packed) > len(text)/10 {
			t.Errorf("%d bytes are %d", len(text), len(packed))
		}
	}
}
