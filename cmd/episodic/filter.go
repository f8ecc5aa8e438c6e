package main

import (
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
)

// filterFlags choose episodes, for search and list.
type filterFlags struct {
	Domain   string   `help:"Only episodes of this domain."`
	TaskType string   `help:"Only tasks of this type, such as debugging."`
	Language string   `help:"Only episodes in this language, such as go."`
	Tag      []string `sep:"none" help:"Only episodes with this tag; repeatable, then with all of them."`
	Outcome  string   `help:"Only episodes with this outcome: success, partial_success, failure, abstained, or running for none yet."`
	Since    moment   `placeholder:"TIME" help:"Only episodes begun at this time or later: 2026-01-31, or 2026-01-31T09:30:00Z. Dates are UTC."`
	Until    moment   `placeholder:"TIME" help:"Only episodes begun before this time."`
}

// checkLimit checks a limit as -n gives it: 0 would mean the Store's default.
func checkLimit(n int) error {
	if n < 1 {
		return invalid("-n", "is %d; it must be 1 or more", n)
	}
	return nil
}

func (f *filterFlags) filter() *episodic.EpisodeFilter {
	filter := &episodic.EpisodeFilter{
		Domain:   f.Domain,
		TaskType: episodic.TaskType(f.TaskType),
		Language: f.Language,
		Tags:     f.Tag,
		Outcome:  episodic.OutcomeKind(f.Outcome),
		From:     time.Time(f.Since),
		To:       time.Time(f.Until),
	}
	if f.Outcome == string(episodic.StateRunning) {
		filter.Outcome, filter.State = "", episodic.StateRunning
	}
	return filter
}

// moment is a time on the command line.
type moment time.Time

func (m *moment) UnmarshalText(b []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, string(b)); err == nil {
			*m = moment(t)
			return nil
		}
	}
	return fmt.Errorf("%q is neither a date such as 2026-01-31 nor a time such as 2026-01-31T09:30:00Z", b)
}

func outcomeName(e *episodic.Episode) string {
	switch {
	case e.Outcome.Kind != "":
		return string(e.Outcome.Kind)
	case e.Running():
		return "running"
	}
	return "not judged"
}
