package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/replica"
)

// syncLook is how often Sync looks how far a replica is.
const syncLook = 50 * time.Millisecond

// errNoReplica says that there is nothing to bring up to date.
var errNoReplica = invalid("replica", "is not kept: the memory is a local file, or Options.Replica says so")

// Sync brings the Store's replica up to date, and returns when all is in it, and found by
// Search, that the server had when it was called. progress, unless it is nil, is called now
// and then with about how many items are yet to be fetched. Whatever the Store's scope, it
// concerns the whole replica. Errors: ErrInvalid if there is no replica; ErrClosed;
// ErrUnauthorized; Retryable errors if the server cannot be reached; others if it does not give
// what is missing. What was fetched before an error is kept.
func (s *Store) Sync(ctx context.Context, progress func(remaining int64)) (err error) {
	ctx, end := s.trace(ctx, "Sync")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return failed(err, "synchronise")
	}
	if s.replica == nil {
		return fmt.Errorf("synchronise: %w", errNoReplica)
	}
	return failed(s.replica.sync(ctx, progress), "synchronise")
}

func (r *localReplica) sync(ctx context.Context, progress func(int64)) error {
	for begun := time.Now(); ; {
		st, err := r.pull.Await(ctx, begun)
		if err != nil {
			return err
		}
		if st.Complete && !st.Anew && !st.AsOf.Before(begun) {
			return r.inner.keepIndex(ctx, false)
		}
		if st.Down != nil && !Retryable(st.Down) { // what is fetched in the background fails for good
			return st.Down
		}
		if progress != nil {
			progress(st.Remaining)
		}
		select {
		case <-time.After(syncLook): // the pages come in the background
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ReplicaDifference is an item that was in the replica otherwise than on the server.
type ReplicaDifference struct {
	Kind ChangeKind `json:"kind"` // ChangedRelations, ChangedEmbeddings: those of the item
	ID   ID         `json:"id"`
	// Here and There describe it, such as "revision 7, 3 steps"; empty: it was not there.
	Here  string `json:"here,omitempty"`
	There string `json:"there,omitempty"`
}

// VerifyReplica brings the Store's replica up to date, compares all of it with the server,
// and returns what differed, which it fetches anew. Revisions, numbers of steps, and which
// relations and embeddings there are, are compared by hashes of many items at once; if deep,
// also the checksum of each payload, which takes about 40 bytes of traffic
// a payload, and 100 an item.
// Whatever the Store's scope, it concerns the whole replica. Errors: those of Sync.
func (s *Store) VerifyReplica(ctx context.Context, deep bool) (_ []ReplicaDifference, err error) {
	ctx, end := s.trace(ctx, "VerifyReplica")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return nil, failed(err, "verify the replica")
	}
	if s.replica == nil {
		return nil, fmt.Errorf("verify: %w", errNoReplica)
	}
	differences, err := s.replica.pull.Verify(ctx, deep)
	if err != nil {
		return nil, failed(err, "verify the replica")
	}
	var found []ReplicaDifference
	var ids [][16]byte
	for _, d := range differences {
		found = append(found, ReplicaDifference{changeKinds[d.Kind], ID(d.Item), d.Here, d.There})
		ids = append(ids, d.Item)
	}
	if len(ids) > 0 {
		err = s.replica.pull.Fetch(ctx, ids...)
	}
	return found, failed(err, "fetch what differs from the server")
}

// RemoveReplica deletes the replica that a Store opened with the same target and options
// would have, with what is beside it, and reports whether there was one. Nothing is lost: the
// next Store makes it anew. Stores that are open on it should be closed first; they go on
// with what they have, and on Windows keep it from being deleted. Errors: ErrInvalid, also
// for a Path that holds something else; those of the file system.
func RemoveReplica(ctx context.Context, target string, opts *Options) (removed bool, err error) {
	o := orZero(opts)
	t, err := parseTarget(target, o.AllowPlaintext)
	if err != nil {
		return false, fmt.Errorf("remove replica: %w", err)
	}
	scope, err := o.Scope.within(Scope{})
	if err != nil {
		return false, fmt.Errorf("remove replica: %w", err)
	}
	path := o.replicaPath(t, scope)
	if path == "" {
		return false, fmt.Errorf("remove replica: %w", errNoReplica)
	}
	if o.Replica.Path != "" {
		if err := checkReplicaFile(ctx, path); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		} else if err != nil {
			return false, failed(err, "remove replica %s", path)
		}
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, failed(replica.Remove(path), "remove replica %s", path)
}

// checkReplicaFile refuses a file that is no replica.
func checkReplicaFile(ctx context.Context, path string) (err error) {
	file, err := embedded.Open(ctx, embedded.Config{Path: path, MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	res, err := file.Query(ctx, engine.Stmt{SQL: "SELECT count(*) FROM sqlite_schema WHERE name = 'replica_of'"})
	if err != nil {
		return err
	}
	if res[0].Rows[0][0] == int64(0) {
		return invalid("Replica.Path", "holds no replica; nothing was deleted")
	}
	linked, err := linkedServer(ctx, file)
	if err == nil && linked != "" {
		err = invalid("Replica.Path", "is a file that is linked to a server; undo the link first; nothing was deleted")
	}
	return err
}
