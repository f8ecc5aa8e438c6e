package eval

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// format is how the files of a dataset are read.
type format struct {
	// load adds what in holds to d; queries is nil unless needsQueries.
	load         func(ctx context.Context, d *Dataset, in, queries *input) error
	needsQueries bool
}

var formats = map[string]format{
	"jsonl":       {load: loadJSONL},
	"locomo":      {load: loadLoCoMo},
	"longmemeval": {load: loadLongMemEval},
	"swe":         {load: loadSWE, needsQueries: true},
}

// ErrQueries says that a dataset was given too few files or too many.
var ErrQueries = errors.New("only the format swe has its questions in a second file, and needs it")

// Load reads a dataset in one of the formats jsonl, locomo, longmemeval and swe. Files may be
// compressed by gzip. Only swe has its questions in a file of their own, queries, which
// otherwise must be empty. The whole dataset is held in memory. Errors: *Error where something
// is wrong with a file, ErrQueries.
func Load(ctx context.Context, name, file, queries string) (*Dataset, error) {
	f, known := formats[name]
	switch {
	case !known:
		return nil, fmt.Errorf("eval: %q is no format; there are jsonl, locomo, longmemeval and swe", name)
	case f.needsQueries != (queries != ""):
		return nil, ErrQueries
	}
	var read []*source
	defer func() {
		for _, s := range read {
			s.file.Close()
		}
	}()
	inputs := make([]*input, 2)
	for i, path := range []string{file, queries} {
		if path == "" {
			continue
		}
		opened, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		s := newSource(opened)
		read = append(read, s)
		if inputs[i], err = newInput(path, s.reader); err != nil {
			return nil, err
		}
	}
	d, err := load(ctx, name, inputs[0], inputs[1])
	if err != nil {
		return nil, err
	}
	for _, s := range read {
		done, err := s.finish()
		if err != nil {
			return nil, err
		}
		d.Sources = append(d.Sources, done)
	}
	return d, nil
}

func load(ctx context.Context, name string, in, queries *input) (*Dataset, error) {
	d := &Dataset{Format: name}
	if err := formats[name].load(ctx, d, in, queries); err != nil {
		return nil, err
	}
	questions := 0
	for i := range d.Collections {
		questions += len(d.Collections[i].Questions)
	}
	if questions == 0 {
		if queries != nil {
			in = queries
		}
		return nil, &Error{File: in.name, Problem: "holds no question with evidence"}
	}
	return d, nil
}

// source is a file that is read and hashed at once.
type source struct {
	file   *os.File
	hash   hash.Hash
	reader io.Reader
}

func newSource(f *os.File) *source {
	s := &source{file: f, hash: sha256.New()}
	s.reader = io.TeeReader(f, s.hash)
	return s
}

// finish reads what is left, such as spaces at the end.
func (s *source) finish() (Source, error) {
	if _, err := io.Copy(io.Discard, s.reader); err != nil {
		return Source{}, err
	}
	size, err := s.file.Seek(0, io.SeekCurrent)
	return Source{Name: filepath.Base(s.file.Name()), SHA256: hex.EncodeToString(s.hash.Sum(nil)), Bytes: size}, err
}

// names are the ids of a collection, each with the id of its document.
type names map[string]string

// take adds the id of a document or of a part of it, which must not be there yet.
func (n names) take(id, document string, e *element, field string) error {
	switch {
	case id == "":
		return e.fail(field, "is missing or empty")
	case n[id] != "":
		return e.fail(field, "is %.60q, which names another document or part already", id)
	}
	n[id] = document
	return nil
}

// checkQuestion checks what is asked, and that all ids exist.
func (n names) checkQuestion(q *Question, e *element, path string) error {
	if q.Text == "" {
		return e.fail(path+"text", "is missing or empty")
	}
	if len(q.Relevant) == 0 {
		return e.fail(path+"relevant", "is missing or empty; a question needs evidence")
	}
	for i, id := range q.Relevant {
		at := fmt.Sprintf("%srelevant[%d]", path, i)
		switch {
		case n[id] == "":
			return e.fail(at, "is %.60q, which names no document or part", id)
		case slices.Contains(q.Exclude, id), slices.Contains(q.Exclude, n[id]):
			return e.fail(at, "is %.60q, which is excluded as well", id)
		}
	}
	for i, id := range q.Exclude {
		if n[id] == "" {
			return e.fail(fmt.Sprintf("%sexclude[%d]", path, i), "is %.60q, which names no document or part", id)
		}
	}
	return nil
}
