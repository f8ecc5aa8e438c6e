package durability

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/episodic-memory/episodic"
)

// Memory is what is tried. A *episodic.Store is one.
type Memory interface {
	StartEpisode(context.Context, *episodic.Episode) error
	AppendStepsOnce(ctx context.Context, id episodic.ID, key string, steps ...episodic.Step) (int, error)
	CompleteEpisode(context.Context, episodic.ID, episodic.Completion) error
	PutEpisode(context.Context, *episodic.Episode) error
	AddTags(ctx context.Context, id episodic.ID, tags ...string) error
	PutHeuristic(context.Context, *episodic.Heuristic) error
	DeleteHeuristic(context.Context, episodic.ID) error
	DeleteEpisode(context.Context, episodic.ID) error
	Episode(context.Context, episodic.ID) (*episodic.Episode, error)
	Episodes(context.Context, *episodic.EpisodeFilter) iter.Seq2[*episodic.Episode, error]
	Heuristics(context.Context, *episodic.HeuristicFilter) iter.Seq2[*episodic.Heuristic, error]
	Verify(context.Context, ...episodic.Receipt) ([]episodic.Verdict, error)
}

// kinds names errors for people, in the order in which they are looked for.
var kinds = []struct {
	is   error
	name string
}{
	{episodic.ErrUnknownOutcome, "outcome unknown"},
	{episodic.ErrServerStuck, "server stuck"},
	{episodic.ErrFull, "disk full"},
	{episodic.ErrReplaced, "replaced"},
	{episodic.ErrCorrupt, "corrupt"},
	{episodic.ErrReadOnly, "read-only"},
	{episodic.ErrUnauthorized, "unauthorized"},
	{episodic.ErrSchema, "schema"},
	{episodic.ErrConflict, "conflict"},
	{episodic.ErrNotFound, "not found"},
	{episodic.ErrInvalid, "invalid"},
	{episodic.ErrTooLarge, "too large"},
	{episodic.ErrClosed, "closed"},
	{context.Canceled, "canceled"},
}

// kindOf names an error.
func kindOf(err error) string {
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return k.name
		}
	}
	text := strings.ToLower(err.Error())
	switch {
	case strings.Contains(text, "locked"), strings.Contains(text, "busy"):
		return "locked"
	case episodic.Retryable(err):
		return "unreachable"
	}
	return "other"
}
