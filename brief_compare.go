package episodic

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// compareRuns returns the calls that all successful runs made and no failed one did, the
// last of a run first, and those that failed runs made and no successful one did, those of
// most runs first. Calls that ended in an error are the last of worked.
func compareRuns(runs []ranRun) (worked, failed []Call) {
	good, bad := make(map[string]int), make(map[string]int) // how many runs made a call
	var succeeded, others []ranRun
	for _, r := range runs {
		made := good
		switch {
		case r.episode.Outcome.Kind == Success:
			succeeded = append(succeeded, r)
		case failedRun(r.episode.Outcome.Kind):
			others = append(others, r)
			made = bad
		default:
			continue
		}
		for _, c := range r.calls {
			made[c.key()]++
		}
	}
	if len(succeeded) > 0 {
		for _, c := range succeeded[0].calls {
			if key := c.key(); good[key] == len(succeeded) && bad[key] == 0 {
				c.Runs = len(succeeded)
				worked = append(worked, c)
			}
		}
	}
	seen := make(map[string]bool)
	for _, r := range others {
		for _, c := range r.calls {
			key := c.key()
			if seen[key] || good[key] > 0 || len(succeeded) == 0 && !c.wentWrong() {
				continue
			}
			seen[key] = true
			c.Runs = bad[key]
			failed = append(failed, c)
		}
	}
	slices.SortStableFunc(worked, func(a, b Call) int {
		return cmp.Or(orderBools(a.wentWrong(), b.wentWrong()), cmp.Compare(b.Step, a.Step))
	})
	slices.SortStableFunc(failed, func(a, b Call) int { return cmp.Or(cmp.Compare(b.Runs, a.Runs), cmp.Compare(b.Step, a.Step)) })
	return worked, failed
}

// orderBools puts false first.
func orderBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// callsOf returns the calls of a run, each where it was made last.
func callsOf(e *Episode) []Call {
	var calls []Call
	seen := make(map[string]bool)
	for i := len(e.Steps) - 1; i >= 0; i-- {
		c := callOf(e, &e.Steps[i])
		if key := c.key(); !seen[key] {
			seen[key] = true
			calls = append(calls, c)
		}
	}
	slices.Reverse(calls)
	return calls
}

func callOf(e *Episode, s *Step) Call {
	c := Call{Tool: s.Tool, Arguments: normalJSON(string(s.Parameters)), Episode: e.ID, Start: e.Start, Step: s.Number}
	if c.Arguments == "" {
		c.Arguments = oneLine(s.Action)
	}
	if s.Result != nil {
		c.Result = s.Result.Kind
	}
	return c
}

// key is the same for calls that are the same.
func (c *Call) key() string { return c.Tool + "\x00" + c.Arguments }

func (c *Call) wentWrong() bool { return c.Result == ResultError || c.Result == ResultTimeout }

// normalJSON is JSON without white space and with the keys of objects in order; numbers
// stay as they are written. What is no JSON stays as it is.
func normalJSON(text string) string {
	if !json.Valid([]byte(text)) {
		return text
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return text
	}
	return strings.TrimSuffix(b.String(), "\n")
}
