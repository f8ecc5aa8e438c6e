package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
)

type linkCmd struct {
	Server string `arg:"" optional:"" help:"The server: libsql://HOST, https://HOST, or http://127.0.0.1:PORT. Not with --undo."`
	File   string `arg:"" optional:"" help:"The local file. Default: the database."`
	Undo   bool   `help:"Make a linked file a local memory again, with all that the server has."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// Help is shown by link --help.
func (*linkCmd) Help() string {
	return `Adds what a local file holds to a server's memory, and makes the file a replica of that: whoever opens it then reads from the file and writes to the server. Items that the server has already stay there as they are. Programs need the server's token in their environment.

No program may have the file open. It is replaced at last, after everything was compared, and kept beside under another name; delete that when you no longer need it. Linking can be interrupted at any moment, and goes on when it is run again.

link --undo [FILE] makes the file a local memory again, with all that the server has. The server keeps it too.`
}

func (c *linkCmd) Run(ctx context.Context, a *app) error {
	if c.Undo {
		if c.File != "" {
			return invalid("link", "--undo takes no server, only a file")
		}
		return c.undo(ctx, a)
	}
	if c.Server == "" {
		return invalid("link", "a server is missing; name one, such as libsql://HOST")
	}
	file, err := a.localFile("link", c.File, false)
	if err != nil {
		return err
	}
	bar := &lateProgress{a: a, name: "link"}
	report, err := episodic.Link(ctx, file, c.Server, a.options(c.Server), bar.set)
	bar.done()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		return fmt.Errorf("%w; the file is as it was, and running it again goes on", err)
	}
	if c.JSON {
		return a.printJSON(report)
	}
	a.printDifferent(report.Different, "on the server")
	a.printf("%s is linked to %s, with %s\n", plain(file), plain(report.Server), count(int(report.Items), "item"))
	if len(report.Different) > 0 {
		a.printf("those above are otherwise on the server, which stays so; the file as it was has them:\n")
	} else {
		a.printf("the file as it was, which nothing needs any more:\n")
	}
	a.printf("  %s\n", plain(report.Kept))
	return nil
}

func (c *linkCmd) undo(ctx context.Context, a *app) error {
	file, err := a.localFile("link", c.Server, false)
	if err != nil {
		return err
	}
	report, err := episodic.Unlink(ctx, file, a.options(file))
	if err != nil {
		return err
	}
	if c.JSON {
		return a.printJSON(report)
	}
	a.printf("%s is a local memory, with what %s had %s\n", plain(file), plain(report.Server), report.AsOf.Local().Format(time.DateTime))
	if report.NotAsked != "" {
		a.complain("what is newer on the server is not in it: %s", oneLine(report.NotAsked))
	}
	return nil
}

// printDifferent lists what is otherwise there.
func (a *app) printDifferent(list []episodic.ReplicaDifference, there string) {
	for _, d := range list {
		a.printf("%s %v  here: %s; %s: %s\n", d.Kind, d.ID, oneLine(d.Here), there, oneLine(cmp.Or(d.There, "missing")))
	}
}

// localFile is the file that is named for a command; the database if none is. The default one's
// folder is made if create is set.
func (a *app) localFile(command, named string, create bool) (string, error) {
	if named != "" {
		return named, nil
	}
	target, err := a.target(create)
	if err == nil && isServer(target) {
		err = invalid(command, "the database is a server; name a local file")
	}
	return target, err
}
