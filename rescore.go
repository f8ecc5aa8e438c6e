package episodic

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/rank"
	"github.com/episodic-memory/episodic/internal/vector"
)

// rescore compares a query with the documents at places by the model of Options.Embedder. It
// returns the cosines, NaN for documents without a vector, and the name of the model. Both are
// empty if it took no part: there is none, it failed, which is logged and counted, or none of
// the documents has a vector. Errors are those of the database.
func (s *Store) rescore(ctx context.Context, q querier, query string, places []int64) (cosines []float64, model string, err error) {
	e := s.embedder
	if e == nil || query == "" || len(places) == 0 {
		return nil, "", nil
	}
	asked := e.askQuery(ctx, query)
	if asked == nil {
		return nil, "", ctx.Err()
	}
	cosines = make([]float64, len(places))
	for i := range cosines {
		cosines[i] = math.NaN()
	}
	looked, found := 0, 0 // of places, and those that have a row
	err = inParts(places, len(places), func(part []int64) error {
		list, err := json.Marshal(part)
		if err != nil {
			return err
		}
		r, err := q.Query(ctx, engine.Stmt{SQL: sqlVectorsAt, Args: []any{string(list), e.model.Name()}})
		if err != nil {
			return err
		}
		for _, row := range r[0].Rows {
			in := engine.Row{Values: row}
			at, blob := looked+int(in.Int(0)), in.Blob(1)
			if in.Err == nil && len(blob) == 0 {
				continue // the model did not take it
			}
			v, err := vector.Decode(blob, int64(len(asked)))
			if err != nil {
				s.damage.Add(1)
				continue // the document is found by its words
			}
			cosines[at] = cosine(asked, v)
			model = e.model.Name()
		}
		looked, found = looked+len(part), found+len(r[0].Rows)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	if lacksVectors(places, found) {
		e.kick()
	}
	if model == "" {
		return nil, "", nil
	}
	return cosines, model, nil
}

// modelMeaning is what a standard deviation of meaning by a model counts, in those of words:
// see rank.Params.
func modelMeaning(steps bool) float64 {
	if steps {
		return 0.45
	}
	return rank.Defaults.Meaning
}

// rescoreAll puts the cosines of the model in the place of those of the table: of an episode the
// greater one of the document that was compared and of the task.
func (s *Store) rescoreAll(ctx context.Context, q querier, query string, compared []rank.Compared, steps bool) ([]rank.Compared, string, error) {
	places := make([]int64, 0, 2*len(compared))
	for _, c := range compared {
		head := c.Place
		if !steps {
			head = c.Place >> rank.NumberBits << rank.NumberBits
		}
		places = append(places, c.Place, head)
	}
	cosines, model, err := s.rescore(ctx, q, query, places)
	if err != nil || model == "" {
		return compared, "", err
	}
	best := make([]float64, len(compared))
	for i := range best {
		best[i] = cosines[2*i]
		if head := cosines[2*i+1]; head > best[i] || best[i] != best[i] {
			best[i] = head
		}
	}
	return rank.Rescore(compared, best), model, nil
}

// lacksVectors reports whether more of the places can have vectors than do.
func lacksVectors(places []int64, found int) bool {
	for _, p := range places {
		// What was concluded of an episode, patterns and heuristics have none.
		if p < 0 || p&(1<<rank.NumberBits-1) == 1<<rank.NumberBits-1 {
			found++
		}
	}
	return found < len(places)
}

// askQuery returns the vector of a query; nil if the model fails or knows nothing of it.
func (e *embedder) askQuery(ctx context.Context, query string) []float32 {
	if e.resting() {
		e.count(func(s *EmbedderStats) { s.Skipped++ })
		return nil
	}
	e.mu.Lock()
	last := e.last
	e.mu.Unlock()
	if last.query == query {
		return last.vector // such as for the next page
	}
	asking, cancel := context.WithTimeoutCause(ctx, maxQueryTime, fmt.Errorf("no answer in %v", maxQueryTime))
	defer cancel()
	vs, err := e.vectors(asking, []string{cutUTF8(query, maxEmbedText)})
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		e.count(func(s *EmbedderStats) { s.Searches++; s.Missed++ })
		e.rest.Store(time.Now().Add(queryRest).UnixNano())
		e.version.Add(1)
		e.log.Warn("search goes on without the embedding model", "model", e.model.Name(), "for", queryRest, "error", withoutTexts(err))
		return nil
	}
	asked := unit(vs[0])
	if vectorLength(asked) == 0 {
		asked = nil
	}
	e.count(func(s *EmbedderStats) {
		s.Searches++
		e.last = askedQuery{query, asked}
	})
	return asked
}

// cosine is that of the angle between two vectors, of which the first has length 1; 0 if the second
// is zero.
func cosine(asked, v []float32) float64 {
	var dot float64
	for i, x := range asked {
		dot += float64(x) * float64(v[i])
	}
	if dot == 0 {
		return 0
	}
	return max(-1, min(1, dot/vectorLength(v)))
}
