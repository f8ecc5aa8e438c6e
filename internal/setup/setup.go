package setup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/confedit"
)

// Setup sets up clients, or takes back that it has.
type Setup struct {
	Machine *Machine
	Program *Program
	Choice  *Choice
	Records string // the file of what was done
}

// Change is what is to become of a file.
type Change struct {
	Path    string // as the client names it
	What    string // such as "MCP server, hooks"
	Clients []string
	Delete  bool // there is nothing left in it

	file          // as it is now
	after  string // what is to be in it
	steps  []confedit.Splice
	record *record // what is to be known of it afterwards; nil: nothing
	mode   uint32  // of a new file
}

// Problem is what keeps a file from being changed.
type Problem struct {
	Path    string
	Clients []string
	Err     error
	Snippet string // what people can put into it themselves; empty: nothing
}

func (p *Problem) Error() string { return fmt.Sprintf("%s: %v", p.Path, p.Err) }

func (p *Problem) Unwrap() error { return p.Err }

// Plan is what is to be done.
type Plan struct {
	Changes  []*Change
	Problems []*Problem
}

// place is a file with what belongs into it.
type place struct {
	path    string
	clients []string
	items   []item
}

func (p *place) what() string {
	var list []string
	for _, it := range p.items {
		if !slices.Contains(list, it.what) {
			list = append(list, it.what)
		}
	}
	return strings.Join(list, ", ")
}

// places are the files of clients, each once. A part that one client wants is wanted.
func (s *Setup) places(clients []*Client) (list []*place) {
	for _, c := range clients {
		for _, it := range c.items(s.Machine, s.Program, s.Choice) {
			i := slices.IndexFunc(list, func(p *place) bool { return p.path == it.path })
			if i < 0 {
				i, list = len(list), append(list, &place{path: it.path})
			}
			p := list[i]
			if j := slices.IndexFunc(p.items, func(old item) bool { return old.what == it.what }); j >= 0 {
				p.items[j].unwanted = p.items[j].unwanted && it.unwanted
			} else {
				p.items = append(p.items, it)
			}
			if !it.unwanted && !slices.Contains(p.clients, c.Name) {
				p.clients = append(p.clients, c.Name)
			}
		}
	}
	return list
}

// Plan says what setting up clients changes: nothing where all is as it should be.
func (s *Setup) Plan(clients []*Client) (*Plan, error) {
	records, err := readRecords(s.Records)
	if err != nil {
		return nil, err
	}
	plan := new(Plan)
	for _, p := range s.places(clients) {
		rec := records.Files[p.path]
		if rec != nil { // for clients that are not set up now it is still wanted
			for i := range p.items {
				if p.items[i].unwanted && len(missing(rec.Clients, names(clients))) > 0 {
					p.items[i].unwanted = false
				}
			}
		}
		change, err := p.plan(rec)
		if err != nil {
			plan.Problems = append(plan.Problems, p.problem(err))
		} else if change != nil {
			plan.Changes = append(plan.Changes, change)
		}
	}
	return plan, nil
}

func names(clients []*Client) (list []string) {
	for _, c := range clients {
		list = append(list, c.Name)
	}
	return list
}

// missing are those of a that are not in b.
func missing(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

func (p *place) problem(err error) *Problem {
	problem := &Problem{Path: p.path, Clients: p.clients, Err: err}
	if _, shape := errors.AsType[*confedit.ShapeError](err); shape || errors.Is(err, errReadOnly) {
		for _, it := range p.items {
			if !it.unwanted {
				problem.Snippet += it.part.snippet() + "\n"
			}
		}
	}
	return problem
}

// each carries out what part does with each item, one after the other.
func (p *place) each(text string, do func(item, string) ([]confedit.Splice, error)) (steps []confedit.Splice, err error) {
	for _, it := range p.items {
		more, err := do(it, text)
		if err != nil {
			return nil, err
		}
		steps, text = append(steps, more...), confedit.Apply(text, more)
	}
	return steps, nil
}

func want(it item, text string) ([]confedit.Splice, error) {
	if it.unwanted {
		return it.part.cut(text)
	}
	return it.part.put(text)
}

func (p *place) plan(rec *record) (*Change, error) {
	file, err := readFile(p.path)
	if err != nil {
		return nil, err
	}
	steps, err := p.each(file.text, want)
	if err != nil || len(steps) == 0 {
		return nil, err
	}
	if file.readOnly {
		return nil, errReadOnly
	}
	// What an earlier setup has done is taken back first, so that undoing this one restores what
	// was there before both.
	next := &record{Created: !file.exists, Clients: p.clients}
	var back []confedit.Splice
	if rec != nil {
		next.Created = next.Created || rec.Created
		next.Clients = append(missing(rec.Clients, p.clients), p.clients...)
		intact := false
		if back, intact = rec.back(file.text); !intact {
			back, next.Lost = nil, true
		}
	}
	base := confedit.Apply(file.text, back)
	if rec != nil && len(back) > 0 {
		if steps, err = p.each(base, want); err != nil {
			return nil, err
		}
	}
	c := &Change{Path: p.path, What: p.what(), Clients: next.Clients, file: *file, after: confedit.Apply(base, steps), steps: append(back, steps...), record: next, mode: 0o600}
	if p.items[0].program {
		c.mode = 0o700
	}
	if !next.Lost {
		next.Splices = steps
	}
	next.Sum = sum(c.after)
	c.forget()
	return c, nil
}

// forget drops the record of a file in which nothing of ours is left, and the file if it was
// ours.
func (c *Change) forget() {
	if c.record != nil && (c.record.Lost || len(c.record.Splices) > 0) && !(c.record.Created && bare(c.after)) {
		return
	}
	c.Delete = c.record != nil && c.record.Created && bare(c.after)
	c.record = nil
}

// bare reports whether a text has nothing that anybody would miss.
func bare(text string) bool {
	if strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")) == "" {
		return true
	}
	v, _, err := confedit.FindJSON(text)
	object, ok := v.(map[string]any)
	delete(object, "version")
	return err == nil && ok && len(object) == 0 && !strings.Contains(text, "/")
}

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
		if known := slices.ContainsFunc(places, func(p *place) bool { return p.path == path }); !known && len(missing(records.Files[path].Clients, names(clients))) < len(records.Files[path].Clients) {
			places = append(places, &place{path: path, clients: records.Files[path].Clients})
		}
	}
	for _, p := range places {
		rec := records.Files[p.path]
		if rec != nil && len(missing(rec.Clients, names(clients))) > 0 {
			continue // others use it
		}
		change, err := p.undo(rec)
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

// Done are the names of the clients that were set up.
func (s *Setup) Done() (list []string, err error) {
	all, err := readRecords(s.Records)
	if err != nil {
		return nil, err
	}
	for _, rec := range all.Files {
		list = append(list, missing(rec.Clients, list)...)
	}
	return list, nil
}

// HasHooks reports whether hooks of ours are in a file of a client.
func (s *Setup) HasHooks(c *Client) bool {
	return slices.ContainsFunc(c.items(s.Machine, s.Program, s.Choice), func(it item) bool {
		if it.what != whatHooks {
			return false
		}
		file, err := readFile(it.path)
		if err != nil {
			return false
		}
		steps, err := it.part.cut(file.text)
		return err == nil && len(steps) > 0
	})
}
