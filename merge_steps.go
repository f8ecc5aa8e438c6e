package episodic

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
)

// stepsRead names the steps of an episode that was read, without holding them.
type stepsRead struct {
	Count  int
	Digest []byte // of all, in order
}

// stepKeys are texts that are equal for steps that are, whatever their numbers.
func stepKeys(steps []Step) ([]string, error) {
	keys := make([]string, len(steps))
	for i, s := range steps {
		s.Number, s.Time = 0, truncateMicros(s.Time)
		text, err := json.Marshal(storedStep(s))
		if err != nil {
			return nil, err
		}
		keys[i] = string(text)
	}
	return keys, nil
}

func readSteps(keys []string) stepsRead {
	sum := sha256.New()
	for _, key := range keys {
		sum.Write([]byte(key)) // a JSON object, which says itself where it ends
	}
	return stepsRead{len(keys), sum.Sum(nil)[:16]}
}

// unknownSteps stands for steps of which it is not known what was read.
var unknownSteps = stepsRead{Count: -1}

// begin reports whether a list of steps begins with those that were read.
func (r stepsRead) begin(keys []string) bool {
	if r.Count <= 0 {
		return r.Count == 0
	}
	return len(keys) >= r.Count && bytes.Equal(readSteps(keys[:r.Count]).Digest, r.Digest)
}

// stepsMerge says what the steps of an episode become: those stored, or none of them, and
// behind them others.
type stepsMerge struct {
	stored bool
	steps  []Step
}

// mergeSteps merges the steps that two sides have made of those that were read. If only one
// side has changed them, they are its. What is added to those that were read comes behind
// what the other side has. If both have changed them otherwise, they are theirs, and behind
// them those of ours that theirs lacks. No step is lost.
func mergeSteps(base stepsRead, ours, theirs []Step) (m stepsMerge, err error) {
	o, err := stepKeys(ours)
	if err != nil {
		return m, err
	}
	t, err := stepKeys(theirs)
	if err != nil {
		return m, err
	}
	same := func(keys []string) bool { return len(keys) == base.Count && base.begin(keys) }
	switch {
	case same(o) || base.begin(o) && begins(t, o):
		return stepsMerge{stored: true}, nil
	case base.begin(t) && begins(o, t):
		return stepsMerge{stored: true, steps: ours[len(t):]}, nil
	case same(t):
		return stepsMerge{steps: ours}, nil
	case base.begin(o):
		return stepsMerge{stored: true, steps: ours[base.Count:]}, nil
	case base.begin(t):
		return stepsMerge{steps: append(slices.Clip(ours), stepsLacking(o, theirs[base.Count:], t[base.Count:])...)}, nil
	}
	return stepsMerge{stored: true, steps: stepsLacking(t, ours, o)}, nil
}

// begins reports whether a list begins with another one.
func begins(list, with []string) bool {
	return len(list) >= len(with) && slices.Equal(list[:len(with)], with)
}

// stepsLacking returns those of some steps that a list lacks, as often as it lacks them.
func stepsLacking(list []string, steps []Step, keys []string) (more []Step) {
	has := make(map[string]int, len(list))
	for _, key := range list {
		has[key]++
	}
	for i, key := range keys {
		if has[key]--; has[key] < 0 {
			more = append(more, steps[i])
		}
	}
	return more
}
