package transcript

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// builder makes a run of what a record tells, in the order in which it happened. A format
// calls its methods; the rules that all formats share are here: what becomes a step, which
// answer belongs to which call, what is the task, and what the final answer.
type builder struct {
	run  *Run
	e    *episodic.Episode
	opts *Options
	emit func(*Run)
	tell func(*Problem)
	text string // of the record, where it is one value

	prompts int
	prompt  string    // not part of a step yet
	thought string    // as well
	said    string    // as well
	saidAt  time.Time // of said
	saidBy  string    // as well
	speaker string    // which of several agents it is that says, thinks and calls; empty: the one
	spoke   string    // the last that was said
	calls   []openCall
	start   time.Time // the least time seen
	end     time.Time // the greatest

	input, output int64
	sums          map[string]int64 // of metadata that is a count
	cost          float64          // in US dollars

	scratch []byte // of add

	open bool // the run goes on
}

type openCall struct {
	id   string
	step int
	at   time.Time
}

// begin begins a run. emit gets each run that the record turns out to be, and tell what is
// wrong with it.
func begin(format string, line int, opts *Options, emit func(*Run), tell func(*Problem)) *builder {
	b := &builder{opts: opts, emit: emit, tell: tell}
	b.reset(format, line)
	return b
}

func (b *builder) reset(format string, line int) {
	b.e = &episodic.Episode{Metadata: make(map[string]string)}
	b.run = &Run{Episode: b.e, Format: format, Line: line, Left: make(Left)}
}

// fork is a copy of a run that goes on, to be finished as it is now. It shares with the run
// what neither changes any more.
func (b *builder) fork(emit func(*Run), tell func(*Problem)) *builder {
	f, run, e := *b, *b.run, *b.e
	e.Steps, e.Metadata = slices.Clone(e.Steps), maps.Clone(e.Metadata)
	run.Episode, run.Left, run.Odd = &e, maps.Clone(run.Left), slices.Clone(run.Odd)
	f.run, f.e, f.emit, f.tell, f.open = &run, &e, emit, tell, true
	f.calls, f.sums, f.scratch = slices.Clone(b.calls), maps.Clone(b.sums), nil
	return &f
}

// meta sets a metadata key, unless the value is empty.
func (b *builder) meta(key, value string) {
	if value != "" {
		b.e.Metadata[key] = value
	}
}

// left counts something that is left out.
func (b *builder) left(what string, n int) {
	if n > 0 {
		b.run.Left[what] += n
	}
}

// odd notes a field that is not understood, once.
func (b *builder) odd(name, problem string) {
	if !slices.ContainsFunc(b.run.Odd, func(f Field) bool { return f.Name == name }) {
		b.run.Odd = append(b.run.Odd, Field{name, problem})
	}
}

// wrong tells of something that cannot be kept, if err is not nil. The rest of the run is.
func (b *builder) wrong(err error) {
	if p, ok := errors.AsType[*Problem](err); ok {
		b.tell(p)
	}
}

// seen notes a time at which the run was under way.
func (b *builder) seen(at time.Time) {
	if at.IsZero() {
		return
	}
	if b.start.IsZero() || at.Before(b.start) {
		b.start = at
	}
	if at.After(b.end) {
		b.end = at
	}
}

// time is the first time at one of the keys of n, which path names. One that is not understood
// is odd.
func (b *builder) time(n node, path string, keys ...string) time.Time {
	for _, key := range keys {
		v := n.get(key)
		if !v.there() {
			continue
		}
		if at := v.when(); !at.IsZero() {
			b.zoneless(v)
			return at
		}
		b.odd(strings.TrimPrefix(path+"."+key, "."), "is no time: "+clip(v.json(), 40))
	}
	return time.Time{}
}

// zoneless says so where n is a time without a zone.
func (b *builder) zoneless(n node) {
	if text := n.str(); len(text) > 10 && b.e.Metadata[MetaZone] == "" && !zoned.MatchString(text) {
		b.meta(MetaZone, "unknown, read as UTC")
	}
}

var zoned = regexp.MustCompile(`(Z|[A-Z]{3}|[+-]\d\d:?\d\d)$`)

// system is the system prompt.
func (b *builder) system(text string) {
	switch {
	case blank(text):
	case !b.opts.System:
		b.left("system prompt", 1)
	case b.e.Metadata[MetaSystem] == "":
		b.meta(MetaSystem, text)
	default:
		b.e.Metadata[MetaSystem] += "\n" + text
	}
}

// asks is what people said. The first is the task.
func (b *builder) asks(text string, at time.Time) {
	if text = words(text); text == "" {
		return
	}
	if b.prompts > 0 && b.opts.Split == ByPrompt {
		b.next()
	}
	b.seen(at)
	b.speak()
	if b.prompts++; b.prompts == 1 && b.e.Description == "" {
		b.e.Description = text
		return
	}
	if text != b.e.Description {
		b.prompt = join(b.prompt, text)
	}
}

// add makes a value part of what the run's Hash is made of, if its record is several.
func (b *builder) add(n node) {
	if n.v == nil {
		return
	}
	b.scratch = appendJSON(b.scratch[:0], n.v, true)
	sum := sha256.Sum256(b.scratch)
	b.run.Hash = sha256.Sum256(append(b.run.Hash[:], sum[:]...))
}

// addText makes a text part of what the run's Hash is made of.
func (b *builder) addText(text string) {
	sum := sha256.Sum256([]byte(text))
	b.run.Hash = sha256.Sum256(append(b.run.Hash[:], sum[:]...))
}

// task is what the run is for, where the record tells it apart from what was said.
func (b *builder) task(text string) {
	if text = words(text); text != "" {
		b.e.Description = text
	}
}

// says is what the model said.
func (b *builder) says(text string, at time.Time) {
	if blank(text) {
		return
	}
	b.seen(at)
	b.speak()
	b.said, b.saidAt, b.saidBy = text, at, b.speaker
}

// thinks is what the model thought before it goes on.
func (b *builder) thinks(text string) {
	if !blank(text) {
		b.thought = join(b.thought, text)
	}
}

// speak makes a step of what was said without calling anything.
func (b *builder) speak() {
	if b.said != "" {
		b.step(episodic.Step{Time: b.saidAt})
	}
}

// step adds a step, with what led to it. It returns its place.
func (b *builder) step(s episodic.Step) int {
	if s.Action == "" {
		s.Action = b.said
	}
	b.spoke = cmp.Or(b.said, b.spoke)
	by := b.speaker
	if b.said != "" {
		by = b.saidBy
	}
	b.e.Steps = append(b.e.Steps, s)
	i := len(b.e.Steps) - 1
	b.note(i, MetaPrompt, b.prompt)
	b.note(i, MetaThought, b.thought)
	b.note(i, MetaAgent, by)
	b.said, b.saidAt, b.saidBy, b.prompt, b.thought = "", time.Time{}, "", "", ""
	return i
}

// note sets a metadata key of a step, unless the value is empty.
func (b *builder) note(step int, key, value string) {
	s := &b.e.Steps[step]
	if value == "" {
		return
	}
	if s.Metadata = maps.Clone(s.Metadata); s.Metadata == nil { // forks have the former
		s.Metadata = make(map[string]string)
	}
	s.Metadata[key] = value
}

// call is a call of a tool. parameters are JSON, or empty. Without a name it is an error
// that the caller tells: a call that was seen must not be lost.
func (b *builder) call(id, tool, parameters string, at time.Time) int {
	b.seen(at)
	if b.saidBy != b.speaker {
		b.speak() // another agent calls
	}
	i := b.step(episodic.Step{Tool: tool, Parameters: episodic.JSON(parameters), Time: at})
	b.calls = append(b.calls, openCall{id, i, at})
	return i
}

// answer is what a tool answered.
type answer struct {
	id     string // of the call; empty: the first of the tool that has no answer
	tool   string
	text   string
	failed bool
	at     time.Time
	took   time.Duration // 0: from the call until at
	untold bool          // how long it took says nothing, as when people were asked
}

// answers is an answer to a call. Ids repeat within a record, so it belongs to the latest
// call of its id that has none; where calls have no ids, to the first that has none. One whose
// call is not there, as where the beginning was cut off, is a step too. It returns the place of
// the step.
func (b *builder) answers(a answer) int {
	b.seen(a.at)
	result := &episodic.Result{Kind: kindOf(a.failed), Text: a.text}
	at, nameless := -1, -1
	for i, c := range b.calls {
		switch {
		case a.id != "" && c.id == a.id:
			at = i
		case (a.id == "" || c.id == "") && nameless < 0 && (a.tool == "" || b.e.Steps[c.step].Tool == a.tool):
			nameless = i
		}
	}
	if at < 0 {
		at = nameless
	}
	if at < 0 {
		b.speak()
		return b.step(episodic.Step{Tool: cmp.Or(a.tool, "unknown"), Result: result, Time: a.at, Latency: a.took})
	}
	c := b.calls[at]
	b.calls = append(b.calls[:at], b.calls[at+1:]...)
	s := &b.e.Steps[c.step]
	s.Result = result
	switch {
	case a.untold:
	case a.took > 0:
		s.Latency = a.took
	case !a.at.IsZero() && !c.at.IsZero() && a.at.After(c.at):
		s.Latency = a.at.Sub(c.at)
	}
	return c.step
}

func kindOf(failed bool) episodic.ResultKind {
	if failed {
		return episodic.ResultError
	}
	return episodic.ResultOutput
}

// used adds to the tokens of the run.
func (b *builder) used(input, output int64) {
	b.input += input
	b.output += output
}

// sum adds to a metadata key that is a count.
func (b *builder) sum(key string, n int64) {
	if n == 0 {
		return
	}
	if b.sums == nil {
		b.sums = make(map[string]int64)
	}
	b.sums[key] += n
}

// charged adds to what the run has cost, in US dollars.
func (b *builder) charged(n node) {
	if f, ok := n.num(); ok && f > 0 {
		b.cost += f
	}
}

// judged is what came of the run, where the record says so: a boolean, a number from 0 to 1
// or a word.
func (b *builder) judged(name string, n node) {
	o, reward, ok := judgement(n)
	if !ok {
		if n.there() {
			b.odd(name, "says nothing of success or failure: "+clip(n.json(), 60))
		}
		return
	}
	if b.e.Outcome.Kind == "" {
		b.e.Outcome.Kind = o
	}
	if b.e.Reward == nil {
		b.e.Reward = reward
	}
}

// judgement reads what says whether something succeeded.
func judgement(n node) (kind episodic.OutcomeKind, reward *episodic.Reward, ok bool) {
	switch strings.ToLower(strings.TrimSpace(n.plain())) {
	case "true", "success", "succeeded", "successful", "solved", "resolved", "passed", "pass", "correct", "yes":
		return episodic.Success, nil, true
	case "false", "failure", "failed", "fail", "unsolved", "unresolved", "incorrect", "error", "no":
		return episodic.Failure, nil, true
	case "partial", "partial_success", "partially":
		return episodic.PartialSuccess, nil, true
	case "abstained":
		return episodic.Abstained, nil, true
	}
	f, ok := n.num()
	switch {
	case !ok:
		return "", nil, false
	case f > 1: // of how many is not said
	case f == 1:
		kind = episodic.Success
	case f <= 0:
		kind = episodic.Failure
	default:
		kind = episodic.PartialSuccess
	}
	return kind, &episodic.Reward{Total: f}, true
}

// next ends the run before a further prompt, and begins one for that.
func (b *builder) next() {
	before, n := b.run, 1
	key, part, found := strings.Cut(before.Key, "#")
	if found {
		n, _ = strconv.Atoi(part) // it was written below
	}
	b.finish()
	fresh := begin(before.Format, before.Line, b.opts, b.emit, b.tell)
	fresh.run.Parent, fresh.e.Context = before.Parent, before.Episode.Context
	if key != "" {
		fresh.run.Key = key + "#" + strconv.Itoa(n+1)
	}
	for _, name := range []string{MetaAgent, MetaVersion, MetaModel, MetaTitle, MetaFolder, MetaBranch, MetaSession} {
		fresh.meta(name, before.Episode.Metadata[name])
	}
	*b = *fresh
}

// finish ends the run, and gives it to emit. If nothing was done in it and nobody asked for
// anything, there is no episode, only what was left out.
func (b *builder) finish() {
	b.dropMemoryTools()
	e, run := b.e, b.run
	b.spoke = cmp.Or(b.said, b.spoke)
	b.said = ""
	b.verdict()
	b.meta(MetaLastPrompt, b.prompt)
	if b.open {
		b.thought = "" // what comes of it is yet to come
	}
	if b.thought != "" && len(e.Steps) > 0 {
		last := len(e.Steps) - 1
		b.note(last, MetaThought, join(e.Steps[last].Metadata[MetaThought], b.thought))
	} else if b.thought != "" {
		b.left("reasoning", 1)
	}
	if e.Description == "" {
		e.Description = cmp.Or(e.Metadata[MetaTitle], b.spoke)
	}
	if e.Description == "" && len(e.Steps) > 0 {
		e.Description = "a run without a recorded task"
	}
	if b.input > 0 {
		b.meta(MetaInput, strconv.FormatInt(b.input, 10))
	}
	if b.output > 0 {
		b.meta(MetaOutput, strconv.FormatInt(b.output, 10))
	}
	for key, n := range b.sums {
		if n > 0 {
			b.meta(key, strconv.FormatInt(n, 10))
		}
	}
	if b.cost > 0 {
		b.meta(MetaCost, strconv.FormatFloat(math.Round(b.cost*1e9)/1e9, 'f', -1, 64))
	}
	switch {
	case !b.start.IsZero():
		e.Start, e.End = b.start, b.end
	case !b.opts.Modified.IsZero():
		e.Start, e.End = b.opts.Modified.UTC(), b.opts.Modified.UTC()
		b.meta(MetaTimeSource, "file")
	}
	if e.Description == "" {
		run.Episode = nil
		b.left("record without a task or a step", 1)
	}
	b.emit(run)
}

// verdict keeps the final answer, where the outcome has a place for it.
func (b *builder) verdict() {
	o := &b.e.Outcome
	switch o.Kind {
	case episodic.Failure, episodic.Abstained:
		o.Reason = cmp.Or(o.Reason, b.spoke)
	default:
		o.Verdict = cmp.Or(o.Verdict, b.spoke)
	}
}

// join adds a paragraph to a text.
func join(text, more string) string {
	if text == "" || more == "" {
		return text + more
	}
	return text + "\n" + more
}

// clip keeps what is quoted readable.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}
