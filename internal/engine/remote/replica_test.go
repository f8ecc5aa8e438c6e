package remote

import (
	"context"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// replicaURL starts a primary and a replica that speaks only the protocol, and
// returns the replica's address.
func replicaURL(t *testing.T, protocol hrana.Protocol) string {
	t.Helper()
	primary := hranatest.Start(t, hranatest.WithReplication())
	proxy := hranatest.NewProxy(t, hranatest.StartReplica(t, primary).URL())
	proxy.Hide(hidden[protocol]...)
	return proxy.URL()
}

func TestReplicaShowsItsCallersTheirOwnWrites(t *testing.T) {
	writes := testkit.Effort(15, 50, 500)
	for protocol := range hrana.V2JSON + 1 {
		t.Run(protocol.String(), func(t *testing.T) {
			url := replicaURL(t, protocol)
			e, forgetful := openURL(t, url), openURL(t, url)
			must(t, e, stmt("CREATE TABLE t(k)"))
			rows, stale := int64(0), 0
			behind := func(e *Engine) bool { return count(t, e, "SELECT count(*) FROM t") < rows }
			for i := range writes {
				must(t, e, insert(1))
				rows++
				if behind(e) {
					t.Fatalf("write %d is not seen by its own caller", i)
				}
				must(t, forgetful, insert(1))
				rows++
				forgetful.index.Store(0)
				if behind(forgetful) {
					stale++
				}
			}
			t.Logf("%d of %d reads were stale without the index", stale, writes)
			if stale == 0 {
				t.Error("no read is stale without the index, so it shows nothing")
			}
		})
	}
}

// A database that was restored counts anew. One that does not answer may also be
// slow or cut off, so the index is not given up at once.
func TestIndexThatAReplicaNeverReaches(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real timeouts")
	}
	t.Parallel()
	for _, tt := range []struct {
		limit time.Duration // of each read
		most  int           // reads that fail
	}{
		{suspectAfter * 3 / 4, 3},
		{suspectAfter / 5, 7},
	} {
		t.Run(tt.limit.String(), func(t *testing.T) {
			t.Parallel()
			const never = 1 << 40
			e := openURL(t, replicaURL(t, hrana.V3Protobuf))
			must(t, e, stmt("CREATE TABLE t(k)"))
			e.index.Store(never)
			read := func() error {
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				_, err := e.Query(ctx, stmt("SELECT count(*) FROM t"))
				return err
			}
			start, failed := time.Now(), 0
			for read() != nil && failed <= tt.most {
				failed++
			}
			t.Logf("reads work after %v, %d failed", time.Since(start), failed)
			if failed == 0 || failed > tt.most {
				t.Errorf("%d reads failed", failed)
			}
			if index := e.index.Load(); index == 0 || index == never {
				t.Errorf("the index is %d", index)
			}
			start = time.Now()
			if err := read(); err != nil || time.Since(start) > soon()/2 {
				t.Errorf("the next read took %v: %v", time.Since(start), err)
			}
		})
	}
}
