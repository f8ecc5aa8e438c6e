package episodic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// conflictWriterEnv makes the test program a process that queues writes to an episode that
// another machine writes to as well, until it is killed. It holds the server, the machine's
// folder, the episode, and a word that no other process has.
const conflictWriterEnv = "EPISODIC_CONFLICT_WRITER"

func conflictWriter() bool {
	words := strings.Fields(os.Getenv(conflictWriterEnv))
	if len(words) == 0 {
		return false
	}
	ctx := context.Background()
	id, err := ParseID(words[2])
	var s *Store
	if err == nil {
		s, err = Open(ctx, words[0], queueOptions(words[1]))
	}
	for i := 0; err == nil; i++ {
		name := fmt.Sprint(words[3], ".", i)
		if _, err = s.AppendSteps(ctx, id, Step{Tool: name}); err != nil {
			break
		}
		fmt.Println("step", name)
		var e *Episode
		if e, err = s.Episode(ctx, id); err != nil {
			break
		}
		if e.Metadata == nil {
			e.Metadata = make(map[string]string)
		}
		e.Metadata[name], e.Description = "x", name
		switch err = s.PutEpisode(ctx, e); {
		case err == nil:
			fmt.Println("key", name)
		case errors.Is(err, ErrConflict): // what others wrote has come in between
			err = nil
		}
	}
	fmt.Println("error", err)
	return true
}

// Two machines add steps to the same episode and put it, and are killed while answers get
// lost: every step and every key that one of them has acknowledged is there in the end, once.
func TestKilledAmongConflicts(t *testing.T) {
	t.Parallel()
	server, link := offline(t)
	ctx := t.Context()
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	e := &Episode{Description: "shared", Steps: stepsOf("one")}
	ok(t, direct.StartEpisode(ctx, e))
	dirs := []string{t.TempDir(), t.TempDir()}
	for _, dir := range dirs {
		s := queueing(t, link.URL(), dir)
		synced(t, s)
		ok(t, s.Close())
	}
	steps, keys := map[string]int{"one": 1}, map[string]bool{}
	var mu sync.Mutex
	for kill := range testkit.Effort(1, 3, 6) {
		link.CutAnswer(150 + 61*kill)
		var both sync.WaitGroup
		for i, dir := range dirs {
			both.Go(func() {
				testkit.Killed(t, fmt.Sprintf("%s=%s %s %v %c%d", conflictWriterEnv, link.URL(), dir, e.ID, 'a'+i, kill), 6+5*kill+4*i, 200*time.Millisecond, func(line string) {
					word, name, _ := strings.Cut(line, " ")
					mu.Lock()
					defer mu.Unlock()
					switch word {
					case "step":
						steps[name] = 1
					case "key":
						keys[name] = true
					default:
						t.Errorf("the program says %q", line)
					}
				})
			})
		}
		both.Wait()
	}
	for _, dir := range dirs {
		s := queueing(t, link.URL(), dir)
		for tries := 0; ; tries++ {
			err := s.Flush(ctx)
			if err == nil {
				break
			}
			if tries == 20 {
				t.Fatal(err)
			}
		}
		st := s.Stats().Replica.Queue
		t.Logf("%+v", st)
		ok(t, s.Close())
	}
	got, err := direct.Episode(ctx, e.ID)
	ok(t, err)
	times := make(map[string]int)
	for _, step := range got.Steps {
		if times[step.Tool]++; times[step.Tool] > 1 {
			t.Errorf("step %s is there %d times", step.Tool, times[step.Tool])
		}
	}
	for name := range steps {
		if times[name] == 0 {
			t.Errorf("step %s, which was acknowledged, is lost", name)
		}
	}
	list, err := collect(direct.Conflicts(ctx))
	ok(t, err)
	for name := range keys {
		if got.Metadata[name] == "" {
			t.Errorf("metadata %s, which was acknowledged, is lost", name)
		}
	}
	t.Logf("%d steps and %d keys were acknowledged; %d and %d are stored; %d conflicts", len(steps), len(keys), len(got.Steps), len(got.Metadata), len(list))
}
