package setup

import (
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic/internal/confedit"
	"github.com/episodic-memory/episodic/internal/redact"
)

// Diff is the change as a unified diff without context: only lines of ours are in it, and no
// secret that people may have added to them.
func (c *Change) Diff() string {
	var b strings.Builder
	from, to := c.Path, c.Path
	if !c.exists {
		from = "/dev/null"
	}
	if c.Delete {
		to = "/dev/null"
	}
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", from, to)
	secrets, err := redact.New(nil)
	if err != nil {
		panic(err) // nothing is allowed that could be wrong
	}
	text, steps := c.text, c.steps
	if !c.exists {
		steps = []confedit.Splice{{Inserted: c.after}}
	}
	hidden := hidden(steps)
	for i, s := range steps {
		before := text
		text = confedit.Apply(text, []confedit.Splice{s})
		pass := secrets.Pass()
		removed, inserted := ownLines(pass.Text(s.Removed)), ownLines(pass.Text(s.Inserted))
		if hidden[i] || len(removed)+len(inserted) == 0 {
			continue
		}
		line := 1 + strings.Count(before[:s.At], "\n")
		if strings.HasPrefix(strings.TrimLeft(s.Removed+s.Inserted, ", \r"), "\n") {
			line++
		}
		fmt.Fprintf(&b, "@@ -%d,%d +%d,%d @@\n", line, len(removed), line, len(inserted))
		for _, l := range removed {
			b.WriteString("-" + l + "\n")
		}
		for _, l := range inserted {
			b.WriteString("+" + l + "\n")
		}
	}
	return b.String()
}

// hidden tells the steps that take out what another puts back, and those others.
func hidden(steps []confedit.Splice) []bool {
	hidden := make([]bool, len(steps))
	for i, s := range steps {
		for j := i + 1; j < len(steps) && !hidden[i]; j++ {
			t := steps[j]
			if s.Inserted == "" && t.Removed == "" && t.Inserted == s.Removed && !hidden[j] {
				hidden[i], hidden[j] = true, true
			}
		}
	}
	return hidden
}

// ownLines are the lines of a text, without the comma and the line end that join it to others.
func ownLines(text string) []string {
	text = strings.TrimPrefix(text, ",")
	text = strings.Trim(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
