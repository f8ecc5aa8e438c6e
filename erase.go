package episodic

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/index"
)

// SecureOptions are those of CompactSecurely.
type SecureOptions struct {
	// Prove are texts that were deleted, each at least 4 bytes long: they are looked for in
	// everything that the files then hold, and Erasure.Found tells where they still are.
	Prove []string
	// Progress, unless it is nil, is called as that of Compact.
	Progress func(done, all int64)
}

// leastProved is the least length of a text of SecureOptions.Prove, in bytes. Shorter ones
// are found in numbers and keys that mean something else.
const leastProved = 4

func (o *SecureOptions) validate() error {
	c := &check{}
	c.texts("prove", o.Prove)
	for i, text := range o.Prove {
		if len(text) < leastProved {
			c.fail("prove", "has %d bytes in text %d; it must have at least %d", len(text), i+1, leastProved)
		}
	}
	return c.err
}

// Erasure is what CompactSecurely did, and what it has seen afterwards.
type Erasure struct {
	Compaction
	// Files are the files of this machine that were written anew.
	Files []ErasedFile `json:"files"`
	// Found is where texts of SecureOptions.Prove are, at most 1,000 places.
	Found []Trace `json:"found,omitempty"`
	// Left says what may still hold what was deleted, and why, a sentence each: what only the
	// server's operator can reach, or payloads that are damaged.
	Left []string `json:"left,omitempty"`
}

// ErasedFile is a file that holds nothing but what is stored in it: it was written anew, its
// log is empty, and every byte of it belongs to a row, is what SQLite needs to find rows, or is zero.
type ErasedFile struct {
	Kind  string `json:"kind"` // memory, replica or outbox
	Bytes int64  `json:"bytes"`
	Pages int64  `json:"pages"` // all of which were read
}

// Trace is where a text of SecureOptions.Prove was found.
type Trace struct {
	Text  int    `json:"text"`  // its number among them, from 0
	Where string `json:"where"` // such as "episode ID" or "table scopes, column user"
}

// CompactSecurely is Compact after which nothing is left of what was deleted, redacted or
// replaced before the call, as far as this machine goes: it takes all words of that out of the search
// index, replaces all dictionaries, deletes what conflicts have kept of items that are gone,
// and writes the file anew, with an empty log. Then it reads every page of the file: a byte that belongs to
// nothing is an error. A Store on a server first pushes what is queued, has the
// server do what it allows, and does the same with the replica and the outbox on this
// machine; Erasure.Left says what remains for the server's operator.
//
// It takes up to twice the space of the file meanwhile, and others cannot write until it is
// done. It can be interrupted at any moment, without a loss; what it promises it has done only
// if it returns no error. It says nothing of backups, of copies that others have, of blocks
// that the disk has not overwritten yet, nor of what is deleted later. What was deleted leaves its
// random id, the time, and its scope's name, for 30 days, so that replicas and watchers hear of it;
// an import, and AppendStepsOnce while the episode runs, leave hashes.
//
// It concerns the whole database, whatever the Store's scope. Errors: ErrInvalid; Retryable
// ones while others read the file, or if the server cannot be reached; ErrFull; ErrCorrupt.
func (s *Store) CompactSecurely(ctx context.Context, o *SecureOptions) (done Erasure, err error) {
	ctx, end := s.trace(ctx, "CompactSecurely")
	defer func() { end(err) }()
	if o == nil {
		o = &SecureOptions{}
	}
	if err := s.check(ctx, true, ""); err != nil {
		return done, failed(err, "compact securely")
	}
	if err := o.validate(); err != nil {
		return done, failed(err, "compact securely")
	}
	if s.queue != nil {
		if err := s.queue.flush(ctx); err != nil {
			return done, failed(err, "push what is queued")
		}
	}
	if done.Compaction, err = s.compact(ctx, s.payloads.CompactSecurely, o.Progress); err != nil {
		return done, failed(err, "compact securely")
	}
	if err := s.forgetDeleted(ctx); err != nil {
		return done, failed(err, "compact securely")
	}
	return done, failed(s.eraseFiles(ctx, o, &done), "compact securely")
}

// eraseFiles does the part of CompactSecurely that comes after all rows are as they should be.
func (s *Store) eraseFiles(ctx context.Context, o *SecureOptions, done *Erasure) error {
	if done.Damaged > 0 {
		done.Left = append(done.Left, fmt.Sprintf("%d payloads are damaged, the first: %s; they keep the dictionaries that they were written with; delete them, or restore them", done.Damaged, done.Damage))
	}
	if file, ok := s.engine.(*embedded.Engine); ok {
		for _, name := range copiesBeside(s.publisher.target) {
			done.Left = append(done.Left, name+" is a copy of the memory as it was before; delete it if it is not needed")
		}
		return s.eraseFile(ctx, "memory", file, o, done)
	}
	if err := s.eraseOnServer(ctx, done); err != nil {
		return err
	}
	if err := s.prove(ctx, "on the server: ", o, done); err != nil {
		return err
	}
	if s.replica != nil {
		// The pull takes out what the server has no more.
		err := s.replica.sync(ctx, nil)
		if err == nil {
			err = s.replica.inner.keepIndex(ctx, true)
		}
		if err == nil {
			err = s.replica.inner.forgetDeleted(ctx)
		}
		if err == nil {
			err = s.replica.inner.eraseFile(ctx, "replica", s.replica.inner.engine.(*embedded.Engine), o, done)
		}
		if err != nil {
			return fmt.Errorf("the replica on this machine: %w", err)
		}
	}
	if s.queue != nil {
		e, err := s.queue.file.Erase(ctx)
		if err != nil {
			return fmt.Errorf("the outbox on this machine: %w", err)
		}
		done.Files = append(done.Files, ErasedFile{Kind: "outbox", Bytes: e.Bytes, Pages: e.Pages})
	}
	return nil
}

// copiesBeside returns the files beside a memory in which this package keeps what it was before.
func copiesBeside(path string) (names []string) {
	for _, infix := range []string{snapshotInfix, ".before-link", ".before-repair", ".before-restore"} {
		found, _ := filepath.Glob(globEscaped.Replace(path) + infix + "*") // the pattern is well-formed
		names = append(names, found...)
	}
	return names
}

func (s *Store) eraseFile(ctx context.Context, kind string, file *embedded.Engine, o *SecureOptions, done *Erasure) error {
	e, err := file.Erase(ctx)
	if err != nil {
		return err
	}
	done.Freed += e.Freed
	done.Files = append(done.Files, ErasedFile{Kind: kind, Bytes: e.Bytes, Pages: e.Pages})
	if err := s.proveIndex(ctx); err != nil {
		return err
	}
	return s.prove(ctx, "in the "+kind+": ", o, done)
}

// eraseOnServer has the server write its file anew, if it does that for clients.
func (s *Store) eraseOnServer(ctx context.Context, done *Erasure) error {
	// Words of deleted heads leave the index with the segments that hold them.
	if _, err := s.engine.Repeatable(ctx, engine.Stmt{SQL: `INSERT INTO heads(heads) VALUES('optimize')`}); err != nil {
		return err
	}
	const others = "its log, its replicas, its snapshots and its backups, and replicas on other machines, may hold what was deleted"
	_, err := s.server.Batch(ctx, engine.Stmt{SQL: "VACUUM"})
	if err != nil && (Retryable(err) || ctx.Err() != nil) {
		return err
	}
	if err != nil {
		done.Left = append(done.Left, "the server does not write its file anew for clients (VACUUM): the free space of that, "+others)
		return nil
	}
	done.Left = append(done.Left, "the server has written its file anew; "+others)
	return nil
}

const (
	// That a deletion came to a changed item is noted after it, with what was changed.
	sqlForgetKept = `DELETE FROM conflicts WHERE item NOT IN (SELECT id FROM items)`
	// Readers have been told of these; see the trigger item_changed.
	sqlForgetGone   = `DELETE FROM feed WHERE gone_us < ?`
	sqlForgetScopes = `DELETE FROM scopes WHERE n <> 0 AND n NOT IN (SELECT scope FROM items UNION SELECT scope FROM feed UNION SELECT scope FROM conflicts)`
)

// forgetAfter is for how long changes tell that something was deleted.
const forgetAfter = 30 * 24 * time.Hour

// forgetDeleted deletes what is kept of items that are gone, and names that no item has.
func (s *Store) forgetDeleted(ctx context.Context) error {
	_, err := s.engine.Repeatable(ctx,
		engine.Stmt{SQL: sqlForgetKept},
		engine.Stmt{SQL: sqlForgetGone, Args: []any{time.Now().Add(-forgetAfter).UnixMicro()}},
		engine.Stmt{SQL: sqlForgetScopes})
	return err
}

// sqlStrays counts the groups of a list that are neither stored nor known to be deleted.
const sqlStrays = `SELECT count(*) FROM json_each(?) j WHERE NOT EXISTS (SELECT 1 FROM index_gone WHERE g = j.value)
 AND NOT EXISTS (SELECT 1 FROM episodes WHERE seq = j.value)
 AND NOT EXISTS (SELECT 1 FROM patterns WHERE j.value < 0 AND j.value % 2 = 0 AND seq = -j.value / 2)
 AND NOT EXISTS (SELECT 1 FROM heuristics WHERE j.value < 0 AND j.value % 2 <> 0 AND seq = -(j.value + 1) / 2)`

// strayGroups is how many groups are looked for at once.
const strayGroups = 10_000

// proveIndex sees that the index of a file holds words only of what is stored.
func (s *Store) proveIndex(ctx context.Context) error {
	groups, err := index.Groups(ctx, s.engine)
	if err != nil {
		return indexFailed(err)
	}
	for len(groups) > 0 {
		n := min(strayGroups, len(groups))
		list, err := json.Marshal(groups[:n])
		if err != nil {
			return err
		}
		r, err := s.engine.Query(ctx, engine.Stmt{SQL: sqlStrays, Args: []any{string(list)}})
		if err != nil {
			return err
		}
		in := engine.Row{Values: r[0].Rows[0]}
		if stray := in.Int(0); stray > 0 {
			return indexFailed(fmt.Errorf("%w: it holds words of %d items that are not stored", index.ErrDamaged, stray))
		}
		if in.Err != nil {
			return in.Err
		}
		groups = groups[n:]
	}
	return nil
}
