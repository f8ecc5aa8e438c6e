package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/episodic-memory/episodic"
)

type backupCmd struct {
	File string `arg:"" help:"The file to write, which must not be there yet."`
	Keep int    `placeholder:"N" help:"Put the time into the file's name, and keep the N newest of that name."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Help is shown by backup --help.
func (*backupCmd) Help() string {
	return `Writes the whole memory, of a file or of a server, to a new file, as it is at one moment; others may use the memory meanwhile. The copy is opened and checked before it gets its name: each table has the same rows as what was copied, by number and SHA-256. Only you may read it.

With --keep 7 the file memory.db becomes memory-20260102T030405.678Z.db; of those in its folder that this made of the same memory the 7 newest are kept. No other file is ever removed.

restore puts a backup in the place of a memory. It can also be read where it is: --db FILE.`
}

func (c *backupCmd) Run(ctx context.Context, a *app) error {
	return a.toRead(ctx, func(store *episodic.Store) error {
		bar := &lateProgress{a: a, name: "backup", bytes: true}
		report, err := store.Backup(ctx, c.File, &episodic.BackupOptions{Keep: c.Keep, Progress: bar.set})
		bar.done()
		switch {
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("%w; name another one, or use --keep", err)
		case err != nil:
			return err
		case c.JSON:
			return a.printJSON(report)
		}
		a.printf("%s holds %s and %s, %s\n", plain(report.Path), count(int(report.Counts.Episodes), "episode"), count(int(report.Counts.Steps), "step"), size(report.Bytes))
		for _, old := range report.Removed {
			a.printf("removed %s\n", plain(old))
		}
		return nil
	})
}

type restoreCmd struct {
	From  string `arg:"" help:"The backup."`
	To    string `arg:"" optional:"" help:"The file to make or to replace. Default: the database."`
	Force bool   `help:"Replace a memory that is newer, or of which that cannot be told."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Help is shown by restore --help.
func (*restoreCmd) Help() string {
	return `Puts a backup in the place of a local file. The backup is checked first, and stays as it is. What was there is kept beside the file, as FILE.before-restore; no program may have it open. A memory that has changed since the backup was made of it, or is another one, is replaced with --force only.

To bring a backup to a server use copy.`
}

func (c *restoreCmd) Run(ctx context.Context, a *app) error {
	to, err := a.localFile("restore", c.To, true)
	if err != nil {
		return err
	}
	bar := &lateProgress{a: a, name: "restore", bytes: true}
	report, err := episodic.RestoreBackup(ctx, c.From, to, &episodic.RestoreOptions{Force: c.Force, Progress: bar.set})
	bar.done()
	if err != nil {
		return err
	}
	if c.JSON {
		return a.printJSON(report)
	}
	a.printf("%s is as %s was %s\n", plain(report.Path), plain(report.Source), report.At.Local().Format(time.DateTime))
	if report.Kept != "" {
		a.printf("what was there before:\n  %s\n", plain(report.Kept))
	}
	return nil
}

type copyCmd struct {
	From string `arg:"" help:"The memory to copy: a file or a server, as for --db."`
	To   string `arg:"" help:"The memory to add it to, which is created if there is none."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Help is shown by copy --help.
func (*copyCmd) Help() string {
	return `Adds everything that one memory holds to another one, with ids, revisions, scopes and times: from file to file, from file to server, and back. What the other one has under the same ids stays as it is. It can be interrupted at any moment, and goes on when it is run again. At last both are compared, by counts and hashes of all that was copied.

The token of the environment is for both; one that a target carries is for that target. A backup of a local file is faster made by backup.`
}

func (c *copyCmd) Run(ctx context.Context, a *app) error {
	bar := &lateProgress{a: a, name: "copy"}
	report, err := episodic.Copy(ctx, c.From, c.To, &episodic.CopyOptions{From: a.options(c.From), To: a.options(c.To), Progress: bar.set})
	bar.done()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		return fmt.Errorf("%w; running it again goes on", err)
	}
	a.tell(report.Notices)
	if c.JSON {
		err = a.printJSON(report)
	} else {
		a.printCopy(report)
	}
	if err == nil && len(report.Different) > 0 {
		return fmt.Errorf("%s of %s: otherwise in %s, which stays so; see above", count(len(report.Different), "item"), shownTarget(c.From), shownTarget(c.To))
	}
	return err
}

func (a *app) printCopy(report *episodic.CopyReport) {
	for i, s := range report.Source {
		a.printf("%-10s %8d  sha256 %s", s.Kind, s.Items, s.Hash[:16])
		if there := report.Copy[i]; there != s {
			a.printf("; there are %d, sha256 %s", there.Items, there.Hash[:16])
		}
		a.printf("\n")
	}
	a.printDifferent(report.Different, "there")
	a.printf("%s of %s copied to %s\n", count(int(report.Items), "item"), plain(report.From), plain(report.To))
}
