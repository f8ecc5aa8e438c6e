package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic"
)

type redactCmd struct {
	Apply bool `help:"Change what is found. Without it, redact only says what that is."`
	JSON  bool `name:"json" help:"Print JSON, an item a line."`
}

// Help is shown by redact --help.
func (*redactCmd) Help() string {
	return `Looks through all episodes, steps, patterns, heuristics, relations and kept conflicts for keys, tokens, private keys and passwords, and says of each item how many of which kind it holds, never what they are. With --apply each becomes [redacted:KIND]: the items are written again, the search index follows, and vectors that were made of them are deleted.

The old text is in the file until compact --secure has removed it, and in replicas on other machines until theirs has. A secret that was stored should be replaced where it is used.`
}

func (c *redactCmd) Run(ctx context.Context, a *app) error {
	return a.withMemory(ctx, func(store *episodic.Store) error {
		items, vectors, all := 0, 0, map[string]uint64{}
		scoped := 0
		var damaged error
		for r, err := range store.RedactStored(ctx, !c.Apply) {
			if isDamaged(err) {
				a.complain("%v", err)
				damaged = errReported
				continue
			}
			if err != nil {
				return fmt.Errorf("redact stopped after %s: %w; running it again goes on", count(items, "item"), err)
			}
			items++
			vectors += r.Embeddings
			if r.Scope {
				scoped++
			}
			for kind, n := range r.Found {
				all[kind] += n
			}
			if c.JSON {
				if err := a.printJSON(r); err != nil {
					return err
				}
				continue
			}
			a.printf("%-9s %v  %s\n", r.Kind, r.Item, cmp.Or(kindsFound(r.Found), "in its scope"))
		}
		if scoped > 0 {
			a.complain("%s a scope that holds a secret, which cannot be changed; delete them, or import them again under another", have(scoped, "item"))
		}
		if c.JSON {
			return damaged
		}
		switch {
		case items == 0:
			a.printf("no secrets found\n")
		case !c.Apply:
			a.printf("%s: %s; redact --apply replaces them\n", count(items, "item"), kindsFound(all))
		default:
			a.printf("%s changed: %s\n", count(items, "item"), kindsFound(all))
			if vectors > 0 {
				a.printf("%s deleted\n", count(vectors, "vector"))
			}
			a.printf("episodic compact --secure removes the old text from the file\n")
		}
		return damaged
	})
}

func have(n int, what string) string {
	if n == 1 {
		return "1 " + what + " has"
	}
	return count(n, what) + " have"
}

// kindsFound is "2 github-token, 1 password".
func kindsFound(found map[string]uint64) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		parts = append(parts, fmt.Sprintf("%d %s", found[kind], kind))
	}
	return strings.Join(parts, ", ")
}

// redactFrom is what the command line and the environment say of secrets.
func (a *app) redactFrom(disabled bool, allow []string) episodic.Redact {
	for line := range strings.Lines(a.getenv("EPISODIC_REDACT_ALLOW")) {
		if line = strings.TrimSpace(line); line != "" {
			allow = append(allow, line)
		}
	}
	return episodic.Redact{Disabled: disabled || a.getenv("EPISODIC_REDACT") == "0", Allow: allow}
}
