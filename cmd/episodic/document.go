package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/episodic-memory/episodic"
)

// The formats of a document.
const (
	formatAuto     = "auto"
	formatEpisodic = "episodic"
	formatOpenAI   = "openai"
)

type object = map[string]json.RawMessage

// parseDocument makes an episode of one JSON document. Its errors are
// *episodic.InvalidError. An episode without an ID gets one that follows from
// the document and the scope that it is imported into, so that the same document
// always makes the same episode there.
func parseDocument(raw []byte, format string, scope episodic.Scope, now time.Time) (*episodic.Episode, error) {
	if !utf8.Valid(raw) {
		return nil, invalid("", "is not valid UTF-8 at byte %d", len(raw)-len(afterValid(raw))+1)
	}
	var fields object
	if err := json.Unmarshal(raw, &fields); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, invalid("", "is not a JSON object")
		}
		return nil, invalid("", "is not JSON: %v", err)
	}
	if fields == nil {
		return nil, invalid("", "is null, not a JSON object")
	}
	if format == formatAuto {
		format = formatEpisodic
		if hasMessages(fields) {
			format = formatOpenAI
		}
	}
	var e *episodic.Episode
	var err error
	if format == formatOpenAI {
		e, err = parseTranscript(fields, now)
	} else {
		e, err = parseEpisode(raw, fields)
	}
	if err == nil && e.ID.IsZero() {
		e.ID = derivedID(format, scope, raw)
	}
	return e, err
}

func afterValid(b []byte) []byte {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			return b
		}
		b = b[size:]
	}
	return b
}

// derivedID is a UUIDv8 made of the document, whatever its spaces, and the scope.
func derivedID(format string, scope episodic.Scope, raw []byte) episodic.ID {
	doc := bytes.NewBufferString(format + "\n")
	if scope != (episodic.Scope{}) {
		fmt.Fprintf(doc, "%s\n%s\n", scope.Project, scope.User)
	}
	if err := json.Compact(doc, raw); err != nil {
		panic(err) // the document has been parsed
	}
	sum := sha256.Sum256(doc.Bytes())
	id := episodic.ID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// document is an Episode whose steps refuse unknown fields, which a Step by itself
// ignores.
type document struct {
	episodic.Episode
	Steps []documentStep `json:"steps"`
}

type documentStep struct {
	plainStep
	Latency     *milliseconds  `json:"latency_ms"`
	Nanoseconds *time.Duration `json:"latency_ns"` // of documents before latency_ms
}

// plainStep is a Step without its UnmarshalJSON.
type plainStep episodic.Step

func (d *documentStep) step() episodic.Step {
	s := episodic.Step(d.plainStep)
	switch {
	case d.Latency != nil:
		s.Latency = time.Duration(*d.Latency)
	case d.Nanoseconds != nil:
		s.Latency = *d.Nanoseconds
	}
	return s
}

// milliseconds is a duration as a Step reads it.
type milliseconds time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *milliseconds) UnmarshalJSON(b []byte) error {
	var s episodic.Step
	err := json.Unmarshal(slices.Concat([]byte(`{"latency_ms":`), b, []byte("}")), &s)
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		mismatch.Field = "" // the decoder of the document adds it
	}
	*d = milliseconds(s.Latency)
	return err
}

func parseEpisode(raw []byte, fields object) (*episodic.Episode, error) {
	var d document
	if err := decodeStrict(raw, &d); err != nil {
		return nil, blameEpisode(fields, err)
	}
	for i := range d.Steps {
		d.Episode.Steps = append(d.Episode.Steps, d.Steps[i].step())
	}
	return &d.Episode, nil
}

func decodeStrict(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// blameEpisode turns the error of decoding a document into one that names the
// field. Package json does not name it for every error, so the fields are tried
// one by one.
func blameEpisode(fields object, err error) error {
	var steps []object
	if json.Unmarshal(fields["steps"], &steps) == nil {
		for i, step := range steps {
			if err := blame[documentStep](fmt.Sprintf("steps[%d].", i), step); err != nil {
				return err
			}
		}
	}
	if err := blame[document]("", fields); err != nil {
		return err
	}
	return problem("", err)
}

func blame[T any](path string, fields object) error {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		single, err := json.Marshal(object{key: fields[key]})
		if err == nil {
			err = decodeStrict(single, new(T))
		}
		if err != nil {
			// Before the key, json's path names the Go types around it.
			_, deeper, _ := strings.Cut(typePath(err), key)
			return problem(path+key+deeper, err)
		}
	}
	return nil
}

// problem is what json says about a field, in the words of this program.
func problem(field string, err error) error {
	if in, ok := errors.AsType[*episodic.InvalidError](err); ok {
		return invalid(field, "%s", in.Problem)
	}
	mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return invalid(field, "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return invalid(field, "holds %s, want %s", article(mismatch.Value), jsonType(mismatch.Type))
}

// typePath is where json found a value of the wrong type.
func typePath(err error) string {
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return mismatch.Field
	}
	return ""
}

func article(value string) string {
	switch {
	case strings.HasPrefix(value, "number "):
		return value
	case value == "array" || value == "object":
		return "an " + value
	}
	return "a " + value
}

func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Float64:
		return "a finite number"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "an object"
}

// invalid is an error about a field of a document, or with an empty field about
// all of it.
func invalid(field, format string, args ...any) error {
	return &episodic.InvalidError{Field: field, Problem: fmt.Sprintf(format, args...)}
}
