package episodic_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/episodic-memory/episodic"
)

// call is a tool call that an agent wants to make.
type call struct{ tool, arguments string }

// agent works on tasks and remembers them.
type agent struct {
	memory *episodic.Store
	run    func(call) (output string, err error)
}

// work recalls what helped before, and records the task while it goes on.
func (a *agent) work(ctx context.Context, task string, calls []call) error {
	found, err := a.memory.Search(ctx, task, &episodic.SearchOptions{Limit: 3})
	if err != nil {
		return err
	}
	for _, hit := range found.Hits {
		fmt.Println("recalled:", hit.Episode.Description, "-", hit.Episode.Outcome.Verdict)
	}
	episode := &episodic.Episode{Description: task}
	if err := a.memory.StartEpisode(ctx, episode); err != nil {
		return err
	}
	outcome := episodic.Outcome{Kind: episodic.Success, Verdict: fmt.Sprint(len(calls), " calls were enough")}
	for i, c := range calls {
		step := episodic.Step{Tool: c.tool, Parameters: episodic.JSON(c.arguments)}
		output, err := a.run(c)
		step.Result = &episodic.Result{Kind: episodic.ResultOutput, Text: output}
		if err != nil {
			step.Result = &episodic.Result{Kind: episodic.ResultError, Text: err.Error()}
			outcome = episodic.Outcome{Kind: episodic.Failure, Reason: c.tool + " failed"}
		}
		if err := a.record(ctx, episode.ID, fmt.Sprint("call ", i), step); err != nil {
			return err
		}
	}
	err = a.memory.CompleteEpisode(ctx, episode.ID, episodic.Completion{Outcome: outcome})
	if errors.Is(err, episodic.ErrConflict) {
		fmt.Println("somebody else has completed the task")
		return nil
	}
	return err
}

// record appends a step. The key makes it safe to append it again when it is not
// known whether it was stored.
func (a *agent) record(ctx context.Context, id episodic.ID, key string, step episodic.Step) (err error) {
	for range 3 {
		_, err = a.memory.AppendStepsOnce(ctx, id, key, step)
		if !errors.Is(err, episodic.ErrUnknownOutcome) && !episodic.Retryable(err) {
			break
		}
	}
	return err
}

// An agent recalls what helped before, and records what it does.
func Example_agent() {
	ctx := context.Background()
	memory, done := openTemporary(ctx)
	defer done()
	a := &agent{memory, func(c call) (string, error) { return "ok", nil }}
	for _, task := range []string{"Fix the flaky checkout test", "The login test is flaky"} {
		if err := a.work(ctx, task, []call{{"read_log", `{"job": 7}`}, {"run_tests", `{"count": 50}`}}); err != nil {
			log.Fatal(err)
		}
	}
	// Output: recalled: Fix the flaky checkout test - 2 calls were enough
}
