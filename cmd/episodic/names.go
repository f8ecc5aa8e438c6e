package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic"
)

type namesCmd struct {
	Kind string `arg:"" enum:"tags,domains,projects,users,agents" help:"What is named: tags, domains, projects, users or agents."`
	N    int    `short:"n" name:"limit" default:"100" help:"Print at most this many."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *namesCmd) Run(ctx context.Context, a *app) error {
	return a.toRead(ctx, func(store *episodic.Store) error {
		if err := checkLimit(c.N); err != nil {
			return err
		}
		names, more := []episodic.NameCount{}, false
		for n, err := range store.Names(ctx, episodic.NameKind(strings.TrimSuffix(c.Kind, "s"))) {
			if err != nil {
				return err
			}
			if more = len(names) == c.N; more {
				break
			}
			names = append(names, n)
		}
		if c.JSON {
			return a.printJSON(struct {
				Names []episodic.NameCount `json:"names"`
			}{names})
		}
		if len(names) == 0 {
			a.complain("no %s", c.Kind)
		}
		for _, n := range names {
			a.printf("%8d  %s\n", n.Episodes, cut(oneLine(n.Name), a.width()-10))
		}
		if more {
			if err := a.out.Flush(); err != nil {
				return err
			}
			a.note("more follow: repeat the command with a larger -n")
		}
		return nil
	})
}

// maxSuggested is how many names, the most used ones, are compared with an unknown
// one.
const maxSuggested = 10_000

// explainNone says which of the names that chose episodes no episode has, after
// nothing was found.
func (a *app) explainNone(ctx context.Context, store *episodic.Store, f *filterFlags) error {
	scope := store.Scope()
	type chosen struct {
		in   *episodic.Store
		kind episodic.NameKind
		name string
	}
	names := []chosen{{a.whole, episodic.ProjectNames, scope.Project}, {a.whole, episodic.UserNames, scope.User}, {store, episodic.DomainNames, f.Domain}}
	for _, tag := range f.Tag {
		names = append(names, chosen{store, episodic.TagNames, tag})
	}
	for _, n := range names {
		if n.name == "" || n.in == nil {
			continue
		}
		known, like, err := nearest(ctx, n.in, n.kind, n.name)
		if err != nil {
			return err
		}
		switch {
		case known:
			continue
		case like != "":
			a.complain("no episode has the %s %q; did you mean %q?", n.kind, n.name, like)
		default:
			a.complain("no episode has the %s %q; episodic names %ss lists them", n.kind, n.name, n.kind)
		}
		if n.in == a.whole {
			return nil // there is nothing within it
		}
	}
	return nil
}

// nearest reports whether a name is in use, and otherwise returns the one in use that
// looks most like it, of several the most used one; empty if none does.
func nearest(ctx context.Context, store *episodic.Store, kind episodic.NameKind, name string) (known bool, like string, err error) {
	folded := []rune(strings.ToLower(name))
	least, seen := 1+min(3, 1+len(folded)/4), 0
	for n, err := range store.Names(ctx, kind) {
		if err != nil {
			return false, "", fmt.Errorf("look for names like %q: %w", name, err)
		}
		if n.Name == name {
			return true, "", nil
		}
		if d := editDistance(folded, []rune(strings.ToLower(n.Name)), least); d < least {
			least, like = d, n.Name
		}
		if seen++; seen == maxSuggested {
			break
		}
	}
	return false, like, nil
}

// editDistance is how many characters must be inserted, deleted, replaced or swapped
// with a neighbour to make b of a; bound, if that many or more.
func editDistance(a, b []rune, bound int) int {
	if max(len(a), len(b))-min(len(a), len(b)) >= bound {
		return bound
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return min(bound, rows[len(a)][len(b)])
}
