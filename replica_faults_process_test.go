package episodic

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// faultyEnv makes the test program a process of a machine that writes until it is killed.
const faultyEnv = "EPISODIC_FAULTY_WRITER"

type faultyWriter struct {
	Target, Dir, Name string
	Clock             time.Duration // of its machine
	Shared            []ID
	Offline           Offline
}

// write writes, and says what and when it was acknowledged.
func (w *faultyWriter) write(ctx context.Context) error {
	s, err := Open(ctx, w.Target, &Options{LockDir: w.Dir, CacheDir: w.Dir, StateDir: w.Dir, Replica: Replica{Path: filepath.Join(w.Dir, "replica.db"), Offline: w.Offline}, Cache: Cache{PollInterval: faultyPoll}})
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		id, shared, text, now := idAt(w.Clock), ID{}, said{w.Name, n}.String(), time.Now().Add(w.Clock)
		if n%2 == 0 {
			shared = w.Shared[n/2%len(w.Shared)]
		}
		fmt.Println("begin", id, shared)
		if shared.IsZero() {
			err = s.PutEpisode(ctx, &Episode{ID: id, Description: text, Start: now, Outcome: Outcome{Kind: Success}})
		} else {
			_, err = s.AppendSteps(ctx, shared, Step{Action: text, Time: now})
		}
		switch {
		case err == nil:
			fmt.Println("acknowledged", id, shared)
		case !mayFail(err):
			return err
		}
		if _, err := s.ListEpisodes(ctx, nil, nil); err != nil && !mayFail(err) { // pulls
			return err
		}
	}
}

// faultyProcess is crashWriter for processes of a machine.
func faultyProcess() bool {
	text := os.Getenv(faultyEnv)
	if text == "" {
		return false
	}
	var w faultyWriter
	err := json.Unmarshal([]byte(text), &w)
	if err == nil {
		err = w.write(context.Background())
	}
	fmt.Println("error", err)
	return true
}

// processes runs programs on a machine, one after the other, and kills each.
func (d *disaster) processes(t *testing.T, m *brokenMachine) {
	for i := 0; d.more(t); i++ {
		w := faultyWriter{m.link.URL(), m.opts.LockDir, fmt.Sprintf("%sp%d", m.name, i), m.clock, d.shared, d.offline}
		text, err := json.Marshal(w)
		if err != nil {
			t.Error(err)
			return
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), faultyEnv+"="+string(text))
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Error(err)
			return
		}
		killer := time.AfterFunc(300*time.Millisecond+rand.N(2*time.Second), func() { _ = cmd.Process.Kill() }) // fails if it is gone, of which it tells
		var last *fact
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var word, id, shared string
			if _, err := fmt.Sscan(lines.Text(), &word, &id, &shared); err != nil || word == "error" {
				// Open has no replica to go by, or the server is stuck: it may fail.
				if !strings.Contains(lines.Text(), "unavailable") {
					t.Logf("a program of %s says: %s", m.name, lines.Text())
				}
				continue
			}
			if word == "acknowledged" {
				d.note(func() { last.acked = time.Now() })
				continue
			}
			last = &fact{on: m}
			last.id, _ = ParseID(id)
			last.shared, _ = ParseID(shared)
			d.begin(w.Name, last)
		}
		killer.Stop()
		_ = cmd.Wait() // it was killed
		d.kills.Add(1)
	}
}
