package episodic

import (
	"encoding/json"
	"time"
)

// Step is one thing an agent did: a tool call with its result, or an action
// without a tool. A step has a Tool or an Action or both.
type Step struct {
	// Number is the step's place in its episode, from 1, without gaps. Storing
	// numbers steps whose Number is 0; a Number that is given must be the place.
	Number     int               `json:"number,omitempty"`
	Time       time.Time         `json:"time,omitzero"` // when it began; whole microseconds, UTC
	Tool       string            `json:"tool,omitempty"`
	Action     string            `json:"action,omitempty"`     // what was done, in words
	Parameters JSON              `json:"parameters,omitempty"` // the call's arguments; empty if there are none
	Result     *Result           `json:"result,omitempty"`     // nil: none was recorded
	Latency    time.Duration     `json:"latency_ns,omitempty"` // how long it took, not negative
	Tokens     int               `json:"tokens,omitempty"`     // used by the model for this step, not negative
	Metadata   map[string]string `json:"metadata,omitempty"`
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
			c.notNegative("latency_ns", int64(s.Latency))
			c.notNegative("tokens", int64(s.Tokens))
			c.metadata(s.Metadata)
		})
	}
}
