package episodic

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/episodic-memory/episodic/internal/replica"
)

// CopyOptions says how a memory is copied. Nil and the zero value give the defaults.
type CopyOptions struct {
	// From and To open the two memories. Their Scope must be empty, since everything is copied; Embedder and
	// Redact are ignored, and To.Replica.
	From, To *Options
	// Progress, unless it is nil, is called with how many items have been looked at.
	Progress func(done, all int64)
}

// CopyReport is what Copy has done. Targets are without secrets.
type CopyReport struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Items int64  `json:"items"` // that were looked at: episodes, patterns, heuristics, relations and embeddings
	// Source and Copy are what both hold, a ContentSum for each kind. If there was nothing else at To,
	// they are the same.
	Source []ContentSum `json:"source"`
	Copy   []ContentSum `json:"copy"`
	// Notices are those of opening both; see Store.Notices.
	Notices []string `json:"notices,omitempty"`
	// Different are items, relations and embeddings of From (Here) whose content To has otherwise (There) or
	// could not take: others have the same id, were changed or deleted meanwhile.
	Different []ReplicaDifference `json:"different,omitempty"`
}

// ContentSum is how much of a kind a memory holds, and a hash of it: SHA-256 over ids, revisions, scopes,
// tags, times, and the checksums of all contents. It is the same for all memories that hold the same, however
// they are compressed.
type ContentSum struct {
	Kind  ChangeKind `json:"kind"`
	Items int64      `json:"items"`
	Hash  string     `json:"hash"`
}

// Copy adds all that the memory at one target holds to the memory at another one, which is created if there
// is none: files and servers, in both directions. Items keep their ids, revisions, scopes and
// times; what To has under the same ids stays as it is. Then both are compared. Copy keeps no
// position but asks To what it has, so that it can be interrupted at any moment, and goes on when
// it is called again, which doubles nothing. What is kept of conflicts is not copied, nor are
// vectors that an Embedder has made.
//
// The memories can be used meanwhile; what changes there may be Different. A server's memory is
// read by way of its replica on this machine, unless From.Replica is disabled, has bounds, or
// queues.
//
// Errors: ErrInvalid; those of Open, with MustExist for From; ErrCorrupt for items that cannot be
// read; Retryable errors if a server cannot be reached.
func Copy(ctx context.Context, from, to string, opts *CopyOptions) (*CopyReport, error) {
	report, err := copyAll(ctx, from, to, orZero(opts))
	return report, failed(err, "copy")
}

func copyAll(ctx context.Context, from, to string, opts *CopyOptions) (_ *CopyReport, err error) {
	fromOpts, toOpts := *orZero(opts.From), *orZero(opts.To)
	if fromOpts.Scope != (Scope{}) || toOpts.Scope != (Scope{}) {
		return nil, invalid("scope", "is set; everything is copied")
	}
	fromOpts.MustExist, fromOpts.DisableUpgrade, fromOpts.Embedder, fromOpts.Cache = true, true, nil, Cache{Disabled: true}
	if r := &fromOpts.Replica; r.MaxAge > 0 || r.MaxBytes > 0 || r.Offline == Queue {
		*r = Replica{Disabled: true}
	}
	toOpts.Embedder, toOpts.Cache, toOpts.Redact, toOpts.Replica = nil, Cache{Disabled: true}, Redact{Disabled: true}, Replica{Disabled: true}
	source, err := Open(ctx, from, &fromOpts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := Open(ctx, to, &toOpts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	report := &CopyReport{From: source.publisher.target, To: target.publisher.target, Notices: slices.Concat(source.Notices(), target.Notices())}
	if report.From == report.To {
		return nil, invalid("to", "is the memory that is to be copied; name another one")
	}
	imports, err := importsOf(ctx, source.engine)
	if err != nil {
		return nil, err
	}
	holder := source
	if source.replica != nil {
		if err := source.Sync(ctx, nil); err != nil {
			return nil, err
		}
		holder = source.replica.inner
	}
	if err := report.push(ctx, holder, target, opts.Progress); err != nil {
		return nil, err
	}
	if err := copyImports(ctx, target.engine, imports); err != nil {
		return nil, err
	}
	return report, nil
}

func (r *CopyReport) push(ctx context.Context, from, to *Store, progress func(done, all int64)) error {
	all, err := linkable(ctx, from)
	if err != nil {
		return err
	}
	p := &pusher{from: from, to: to}
	p.tell = func() {
		if progress != nil {
			progress(p.pushed, max(all, p.pushed))
		}
	}
	if err := p.push(ctx); err != nil {
		return err
	}
	r.Items = p.pushed
	compared, err := replica.Compare(ctx, from.engine, to.engine)
	if err != nil {
		return err
	}
	for _, d := range compared.Missing {
		r.Different = append(r.Different, ReplicaDifference{changeKinds[d.Kind], ID(d.Item), d.Here, d.There})
	}
	r.Source, r.Copy = contentSums(compared.Here), contentSums(compared.There)
	return nil
}

func contentSums(contents []replica.Content) []ContentSum {
	sums := make([]ContentSum, len(contents))
	for i, c := range contents {
		sums[i] = ContentSum{changeKinds[c.Kind], c.Items, hex.EncodeToString(c.Hash[:])}
	}
	return sums
}
