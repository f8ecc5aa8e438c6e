package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/episodic-memory/episodic"
)

type verifyCmd struct {
	File string `arg:"" help:"Receipts, one a line, as --receipts of import and delete writes them; - is standard input."`
	JSON bool   `name:"json" help:"Print JSON: each receipt with its verdict, a line each, and then the counts."`
}

// Help is shown by verify --help.
func (*verifyCmd) Help() string {
	return `A receipt tells what a write has stored. Each is one of: kept, superseded by a later write, deleted later, queued in this machine's outbox, altered (the item has its revision and another content, or cannot be read), or missing. Those that are not kept are told, and then all are counted. The exit code is 1 if one is missing or altered. docs/durability.md says what can be told, and what cannot.`
}

// verified is a receipt with its verdict.
type verified struct {
	Receipt episodic.Receipt `json:"receipt"`
	episodic.Verdict
}

// statuses are all, as they are counted and told.
var statuses = []episodic.WriteStatus{episodic.WriteKept, episodic.WriteSuperseded, episodic.WriteDeleted, episodic.WriteQueued, episodic.WriteAltered, episodic.WriteMissing}

func (c *verifyCmd) Run(ctx context.Context, a *app) error {
	in := a.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	counts, total := make(map[episodic.WriteStatus]int), 0
	err := a.withMemory(ctx, func(store *episodic.Store) error {
		return eachReceipts(in, func(receipts []episodic.Receipt) error {
			verdicts, err := store.Verify(ctx, receipts...)
			if err != nil {
				return err
			}
			for i, v := range verdicts {
				counts[v.Status]++
				total++
				if err := c.tell(a, verified{receipts[i], v}); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	lost := 0
	for _, f := range statuses {
		if f.Lost() {
			lost += counts[f]
		}
	}
	if c.JSON {
		err = a.printJSON(struct {
			Receipts int                          `json:"receipts"`
			Status   map[episodic.WriteStatus]int `json:"status"`
			Lost     int                          `json:"lost"`
		}{total, counts, lost})
	} else {
		a.printf("%s", count(total, "receipt"))
		for _, f := range statuses {
			if n := counts[f]; n > 0 {
				a.printf(", %d %s", n, f)
			}
		}
		a.printf("\n")
	}
	if err == nil && lost > 0 {
		a.complain("%d of %s: what was acknowledged is not there", lost, count(total, "receipt"))
		err = errReported
	}
	return err
}

// tell prints a verdict.
func (c *verifyCmd) tell(a *app, v verified) error {
	switch {
	case c.JSON:
		return a.printJSON(v)
	case v.Status == episodic.WriteKept:
		return nil
	}
	a.printf("%-11s %s %s %v", v.Status, v.Receipt.Write, v.Receipt.Kind, v.Receipt.ID)
	switch {
	case v.Reason != "":
		a.printf(": %s", oneLine(v.Reason))
	case v.Status == episodic.WriteSuperseded:
		a.printf(": its revision is %d, of change %d", v.Revision, v.Seq)
	case v.Status == episodic.WriteDeleted && !v.Verdict.Deleted.IsZero():
		a.printf(": %s", v.Verdict.Deleted.Local().Format("2006-01-02 15:04:05"))
	}
	a.printf("\n")
	return nil
}

// receiptsAtOnce is how many are verified by one call.
const receiptsAtOnce = 500

// eachReceipts reads lines of receipts, and passes some at a time. Empty lines are nothing.
func eachReceipts(in io.Reader, pass func([]episodic.Receipt) error) error {
	var receipts []episodic.Receipt
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		r, err := episodic.ParseReceipt(string(line))
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if receipts = append(receipts, r); len(receipts) == receiptsAtOnce {
			if err := pass(receipts); err != nil {
				return err
			}
			receipts = receipts[:0]
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return pass(receipts)
}

// withReceipts calls do with a context whose writes have their receipts added to a file, or to
// standard output if path is -. Without a path there are none.
func (a *app) withReceipts(ctx context.Context, path string, do func(context.Context) error) error {
	switch path {
	case "":
		return do(ctx)
	case "-":
		return do(episodic.WithReceipts(ctx, func(r episodic.Receipt) { a.printf("%v\n", r) }))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	var unwritten error // the first receipt
	err = do(episodic.WithReceipts(ctx, func(r episodic.Receipt) {
		if _, err := fmt.Fprintln(f, r); err != nil && unwritten == nil {
			unwritten = err
		}
	}))
	if closeErr := f.Close(); unwritten == nil {
		unwritten = closeErr
	}
	if unwritten != nil {
		a.complain("what was done is stored, but not all receipts of it are written: %v", unwritten)
		if err == nil {
			err = errReported
		}
	}
	return err
}
