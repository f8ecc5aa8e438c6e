// Package episodic is durable episodic memory for AI agents: a record of what
// they did and what came of it, and a way to find what helped before.
//
// # The nouns
//
// An [Episode] is one task: its description and [Context], the [Step]s taken
// (tool calls with parameters and results), an [Outcome], a [Reward], a
// [Reflection]. What recurs in episodes is kept as a [Pattern] or a [Heuristic].
// A [Relation] links two episodes. An [Embedding] is a vector that a model made
// of one of these. Each is named by an [ID] that the client makes.
//
//	Episode ──< Step            runs of steps, appended while the task goes on
//	   │ ──< tags
//	   │ ──< Relation >── Episode
//	   └──< Embedding >── Pattern, Heuristic
//
// # The store
//
// A [Store] is an open memory, on one local file or on a libSQL server; [Open]
// tells them apart by the target, and everything else is the same. Many
// goroutines may use one Store, and many processes one database. A program
// opens one Store and closes it at its end.
//
//	store, err := episodic.Open(ctx, "memory.db", nil)
//
// A finished episode is stored whole with [Store.PutEpisode]. One that is still
// going on is stored with [Store.StartEpisode], grows by [Store.AppendSteps], and ends
// with [Store.CompleteEpisode]; what was appended is safe if the agent dies. Read with
// [Store.Episode], [Store.ListEpisodes] and [Store.Search].
//
// # What a write promises
//
// A call that returns nil has been committed. A call that returns an error has
// written nothing, with one exception that says so: [ErrUnknownOutcome]. All
// that one call writes is written together. Concurrent writes of one Store share
// transactions, so many goroutines writing are faster than one.
//
// # Errors
//
// Errors are asked with errors.Is: [ErrInvalid] (nothing was sent; the
// [InvalidError] names the field), [ErrNotFound], [ErrConflict], [ErrClosed],
// [ErrUnauthorized], [ErrUnknownDatabase], [ErrSchema], [ErrReadOnly], [ErrFull],
// [ErrTooLarge], [ErrCorrupt], [ErrReplaced], [ErrHistoryLost], [ErrUnknownOutcome];
// [Retryable] tells whether the same call may succeed later. A call whose context ends
// stops waiting at once, with the context's error. One without a deadline waits up to
// 30 s for a server that asks for time (Retry-After).
//
// # What others write
//
// Every change of an item has a number; [Store.Changes] tells what has changed
// since one, and [Store.Watch] waits for more. An item that was read carries a
// Revision, and a put of it is refused with ErrConflict if anybody has written it
// since. [Store.Scoped] narrows a Store to a project, a user or an agent.
package episodic
