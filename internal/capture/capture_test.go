package capture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// The test program is a capture that goes on until it is killed, if these name a memory and a
// folder.
const (
	targetEnv = "EPISODIC_CAPTURE_TARGET"
	folderEnv = "EPISODIC_CAPTURE_FOLDER"
)

func TestMain(m *testing.M) {
	if target := os.Getenv(targetEnv); target != "" {
		if err := captureAsProgram(target, os.Getenv(folderEnv)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	remove := testkit.UserCacheDir()
	code := m.Run()
	remove()
	os.Exit(code)
}

func captureAsProgram(target, folder string) error {
	s, err := episodic.Open(context.Background(), target, nil)
	if err != nil {
		return err
	}
	o := testOptions(folder, "claude-code")
	o.Stored = func(u Update) { fmt.Println(u.ID, u.Steps) }
	return New(s, o).Run(context.Background())
}

func testOptions(folder, format string) Options {
	return Options{
		Folders: []Folder{{Path: folder, Format: format}},
		Hash:    func(r *transcript.Run) []byte { return r.Hash[:16] },
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func onFile(t *testing.T) *episodic.Store {
	t.Helper()
	s, err := episodic.Open(t.Context(), filepath.Join(t.TempDir(), "memory.db"), nil)
	ok(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func onServer(t *testing.T) *episodic.Store {
	t.Helper()
	s, err := episodic.Open(t.Context(), hranatest.Start(t).URL(), &episodic.Options{DisableCacheDir: true, IndexSteps: true})
	ok(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// agent is how an agent writes a session.
type agent struct {
	name string
	path string // of a session, below its folder
	begin,
	step []string // lines; %[1]d is the number of the step, %[2]s its time
	noResults bool
}

const sessionID = "5a1c0000-0000-4000-8000-000000000001"

var agents = []agent{
	{
		name: "claude-code", path: "-w-app/" + sessionID + ".jsonl",
		begin: []string{
			`{"type":"mode","sessionId":"` + sessionID + `","mode":"default"}`,
			`{"type":"user","uuid":"u","parentUuid":null,"sessionId":"` + sessionID + `","cwd":"/w/app","timestamp":"2026-01-02T03:00:00.000Z","message":{"role":"user","content":"mend the pump"}}`,
		},
		step: []string{
			`{"type":"assistant","uuid":"a%[1]d","parentUuid":"u","sessionId":"` + sessionID + `","timestamp":"%[2]s","message":{"role":"assistant","id":"m%[1]d","model":"model-1","usage":{"input_tokens":3,"output_tokens":2},"content":[{"type":"tool_use","id":"c%[1]d","name":"Bash","input":{"command":"turn valve%[1]d"}}]}}`,
			`{"type":"user","uuid":"r%[1]d","parentUuid":"a%[1]d","sessionId":"` + sessionID + `","timestamp":"%[2]s","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"c%[1]d","content":"opened outlet%[1]d"}]}}`,
		},
	},
	{
		name: "codex", path: "2026/01/02/rollout-2026-01-02T03-00-00-" + sessionID + ".jsonl",
		begin: []string{
			`{"timestamp":"2026-01-02T03:00:00Z","type":"session_meta","payload":{"id":"` + sessionID + `","cwd":"/w/app","cli_version":"1"}}`,
			`{"timestamp":"2026-01-02T03:00:00Z","type":"event_msg","payload":{"type":"user_message","message":"mend the pump"}}`,
		},
		step: []string{
			`{"timestamp":"%[2]s","type":"response_item","payload":{"type":"function_call","name":"shell","arguments":"{\"command\":\"turn valve%[1]d\"}","call_id":"c%[1]d"}}`,
			`{"timestamp":"%[2]s","type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":%[1]d,"output_tokens":%[1]d}}}}`,
			`{"timestamp":"%[2]s","type":"response_item","payload":{"type":"function_call_output","call_id":"c%[1]d","output":"opened outlet%[1]d"}}`,
		},
	},
	{
		name: "gemini", path: "abab/chats/session-2026-01-02T03-00-5a1c0000.jsonl",
		begin: []string{
			`{"sessionId":"` + sessionID + `","projectHash":"abab","startTime":"2026-01-02T03:00:00Z"}`,
			`{"id":"u","timestamp":"2026-01-02T03:00:00Z","type":"user","content":"mend the pump"}`,
		},
		step: []string{ // a message is written again as it grows
			`{"id":"g%[1]d","timestamp":"%[2]s","type":"gemini","content":"","toolCalls":[{"id":"c%[1]d","name":"run_shell_command","args":{"command":"turn valve%[1]d"},"status":"executing"}]}`,
			`{"id":"g%[1]d","timestamp":"%[2]s","type":"gemini","content":"","toolCalls":[{"id":"c%[1]d","name":"run_shell_command","args":{"command":"turn valve%[1]d"},"status":"success","timestamp":"%[2]s","result":[{"functionResponse":{"id":"c%[1]d","name":"run_shell_command","response":{"output":"opened outlet%[1]d"}}}]}]}`,
		},
	},
	{
		name: "cursor", path: "w-app/agent-transcripts/" + sessionID + "/" + sessionID + ".jsonl", noResults: true,
		begin: []string{`{"role":"user","message":{"content":[{"type":"text","text":"<user_query>mend the pump</user_query>"}]}}`},
		step:  []string{`{"role":"assistant","message":{"content":[{"type":"tool_use","name":"Shell","input":{"command":"turn valve%[1]d"}}]}}`},
	},
}

// lines are those of a step.
func (a *agent) lines(i int) (lines []string) {
	at := time.Date(2026, 1, 2, 3, 0, i, 0, time.UTC).Format("2006-01-02T15:04:05.000Z")
	for _, l := range a.step {
		n := strings.Count(l, "%[2]s")
		if n == 0 {
			lines = append(lines, fmt.Sprintf(l, i))
		} else {
			lines = append(lines, fmt.Sprintf(l, i, at))
		}
	}
	return lines
}

// write adds lines to a file.
func write(t *testing.T, path string, lines ...string) {
	t.Helper()
	ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ok(t, err)
	for _, l := range lines {
		_, err = f.WriteString(l + "\n")
		ok(t, err)
	}
	ok(t, f.Close())
}

// stored is the one episode that there is; nil if there is none.
func stored(t *testing.T, s *episodic.Store) *episodic.Episode {
	t.Helper()
	page, err := s.ListEpisodes(t.Context(), nil, nil)
	ok(t, err)
	if len(page.Items) == 0 {
		return nil
	}
	if len(page.Items) > 1 {
		t.Fatalf("%d episodes", len(page.Items))
	}
	e, err := s.Episode(t.Context(), page.Items[0].ID)
	ok(t, err)
	return e
}

// checkSteps checks that an episode has so many steps, each once.
func checkSteps(t *testing.T, a *agent, e *episodic.Episode, n int) {
	t.Helper()
	if e == nil {
		t.Fatalf("no episode; want one of %d steps", n)
	}
	if len(e.Steps) != n {
		t.Fatalf("%d steps, want %d", len(e.Steps), n)
	}
	for i := range e.Steps {
		s := &e.Steps[i]
		if !strings.Contains(string(s.Parameters), fmt.Sprintf("valve%d\"", i+1)) ||
			!a.noResults && (s.Result == nil || s.Result.Text != fmt.Sprintf("opened outlet%d", i+1)) {
			t.Fatalf("step %d: %+v", i+1, s)
		}
	}
}

// finds checks that a search for a word finds the episode.
func finds(t *testing.T, s *episodic.Store, word string) {
	t.Helper()
	r, err := s.Search(t.Context(), word, nil)
	ok(t, err)
	if len(r.Hits) != 1 {
		t.Errorf("%s: %d hits", word, len(r.Hits))
	}
}

// once looks, as if nothing had to be spared now.
func once(t *testing.T, c *Capture) {
	t.Helper()
	for _, f := range c.tree.files {
		f.again = time.Time{}
		if !f.due.IsZero() {
			f.due = time.Now()
		}
		for _, r := range f.runs {
			r.cost = 0
		}
	}
	ok(t, c.Once(t.Context()))
}

// TestGrows: each step is stored, and can be found, as soon as it has come to an end, also by a
// capture that was started in between; and then an import has nothing to add.
func TestGrows(t *testing.T) {
	t.Parallel()
	for _, a := range agents {
		for where, open := range map[string]func(*testing.T) *episodic.Store{"file": onFile, "server": onServer} {
			t.Run(a.name+"/"+where, func(t *testing.T) {
				t.Parallel()
				s, dir := open(t), t.TempDir()
				path := filepath.Join(dir, filepath.FromSlash(a.path))
				o := testOptions(dir, a.name)
				o.Tell = func(text string) { t.Error(text) }
				c := New(s, o)
				once(t, c)
				for _, l := range a.begin {
					write(t, path, l)
					once(t, c)
				}
				const steps = 6
				for i := 1; i <= steps; i++ {
					if i == 4 {
						c = New(s, o)
					}
					for _, l := range a.lines(i) {
						write(t, path, l)
						once(t, c)
					}
					e := stored(t, s)
					checkSteps(t, &a, e, i)
					if !e.Running() || e.Description != "mend the pump" {
						t.Fatalf("running %v, task %q", e.Running(), e.Description)
					}
					finds(t, s, fmt.Sprintf("valve%d", i))
					if !a.noResults {
						finds(t, s, fmt.Sprintf("outlet%d", i))
					}
				}
				long := time.Now().Add(-3 * time.Hour)
				ok(t, os.Chtimes(path, long, long))
				once(t, c)
				e := stored(t, s)
				checkSteps(t, &a, e, steps)
				if e.Running() {
					t.Error("the session has not ended")
				}
				if got := c.Stats(); got.Sessions != 1 || got.Ended != 1 || got.Problems != 0 || got.Files != 1 {
					t.Errorf("%+v", got)
				}
				text, err := os.Open(path)
				ok(t, err)
				defer text.Close()
				for run, err := range transcript.Read(text, path, &transcript.Options{Format: a.name, Modified: long}) {
					ok(t, err)
					run.Episode.ID = run.ID(s.Scope())
					for _, hash := range [][]byte{run.Hash[:16], []byte("another")} {
						res, err := s.Import(t.Context(), []episodic.Record{{Episode: run.Episode, Hash: hash}})
						ok(t, err)
						if res[0].Outcome != episodic.ImportUnchanged {
							t.Errorf("importing it: %+v", res[0])
						}
					}
				}
				write(t, path, a.lines(steps+1)...) // it is taken up again
				once(t, c)
				if e = stored(t, s); !e.Running() {
					t.Error("the session does not go on")
				}
				checkSteps(t, &a, e, steps+1)
			})
		}
	}
}

// TestTorn: a line that is not whole is left for later, wherever it was cut.
func TestTorn(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	o := testOptions(dir, a.name)
	o.Tell = func(text string) { t.Error(text) }
	c := New(s, o)
	write(t, path, a.begin...)
	once(t, c)
	text := strings.Join(a.lines(1), "\n") + "\n"
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	ok(t, err)
	defer f.Close()
	for part := range slices.Chunk([]byte(text), 97) {
		_, err := f.Write(part)
		ok(t, err)
		once(t, c)
	}
	checkSteps(t, a, stored(t, s), 1)
}

// TestLateResult: a call whose result comes much later, while others come and go, is one step.
func TestLateResult(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	c := New(s, testOptions(dir, a.name))
	write(t, path, a.begin...)
	one, two := a.lines(1), a.lines(2)
	write(t, path, one[0], two[0])
	once(t, c)
	write(t, path, two[1]) // the second of two calls at once is done first
	once(t, c)
	e := stored(t, s)
	if len(e.Steps) != 2 || e.Steps[0].Result != nil || e.Steps[1].Result == nil {
		t.Errorf("%+v", e.Steps)
	}
	write(t, path, one[1])
	once(t, c)
	checkSteps(t, a, stored(t, s), 2)
}

// TestRewritten: a file that is another one than before is read anew, however it was changed.
func TestRewritten(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	c := New(s, testOptions(dir, a.name))
	write(t, path, a.begin...)
	write(t, path, append(a.lines(1), a.lines(7)...)...)
	once(t, c)
	if e := stored(t, s); len(e.Steps) != 2 {
		t.Fatalf("%d steps", len(e.Steps))
	}
	all := slices.Concat(a.begin, a.lines(1), a.lines(2), a.lines(3))
	ok(t, os.WriteFile(path, []byte(strings.Join(all, "\n")+"\n"), 0o600)) // longer, in place
	once(t, c)
	checkSteps(t, a, stored(t, s), 3)
	ok(t, os.WriteFile(path+".tmp", []byte(strings.Join(append(all, a.lines(4)...), "\n")+"\n"), 0o600))
	ok(t, os.Rename(path+".tmp", path))
	once(t, c)
	checkSteps(t, a, stored(t, s), 4)

	// Moved away, as to an archive, it is the same session still.
	ok(t, s.AddTags(t.Context(), stored(t, s).ID, "mine"))
	moved := filepath.Join(dir, "elsewhere", filepath.Base(path))
	ok(t, os.MkdirAll(filepath.Dir(moved), 0o700))
	ok(t, os.Rename(path, moved))
	write(t, moved, a.lines(5)...)
	once(t, c)
	e := stored(t, s)
	checkSteps(t, a, e, 5)
	if !slices.Contains(e.Context.Tags, "mine") {
		t.Error("the tag is gone")
	}
	ok(t, os.Remove(moved))
	once(t, c)
	if e := stored(t, s); e.Running() {
		t.Error("the session whose file is gone has not ended")
	}
}

// TestWhole: a session that is one object, written again and again, is followed too.
func TestWhole(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[2], onFile(t), t.TempDir()
	path := filepath.Join(dir, strings.TrimSuffix(filepath.FromSlash(a.path), "l"))
	c := New(s, testOptions(dir, a.name))
	for n := 1; n <= 4; n++ {
		messages := []string{a.begin[1]}
		for i := 1; i <= n; i++ {
			messages = append(messages, a.lines(i)[1])
		}
		text := strings.TrimSuffix(a.begin[0], "}") + `,"messages":[` + strings.Join(messages, ",") + "]}"
		ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
		ok(t, os.WriteFile(path, []byte(text[:len(text)/2]), 0o600)) // half written
		once(t, c)
		ok(t, os.WriteFile(path, []byte(text), 0o600))
		once(t, c)
		checkSteps(t, a, stored(t, s), n)
	}
	if got := c.Stats(); got.Problems != 0 {
		t.Errorf("%+v", got)
	}
}

// TestProblems: what cannot be read is told once, and the rest is stored.
func TestProblems(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	o := testOptions(dir, a.name)
	var told []string
	o.Tell = func(text string) { told = append(told, strings.TrimPrefix(text, dir)) }
	c := New(s, o)
	write(t, path, a.begin...)
	write(t, path, "{no json", "{nor this")
	for i := 1; i <= 3; i++ {
		write(t, path, a.lines(i)...)
		once(t, c)
		once(t, c)
	}
	checkSteps(t, a, stored(t, s), 3)
	if len(told) != 2 || !strings.Contains(told[0], a.path+":3: is not JSON") || !strings.Contains(told[1], ":4: ") || c.Stats().Problems != 2 {
		t.Errorf("told %q, %+v", told, c.Stats())
	}
}

// TestDeleted: what was deleted while its session goes on stays deleted.
func TestDeleted(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	c := New(s, testOptions(dir, a.name))
	write(t, path, a.begin...)
	write(t, path, a.lines(1)...)
	once(t, c)
	ok(t, s.DeleteEpisode(t.Context(), stored(t, s).ID))
	for i := 2; i < 5; i++ {
		write(t, path, a.lines(i)...)
		once(t, c)
	}
	if e := stored(t, s); e != nil || c.Stats().Deleted != 1 {
		t.Errorf("%+v, %+v", e, c.Stats())
	}
}

// TestSince: at the start only files are read that were changed lately, or whose sessions are
// open in the memory; the others once they change.
func TestSince(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	o := testOptions(dir, a.name)
	o.Since = time.Now().Add(-24 * time.Hour)
	write(t, path, a.begin...)
	write(t, path, a.lines(1)...)
	age := func(by time.Duration) {
		at := time.Now().Add(-by)
		ok(t, os.Chtimes(path, at, at))
	}
	age(48 * time.Hour)
	c := New(s, o)
	once(t, c)
	once(t, c)
	if e := stored(t, s); e != nil {
		t.Fatalf("an old session was read: %+v", e)
	}
	write(t, path, a.lines(2)...)
	once(t, c)
	checkSteps(t, a, stored(t, s), 2)

	// That capture is killed, and the next one is started days after the session has ended.
	e := stored(t, s)
	e.Start = time.Now().Add(-72 * time.Hour)
	ok(t, s.PutEpisode(t.Context(), e))
	write(t, path, a.lines(3)...)
	age(48 * time.Hour)
	once(t, New(s, o))
	if e := stored(t, s); e.Running() || len(e.Steps) != 3 {
		t.Errorf("%d steps, running %v", len(e.Steps), e.Running())
	}
}

// TestParents: a sub-agent's run is related to that which started it, whichever is found first.
func TestParents(t *testing.T) {
	t.Parallel()
	a, s, dir := &agents[0], onFile(t), t.TempDir()
	path := filepath.Join(dir, a.path)
	sub := filepath.Join(strings.TrimSuffix(path, ".jsonl"), "subagents", "agent-7.jsonl")
	c := New(s, testOptions(dir, a.name))
	for _, l := range append(a.begin[1:], a.lines(1)...) {
		write(t, sub, strings.Replace(l, "{", `{"isSidechain":true,"agentId":"7",`, 1))
	}
	once(t, c)
	child := stored(t, s)
	write(t, path, a.begin...)
	write(t, path, a.lines(1)...)
	once(t, c)
	var r []*episodic.Relation
	for relation, err := range s.Relations(t.Context(), child.ID, nil) {
		ok(t, err)
		r = append(r, relation)
	}
	if len(r) != 1 || r[0].Type != episodic.ParentOf || r[0].To != child.ID {
		t.Errorf("%+v", r)
	}
}

// TestTwo: two captures of the same sessions in the same memory store each step once.
func TestTwo(t *testing.T) {
	t.Parallel()
	a, dir := &agents[0], t.TempDir()
	target, folder := filepath.Join(dir, "memory.db"), filepath.Join(dir, "sessions")
	path := filepath.Join(folder, a.path)
	var stores []*episodic.Store
	for range 2 {
		s, err := episodic.Open(t.Context(), target, nil)
		ok(t, err)
		defer s.Close()
		stores = append(stores, s)
	}
	write(t, path, a.begin...)
	captures := []*Capture{New(stores[0], testOptions(folder, a.name)), New(stores[1], testOptions(folder, a.name))}
	for i := 1; i <= 20; i++ {
		write(t, path, a.lines(i)...)
		var both sync.WaitGroup
		for _, c := range captures {
			both.Go(func() {
				for _, f := range c.tree.files {
					for _, r := range f.runs {
						r.cost = time.Duration(i%2) * time.Hour // by steps and as a whole in turn
					}
				}
				if err := c.Once(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		checkSteps(t, a, stored(t, stores[0]), i)
	}
}

// TestDelay: a step is found within two seconds after it was written.
func TestDelay(t *testing.T) {
	if testkit.Effort(0, 0, 1) == 0 {
		t.Skip("it takes a minute, and time counts")
	}
	for _, a := range agents {
		for where, open := range map[string]func(*testing.T) *episodic.Store{"file": onFile, "server": onServer} {
			t.Run(a.name+"/"+where, func(t *testing.T) {
				s, dir := open(t), t.TempDir()
				path := filepath.Join(dir, filepath.FromSlash(a.path))
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- New(s, testOptions(dir, a.name)).Run(ctx) }()
				write(t, path, a.begin...)
				var all, most time.Duration
				const steps = 10
				for i := 1; i <= steps; i++ {
					time.Sleep(time.Duration(i) * 77 * time.Millisecond) // at any moment between two looks
					write(t, path, a.lines(i)...)
					begun, word := time.Now(), fmt.Sprintf("valve%d", i)
					for {
						r, err := s.Search(episodic.WithFresh(t.Context()), word, nil)
						ok(t, err)
						if len(r.Hits) == 1 {
							if where == "file" && slices.ContainsFunc(r.Hits[0].Steps, func(h episodic.StepHit) bool { return h.Number == i }) {
								break
							}
							// A server tells episodes only.
							if e, err := s.Episode(episodic.WithFresh(t.Context()), r.Hits[0].Episode.ID); where == "server" && err == nil && len(e.Steps) >= i {
								break
							}
						}
						if time.Since(begun) > 20*time.Second {
							t.Fatalf("step %d is not found", i)
						}
						time.Sleep(5 * time.Millisecond)
					}
					took := time.Since(begun)
					all, most = all+took, max(most, took)
				}
				stop()
				ok(t, <-ended)
				t.Logf("found after %v, %v at most", (all / steps).Round(time.Millisecond), most.Round(time.Millisecond))
				if most > 2*time.Second {
					t.Errorf("found after %v", most)
				}
			})
		}
	}
}

// TestKilled: a capture that is killed while a session grows loses no step, and stores none
// twice.
func TestKilled(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		testKilled(t, filepath.Join(t.TempDir(), "memory.db"), testkit.Effort(1, 4, 20))
	})
	if testkit.Effort(0, 0, 1) == 1 {
		t.Run("server", func(t *testing.T) { testKilled(t, hranatest.Start(t).URL(), 6) })
	}
}

func testKilled(t *testing.T, target string, times int) {
	a, folder := &agents[0], t.TempDir()
	path := filepath.Join(folder, a.path)
	write(t, path, a.begin...)
	t.Setenv(folderEnv, folder)
	steps := 0
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // the agent
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				steps++
				for _, l := range a.lines(steps) {
					write(t, path, l)
					time.Sleep(2 * time.Millisecond) // it is a program of its own, which does something
				}
			}
		}
	}()
	for range times {
		testkit.Killed(t, targetEnv+"="+target, 1, 700*time.Millisecond, func(string) {})
	}
	close(stop)
	<-stopped
	s, err := episodic.Open(t.Context(), target, nil)
	ok(t, err)
	defer s.Close()
	once(t, New(s, testOptions(folder, a.name)))
	checkSteps(t, a, stored(t, s), steps)
	t.Logf("%d steps", steps)
}
