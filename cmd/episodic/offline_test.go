package main

import (
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

type syncOutput struct {
	episodic.ReplicaStats
	Database     string          `json:"database"`
	Outbox       episodic.Outbox `json:"outbox"`
	Sent         uint64          `json:"bytes_sent"`
	Received     uint64          `json:"bytes_received"`
	PushSent     uint64          `json:"push_bytes_sent"`
	PushReceived uint64          `json:"push_bytes_received"`
}

// Commands write without a server, say that it does not have what they wrote, and later ones
// push it, whether they queue or not.
func TestOffline(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	c := newCLI(t)
	server := hranatest.Start(t)
	c.env["EPISODIC_DB"] = server.URL()
	c.put(sample(1, "Fix the race"))

	c.env[offlineEnv] = "sometimes"
	c.fails(exitUsage, `$EPISODIC_OFFLINE: is "sometimes"; it must be queue or through`, "list")
	c.fails(exitUsage, `--offline: is "always"`, "list", "--offline", "always")
	c.env[offlineEnv] = "queue"
	if out := c.ok("import", c.file("a.jsonl", `{"description":"Write the manual"}`)); !strings.Contains(out, "imported 1 episode") || strings.Contains(out, "queued") {
		t.Errorf("with a server: %q", out)
	}
	if out := c.ok("sync", "outbox"); out != "nothing is queued\n" {
		t.Errorf("printed %q", out)
	}
	c.ok("sync", "now")

	server.Kill()
	if out := c.ok("import", c.file("b.jsonl", `{"description":"Mend the fence"}`+"\n"+`{"description":"Paint the door"}`)); !strings.Contains(out, "imported 2 episodes") ||
		!strings.Contains(out, "2 writes queued on this machine, not yet stored on the server") {
		t.Errorf("without a server: %q", out)
	}
	found := decode[searchOutput](t, c.ok("search", "--json", "fence"))
	if len(found.Hits) != 1 {
		t.Fatalf("found %+v", found)
	}
	if out := c.ok("delete", found.Hits[0].Episode.ID.String()); !strings.Contains(out, "3 writes queued") {
		t.Errorf("deleted: %q", out)
	}
	if out := c.ok("list"); strings.Contains(out, "queued") || strings.Contains(out, "fence") {
		t.Errorf("a read: %q", out)
	}
	out := c.ok("sync")
	for _, want := range []string{"\npushed      0 writes by this process: ", "\noutbox      3 writes of ", ", the oldest from 20", "\nnot pushed  ", "connection refused"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
	status := decode[syncOutput](t, c.ok("sync", "--json"))
	if box := status.Outbox; box.Waiting != 3 || box.Refused != 0 || box.Bytes == 0 || box.Oldest.IsZero() || status.Queue == nil || status.Queue.Down == "" {
		t.Errorf("%+v", status)
	}
	listed := decode[map[string][]episodic.QueuedWrite](t, c.ok("sync", "outbox", "--json"))["writes"]
	if len(listed) != 3 || listed[0].Write != "put episode" || listed[2].Write != "delete item" || listed[2].Item != found.Hits[0].Episode.ID {
		t.Errorf("%+v", listed)
	}
	if out := c.ok("sync", "outbox"); strings.Count(out, "  put episode ") != 2 || strings.Count(out, "  delete item ") != 1 {
		t.Errorf("printed %q", out)
	}
	c.fails(exitFailure, "what is queued is kept", "sync", "now")

	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	delete(c.env, offlineEnv)
	c.ok("import", c.file("c.jsonl", `{"description":"Without the variable"}`))
	if out := c.ok("list"); !strings.Contains(out, "Paint the door") || strings.Contains(out, "fence") || !strings.Contains(out, "Without the variable") {
		t.Errorf("on the server: %q", out)
	}
	now := decode[syncOutput](t, c.ok("sync", "now", "--json", "--offline", "queue"))
	if now.Outbox != (episodic.Outbox{}) || now.Queue == nil || now.Queue.Down != "" || !now.Complete {
		t.Errorf("%+v", now)
	}
}
