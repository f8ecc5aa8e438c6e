package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/feed"
	"github.com/episodic-memory/episodic/internal/replica"
)

// LinkReport is what Link has done.
type LinkReport struct {
	Server string `json:"server"` // without secrets
	Items  int64  `json:"items"`  // episodes, patterns, heuristics, relations and embeddings of the file
	// Kept is where the file is that was linked, as it was. Delete it when it is no longer
	// needed.
	Kept string `json:"kept"`
	// Different are items, relations and embeddings of the file (Here) whose content the server has
	// otherwise, or could not take. They remain readable in Kept.
	Different []ReplicaDifference `json:"different,omitempty"`
}

// Link turns the memory in a local file into one that is shared: it adds what the file holds
// to the server's memory, and makes the file a replica of it. From then on Open of the file
// opens the server, with the token and so on of its options. What the server has under the
// same ids stays there as it is.
//
// The file is not touched until the server and a new replica beside it were compared with it,
// down to the checksums of what is stored; then it is kept under another name, and the
// replica takes its place at once. So Link can be interrupted at any moment, and goes on when
// it is called again. No other program may have the file open. opts are those of the server;
// Scope must be empty, and Replica and Embedder are ignored. progress, unless it is nil, is
// called with how much of the file has been looked at.
//
// Errors: ErrInvalid, also for a file that is linked already; ErrNotFound if there is no
// file; ErrCorrupt for one with items that cannot be read; Retryable errors if the server
// cannot be reached or another program uses the file.
func Link(ctx context.Context, file, server string, opts *Options, progress func(done, all int64)) (*LinkReport, error) {
	report, err := link(ctx, file, server, orZero(opts), progress)
	return report, failed(err, "link %s", file)
}

func link(ctx context.Context, file, server string, opts *Options, progress func(done, all int64)) (_ *LinkReport, err error) {
	to, err := parseTarget(server, opts.AllowPlaintext)
	switch {
	case err != nil:
		return nil, err
	case to.url == "":
		return nil, invalid("server", "is a local file; name a server such as libsql://HOST")
	case opts.Scope != (Scope{}):
		return nil, invalid("scope", "is set; a file is linked with everything in it")
	}
	to.namespace = opts.namespaceFor(to)
	if file, err = localPath(file); err != nil {
		return nil, err
	}
	report := &LinkReport{Server: to.String()}
	switch linked, err := LinkedServer(ctx, file); {
	case err != nil:
		return nil, err
	case linked != "":
		return nil, invalid("file", "is linked to %s already; link --undo makes it a local file again", linked)
	}
	if err := sole(ctx, file); err != nil {
		return nil, err
	}
	from, err := Open(ctx, file, &Options{MustExist: true, Compression: opts.Compression, LockDir: opts.LockDir, Logger: opts.Logger, Cache: Cache{Disabled: true}})
	if err != nil {
		return nil, err
	}
	linking := file + ".linking"
	err = func() (err error) {
		defer func() { err = errors.Join(err, from.Close()) }()
		shared, err := openLinking(ctx, linking, server, opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, shared.Close()) }()
		return report.share(ctx, from, shared, progress)
	}()
	if err != nil {
		return nil, err
	}
	for _, path := range []string{linking, file} {
		if err := sole(ctx, path); err != nil {
			return nil, err
		}
	}
	if report.Kept, err = keepBeside(file, ".before-link"); err != nil {
		return nil, err
	}
	// How new it is follows: that must not be told of the file that is there now.
	if err := os.Rename(linking, file); err != nil {
		return nil, err
	}
	for _, suffix := range []string{asOfSuffix, wroteSuffix} {
		if err := os.Rename(linking+suffix, file+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return report, nil
}

// sole refuses a file that another program has open.
func sole(ctx context.Context, file string) error {
	err := embedded.Sole(ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no such file", ErrNotFound)
	}
	return err
}

// openLinking opens the replica that is to take the place of a file that is being linked.
func openLinking(ctx context.Context, path, server string, opts *Options) (*Store, error) {
	o := *opts
	o.Replica, o.Embedder, o.MustExist = Replica{Path: path}, nil, false
	s, err := Open(ctx, server, &o)
	if bad, ok := errors.AsType[*InvalidError](err); ok && bad.Field == "Replica.Path" {
		// It was begun for another server.
		if err := replica.Remove(path); err != nil {
			return nil, err
		}
		s, err = Open(ctx, server, &o)
	}
	return s, err
}

// share pushes what a file holds, and checks that it is in the server's memory and its
// replica.
func (l *LinkReport) share(ctx context.Context, from, shared *Store, progress func(done, all int64)) error {
	all, err := linkable(ctx, from)
	if err != nil {
		return err
	}
	p := &pusher{from: from, to: shared}
	p.tell = func() {
		if progress != nil {
			progress(p.pushed, max(all, p.pushed))
		}
	}
	if err := p.push(ctx); err != nil {
		return err
	}
	l.Items = p.pushed
	if err := shared.Sync(ctx, nil); err != nil {
		return err
	}
	if _, err := shared.VerifyReplica(ctx, true); err != nil { // which fetches anew what differs
		return err
	}
	if err := shared.Sync(ctx, nil); err != nil {
		return err
	}
	compared, err := replica.Compare(ctx, from.engine, shared.replica.inner.engine)
	if err != nil {
		return err
	}
	for _, d := range compared.Missing {
		if d.There == "" && d.Kind != feed.Relations && d.Kind != feed.Embeddings {
			return &engine.Error{Kind: engine.KindUnavailable, Stmt: -1, Err: fmt.Errorf(
				"%s %v is not on the server after all was sent: somebody has deleted it there, or added it to the file meanwhile", changeKinds[d.Kind], ID(d.Item))}
		}
		l.Different = append(l.Different, ReplicaDifference{changeKinds[d.Kind], ID(d.Item), d.Here, d.There})
	}
	return setLinked(ctx, shared.replica.inner.engine, l.Server)
}

// linkable is how much a file holds that can be pushed.
func linkable(ctx context.Context, s *Store) (int64, error) {
	res, err := s.engine.Query(ctx, engine.Stmt{SQL: `SELECT (SELECT count(*) FROM episodes) + (SELECT count(*) FROM patterns) + (SELECT count(*) FROM heuristics) +
 (SELECT count(*) FROM relations) + (SELECT count(*) FROM embeddings)`})
	if err != nil {
		return 0, err
	}
	in := engine.Row{Values: res[0].Rows[0]}
	return in.Int(0), in.Err
}
