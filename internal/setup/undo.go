package setup

import (
	"errors"
	"slices"

	"github.com/episodic-memory/episodic/internal/confedit"
)

// PlanUndo says what taking back the setup of clients changes. What others have edited since
// stays.
func (s *Setup) PlanUndo(clients []*Client) (*Plan, error) {
	records, err := readRecords(s.Records)
	if err != nil {
		return nil, err
	}
	plan := new(Plan)
	places := s.places(clients)
	for _, path := range records.paths() { // where clients have moved since
		if known := slices.ContainsFunc(places, func(p *place) bool { return p.path == path }); !known && s.Project == "" && len(missing(records.Files[path].Clients, names(clients))) < len(records.Files[path].Clients) {
			places = append(places, &place{path: path, clients: records.Files[path].Clients})
		}
	}
	for _, p := range places {
		rec := records.Files[p.path]
		undo := p.undo
		if rec != nil {
			if others := missing(rec.Clients, names(clients)); len(others) == len(rec.Clients) {
				continue // it is only theirs
			} else if len(others) > 0 {
				undo = func(rec *record) (*Change, error) {
					file, err := readFile(p.path)
					if err != nil {
						return nil, err
					}
					return p.noted(file, rec, others), nil
				}
			}
		}
		change, err := undo(rec)
		if err != nil {
			plan.Problems = append(plan.Problems, &Problem{Path: p.path, Clients: p.clients, Err: err})
		} else if change != nil {
			plan.Changes = append(plan.Changes, change)
		}
	}
	return plan, nil
}

var errEdited = errors.New("what episodic has written there was edited; take it out yourself")

func (p *place) undo(rec *record) (*Change, error) {
	file, err := readFile(p.path)
	if err != nil {
		return nil, err
	}
	if !file.exists {
		if rec == nil {
			return nil, nil
		}
		return &Change{Path: p.path, What: p.what(), Clients: rec.Clients, file: *file}, nil
	}
	c := &Change{Path: p.path, What: p.what(), Clients: p.clients, file: *file, record: &record{}}
	intact := false
	if rec != nil {
		c.record = &record{Created: rec.Created}
		c.steps, intact = rec.back(file.text)
	}
	c.after = confedit.Apply(file.text, c.steps)
	if !intact {
		if len(p.items) == 0 {
			return nil, errEdited
		}
		steps, err := p.each(c.after, func(it item, text string) ([]confedit.Splice, error) { return it.part.cut(text) })
		if err != nil {
			return nil, err
		}
		for _, it := range p.items {
			if _, ours := it.part.(whole); ours && len(steps) > 0 {
				c.record.Created = true
			}
		}
		c.steps, c.after = append(c.steps, steps...), confedit.Apply(c.after, steps)
	}
	if rec == nil && len(c.steps) == 0 {
		return nil, nil
	}
	if file.readOnly && c.after != file.text {
		return nil, errReadOnly
	}
	c.forget()
	return c, nil
}
