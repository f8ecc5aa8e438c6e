package episodic

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/episodic-memory/episodic/internal/redact"
)

// imported is what an import makes of a stored episode and the record that it is of: the
// record, with what was added to the episode here. ImportDiffers: neither has grown out of
// the other, and the record is not ongoing.
func imported(old, record *Episode, ongoing bool) (*Episode, ImportOutcome) {
	e := *record
	switch {
	case grown(old.Steps, record.Steps):
	case grown(record.Steps, old.Steps): // steps were added here
		e.Steps = old.Steps
	case ongoing:
	default:
		return nil, ImportDiffers
	}
	e.StepCount = len(e.Steps)
	e.Context.Tags = union(record.Context.Tags, old.Context.Tags)
	e.Context.Domain = cmp.Or(old.Context.Domain, record.Context.Domain)
	e.Metadata = maps.Clone(old.Metadata)
	if e.Metadata == nil {
		e.Metadata = make(map[string]string)
	}
	maps.Copy(e.Metadata, record.Metadata)
	if old.Outcome.Kind != "" && record.Outcome.Kind == "" {
		e.Outcome = old.Outcome
	}
	if record.Reward == nil {
		e.Reward = old.Reward
	}
	if reflect.ValueOf(record.Reflection).IsZero() {
		e.Reflection = old.Reflection
	}
	if len(record.AppliedPatterns) == 0 {
		e.AppliedPatterns = old.AppliedPatterns
	}
	if reopened := ongoing && e.End.IsZero() && old.Outcome.Kind == ""; old.End.After(e.End) && !reopened {
		e.End = old.End
	}
	if old.Start.Before(e.Start) {
		e.Start = old.Start
	}
	if sameEpisode(old, &e) {
		return old, ImportUnchanged
	}
	return &e, ImportUpdated
}

// importedClean is imported for an episode that differs from its record, perhaps only because
// one of them was redacted and the other was not. Secrets that were stored are replaced by
// then; a Store that does not redact leaves what is stored as it is.
func (s *Store) importedClean(old, record *Episode) (*Episode, ImportOutcome) {
	a, b := old.clone(), record.clone()
	for _, e := range []*Episode{a, b} {
		(&cleaning{new(redact.Redactor).Pass()}).episode(e)
	}
	e, how := imported(a, b, false)
	switch {
	case how == ImportDiffers:
	case !s.redactor.works():
		for i := len(old.Steps); how == ImportUpdated && i < len(record.Steps); i++ {
			e.Steps[i] = record.Steps[i]
		}
	case how == ImportUnchanged:
		how = ImportUpdated
	}
	return e, how
}

// grown reports whether steps have come of before by what follows the last of them, and by
// results that were waited for.
func grown(before, steps []Step) bool {
	if len(before) > len(steps) {
		return false
	}
	for i := range before {
		b, s := before[i], steps[i]
		if b.Result == nil {
			s.Result, s.Latency = nil, b.Latency
		}
		if b.Tokens == 0 {
			s.Tokens = 0
		}
		b.Metadata, s.Metadata = nil, nil
		if !sameStep(&b, &s) {
			return false
		}
	}
	return true
}

func sameStep(a, b *Step) bool {
	x, y := *a, *b
	x.Number, y.Number = 0, 0
	x.Time, y.Time = truncateMicros(x.Time), truncateMicros(y.Time)
	x.Metadata, y.Metadata = nil, nil
	return maps.Equal(a.Metadata, b.Metadata) && reflect.DeepEqual(x, y)
}

// sameEpisode reports whether two episodes are stored alike.
func sameEpisode(a, b *Episode) bool {
	if !slices.EqualFunc(a.Steps, b.Steps, func(x, y Step) bool { return sameStep(&x, &y) }) || !maps.Equal(a.Metadata, b.Metadata) {
		return false
	}
	x, y := normal(a), normal(b)
	return reflect.DeepEqual(x, y)
}

// normal is an episode without its steps and metadata, and without what makes no difference.
func normal(e *Episode) *Episode {
	n := e.clone()
	n.Steps, n.StepCount, n.Metadata, n.Revision, n.Scope = nil, 0, nil, 0, Scope{}
	n.Start, n.End = truncateMicros(n.Start), truncateMicros(n.End)
	if len(n.Context.Tags) == 0 {
		n.Context.Tags = nil
	}
	if len(n.AppliedPatterns) == 0 {
		n.AppliedPatterns = nil
	}
	return n
}

// union is a list, and behind it what of another is not in it.
func union(list, more []string) []string {
	list = slices.Clone(list)
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
