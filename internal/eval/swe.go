package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// sweRun is a run of a coding agent.
type sweRun struct {
	ID    string `json:"id"`
	Task  string `json:"task"`
	Steps []struct {
		Thought string `json:"thought"`
		Command string `json:"command"`
		Result  string `json:"result"`
	} `json:"steps"`
}

// sweQuery asks for the runs that are of use to another run.
type sweQuery struct {
	ID       string   `json:"id"` // of the run that asks
	Title    string   `json:"title"`
	Relevant []string `json:"relevant"`
}

// loadSWE makes one collection of all runs, a document of each run and a part of each
// of its steps. The run that asks is taken out of what its question finds.
func loadSWE(ctx context.Context, d *Dataset, in, queries *input) error {
	var c Collection
	ids := make(names)
	for {
		e, err := in.next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		var run sweRun
		if err := e.decode("", e.raw, &run, false); err != nil {
			return err
		}
		if run.Task == "" {
			return e.fail("task", "is missing or empty")
		}
		if err := ids.take(run.ID, run.ID, &e, "id"); err != nil {
			return err
		}
		doc := Document{ID: run.ID, Title: run.Task}
		for i, step := range run.Steps {
			id := fmt.Sprintf("%s/%d", run.ID, i+1)
			if err := ids.take(id, run.ID, &e, "id"); err != nil {
				return err
			}
			doc.Parts = append(doc.Parts, Part{ID: id, Actor: "bash", Text: step.Thought, Parameters: jsonString(step.Command), Result: step.Result})
		}
		c.Documents = append(c.Documents, doc)
	}
	for {
		e, err := queries.next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		var query sweQuery
		if err := e.decode("", e.raw, &query, false); err != nil {
			return err
		}
		switch {
		case ids[query.ID] == "":
			return e.fail("id", "is %.60q, which is no run", query.ID)
		case query.Title == "":
			return e.fail("title", "is missing or empty")
		}
		q := Question{ID: query.ID, Text: query.Title, Relevant: query.Relevant, Exclude: []string{query.ID}}
		if err := ids.checkQuestion(&q, &e, ""); err != nil {
			return err
		}
		c.Questions = append(c.Questions, q)
	}
	d.Collections = []Collection{c}
	return nil
}

// jsonString returns s as JSON; empty stays empty.
func jsonString(s string) string {
	if s == "" {
		return ""
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string always has a JSON form
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
