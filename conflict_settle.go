package episodic

import (
	"slices"
	"time"
)

// settlement is what becomes of a queued write that meets what others have written.
type settlement struct {
	does operation    // carried out in its place; nil: nothing is to be done
	kind ConflictKind // empty: nothing is lost, and nothing to be told
	kept kept

	itemKind ItemKind
	rev      int64 // of the version kept, or met
}

// kept is what lost by a settlement, as payloads of conflicts hold it: an item, or some
// fields of it, or a write. The names must stay.
type kept struct {
	// Fields are those that lost; none: the item as a whole.
	Fields    []string   `json:"fields,omitempty"`
	Episode   *Episode   `json:"episode,omitempty"` // without steps: they are parts of their own
	Pattern   *Pattern   `json:"pattern,omitempty"`
	Heuristic *Heuristic `json:"heuristic,omitempty"`
	// Write and Body are a write as outboxes hold it; 0: none.
	Write int64  `json:"write,omitempty"`
	Body  []byte `json:"body,omitempty"`
	Late  int    `json:"late,omitempty"` // steps that were added to an episode that had ended

	steps []Step // of Episode
}

// scope is that of the item.
func (k *kept) scope() Scope {
	switch {
	case k.Episode != nil:
		return k.Episode.Scope
	case k.Pattern != nil:
		return k.Pattern.Scope
	case k.Heuristic != nil:
		return k.Heuristic.Scope
	}
	return Scope{}
}

// wholeEpisode keeps an episode with its steps.
func wholeEpisode(e *Episode) kept { return kept{Episode: e, steps: e.Steps} }

// settle decides on a put of an episode that is stored as theirs.
func (o *putEpisode) settle(theirs *Episode) (s settlement, err error) {
	ours := o.Episode
	lost, err := differing(ours, theirs, (*Episode).bare)
	if err != nil {
		return s, err
	}
	same, err := sameSteps(ours.Steps, theirs.Steps)
	if err != nil {
		return s, err
	}
	rev := newRevision()
	switch {
	case theirs.Revision == o.Rev: // a copy of the outbox has pushed it
		return s, nil
	case o.Add:
		if same && len(lost) == 0 {
			return s, nil
		}
		return settlement{kind: ConflictSameID, kept: wholeEpisode(ours)}, nil
	case !o.New && o.Base == 0: // it replaces whatever there is
		s.does = &putEpisode{Episode: ours, Rev: rev, Base: theirs.Revision}
		s.kept = kept{Fields: lost, Episode: theirs}
		if !same {
			s.kept.Fields, s.kept.steps = append(lost, fieldSteps), theirs.Steps
		}
		if len(s.kept.Fields) > 0 {
			s.kind = ConflictChanged
		}
		return s, nil
	}
	base, read := &Episode{}, unknownSteps
	switch {
	case o.New:
		read = stepsRead{}
	case o.Read != nil && o.Read.Rev == o.Base && o.Read.Item != nil:
		base, read = o.Read.Item, o.Read.Steps
	}
	head, lost, err := mergeHeads(base, ours, theirs)
	if err != nil {
		return s, err
	}
	m, err := mergeSteps(read, ours.Steps, theirs.Steps)
	if err != nil {
		return s, err
	}
	if m.stored {
		s.does = &changeHead{Head: head, Over: theirs.Revision, Rev: rev, More: m.steps}
	} else {
		head.Steps, head.StepCount = m.steps, len(m.steps)
		s.does = &putEpisode{Episode: head, Rev: rev, Base: theirs.Revision}
	}
	switch {
	case o.New:
		s.kind = ConflictSameID
	case len(lost) > 0:
		s.kind = ConflictChanged
	}
	s.kept = kept{Fields: lost, Episode: theirs}
	return s, nil
}

// settle decides on a completion of an episode that is stored as theirs, whose steps are not
// needed.
func (o *completeEpisode) settle(theirs *Episode) (s settlement, err error) {
	if !theirs.Running() && o.Completion.storedIn(theirs) {
		return s, nil
	}
	base := theirs.clone()
	if o.Read != nil && o.Read.Item != nil {
		base = o.Read.Item.clone()
	} else {
		base.End, base.Outcome, base.Reward, base.Reflection = time.Time{}, Outcome{}, nil, Reflection{}
	}
	base.Steps, base.StepCount = nil, 0
	ours := base.clone()
	o.Completion.applyTo(ours)
	if err := ours.prepare(o.Now); err != nil {
		return s, err
	}
	head, lost, err := mergeHeads(base, ours, theirs)
	if err != nil {
		return s, err
	}
	s.does = &changeHead{Head: head, Over: theirs.Revision, Rev: newRevision()}
	if len(lost) > 0 {
		s.kind, s.kept = ConflictChanged, kept{Fields: lost, Episode: theirs}
	}
	return s, nil
}

// settle decides on steps for an episode that has ended, as theirs.
func (o *appendSteps) settle(theirs *Episode) settlement {
	return settlement{
		does: &changeHead{Head: theirs, Over: theirs.Revision, Rev: newRevision(), More: o.Steps, Key: o.Key},
		kind: ConflictLate, kept: kept{Late: len(o.Steps)},
	}
}

// settle decides on a put of a pattern that is stored as theirs.
func (o *putPattern) settle(theirs *Pattern) (s settlement, err error) {
	if theirs.Revision == o.Rev {
		return s, nil
	}
	merged, lost := o.Pattern, []string(nil)
	if o.Base == 0 {
		lost, err = differing(o.Pattern, theirs, (*Pattern).bare)
	} else {
		base := &Pattern{}
		if o.Read != nil && o.Read.Rev == o.Base && o.Read.Item != nil {
			base = o.Read.Item
		}
		merged, lost, err = mergeItems(base, o.Pattern, theirs, (*Pattern).bare, func(p *Pattern) error {
			p.ID, p.Scope = theirs.ID, theirs.Scope
			return p.prepare(time.Now())
		})
	}
	s.does = &putPattern{Pattern: merged, Rev: newRevision(), Base: theirs.Revision}
	if len(lost) > 0 {
		s.kind, s.kept = ConflictChanged, kept{Fields: lost, Pattern: theirs}
	}
	return s, err
}

// settle decides on a put of a heuristic that is stored as theirs.
func (o *putHeuristic) settle(theirs *Heuristic) (s settlement, err error) {
	if theirs.Revision == o.Rev {
		return s, nil
	}
	merged, lost := o.Heuristic, []string(nil)
	if o.Base == 0 {
		lost, err = differing(o.Heuristic, theirs, (*Heuristic).bare)
	} else {
		base := &Heuristic{}
		if o.Read != nil && o.Read.Rev == o.Base && o.Read.Item != nil {
			base = o.Read.Item
		}
		merged, lost, err = mergeItems(base, o.Heuristic, theirs, (*Heuristic).bare, func(h *Heuristic) error {
			h.ID, h.Scope = theirs.ID, theirs.Scope
			return h.prepare(time.Now())
		})
	}
	s.does = &putHeuristic{Heuristic: merged, Rev: newRevision(), Base: theirs.Revision}
	if len(lost) > 0 {
		s.kind, s.kept = ConflictChanged, kept{Fields: lost, Heuristic: theirs}
	}
	return s, err
}

// mergeHeads merges episodes but for their steps.
func mergeHeads(base, ours, theirs *Episode) (*Episode, []string, error) {
	return mergeItems(base, ours, theirs, (*Episode).bare, func(e *Episode) error {
		e.ID, e.Scope = theirs.ID, theirs.Scope
		return e.prepare(time.Now())
	})
}

// fieldSteps is the name of the steps among the fields of an episode.
const fieldSteps = "steps"

func sameSteps(a, b []Step) (bool, error) {
	x, err := stepKeys(a)
	if err != nil {
		return false, err
	}
	y, err := stepKeys(b)
	return slices.Equal(x, y), err
}
