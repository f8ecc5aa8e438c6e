package eval

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// longMemEval is a question of LongMemEval with its haystack (Wu et al., 2024, "LongMemEval:
// Benchmarking Chat Assistants on Long-Term Interactive Memory").
type longMemEval struct {
	ID         string              `json:"question_id"`
	Type       string              `json:"question_type"`
	Question   string              `json:"question"`
	SessionIDs []string            `json:"haystack_session_ids"`
	Dates      []string            `json:"haystack_dates"`
	Sessions   [][]longMemEvalTurn `json:"haystack_sessions"`
	Answers    []string            `json:"answer_session_ids"`
}

type longMemEvalTurn struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	HasAnswer bool   `json:"has_answer"`
}

const longMemEvalTime = "2006/01/02 (Mon) 15:04"

// loadLongMemEval makes a collection of each question, a document of each session of its
// haystack and a part of each turn, by user and assistant alike. The evidence is the
// sessions that hold the answer and the turns that are marked. Questions that have no answer, whose
// ids end with _abs, are left out.
func loadLongMemEval(ctx context.Context, d *Dataset, in, _ *input) error {
	for {
		e, err := in.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var item longMemEval
		if err := e.decode("", e.raw, &item, false); err != nil {
			return err
		}
		if strings.HasSuffix(item.ID, "_abs") || len(item.Answers) == 0 {
			d.LeftOut++
			continue
		}
		c, err := item.collection(&e)
		if err != nil {
			return err
		}
		d.Collections = append(d.Collections, c)
	}
}

func (item *longMemEval) collection(e *element) (Collection, error) {
	switch {
	case item.ID == "":
		return Collection{}, e.fail("question_id", "is missing or empty")
	case item.Question == "":
		return Collection{}, e.fail("question", "is missing or empty")
	case len(item.Sessions) == 0:
		return Collection{}, e.fail("haystack_sessions", "is missing or empty")
	case len(item.SessionIDs) != len(item.Sessions):
		return Collection{}, e.fail("haystack_session_ids", "has %d ids for %d sessions", len(item.SessionIDs), len(item.Sessions))
	case len(item.Dates) != len(item.Sessions):
		return Collection{}, e.fail("haystack_dates", "has %d dates for %d sessions", len(item.Dates), len(item.Sessions))
	}
	c := Collection{Name: item.ID}
	q := Question{ID: item.ID, Type: item.Type, Text: item.Question, Relevant: item.Answers}
	ids := make(names)
	for i, id := range item.SessionIDs {
		doc, marked, err := item.session(e, i)
		if err != nil {
			return Collection{}, err
		}
		if before := slices.IndexFunc(c.Documents, func(d Document) bool { return d.ID == id }); before >= 0 && slices.Equal(c.Documents[before].Parts, doc.Parts) {
			continue // the same session once more is no other document
		}
		if err := ids.take(id, id, e, fmt.Sprintf("haystack_session_ids[%d]", i)); err != nil {
			return Collection{}, err
		}
		for j := range doc.Parts {
			if err := ids.take(doc.Parts[j].ID, id, e, fmt.Sprintf("haystack_sessions[%d][%d]", i, j)); err != nil {
				return Collection{}, err
			}
		}
		c.Documents = append(c.Documents, doc)
		q.Relevant = append(q.Relevant, marked...)
	}
	c.Questions = []Question{q}
	return c, nil
}

// session returns the session i and the ids of its turns that hold the answer.
func (item *longMemEval) session(e *element, i int) (doc Document, marked []string, err error) {
	doc = Document{ID: item.SessionIDs[i], Title: fmt.Sprintf("Session %d", i+1)}
	if doc.Time, err = time.Parse(longMemEvalTime, item.Dates[i]); err != nil {
		return doc, nil, e.fail(fmt.Sprintf("haystack_dates[%d]", i), "is %.60q, which is no time such as 2023/05/20 (Sat) 02:21", item.Dates[i])
	}
	for j, turn := range item.Sessions[i] {
		if turn.Role == "" {
			return doc, nil, e.fail(fmt.Sprintf("haystack_sessions[%d][%d].role", i, j), "is missing or empty")
		}
		id := fmt.Sprintf("%s_%d", doc.ID, j+1)
		doc.Parts = append(doc.Parts, Part{ID: id, Actor: turn.Role, Text: turn.Content})
		if turn.HasAnswer {
			marked = append(marked, id)
		}
	}
	return doc, marked, nil
}
