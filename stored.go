package episodic

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/episodic-memory/episodic/internal/payload"
)

// The JSON of heads and steps is written and read by hand, exactly as encoding/json
// does it from the tags of these types: half of the time of reading an episode was
// its. What is not as it is written here is left to encoding/json.

// member appends the name of an object's member, behind a comma if it is not the first.
func member(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendText[T ~string](b []byte, name string, v T) []byte {
	if v == "" {
		return b
	}
	return payload.AppendString(member(b, name), string(v))
}

func appendInt[T ~int | ~int64](b []byte, name string, v T) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendInt(member(b, name), int64(v), 10)
}

func appendTexts(b []byte, name string, v []string) []byte {
	if len(v) == 0 {
		return b
	}
	return payload.AppendList(member(b, name), v, payload.AppendString)
}

func appendTextMap(b []byte, name string, v map[string]string) []byte {
	if len(v) == 0 {
		return b
	}
	return payload.AppendMap(member(b, name), v, payload.AppendString)
}

// AppendJSON implements payload.Writer.
func (p *storedStep) AppendJSON(b []byte) (_ []byte, ok bool) {
	b = append(b, '{')
	b = appendInt(b, "number", p.Number)
	if !p.Time.IsZero() {
		if b, ok = payload.AppendTime(member(b, "time"), p.Time); !ok {
			return b, false
		}
	}
	b = appendText(b, "tool", p.Tool)
	b = appendText(b, "action", p.Action)
	b = appendText(b, "parameters", p.Parameters)
	if p.Result != nil {
		b = payload.AppendString(append(member(b, "result"), `{"kind":`...), string(p.Result.Kind))
		b = append(appendText(b, "text", p.Result.Text), '}')
	}
	b = appendInt(b, "latency_ns", p.Latency)
	b = appendInt(b, "tokens", p.Tokens)
	b = appendTextMap(b, "metadata", p.Metadata)
	return append(b, '}'), true
}

// storedSteps are the steps of a run.
type storedSteps struct {
	steps []storedStep
	hint  int // how many they are, probably
}

// ReadJSON implements payload.Reader.
func (p *storedSteps) ReadJSON(s *payload.Scanner) bool {
	last := &storedStep{}
	steps := payload.ReadList(s, p.hint, func(step *storedStep) {
		step.read(s, last)
		last = step
	})
	if !s.Done() {
		return false
	}
	p.steps = steps
	return true
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *storedSteps) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &p.steps) }

// chosenSteps are some of the steps of a run, by their places in it.
type chosenSteps struct {
	wanted map[int]bool
	steps  map[int]storedStep
}

// ReadJSON implements payload.Reader.
func (p *chosenSteps) ReadJSON(s *payload.Scanner) bool {
	s.Must("[")
	for i := 0; i == 0 || s.Is(","); i++ {
		if !p.wanted[i] {
			s.Skip()
			continue
		}
		var step storedStep
		step.read(s, &storedStep{})
		p.steps[i] = step
	}
	s.Must("]")
	return s.Done()
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *chosenSteps) UnmarshalJSON(b []byte) error {
	var all []storedStep
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for i := range all {
		if p.wanted[i] {
			p.steps[i] = all[i]
		}
	}
	return nil
}

// readResultKind reads a kind without a copy of it.
func readResultKind(s *payload.Scanner) ResultKind {
	switch {
	case s.Is(`"output"`):
		return ResultOutput
	case s.Is(`"error"`):
		return ResultError
	case s.Is(`"timeout"`):
		return ResultTimeout
	}
	return ResultKind(s.String())
}

// read reads a step. Texts that are those of the last step share its memory.
func (p *storedStep) read(s *payload.Scanner, last *storedStep) {
	first := true
	s.Must("{")
	if s.Key(&first, "number") {
		p.Number = int(s.Int())
	}
	if s.Key(&first, "time") {
		p.Time = s.Time()
	}
	if s.Key(&first, "tool") {
		p.Tool = s.StringLike(last.Tool)
	}
	if s.Key(&first, "action") {
		p.Action = s.StringLike(last.Action)
	}
	if s.Key(&first, "parameters") {
		p.Parameters = JSON(s.String())
	}
	if s.Key(&first, "result") {
		inside := true
		p.Result = new(Result)
		s.Must("{")
		if s.Key(&inside, "kind") {
			p.Result.Kind = readResultKind(s)
		}
		if s.Key(&inside, "text") {
			p.Result.Text = s.String()
		}
		s.Must("}")
	}
	if s.Key(&first, "latency_ns") {
		p.Latency = time.Duration(s.Int())
	}
	if s.Key(&first, "tokens") {
		p.Tokens = int(s.Int())
	}
	if s.Key(&first, "metadata") {
		p.Metadata = payload.ReadMap(s, s.String)
	}
	s.Must("}")
}

// AppendJSON implements payload.Writer.
func (p *episodePayload) AppendJSON(b []byte) (_ []byte, ok bool) {
	b = payload.AppendString(append(b, `{"description":`...), p.Description)
	b = appendText(b, "framework", p.Framework)
	b = appendText(b, "complexity", p.Complexity)
	if o := &p.Outcome; !o.isZero() {
		b = payload.AppendString(append(member(b, "outcome"), `{"kind":`...), string(o.Kind))
		b = appendText(b, "verdict", o.Verdict)
		b = appendTexts(b, "artifacts", o.Artifacts)
		b = appendTexts(b, "completed", o.Completed)
		b = appendTexts(b, "failed", o.Failed)
		b = appendText(b, "reason", o.Reason)
		b = appendText(b, "details", o.Details)
		b = appendInt(b, "stopped_at_step", o.StoppedAtStep)
		b = append(appendTexts(b, "signals", o.Signals), '}')
	}
	if r := p.Reward; r != nil {
		b = append(member(b, "reward"), `{"total":`...)
		finite := true
		number := func(b []byte, f float64) []byte {
			finite = finite && !math.IsNaN(f) && !math.IsInf(f, 0)
			return payload.AppendFloat(b, f)
		}
		b = number(b, r.Total)
		if len(r.Components) > 0 {
			b = payload.AppendMap(member(b, "components"), r.Components, number)
		}
		if b = append(b, '}'); !finite {
			return b, false
		}
	}
	if r := &p.Reflection; r.Successes != nil || r.Improvements != nil || r.Insights != nil {
		b = append(member(b, "reflection"), '{')
		b = appendTexts(b, "successes", r.Successes)
		b = appendTexts(b, "improvements", r.Improvements)
		b = append(appendTexts(b, "insights", r.Insights), '}')
	}
	if len(p.AppliedPatterns) > 0 {
		b = payload.AppendList(member(b, "applied_patterns"), p.AppliedPatterns, func(b []byte, a AppliedPattern) []byte {
			b = payload.AppendString(append(b, `{"pattern_id":`...), a.PatternID.String())
			b = appendInt(b, "step", a.Step)
			b = payload.AppendString(member(b, "effect"), string(a.Effect))
			return append(appendText(b, "note", a.Note), '}')
		})
	}
	return append(appendTextMap(b, "metadata", p.Metadata), '}'), true
}

// isZero reports whether encoding/json leaves o out for omitzero.
func (o *Outcome) isZero() bool {
	return o.Kind == "" && o.Verdict == "" && o.Artifacts == nil && o.Completed == nil && o.Failed == nil && o.Reason == "" && o.Details == "" &&
		o.StoppedAtStep == 0 && o.Signals == nil
}

// ReadJSON implements payload.Reader.
func (p *episodePayload) ReadJSON(s *payload.Scanner) bool {
	var q episodePayload
	first := true
	s.Must("{")
	if s.Key(&first, "description") {
		q.Description = s.String()
	}
	if s.Key(&first, "framework") {
		q.Framework = s.String()
	}
	if s.Key(&first, "complexity") {
		q.Complexity = Complexity(s.String())
	}
	if s.Key(&first, "outcome") {
		q.Outcome.read(s)
	}
	if s.Key(&first, "reward") {
		q.Reward = new(Reward)
		inside := true
		s.Must("{")
		if s.Key(&inside, "total") {
			q.Reward.Total = s.Float()
		}
		if s.Key(&inside, "components") {
			q.Reward.Components = payload.ReadMap(s, s.Float)
		}
		s.Must("}")
	}
	if s.Key(&first, "reflection") {
		inside := true
		s.Must("{")
		q.Reflection = Reflection{
			Successes: readTexts(s, &inside, "successes"), Improvements: readTexts(s, &inside, "improvements"), Insights: readTexts(s, &inside, "insights"),
		}
		s.Must("}")
	}
	if s.Key(&first, "applied_patterns") {
		q.AppliedPatterns = payload.ReadList(s, 0, func(a *AppliedPattern) { a.read(s) })
	}
	if s.Key(&first, "metadata") {
		q.Metadata = payload.ReadMap(s, s.String)
	}
	s.Must("}")
	if !s.Done() {
		return false
	}
	*p = q
	return true
}

func (o *Outcome) read(s *payload.Scanner) {
	first := true
	s.Must("{")
	if s.Key(&first, "kind") {
		o.Kind = OutcomeKind(s.String())
	}
	if s.Key(&first, "verdict") {
		o.Verdict = s.String()
	}
	o.Artifacts = readTexts(s, &first, "artifacts")
	o.Completed = readTexts(s, &first, "completed")
	o.Failed = readTexts(s, &first, "failed")
	if s.Key(&first, "reason") {
		o.Reason = s.String()
	}
	if s.Key(&first, "details") {
		o.Details = s.String()
	}
	if s.Key(&first, "stopped_at_step") {
		o.StoppedAtStep = int(s.Int())
	}
	o.Signals = readTexts(s, &first, "signals")
	s.Must("}")
}

func (a *AppliedPattern) read(s *payload.Scanner) {
	first := true
	s.Must("{")
	if s.Key(&first, "pattern_id") {
		text := s.String()
		id, err := ParseID(text)
		if err != nil || id.String() != text {
			s.Fail()
		}
		a.PatternID = id
	}
	if s.Key(&first, "step") {
		a.Step = int(s.Int())
	}
	if s.Key(&first, "effect") {
		a.Effect = Effect(s.String())
	}
	if s.Key(&first, "note") {
		a.Note = s.String()
	}
	s.Must("}")
}

// readTexts reads a list of texts if it is the next member.
func readTexts(s *payload.Scanner, first *bool, name string) []string {
	if !s.Key(first, name) {
		return nil
	}
	return payload.ReadList(s, 0, func(v *string) { *v = s.String() })
}
