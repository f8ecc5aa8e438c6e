package episodic_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/episodic-memory/episodic"
)

// openTemporary opens a memory that done throws away.
func openTemporary(ctx context.Context) (store *episodic.Store, done func()) {
	dir, err := os.MkdirTemp("", "episodic")
	if err != nil {
		log.Fatal(err)
	}
	store, err = episodic.Open(ctx, filepath.Join(dir, "memory.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	return store, func() {
		if err := errors.Join(store.Close(), os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}
}

// An episode that is over is stored whole, and found by its words.
func Example() {
	ctx := context.Background()
	store, done := openTemporary(ctx)
	defer done()

	err := store.PutEpisode(ctx, &episodic.Episode{
		Description: "Fix the flaky checkout test",
		Context:     episodic.Context{Domain: "shop", Language: "go", Tags: []string{"flaky", "ci"}},
		Steps: []episodic.Step{
			{Tool: "run_tests", Parameters: `{"package": "./checkout", "count": 50}`, Result: &episodic.Result{Kind: episodic.ResultError, Text: "2 of 50 failed"}},
			{Action: "replaced time.Sleep by a channel that the worker closes"},
		},
		Outcome: episodic.Outcome{Kind: episodic.Success, Verdict: "500 runs without a failure"},
	})
	if err != nil {
		log.Fatal(err)
	}

	found, err := store.Search(ctx, "tests fail now and then: flaky", nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, hit := range found.Hits {
		fmt.Println(hit.Episode.Description, "->", hit.Episode.Outcome.Verdict)
	}
	// Output: Fix the flaky checkout test -> 500 runs without a failure
}

// A task that goes on is stored as it goes: what was appended is safe even if
// the agent dies.
func ExampleStore_StartEpisode() {
	ctx := context.Background()
	store, done := openTemporary(ctx)
	defer done()

	episode := &episodic.Episode{Description: "Upgrade the database driver"}
	if err := store.StartEpisode(ctx, episode); err != nil {
		log.Fatal(err)
	}
	for _, tool := range []string{"go_get", "run_tests"} {
		number, err := store.AppendSteps(ctx, episode.ID, episodic.Step{Tool: tool, Latency: 1200 * time.Millisecond})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("step", number, tool)
	}
	err := store.CompleteEpisode(ctx, episode.ID, episodic.Completion{
		Outcome: episodic.Outcome{Kind: episodic.Failure, Reason: "the new driver needs a newer server"},
		Reward:  &episodic.Reward{Total: 0.2},
	})
	if err != nil {
		log.Fatal(err)
	}

	stored, err := store.Episode(ctx, episode.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stored.Steps), "steps,", stored.Outcome.Kind+":", stored.Outcome.Reason)
	// Output:
	// step 1 go_get
	// step 2 run_tests
	// 2 steps, failure: the new driver needs a newer server
}

// Lists come in pages, newest first.
func ExampleStore_ListEpisodes() {
	ctx := context.Background()
	store, done := openTemporary(ctx)
	defer done()

	for i := range 5 {
		err := store.PutEpisode(ctx, &episodic.Episode{
			Description: fmt.Sprint("task ", i+1),
			Start:       time.Date(2026, 1, i+1, 9, 0, 0, 0, time.UTC),
			Context:     episodic.Context{Domain: "shop"},
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	filter := &episodic.EpisodeFilter{Domain: "shop"}
	paging := &episodic.Paging{Limit: 2}
	for {
		page, err := store.ListEpisodes(ctx, filter, paging)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("page:")
		for _, e := range page.Items {
			fmt.Println(e.Description)
		}
		if paging.Cursor = page.Next; paging.Cursor == "" {
			break
		}
	}
	// Output:
	// page:
	// task 5
	// task 4
	// page:
	// task 3
	// task 2
	// page:
	// task 1
}

// Refused input names the field, and nothing is written.
func ExampleInvalidError() {
	ctx := context.Background()
	store, done := openTemporary(ctx)
	defer done()

	err := store.PutEpisode(ctx, &episodic.Episode{
		Description: "x",
		Steps:       []episodic.Step{{Tool: "grep", Parameters: "pattern=foo"}},
	})
	fmt.Println(errors.Is(err, episodic.ErrInvalid))
	fmt.Println(err)
	// Output:
	// true
	// put episode: steps[0].parameters: is not JSON; quote plain text as a JSON string
}

// Relations of some types are kept free of cycles.
func ExampleStore_PutRelation() {
	ctx := context.Background()
	store, done := openTemporary(ctx)
	defer done()

	plan, build := &episodic.Episode{Description: "plan"}, &episodic.Episode{Description: "build"}
	if err := errors.Join(store.PutEpisode(ctx, plan), store.PutEpisode(ctx, build)); err != nil {
		log.Fatal(err)
	}
	err := store.PutRelation(ctx, &episodic.Relation{From: build.ID, Type: episodic.DependsOn, To: plan.ID})
	fmt.Println(err)
	err = store.PutRelation(ctx, &episodic.Relation{From: plan.ID, Type: episodic.DependsOn, To: build.ID})
	fmt.Println(errors.Is(err, episodic.ErrConflict))
	// Output:
	// <nil>
	// true
}

// What is known of a task, before it is tried again, as text for a prompt.
func ExampleStore_Brief() {
	ctx := context.Background()
	store, done := openTemporary(ctx)
	defer done()

	run := func(id byte, outcome episodic.Outcome, tools ...string) {
		start := time.Date(2026, 3, int(id), 9, 0, 0, 0, time.UTC)
		e := &episodic.Episode{ID: episodic.ID{id}, Description: "Deploy the billing service to staging", Start: start, End: start.Add(time.Hour), Outcome: outcome}
		for _, tool := range tools {
			e.Steps = append(e.Steps, episodic.Step{Tool: tool, Parameters: `{"service": "billing"}`})
		}
		if err := store.PutEpisode(ctx, e); err != nil {
			log.Fatal(err)
		}
	}
	run(1, episodic.Outcome{Kind: episodic.Failure, Reason: "no such column"}, "build", "apply")
	run(2, episodic.Outcome{Kind: episodic.Success, Verdict: "it answers"}, "build", "migrate", "apply")

	for _, task := range []string{"deploy billing", "bake a cake"} {
		brief, err := store.Brief(ctx, task, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s:\n%s", task, brief.Text())
	}
	// Output:
	// deploy billing:
	// Tried before: Deploy the billing service to staging
	// 1 of 2 succeeded: 2026-03-02 02000000-0000 success, 2026-03-01 01000000-0000 failure
	// 2026-03-02 02000000-0000 said: it answers
	// Successful runs did, and no failed one:
	// - migrate {"service":"billing"} (2026-03-02 02000000-0000 step 2)
	// Step 1 of 2026-03-02 02000000-0000, build: build {"service": "billing"}
	// Then: migrate {"service":"billing"}
	// bake a cake:
}
