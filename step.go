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
	Number int       `json:"number,omitempty"`
	Time   time.Time `json:"time,omitzero"` // when it began; whole microseconds, UTC
	Tool   string    `json:"tool,omitempty"`
	Action string    `json:"action,omitempty"` // what was done, in words
	// Parameters is the JSON text of the call's arguments, kept byte for byte;
	// empty if there are none. A JSON document may also hold any JSON value here
	// instead of a string with JSON in it.
	Parameters string            `json:"parameters,omitempty"`
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

// storedStep is a Step without its lenient UnmarshalJSON, for payloads.
type storedStep Step

// UnmarshalJSON accepts "parameters" as a string that holds JSON, which is how
// models write it and how MarshalJSON does, and as any other JSON value.
func (s *Step) UnmarshalJSON(b []byte) error {
	in := struct {
		*storedStep
		Parameters json.RawMessage `json:"parameters"`
	}{storedStep: (*storedStep)(s)}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	switch p := in.Parameters; {
	case len(p) == 0 || string(p) == "null":
		s.Parameters = ""
	case p[0] == '"':
		return json.Unmarshal(p, &s.Parameters)
	default:
		s.Parameters = string(p)
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
			c.text("parameters", s.Parameters)
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
