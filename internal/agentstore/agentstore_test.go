package agentstore

import (
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/transcript"
)

// write makes files below a folder, by their paths.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// makeDB makes a database of some statements.
func makeDB(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
}

// told is what package transcript makes of a store, a line each run.
func told(t *testing.T, path string, since time.Time) string {
	t.Helper()
	r, err := Open(t.Context(), path, since)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var lines []string
	for run, err := range transcript.Read(r, path, nil) {
		if err != nil {
			lines = append(lines, "! "+err.Error())
			continue
		}
		line := run.Format + " " + run.Key + ": " + run.Episode.Description
		for i := range run.Episode.Steps {
			s := &run.Episode.Steps[i]
			line += " | " + s.Action + s.Tool + string(s.Parameters)
			if s.Result != nil {
				line += " -> " + string(s.Result.Kind) + " " + s.Result.Text
			}
		}
		lines = append(lines, line+" = "+run.Episode.Outcome.Verdict)
	}
	return strings.Join(lines, "\n")
}

const openCodeSchema = `CREATE TABLE session (id text PRIMARY KEY, project_id text, parent_id text, slug text, directory text, title text, version text, revert text, time_created integer, time_updated integer);
CREATE TABLE message (id text PRIMARY KEY, session_id text, time_created integer, time_updated integer, data text);
CREATE TABLE part (id text PRIMARY KEY, message_id text, session_id text, time_created integer, time_updated integer, data text);`

func TestOpenCodeDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "opencode.db")
	makeDB(t, path, openCodeSchema,
		`INSERT INTO session VALUES ('ses_1', 'p', NULL, 's', '/w/shop', 'T', '1.2', NULL, 1700000000000, 1700000009000), ('ses_2', 'p', 'ses_1', 's', '/w/shop', 'U', '1.2', '{"messageID":"msg_9"}', 1700000001000, 1700000001000)`,
		`INSERT INTO message VALUES ('msg_2', 'ses_1', 1700000002000, 0, '{"role":"assistant","modelID":"m","time":{"created":1700000002000}}'), ('msg_1', 'ses_1', 1700000001000, 0, '{"role":"user","time":{"created":1700000001000}}'),
			('msg_8', 'ses_2', 1700000001000, 0, '{"role":"user"}'), ('msg_9', 'ses_2', 1700000002000, 0, '{"role":"user"}'), ('msg_x', 'ses_2', 1, 0, '{')`,
		`INSERT INTO part VALUES ('prt_1', 'msg_1', 'ses_1', 0, 0, '{"type":"text","text":"q"}'), ('prt_3', 'msg_2', 'ses_1', 0, 0, '{"type":"text","text":"a"}'),
			('prt_2', 'msg_2', 'ses_1', 0, 0, '{"type":"tool","tool":"bash","callID":"c","state":{"status":"completed","input":{"command":"ls"},"output":"x","metadata":{"exit":1}}}'),
			('prt_4', 'msg_8', 'ses_2', 0, 0, '{"type":"text","text":"q2"}'), ('prt_5', 'msg_9', 'ses_2', 0, 0, '{"type":"text","text":"never"}')`)
	if got := Database(path); got != Sessions {
		t.Errorf("the database is %d", got)
	}
	const first = `opencode ses_1: q | bash{"command":"ls"} -> error x = a`
	if got, want := told(t, path, time.Time{}), first+"\n! msg_x is damaged, and was left out\nopencode ses_2: q2 = "; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := told(t, path, time.UnixMilli(1700000005000)); got != first {
		t.Errorf("since: %s", got)
	}
}

func TestCursorDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.vscdb")
	makeDB(t, path, `CREATE TABLE ItemTable (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB)`, `CREATE TABLE cursorDiskKV (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB)`,
		`INSERT INTO cursorDiskKV VALUES ('composerData:c1', '{"composerId":"c1","name":"T","createdAt":1700000000000,"lastUpdatedAt":1700000009000,"usageData":{"m":{"costInCents":50}},"fullConversationHeadersOnly":[{"bubbleId":"b1","type":1},{"bubbleId":"b2","type":2},{"bubbleId":"b3","type":2},{"bubbleId":"gone","type":2}]}'),
			('composerData:c2', NULL), ('composerData:c3', '{"composerId":"c3","conversation":[{"type":1,"text":"q3"},{"type":2,"text":"a3"}]}'),
			('bubbleId:c1:b1', CAST('{"type":1,"text":"q"}' AS BLOB)), ('bubbleId:c1:b3', '{"type":2,"text":"a","thinking":{"text":"hm"}}'),
			('bubbleId:c1:b2', '{"type":2,"text":"","toolFormerData":{"name":"read_file","toolCallId":"t","rawArgs":"{\"p\":1}","result":"{\"contents\":\"x\"}","status":"error"}}'),
			('bubbleId:c1:b9', '{"type":1,"text":"taken back"}'), ('bubbleId:c1:b8', '{')`)
	if got, want := told(t, path, time.Time{}), `! bubbleId:c1:b8 is damaged, and was left out
cursor c1: q | read_file{"p":1} -> error {"contents":"x"} = a
cursor c3: q3 = a3`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	ids, err := Conversations(t.Context(), path)
	if err != nil || len(ids) != 1 || !ids["c1"] {
		t.Errorf("conversations %v, %v", ids, err)
	}
}

func TestUnknownDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	makeDB(t, path, `CREATE TABLE t (a)`)
	if _, err := Open(t.Context(), path, time.Time{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	if got := Database(filepath.Join(filepath.Dir(path), "none")); got != Other {
		t.Errorf("no file is %d", got)
	}
}

func TestOpenCodeStorage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "storage")
	write(t, dir, map[string]string{
		"session/global/ses_1.json":  "{\n \"id\": \"ses_1\",\n \"directory\": \"/w\", \"time\": {\"updated\": 1700000000000}\n}",
		"session/global/ses_2.json":  "{",
		"message/ses_1/msg_1.json":   `{"id":"msg_1","role":"user"}`,
		"message/ses_1/msg_2.json":   "{\"id\":\"msg_2\",\n\"role\":\"assistant\"}",
		"part/msg_1/prt_1.json":      `{"type":"text","text":"q"}`,
		"part/msg_2/prt_2.json":      `{"type":"tool","tool":"f","state":{"status":"completed","input":{},"output":"r"}}`,
		"part/msg_2/prt_3.json":      `{"type":"text","te`,
		"part/msg_2/prt_4.json":      `{"type":"text","text":"a"}`,
		"message/ses_2/msg_3.json":   `{"id":"msg_3","role":"user"}`,
		"part/msg_3/prt_5.json":      `{"type":"text","text":"q2"}`,
		"project/global.json":        `{"id":"global"}`,
		"session_diff/ses_1.json":    `[]`,
		"message/ses_1/ignored.html": ``,
	})
	if got := Folder(dir); got != Sessions {
		t.Errorf("the folder is %d", got)
	}
	if got, want := told(t, dir, time.Time{}), "! prt_3.json is damaged, and was left out\nopencode ses_1: q | f{} -> output r = a\n! ses_2.json is damaged, and was left out\nopencode ses_2: q2 = "; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := told(t, dir, time.UnixMilli(1700000000001)); strings.Contains(got, "ses_1:") {
		t.Errorf("since: %s", got)
	}
}

func TestOpenHandsEvents(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"one file a number": {
			"events/0.json":             `{"id":0,"source":"user","timestamp":"2026-01-01T00:00:00","action":"message","args":{"content":"q"}}`,
			"events/2.json":             `{"id":2,"source":"agent","timestamp":"2026-01-01T00:00:02","observation":"run","cause":1,"content":"x"}`,
			"events/1.json":             `{"id":1,"source":"agent","timestamp":"2026-01-01T00:00:01","action":"run","args":{"command":"ls"}}`,
			"events/10.json":            `{"id":10,"source":"agent","timestamp":"2026-01-01T00:00:09","action":"message","args":{"content":"a"}}`,
			"event_cache/0-25.json":     `[]`,
			"events/.hidden/1.json":     `{}`,
			"events/agent_state.pickle": ``,
		},
		"one file a number and an id": {
			"events/event-00000-019a0000-0000-7000-8000-000000000001.json": `{"kind":"MessageEvent","id":"1","source":"user","timestamp":"2026-01-01T00:00:00","llm_message":{"content":[{"type":"text","text":"q"}]}}`,
			"events/event-00001-019a0000-0000-7000-8000-000000000002.json": `{"kind":"ActionEvent","id":"2","source":"agent","timestamp":"2026-01-01T00:00:01","tool_name":"run","tool_call_id":"c","tool_call":{"arguments":"{\"command\":\"ls\"}"}}`,
			"events/event-00002-019a0000-0000-7000-8000-000000000003.json": `{"kind":"ObservationEvent","id":"3","timestamp":"2026-01-01T00:00:02","tool_call_id":"c","observation":{"content":[{"type":"text","text":"x"}]}}`,
			"events/event-100000-019a0000-0000-7000-8000-00000000000.json": `{"kind":"MessageEvent","id":"4","source":"agent","timestamp":"2026-01-01T00:00:09","llm_message":{"content":[{"type":"text","text":"a"}]}}`,
			"base_state.json": `{}`,
		},
	} {
		dir := t.TempDir()
		write(t, dir, files)
		path := filepath.Join(dir, "events")
		if got := Folder(path); got != Conversation {
			t.Errorf("%s: the folder is %d", name, got)
		}
		if got, want := told(t, path, time.Time{}), `openhands 2026-01-01T00:00:00Z: q | run{"command":"ls"} -> output x = a`; got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		if got := Folder(filepath.Join(dir, "event_cache")); (got == Copies) != (name == "one file a number") && got != Copies {
			t.Errorf("%s: the pages are %d", name, got)
		}
		if got := Folder(dir); got != Other {
			t.Errorf("%s: the folder above is %d", name, got)
		}
	}
}

// TestLines: what is read does not depend on how much is asked for, and an error comes after
// what was read before it.
func TestLines(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	r := stream(func(yield func([]byte, error) bool) {
		_ = yield([]byte("one"), nil) && yield([]byte("two"), nil) && yield(nil, gone)
	})
	var got []byte
	buf := make([]byte, 2)
	for {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			if err != gone {
				t.Error(err)
			}
			break
		}
	}
	if string(got) != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(buf); err != io.EOF {
		t.Errorf("behind the end: %v", err)
	}
}
