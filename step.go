package episodic

import (
	"bytes"
	"encoding/json"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Step is one thing an agent did: a tool call with its result, or an action
// without a tool. A step has a Tool or an Action or both.
//
// In JSON, Latency is a decimal number of milliseconds, latency_ms, exact to the
// nanosecond. The latency_ns of older documents is read as well.
type Step struct {
	// Number is the step's place in its episode, from 1, without gaps. Storing
	// numbers steps whose Number is 0; a Number that is given must be the place.
	Number     int               `json:"number,omitempty"`
	Time       time.Time         `json:"time,omitzero"` // when it began; whole microseconds, UTC
	Tool       string            `json:"tool,omitempty"`
	Action     string            `json:"action,omitempty"`     // what was done, in words
	Parameters JSON              `json:"parameters,omitempty"` // the call's arguments; empty if there are none
	Result     *Result           `json:"result,omitempty"`     // nil: none was recorded
	Latency    time.Duration     `json:"latency_ms,omitempty"` // how long it took, not negative
	Tokens     int               `json:"tokens,omitempty"`     // used by the model for this step, not negative
	Metadata   map[string]string `json:"metadata,omitempty"`
}

// storedStep is a Step as payloads hold it. It must have the fields of Step, so that
// one is converted to the other without a copy in between, and its names must stay.
type storedStep struct {
	Number     int               `json:"number,omitempty"`
	Time       time.Time         `json:"time,omitzero"`
	Tool       string            `json:"tool,omitempty"`
	Action     string            `json:"action,omitempty"`
	Parameters JSON              `json:"parameters,omitempty"`
	Result     *Result           `json:"result,omitempty"`
	Latency    time.Duration     `json:"latency_ns,omitempty"`
	Tokens     int               `json:"tokens,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
}

// plainStep is a Step without its methods.
type plainStep Step

type stepDocument struct {
	plainStep
	Latency     *milliseconds  `json:"latency_ms,omitempty"`
	Nanoseconds *time.Duration `json:"latency_ns,omitempty"` // of older documents
}

// MarshalJSON implements json.Marshaler.
func (s Step) MarshalJSON() ([]byte, error) {
	return marshalDocument(stepDocument{plainStep: plainStep(s), Latency: (*milliseconds)(orNil(s.Latency))})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown fields are ignored.
func (s *Step) UnmarshalJSON(b []byte) error {
	doc := stepDocument{plainStep: plainStep(*s)}
	if err := json.Unmarshal(b, &doc); err != nil {
		return err
	}
	*s = Step(doc.plainStep)
	setLatency(&s.Latency, doc.Latency, doc.Nanoseconds)
	return nil
}

// setLatency sets d to what a document says, if it says anything.
func setLatency(d *time.Duration, ms *milliseconds, ns *time.Duration) {
	switch {
	case ms != nil:
		*d = time.Duration(*ms)
	case ns != nil:
		*d = *ns
	}
}

// orNil returns nil for the zero value, which documents leave out.
func orNil(d time.Duration) *time.Duration {
	if d == 0 {
		return nil
	}
	return &d
}

// marshalDocument is json.Marshal without the escapes for HTML: whoever encodes what
// is around the document decides on those.
func marshalDocument(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// milliseconds is a time.Duration whose JSON is an exact decimal number of
// milliseconds.
type milliseconds time.Duration

// MarshalJSON implements json.Marshaler.
func (d milliseconds) MarshalJSON() ([]byte, error) {
	digits := strconv.FormatInt(int64(d), 10)
	sign := ""
	if d < 0 {
		sign, digits = "-", digits[1:]
	}
	if missing := 7 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) - 6
	text := strings.TrimRight(digits[:point]+"."+digits[point:], "0")
	return []byte(sign + strings.TrimSuffix(text, ".")), nil
}

// UnmarshalJSON implements json.Unmarshaler. A fraction of a nanosecond is rounded.
func (d *milliseconds) UnmarshalJSON(b []byte) error {
	text := string(b)
	if text == "null" {
		return nil
	}
	if b[0] != '-' && (b[0] < '0' || b[0] > '9') {
		value := map[byte]string{'"': "string", '{': "object", '[': "array"}[b[0]]
		if value == "" {
			value = "bool"
		}
		return &json.UnmarshalTypeError{Value: value, Type: reflect.TypeFor[float64]()}
	}
	whole, fraction, _ := strings.Cut(text, ".")
	if len(fraction) <= 6 {
		n, err := strconv.ParseInt(whole+fraction+"000000"[len(fraction):], 10, 64)
		if err == nil {
			*d = milliseconds(n)
			return nil
		}
	}
	return d.parse(text)
}

// parse reads any JSON number.
func (d *milliseconds) parse(text string) error {
	const longest = 400 // characters and exponent; a float64 has fewer
	_, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	e, err := strconv.Atoi(exponent)
	r := new(big.Rat)
	if exponent != "" && (err != nil || e < -longest || e > longest) || len(text) > longest {
		return invalid("latency_ms", "is %.40s; it must be milliseconds of at most 292 years", text)
	}
	r.SetString(text) // text is a JSON number
	r.Mul(r, big.NewRat(2*int64(time.Millisecond), 1))
	// Twice the nanoseconds, plus one, halved and rounded down: rounded half up.
	n := new(big.Int).Add(r.Num(), r.Denom())
	n.Div(n, new(big.Int).Lsh(r.Denom(), 1))
	if !n.IsInt64() {
		return invalid("latency_ms", "is %.40s; it must be milliseconds of at most 292 years", text)
	}
	*d = milliseconds(n.Int64())
	return nil
}

// Result is what a step came to.
type Result struct {
	Kind ResultKind `json:"kind"`
	Text string     `json:"text,omitempty"` // the output or the error message, kept byte for byte
}

// ResultKind tells an output from a failure.
type ResultKind string

// The kinds of a Result.
const (
	ResultOutput  ResultKind = "output"
	ResultError   ResultKind = "error"
	ResultTimeout ResultKind = "timeout"
)

// JSON is JSON text, kept byte for byte. In a document it is a string with JSON
// in it, as models write the arguments of a call.
type JSON string

// UnmarshalJSON also accepts any other JSON value, and takes its text.
func (j *JSON) UnmarshalJSON(b []byte) error {
	switch {
	case string(b) == "null":
	case b[0] == '"':
		return json.Unmarshal(b, (*string)(j))
	default:
		*j = JSON(b)
	}
	return nil
}

func (c *check) steps(steps []Step, first int) {
	for i := range steps {
		s := &steps[i]
		c.in("steps[%d].", i, func() {
			if s.Number != 0 && s.Number != first+i {
				c.fail("number", "is %d, but the step's place is %d; leave it 0 or give the place", s.Number, first+i)
			}
			c.time("time", s.Time)
			c.text("tool", s.Tool)
			c.text("action", s.Action)
			if s.Tool == "" && s.Action == "" {
				c.fail("tool", "is empty and so is action; a step needs one of them")
			}
			c.text("parameters", string(s.Parameters))
			if s.Parameters != "" && !json.Valid([]byte(s.Parameters)) {
				c.fail("parameters", "is not JSON; quote plain text as a JSON string")
			}
			if r := s.Result; r != nil {
				c.oneOf("result.kind", string(r.Kind), ResultOutput, ResultError, ResultTimeout)
				c.text("result.text", r.Text)
			}
			c.notNegative("latency_ms", int64(s.Latency))
			c.notNegative("tokens", int64(s.Tokens))
			c.metadata(s.Metadata)
		})
	}
}
