package transcript

import (
	"bytes"
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

// Our own documents, one an episode, as show --json and export write them. A field that is
// not one of theirs is refused: in what people write by hand it is a slip.

var own = &format{name: "episodic", title: "episodic's own JSON", fits: fitsOwn, each: readOwn}

func fitsOwn(h *head) bool {
	return h.some(func(n node) bool { return n.has("description") || exportLine(n) != "" })
}

// exportLine is what a line of an export is that is no episode; empty: it is none.
func exportLine(n node) string {
	fields := n.fields()
	if len(fields) != 1 || !fields[0].value.isObject() {
		return ""
	}
	switch key := fields[0].key; key {
	case "pattern", "heuristic", "relation", "embedding", "deleted":
		return key
	}
	return ""
}

// readExported reads a line of an export that is no episode.
func readExported(b *builder) error {
	var line struct {
		Pattern   *episodic.Pattern   `json:"pattern"`
		Heuristic *episodic.Heuristic `json:"heuristic"`
		Relation  *episodic.Relation  `json:"relation"`
		Embedding *episodic.Embedding `json:"embedding"`
		Deleted   *Deleted            `json:"deleted"`
	}
	if err := decodeStrict([]byte(b.text), &line); err != nil {
		return problem(typePath(err), err)
	}
	r := b.run
	r.Episode, r.Pattern, r.Heuristic, r.Relation, r.Embedding, r.Deleted = nil, line.Pattern, line.Heuristic, line.Relation, line.Embedding, line.Deleted
	b.emit(r)
	return nil
}

func readOwn(n node, b *builder) error {
	switch {
	case n.isObject():
	case n.there():
		return invalid("", "is not a JSON object")
	default:
		return invalid("", "is null, not a JSON object")
	}
	for i, r := range b.text {
		if _, size := utf8.DecodeRuneInString(b.text[i:]); r == utf8.RuneError && size == 1 {
			return invalid("", "is not valid UTF-8 at byte %d", i+1)
		}
	}
	if b.opts.Format == "" && !n.has("description") && (n.has("messages") || n.has("traj") || n.has("trajectory")) {
		b.run.Format = openAI.name // among documents of ours
		return readOpenAI(n, b)
	}
	if exportLine(n) != "" {
		return readExported(b)
	}
	e, err := parseEpisode([]byte(b.text))
	if err != nil {
		return err
	}
	b.run.Episode = e
	b.emit(b.run)
	return nil
}

type object = map[string]json.RawMessage

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

func parseEpisode(raw []byte) (*episodic.Episode, error) {
	var d document
	if err := decodeStrict(raw, &d); err != nil {
		var fields object
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, invalid("", "is not JSON: %v", err)
		}
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
