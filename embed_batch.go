package episodic

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/episodic-memory/episodic/internal/embed"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/rank"
	"github.com/episodic-memory/episodic/internal/vector"
)

func (e *embedding) add(ctx context.Context, d document) error {
	e.docs, e.bytes = append(e.docs, d), e.bytes+len(d.text)
	if len(e.docs) < embedAtOnce && e.bytes < embedBytesAtOnce {
		return nil
	}
	return e.flush(ctx)
}

// flush makes and stores the vectors of the documents that were added.
func (e *embedding) flush(ctx context.Context) error {
	if len(e.docs) == 0 {
		return nil
	}
	texts := make([]string, len(e.docs))
	for i, d := range e.docs {
		texts[i] = d.text
	}
	vs, err := e.vectors(ctx, texts)
	if err != nil {
		if vs, err = e.oneByOne(ctx, texts, err); err != nil {
			return err
		}
	}
	if err := e.put(ctx, vs); err != nil {
		return err
	}
	e.docs, e.bytes = e.docs[:0], 0
	return nil
}

// oneByOne returns the vectors of texts which the model did not take together, nil for one that
// it does not take alone. If it takes none at all the error is that of the first time.
func (e *embedding) oneByOne(ctx context.Context, texts []string, failure error) ([][]float32, error) {
	vs := make([][]float32, len(texts))
	for i, text := range texts {
		if _, err := e.vectors(ctx, []string{knownText}); err != nil || ctx.Err() != nil {
			return nil, failure
		}
		for {
			v, err := e.vectors(ctx, []string{text})
			if err == nil {
				vs[i] = v[0]
				break
			}
			if len(text) < 2*leastEmbedText {
				break
			}
			text = cutUTF8(text, len(text)/2) // a server may refuse what is too long for its model
		}
	}
	if _, err := e.vectors(ctx, []string{knownText}); err != nil {
		return nil, failure // it may have failed for this reason too
	}
	return vs, nil
}

// put stores the vectors of e.docs.
func (e *embedding) put(ctx context.Context, vs [][]float32) error {
	name := e.model.Name()
	stmts := make([]engine.Stmt, len(e.docs), len(e.docs)+1)
	places := make([]int64, len(e.docs))
	for i, d := range e.docs {
		blob := []byte{}
		if vs[i] != nil {
			blob = vector.Encode(unit(vs[i]), vector.Int8)
		}
		places[i] = d.place
		stmts[i] = engine.Stmt{SQL: sqlAddVector, Args: []any{d.place, blob, e.id, name, d.place >> rank.NumberBits, d.rev, e.removals}}
	}
	list, err := json.Marshal(places)
	if err != nil {
		return err
	}
	stmts = append(stmts, engine.Stmt{SQL: sqlCountVectors, Args: []any{e.id, string(list)}})
	r, err := e.store.engine.Repeatable(ctx, stmts...)
	if err != nil {
		return err
	}
	e.version.Add(1)
	e.count(func(s *EmbedderStats) {
		for i := range e.docs {
			n := uint64(r[i].Affected) // 0: another program has stored it
			if vs[i] == nil {
				s.Refused += n
			} else {
				s.Embedded += n
			}
			e.have += int64(n)
		}
	})
	if e.progress != nil {
		e.all = max(e.all, e.have) // more was stored meanwhile
		e.progress(e.have, e.all)
	}
	if n, err := intFrom(r[len(e.docs)].Rows[0][0]); err != nil || n < len(e.docs) {
		return cmp.Or(err, errReplaced)
	}
	return nil
}

// unit scales a vector to length 1; the zero vector stays what it is.
func unit(v []float32) []float32 {
	length := vectorLength(v)
	if length == 0 {
		return v
	}
	scaled := make([]float32, len(v))
	for i, x := range v {
		scaled[i] = float32(float64(x) / length)
	}
	return scaled
}

func vectorLength(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

// withoutTexts is an error for the log and the statistics: the answer of a server may
// repeat what was sent to it.
func withoutTexts(err error) string {
	if status, ok := errors.AsType[*embed.StatusError](err); ok {
		return fmt.Sprintf("the embedding server answered with status %d", status.Status)
	}
	return err.Error()
}
