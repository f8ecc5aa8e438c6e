package episodic

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// embedAfter is how long the background waits after Open or a write: a program that ends
	// soon makes no vectors, and what is written within that time is embedded together.
	embedAfter = time.Second
	// Bounds of the wait after the model has failed; it doubles each time.
	leastEmbedWait = 2 * time.Second
	mostEmbedWait  = 5 * time.Minute
	// maxQueryTime bounds how long a search waits for the vector of its query, and queryRest is
	// how long searches go without the model after it has failed.
	maxQueryTime = 3 * time.Second
	queryRest    = 15 * time.Second
)

// embedder gives documents vectors by Options.Embedder, in the background, and compares
// queries with them. A nil embedder does nothing.
type embedder struct {
	model Embedder
	store *Store // without a scope
	log   *slog.Logger

	wake chan struct{}
	ctx  context.Context
	stop context.CancelFunc
	once sync.Once // the goroutine is started
	done sync.WaitGroup
	busy chan struct{} // holds a token while vectors are made

	version atomic.Uint64 // grows when searches may rank otherwise than before
	rest    atomic.Int64  // until when searches go without the model, Unix nanoseconds

	mu    sync.Mutex
	stats EmbedderStats
	last  askedQuery
}

// askedQuery is a query with its vector; nil if the model knows nothing of it.
type askedQuery struct {
	query  string
	vector []float32
}

// EmbedderStats is what a Store did with Options.Embedder.
type EmbedderStats struct {
	Name string `json:"name"`
	Dim  int    `json:"dim"`
	// Embedded are documents, tasks and steps, whose vectors were stored; Refused are those that
	// the model did not take, however short they were cut, while it took others.
	Embedded uint64 `json:"embedded"`
	Refused  uint64 `json:"refused"`
	// Failures are times that making vectors in the background or by EmbedDocuments was given
	// up, by the model's fault or the database's. LastFailure says why the last one was.
	Failures    uint64 `json:"failures"`
	LastFailure string `json:"last_failure,omitempty"`
	// Searches are those for which the model was asked, the next pages of a search not among
	// them; Missed those of them that did without it, because it failed or took over 3 s; it is
	// then not asked for 15 s, and Skipped are the searches in that time.
	Searches uint64 `json:"searches"`
	Missed   uint64 `json:"missed"`
	Skipped  uint64 `json:"skipped"`
}

// newEmbedder returns nil if there is no model.
func newEmbedder(s *Store, model Embedder, log *slog.Logger) *embedder {
	if model == nil {
		return nil
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &embedder{model: model, store: s, log: log, wake: make(chan struct{}, 1), busy: make(chan struct{}, 1)}
	e.stats.Name, e.stats.Dim = model.Name(), model.Dim()
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

// kick has vectors made soon.
func (e *embedder) kick() {
	if e == nil {
		return
	}
	e.once.Do(func() { e.done.Go(e.work) })
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// work makes vectors whenever it is woken, until close. While it fails it tries again,
// more and more rarely.
func (e *embedder) work() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.wake:
		}
		for wait, failures := embedAfter, 0; ; failures++ {
			select {
			case <-e.ctx.Done():
				return
			case <-time.After(wait):
			}
			err := e.fill(e.ctx, nil)
			if err == nil || e.ctx.Err() != nil {
				break
			}
			if failures == 0 {
				e.log.Warn("documents not embedded; it is tried again later", "model", e.model.Name(), "error", withoutTexts(err))
			}
			wait = embedWait(failures)
		}
	}
}

// embedWait is how long to wait after so many failures before the last: up to a third less by
// chance, so that several programs do not come at once.
func embedWait(failures int) time.Duration {
	wait := min(leastEmbedWait<<min(failures, 20), mostEmbedWait)
	return wait - rand.N(wait/3)
}

// close cancels what is under way, which goes on from there the next time, and waits for it.
func (e *embedder) close() {
	if e == nil {
		return
	}
	e.once.Do(func() {}) // nothing is begun any more
	e.stop()
	e.done.Wait()
}

// count changes the statistics.
func (e *embedder) count(change func(*EmbedderStats)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.stats)
}

func (e *embedder) embedderStats() *EmbedderStats {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	stats := e.stats
	return &stats
}

// state tells results of searches apart: those with the same state and data rank the same.
func (e *embedder) state() uint64 {
	if e == nil {
		return 0
	}
	state := 2*e.version.Load() + 1
	if e.resting() {
		state++
	}
	return state
}

func (e *embedder) resting() bool { return time.Now().UnixNano() < e.rest.Load() }

// EmbedDocuments makes the vectors that are missing of the model of Options.Embedder, and
// returns when there are none, instead of in the background. progress, unless it is nil, is
// called now and then with how many of the documents that were there at the beginning, tasks
// and steps, have a vector, and how many they are. It can be interrupted at any time, and goes on when it
// is called again. It concerns the whole database, whatever the Store's scope. Errors:
// ErrInvalid without Options.Embedder, or if the model gives no vectors of its dimension; those of the
// model and of the database.
func (s *Store) EmbedDocuments(ctx context.Context, progress func(done, all int64)) (err error) {
	ctx, end := s.trace(ctx, "EmbedDocuments")
	defer func() { end(err) }()
	if err := s.check(ctx, true, ""); err != nil {
		return failed(err, "embed documents")
	}
	e := s.embedder
	if e == nil {
		return fmt.Errorf("embed documents: %w", invalid("Embedder", "is not set in the Options of this Store"))
	}
	return failed(e.fill(ctx, progress), "embed documents")
}
