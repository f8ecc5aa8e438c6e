package main

import (
	"context"

	"github.com/episodic-memory/episodic"
)

type doctorCmd struct {
	Target *string `arg:"" optional:"" help:"The database, as --db. Default: the one that the other commands use."`
	Repair bool    `xor:"do" help:"Repair a copy of the file, and put it in the place of the file if it is better. The original is kept."`
	Into   string  `xor:"do" placeholder:"FILE" help:"Read a damaged file page by page, and store what it holds in a new file."`
	JSON   bool    `name:"json" help:"Print JSON."`
}

// Help is shown by doctor --help.
func (*doctorCmd) Help() string {
	return `Looks at all that a database holds, and says what is wrong with it, what that means, and what --repair would do about it. Nothing is written, and an older database is not upgraded. The exit code is 1 if something is wrong.

--repair works on a copy beside the file. The copy takes the place of the file if nothing, or less, is wrong with it; the original is kept beside it, and can be deleted when nothing is missed. All programs that use the file must have ended.

--into reads a file also if its header, its tables or its end are lost, and never writes it. It says what was saved, and names what is known to be lost.`
}

func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	if c.Target != nil {
		a.db = c.Target
	}
	target, err := a.target(false)
	if err != nil {
		return err
	}
	switch options := a.options(target); {
	case c.Into != "":
		r, err := episodic.Salvage(ctx, target, c.Into, options)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.printJSON(r)
		}
		a.printSalvage(r)
		return nil
	case c.Repair:
		r, err := episodic.Repair(ctx, target, options)
		if err != nil {
			return err
		}
		return a.tellRepair(r, c.JSON)
	default:
		x, err := episodic.Examine(ctx, target, options)
		if err != nil {
			return err
		}
		if c.JSON {
			err = a.printJSON(x)
		} else {
			a.printExamination(x)
		}
		if err == nil && !x.Clean() {
			err = errReported
		}
		return err
	}
}

func (a *app) printExamination(x *episodic.Examination) {
	a.printf("database  %s\n", plain(x.Target))
	if x.Schema > 0 {
		a.printf("schema    version %d\n", x.Schema)
	}
	if x.Pages > 0 {
		a.printf("file      %s, %s, %d of them free\n", size(x.Bytes), count(int(x.Pages), "page"), x.FreePages)
	}
	a.printf("readable  %s\n", count(int(x.Items), "item"))
	a.printFindings(x.Findings)
	for _, s := range x.Skipped {
		a.printf("\nnot looked at: %s\n", oneLine(s))
	}
	if x.Clean() {
		a.printf("\nnothing is wrong\n")
	}
}

func (a *app) printFindings(list []episodic.Finding) {
	for _, f := range list {
		a.printf("\n%s  %s (%d): %s\n", f.Severity, f.Check, f.Count, oneLine(f.Problem))
		for _, item := range f.Items {
			a.printf("  %s\n", cut(oneLine(item), a.width()-2))
		}
		if more := f.Count - int64(len(f.Items)); more > 0 && len(f.Items) > 0 {
			a.printf("  and %d more\n", more)
		}
		if f.Repair != "" {
			a.printf("  repair: %s\n", oneLine(f.Repair))
		}
	}
}

// tellRepair says what came of a repair; an error if something is still wrong.
func (a *app) tellRepair(r *episodic.RepairReport, asJSON bool) error {
	if asJSON {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		a.printExamination(r.Before)
		if r.Salvaged != nil {
			a.printf("\nit was read page by page:\n")
			a.printSalvage(r.Salvaged)
		}
		if r.Repaired {
			a.printf("\nrepaired; the original is kept as %s\n", plain(r.Original))
			a.printFindings(r.After.Findings)
		} else {
			a.printf("\nnot repaired: %s\n", oneLine(r.Reason))
		}
	}
	if r.Repaired && r.After.Clean() || r.Before.Clean() {
		return nil
	}
	return errReported
}

func (a *app) printSalvage(r *episodic.SalvageReport) {
	a.printf("read      %s", count(int(r.Pages), "page"))
	for _, part := range []struct {
		n    int64
		what string
	}{{r.MissingPages, "missing at the end"}, {r.UnreadablePages, "unreadable"}, {r.StrayPages, "found without a tree"}} {
		if part.n > 0 {
			a.printf(", %d %s", part.n, part.what)
		}
	}
	a.printf("\n")
	if !r.HeaderRead {
		a.printf("          the header is lost\n")
	}
	if !r.SchemaRead {
		a.printf("          some of the schema is lost\n")
	}
	if r.LogFrames+r.DamagedFrames > 0 {
		a.printf("log       %s%s\n", count(int(r.LogFrames), "page"), also(uint64(r.DamagedFrames), "damaged"))
	}
	a.printf("saved     %s, %s, %s, %s, %s, %s\n", count(int(r.Saved.Episodes), "episode"), count(int(r.Saved.Steps), "step"), count(int(r.Saved.Patterns), "pattern"),
		count(int(r.Saved.Heuristics), "heuristic"), count(int(r.Saved.Relations), "relation"), count(int(r.Saved.Embeddings), "embedding"))
	if n := r.UnreadableRows + r.RefusedRows; n > 0 {
		a.printf("lost      %s that could not be read or stored\n", count(int(n), "row"))
	}
	a.printFindings(r.Left)
	if r.LostItems > 0 {
		a.printf("lost      %s that the file is known to have held:\n", count(int(r.LostItems), "item"))
	}
	for _, item := range r.Lost {
		a.printf("  %s %v\n", item.Kind, item.ID)
	}
}
