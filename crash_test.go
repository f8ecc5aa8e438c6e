package episodic

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/rank"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// crashEnv makes the test program a process that writes to the memory it names
// until it is killed, see crashWriter.
const crashEnv = "EPISODIC_CRASH_WRITER"

// crashWriter writes episodes and steps and acknowledges each on standard
// output after the call has returned. It reports false in an ordinary test run.
func crashWriter() bool {
	target := os.Getenv(crashEnv)
	if target == "" {
		return false
	}
	s, err := Open(context.Background(), target, direct(nil))
	if err != nil {
		fmt.Println("error", err)
		return true
	}
	err = writeAndAcknowledge(context.Background(), s, func(id ID, steps int) { fmt.Println(id, steps) })
	fmt.Println("error", err)
	return true
}

// writeAndAcknowledge stores episodes until it fails. It calls stored after each
// call of the Store that returned nil, with the number of steps that are safe.
func writeAndAcknowledge(ctx context.Context, s *Store, stored func(id ID, steps int)) error {
	text := strings.Repeat("output ", 500)
	for i := 0; ; i++ {
		e := &Episode{Description: fmt.Sprint("crash ", i), Context: Context{Tags: []string{"crash"}}}
		if err := s.StartEpisode(ctx, e); err != nil {
			return err
		}
		stored(e.ID, 0)
		for n := range 3 {
			if _, err := s.AppendSteps(ctx, e.ID, Step{Tool: "write", Result: &Result{Kind: ResultOutput, Text: text}}); err != nil {
				return err
			}
			stored(e.ID, n+1)
		}
		if err := s.CompleteEpisode(ctx, e.ID, Completion{Outcome: Outcome{Kind: Success}}); err != nil {
			return err
		}
		stored(e.ID, -1)
	}
}

// checkAcknowledged compares the memory with what was acknowledged: steps by
// episode, -1 if it was completed.
func checkAcknowledged(t *testing.T, s *Store, acknowledged map[ID]int) {
	t.Helper()
	for id, steps := range acknowledged {
		e, err := s.Episode(t.Context(), id)
		switch {
		case err != nil:
			t.Errorf("an acknowledged episode is lost: %v", err)
		case steps == -1 && (e.Running() || len(e.Steps) != 3):
			t.Errorf("episode %v was completed with 3 steps; it has %d, running %v", id, len(e.Steps), e.Running())
		case steps > len(e.Steps) || len(e.Steps) > 3:
			t.Errorf("episode %v: %d steps acknowledged, %d stored", id, steps, len(e.Steps))
		}
	}
	r, err := s.engine.Query(t.Context(), stmt("PRAGMA integrity_check"), stmt("SELECT (SELECT sum(steps) FROM episodes) - (SELECT sum(count) FROM runs)"))
	ok(t, err)
	if got := fmt.Sprint(r[0].Rows, r[1].Rows); got != "[[ok]] [[0]]" {
		t.Errorf("integrity: %s", got)
	}
	checkIndex(t, s)
}

// checkIndex reports an episode that is not indexed, with all of its steps and once, and
// documents of what is not stored.
func checkIndex(t testing.TB, s *Store) {
	t.Helper()
	r, err := s.engine.Query(t.Context(), stmt("SELECT seq, steps FROM episodes"), stmt("SELECT count(*) FROM index_waiting"), stmt("SELECT id FROM heads_docsize WHERE id > 0"))
	ok(t, err)
	if n := r[1].Rows[0][0]; n != int64(0) {
		t.Errorf("%d items wait for the index", n)
	}
	want, got := make(map[int64]int64), make(map[int64]int64) // steps of episodes
	for _, row := range r[0].Rows {
		want[row[0].(int64)] = row[1].(int64)
	}
	heads := make(map[int64]bool)
	for _, row := range r[2].Rows {
		heads[row[0].(int64)] = true
	}
	if s.server == nil {
		m, err := s.indexer.file.Lookup(t.Context(), s.engine, nil, nil)
		ok(t, err)
		places := make(map[int64]bool)
		for _, p := range m.Corpus.Parts {
			for i, place := range p.Places {
				switch g := place >> rank.NumberBits; {
				case p.Episode[i] < 0 || g < 0:
				case places[place]:
					t.Errorf("document %d of episode %d is indexed twice", place&0xffffff, g)
				case rank.IsStep(place):
					got[g]++
					places[place] = true
				default:
					heads[g] = true
					places[place] = true
				}
			}
		}
	}
	for g, steps := range want {
		if !heads[g] || s.server == nil && got[g] != steps {
			t.Errorf("of episode %d with %d steps, %d steps and the head %v are indexed", g, steps, got[g], heads[g])
		}
	}
	for g := range heads {
		if _, stored := want[g]; !stored {
			t.Errorf("episode %d is indexed and not stored", g)
		}
	}
}

// killed runs crashWriter in a process of its own until it is killed, see
// testkit.Killed. acknowledged gets what it said.
func killed(t *testing.T, path string, lines int, acknowledged map[ID]int) {
	t.Helper()
	testkit.Killed(t, crashEnv+"="+path, lines, 0, func(line string) {
		var word string
		var steps int
		if _, err := fmt.Sscan(line, &word, &steps); err != nil {
			t.Fatalf("the program says %q", line)
		}
		id, err := ParseID(word)
		ok(t, err)
		acknowledged[id] = steps
	})
}

func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	acknowledged := make(map[ID]int)
	kills := testkit.Effort(3, 4, 20)
	for kill := range kills {
		// Killed amid its writes, at a moment that differs from round to round.
		killed(t, path, 5+kill*7, acknowledged)
	}
	checkAcknowledged(t, open(t, path, nil), acknowledged)
	if len(acknowledged) < kills {
		t.Errorf("only %d episodes were acknowledged", len(acknowledged))
	}
}

// Eight programs write at the same time, as agents do that each start their own.
func TestProcessesShareAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	const processes, episodes = 8, 15
	var writers sync.WaitGroup
	for range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		writers.Go(func() {
			completed := 0
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "error") {
					t.Errorf("a writer says: %s", lines.Text())
				}
				if strings.HasSuffix(lines.Text(), " -1") {
					completed++
				}
				if completed == episodes {
					break
				}
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Errorf("kill: %v", err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("a writer ended by itself")
			}
		})
	}
	writers.Wait()
	s := open(t, path, nil)
	checkAcknowledged(t, s, nil)
	if n := number(t, s, "SELECT count(*) FROM episodes WHERE end_us IS NOT NULL"); n < processes*episodes {
		t.Errorf("%d episodes are complete, want %d or more", n, processes*episodes)
	}
}

func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	server := hranatest.Start(t)
	s := open(t, server.URL(), nil)
	acknowledged := make(map[ID]int)
	kills := testkit.Effort(3, 8, 20)
	for kill := range kills {
		n, dead := 0, make(chan struct{})
		err := writeAndAcknowledge(t.Context(), s, func(id ID, steps int) {
			acknowledged[id] = steps
			if n++; n == 5+kill {
				go func() { server.Kill(); close(dead) }()
			}
		})
		if err == nil || t.Context().Err() != nil {
			t.Fatalf("writing ended with %v", err)
		}
		<-dead
		ok(t, server.Restart())
	}
	checkAcknowledged(t, s, acknowledged)
	if len(acknowledged) < kills {
		t.Errorf("only %d episodes were acknowledged", len(acknowledged))
	}
}
