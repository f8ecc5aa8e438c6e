package eval

import (
	"fmt"
	"time"
)

// Dataset is documents and questions about them.
type Dataset struct {
	Format  string
	Sources []Source
	// Collections are searched apart from each other: a question is about the documents of
	// its own collection.
	Collections []Collection
	// LeftOut counts the questions of the file that have no evidence to be found, such as
	// adversarial ones, and so are in no collection.
	LeftOut int
}

// Source is a file that a dataset was read from.
type Source struct {
	Name   string `json:"name"`   // without its folder
	SHA256 string `json:"sha256"` // of the bytes of the file, in hex
	Bytes  int64  `json:"bytes"`
}

// Collection is the documents of one memory and the questions it is asked.
type Collection struct {
	Name      string
	Documents []Document
	Questions []Question
}

// Document is what one episode is made of: a conversation, a run of an agent.
type Document struct {
	ID    string
	Time  time.Time // zero: not known
	Title string
	Tags  []string
	Parts []Part
}

// Part is what one step is made of: a turn of a conversation, a tool call. It has an
// actor or a text or both.
type Part struct {
	ID         string // empty for a part that is nobody's evidence
	Actor      string // a speaker or a tool
	Text       string
	Parameters string // JSON, or empty
	Result     string
}

// Question is a query and its evidence.
type Question struct {
	ID   string
	Type string // empty if the dataset has no types
	Text string
	// Relevant are the ids of the documents and parts that should be found. An id that names
	// none, as in LoCoMo, is evidence that cannot be found.
	Relevant []string
	// Exclude are the ids of documents and parts that are taken out of what is found, such
	// as the document that the question was made of.
	Exclude []string
}

// Level is what a search is to find.
type Level string

// The levels.
const (
	Episodes Level = "episode" // whole documents
	Steps    Level = "step"    // parts of documents
)

// Key names a document of a dataset, or a part of it, by their places.
type Key struct {
	Collection, Document int
	Part                 int // -1: the document as a whole
}

func (k Key) document() Key { return Key{k.Collection, k.Document, -1} }

// keys maps the ids of collection c to their keys.
func (d *Dataset) keys(c int) map[string]Key {
	keys := make(map[string]Key)
	for i, doc := range d.Collections[c].Documents {
		keys[doc.ID] = Key{c, i, -1}
		for j, part := range doc.Parts {
			if part.ID != "" {
				keys[part.ID] = Key{c, i, j}
			}
		}
	}
	return keys
}

// Task is a question with its evidence at one level.
type Task struct {
	Question   *Question
	Collection int
	// Missing is how much of the evidence names nothing in the collection. It counts as not
	// found.
	Missing int

	relevant map[Key]bool
	excluded map[Key]bool
	extra    int // how many results the excluded ones may take at most
}

// Tasks returns the questions that have evidence at a level, in the order of the
// dataset. At the level of steps evidence is the parts that a question names; at the
// level of episodes it is the documents that it names or names parts of.
func (d *Dataset) Tasks(level Level) []Task {
	var tasks []Task
	for c := range d.Collections {
		keys := d.keys(c)
		for i := range d.Collections[c].Questions {
			if t, ok := d.task(&d.Collections[c].Questions[i], c, keys, level); ok {
				tasks = append(tasks, t)
			}
		}
	}
	return tasks
}

func (d *Dataset) task(q *Question, c int, keys map[string]Key, level Level) (Task, bool) {
	t := Task{Question: q, Collection: c, relevant: make(map[Key]bool), excluded: make(map[Key]bool)}
	unknown := make(map[string]bool)
	for _, id := range q.Relevant {
		switch k, known := keys[id]; {
		case !known:
			unknown[id] = true
		case level == Episodes:
			t.relevant[k.document()] = true
		case k.Part >= 0:
			t.relevant[k] = true
		}
	}
	t.Missing = len(unknown)
	for _, id := range q.Exclude {
		k, known := keys[id]
		if !known || t.excluded[k] {
			continue
		}
		t.excluded[k] = true
		t.extra++
		if level == Steps && k.Part < 0 {
			t.extra += len(d.Collections[c].Documents[k.Document].Parts)
		}
	}
	return t, len(t.relevant)+t.Missing > 0
}

// Level returns the level of the dataset's evidence: Steps if any question names a
// part, otherwise Episodes.
func (d *Dataset) Level() Level {
	for c := range d.Collections {
		keys := d.keys(c)
		for _, q := range d.Collections[c].Questions {
			for _, id := range q.Relevant {
				if k, known := keys[id]; known && k.Part >= 0 {
					return Steps
				}
			}
		}
	}
	return Episodes
}

// Error says what is wrong with a file of a dataset, and where.
type Error struct {
	File    string
	Line    int    // from 1; 0: the file as a whole
	Field   string // such as steps[3].thought; empty: the whole line or file
	Problem string
}

// Error implements error.
func (e *Error) Error() string {
	at := e.File
	if e.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, e.Line)
	}
	if e.Field == "" {
		return at + ": " + e.Problem
	}
	return at + ": " + e.Field + " " + e.Problem
}
