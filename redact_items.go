package episodic

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/redact"
)

// cleaning redacts the texts of one item. What has a secret in it is replaced where the item
// holds it, and never in memory that others may hold too.
type cleaning struct{ *redact.Pass }

// counts is what was found, for statistics.
func (c *cleaning) counts() map[string]uint64 {
	found := make(map[string]uint64, len(c.Found))
	for kind, n := range c.Found {
		found[string(kind)] = n
	}
	return found
}

func clean[T ~string](c *cleaning, s *T) { *s = T(c.Text(string(*s))) }

func (c *cleaning) texts(list *[]string) {
	copied := false
	for i, s := range *list {
		clean := c.Text(s)
		if clean == s {
			continue
		}
		if !copied {
			*list, copied = slices.Clone(*list), true
		}
		(*list)[i] = clean
	}
}

// metadata redacts names too. One that becomes the same as another gets a number behind it.
func (c *cleaning) metadata(m *map[string]string) {
	var changed [][3]string // the name, and what it and its value become
	for k, v := range *m {
		if key, value := c.Text(k), c.Named(k, v); key != k || value != v {
			changed = append(changed, [3]string{k, key, value})
		}
	}
	if changed == nil {
		return
	}
	*m = maps.Clone(*m)
	slices.SortFunc(changed, func(a, b [3]string) int { return strings.Compare(a[0], b[0]) })
	for _, x := range changed {
		delete(*m, x[0])
		(*m)[free(*m, x[1])] = x[2]
	}
}

// free is a key that a map does not have.
func free[V any](m map[string]V, key string) string {
	for n, k := 2, key; ; n++ {
		if _, taken := m[k]; !taken {
			return k
		}
		k = fmt.Sprintf("%s#%d", key, n)
	}
}

func (c *cleaning) context(x *Context) {
	clean(c, &x.Domain)
	clean(c, &x.Language)
	clean(c, &x.Framework)
	c.texts(&x.Tags)
}

func (c *cleaning) episode(e *Episode) {
	clean(c, &e.TaskType)
	clean(c, &e.Description)
	c.context(&e.Context)
	c.steps(&e.Steps)
	c.outcome(&e.Outcome)
	c.reward(&e.Reward)
	c.reflection(&e.Reflection)
	c.applied(&e.AppliedPatterns)
	c.metadata(&e.Metadata)
}

func (c *cleaning) completion(done *Completion) {
	c.outcome(&done.Outcome)
	c.reward(&done.Reward)
	c.reflection(&done.Reflection)
	c.applied(&done.AppliedPatterns)
	c.metadata(&done.Metadata)
}

func (c *cleaning) steps(list *[]Step) {
	copied := false
	for i := range *list {
		s := (*list)[i]
		before := c.total()
		c.step(&s)
		if c.total() == before {
			continue
		}
		if !copied {
			*list, copied = slices.Clone(*list), true
		}
		(*list)[i] = s
	}
}

// total is how many secrets were found.
func (c *cleaning) total() (n uint64) {
	for _, k := range c.Found {
		n += k
	}
	return n
}

func (c *cleaning) step(s *Step) {
	clean(c, &s.Tool)
	clean(c, &s.Action)
	if s.Parameters != "" {
		s.Parameters = JSON(c.JSON(string(s.Parameters)))
	}
	changed(c, &s.Result, func(r *Result) { clean(c, &r.Text) })
	c.metadata(&s.Metadata)
}

func (c *cleaning) outcome(o *Outcome) {
	clean(c, &o.Verdict)
	clean(c, &o.Reason)
	clean(c, &o.Details)
	for _, list := range []*[]string{&o.Artifacts, &o.Completed, &o.Failed, &o.Signals} {
		c.texts(list)
	}
}

func (c *cleaning) reward(r **Reward) {
	if *r == nil {
		return
	}
	copied := false
	for _, k := range slices.Sorted(maps.Keys((*r).Components)) {
		key := c.Text(k)
		if key == k {
			continue
		}
		if !copied {
			*r, copied = &Reward{Total: (*r).Total, Components: maps.Clone((*r).Components)}, true
		}
		m := (*r).Components
		v := m[k]
		delete(m, k)
		m[free(m, key)] = v
	}
}

func (c *cleaning) reflection(f *Reflection) {
	c.texts(&f.Successes)
	c.texts(&f.Improvements)
	c.texts(&f.Insights)
}

func (c *cleaning) applied(list *[]AppliedPattern) {
	copied := false
	for i, a := range *list {
		note := c.Text(a.Note)
		if note == a.Note {
			continue
		}
		if !copied {
			*list, copied = slices.Clone(*list), true
		}
		(*list)[i].Note = note
	}
}

// changed redacts what a pointer leads to, in a copy if there is a secret in it.
func changed[T any](c *cleaning, p **T, redact func(*T)) {
	if *p == nil {
		return
	}
	x, before := **p, c.total()
	redact(&x)
	if c.total() != before {
		*p = &x
	}
}

func (c *cleaning) pattern(p *Pattern) {
	clean(c, &p.Description)
	c.context(&p.Context)
	changed(c, &p.ToolSequence, func(x *ToolSequence) { c.texts(&x.Tools) })
	changed(c, &p.DecisionPoint, func(x *DecisionPoint) {
		clean(c, &x.Condition)
		clean(c, &x.Action)
	})
	changed(c, &p.ErrorRecovery, func(x *ErrorRecovery) {
		clean(c, &x.Error)
		c.texts(&x.Steps)
	})
	changed(c, &p.ContextPattern, func(x *ContextPattern) {
		c.texts(&x.Features)
		clean(c, &x.Approach)
	})
	c.metadata(&p.Metadata)
}

func (c *cleaning) heuristic(h *Heuristic) {
	clean(c, &h.Condition)
	clean(c, &h.Action)
	c.metadata(&h.Metadata)
}

func (c *cleaning) relation(r *Relation) {
	clean(c, &r.Reason)
	clean(c, &r.By)
	c.metadata(&r.Metadata)
}

// keep refuses a secret in a name that may not be changed.
func (r *redactor) keep(field, name string) error {
	if !r.works() {
		return nil
	}
	p := r.by.Pass()
	if p.Text(name) == name {
		return nil
	}
	for kind := range p.Found {
		return invalid(field, "holds what looks like a secret (%s), which is not stored, and this name cannot be changed; choose another, or allow it with Options.Redact.Allow", kind)
	}
	return nil
}

func (r *redactor) keepScope(sc Scope) error {
	for _, f := range sc.fields() {
		if err := r.keep("scope."+f.name, *f.value); err != nil {
			return err
		}
	}
	return nil
}
