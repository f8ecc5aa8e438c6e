package eval

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// jsonlLine is a line of the format jsonl, which docs/eval.md describes.
type jsonlLine struct {
	Document *jsonlDocument `json:"document"`
	Question *jsonlQuestion `json:"question"`
}

type jsonlDocument struct {
	Collection string      `json:"collection"`
	ID         string      `json:"id"`
	Time       string      `json:"time"`
	Title      string      `json:"title"`
	Tags       []string    `json:"tags"`
	Parts      []jsonlPart `json:"parts"`
}

type jsonlPart struct {
	ID         string          `json:"id"`
	Actor      string          `json:"actor"`
	Text       string          `json:"text"`
	Parameters json.RawMessage `json:"parameters"`
	Result     string          `json:"result"`
}

type jsonlQuestion struct {
	Collection string   `json:"collection"`
	ID         string   `json:"id"`
	Type       string   `json:"type"`
	Text       string   `json:"text"`
	Relevant   []string `json:"relevant"`
	Exclude    []string `json:"exclude"`
}

// jsonlLoader gathers the lines of each collection.
type jsonlLoader struct {
	d     *Dataset
	index map[string]int // of collections by name
	ids   []names        // of each collection
	lines [][]element    // of the questions of each collection, without their JSON
}

// loadJSONL reads documents and questions, in any order.
func loadJSONL(ctx context.Context, d *Dataset, in, _ *input) error {
	l := &jsonlLoader{d: d, index: make(map[string]int)}
	for {
		e, err := in.next(ctx)
		if err == io.EOF {
			return l.check()
		}
		if err != nil {
			return err
		}
		var line jsonlLine
		if err := e.decode("", e.raw, &line, true); err != nil {
			return err
		}
		switch {
		case (line.Document == nil) == (line.Question == nil):
			return e.fail("", "must hold either a document or a question")
		case line.Document != nil:
			err = l.document(&e, line.Document)
		default:
			l.question(&e, line.Question)
		}
		if err != nil {
			return err
		}
	}
}

// collection returns the place of a collection, which is made if there is none.
func (l *jsonlLoader) collection(name string) int {
	i, known := l.index[name]
	if !known {
		i = len(l.d.Collections)
		l.index[name] = i
		l.d.Collections = append(l.d.Collections, Collection{Name: name})
		l.ids = append(l.ids, make(names))
		l.lines = append(l.lines, nil)
	}
	return i
}

func (l *jsonlLoader) document(e *element, from *jsonlDocument) error {
	c := l.collection(from.Collection)
	doc := Document{ID: from.ID, Title: from.Title, Tags: from.Tags}
	if err := l.ids[c].take(doc.ID, doc.ID, e, "document.id"); err != nil {
		return err
	}
	if doc.Title == "" {
		return e.fail("document.title", "is missing or empty; it becomes the description of the task")
	}
	if from.Time != "" {
		var err error
		if doc.Time, err = time.Parse(time.RFC3339, from.Time); err != nil {
			return e.fail("document.time", "is %.60q, which is no RFC 3339 time such as 2026-01-31T09:30:00Z", from.Time)
		}
	}
	for i, p := range from.Parts {
		path := fmt.Sprintf("document.parts[%d].", i)
		if p.ID != "" {
			if err := l.ids[c].take(p.ID, doc.ID, e, path+"id"); err != nil {
				return err
			}
		}
		if p.Actor == "" && p.Text == "" {
			return e.fail(path+"text", "is empty and so is actor; a part needs one of them")
		}
		if bytes.Equal(p.Parameters, []byte("null")) {
			p.Parameters = nil
		}
		doc.Parts = append(doc.Parts, Part{ID: p.ID, Actor: p.Actor, Text: p.Text, Parameters: string(p.Parameters), Result: p.Result})
	}
	l.d.Collections[c].Documents = append(l.d.Collections[c].Documents, doc)
	return nil
}

func (l *jsonlLoader) question(e *element, from *jsonlQuestion) {
	c := l.collection(from.Collection)
	l.d.Collections[c].Questions = append(l.d.Collections[c].Questions, Question{
		ID: cmp.Or(from.ID, fmt.Sprintf("line %d", e.line)), Type: from.Type, Text: from.Text, Relevant: from.Relevant, Exclude: from.Exclude,
	})
	l.lines[c] = append(l.lines[c], element{file: e.file, line: e.line})
}

// check checks the questions when all documents are known.
func (l *jsonlLoader) check() error {
	for c := range l.d.Collections {
		for i := range l.d.Collections[c].Questions {
			if err := l.ids[c].checkQuestion(&l.d.Collections[c].Questions[i], &l.lines[c][i], "question."); err != nil {
				return err
			}
		}
	}
	return nil
}
