package mcpserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// recordedBy is the metadata that names the Caller who recorded an item.
const recordedBy = "recorded_by"

func (c *call) startTool(ctx context.Context) (string, error) {
	known, err := c.store.Brief(ctx, c.text("task"), &episodic.BriefOptions{Budget: briefTokens})
	if err != nil {
		return "", err
	}
	text, err := c.start(ctx)
	if err != nil {
		return "", err
	}
	if before := known.Text(); before != "" {
		text += "\n" + framed(c.store.Scope(), clean(before))
	}
	return text + leftOut(known.Damaged), nil
}

func (c *call) start(ctx context.Context) (string, error) {
	n, id, err := c.latest(ctx)
	if err != nil {
		return "", err
	}
	if n > 0 {
		e, err := c.store.Episode(ctx, id)
		if err != nil {
			return "", err
		}
		if e.Running() {
			return fmt.Sprintf("Episode %s of this session is being recorded already, %s.", shortID(id), place(e.Scope)), nil
		}
	}
	tags, _ := c.arguments["tags"].([]string)
	e := &episodic.Episode{Description: c.text("task"), Context: episodic.Context{Tags: tags}, Metadata: map[string]string{}}
	note := func(key, value string) {
		if value != "" {
			e.Metadata[key] = value
		}
	}
	note(transcript.MetaFolder, c.Folder)
	if c.Session.ID != "" {
		e.ID = c.sessionEpisode(n + 1)
		note(transcript.MetaSession, c.Session.ID)
	}
	note(transcript.MetaAgent, c.client)
	note(recordedBy, c.Name)
	if err := c.store.StartEpisode(ctx, e); err != nil && !errors.Is(err, episodic.ErrConflict) { // another call has started it
		return "", err
	}
	if c.Session.ID == "" { // the ID is a handle: its first digits are only the time
		return fmt.Sprintf("Recording episode %s %s. Name it as episode in log and complete.", e.ID, place(c.store.Scope())), nil
	}
	return fmt.Sprintf("Recording episode %s %s.", shortID(e.ID), place(c.store.Scope())), nil
}

// stepInput is a step as log is given it.
type stepInput struct {
	tool   string
	input  json.RawMessage
	result string
	failed bool
}

// steps reads a list of steps: of objects or texts, or one of them.
func (a *argument) steps(raw json.RawMessage) (steps []stepInput, err error) {
	raw = unquoted(raw)
	list := []json.RawMessage{raw}
	if bytes.HasPrefix(raw, []byte("[")) {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, bad("%s must be a list of steps", a.name)
		}
	}
	if len(list) == 0 {
		return nil, bad("%s is empty", a.name)
	}
	for i, raw := range list {
		s, err := readStep(raw)
		if err != nil {
			return nil, bad("%s[%d] %v", a.name, i, err)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

var errStep = errors.New(`must be an object with "tool", and "input", "result" and "failed" where there are such`)

func readStep(raw json.RawMessage) (s stepInput, err error) {
	if raw = unquoted(raw); raw[0] == '"' {
		s.tool, err = readText(raw)
		return s, err
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return s, errStep
	}
	for name, value := range fields {
		if string(value) == "null" {
			continue
		}
		switch folded(name) {
		case "tool":
			s.tool, err = readText(value)
		case "input":
			s.input = value
		case "result":
			if s.result, err = readText(value); err != nil {
				s.result, err = string(value), nil
			}
		case "failed":
			s.failed, err = readFlag(value)
		}
		if err != nil {
			return s, fmt.Errorf("has a %s that cannot be read: %.40s", name, value)
		}
	}
	if strings.TrimSpace(s.tool) == "" {
		return s, errStep
	}
	return s, nil
}

// step is the Step that is stored.
func (s *stepInput) step() episodic.Step {
	step := episodic.Step{Tool: s.tool}
	if strings.ContainsAny(s.tool, " \n") { // it is what was done, in words
		step.Tool, step.Action = "", s.tool
	}
	if len(s.input) > 0 {
		if input := unquoted(s.input); input[0] == '{' || input[0] == '[' {
			step.Parameters = episodic.JSON(input)
		} else if text, err := readText(s.input); err == nil {
			step.Action = strings.TrimSpace(step.Action + "\n" + text)
		}
	}
	if s.result != "" || s.failed {
		step.Result = &episodic.Result{Kind: episodic.ResultOutput, Text: s.result}
		if s.failed {
			step.Result.Kind = episodic.ResultError
		}
	}
	return step
}

func (c *call) logTool(ctx context.Context) (string, error) {
	id, err := c.target(ctx)
	if err != nil {
		return "", err
	}
	inputs, _ := c.arguments["steps"].([]stepInput)
	var steps []episodic.Step
	for i := range inputs {
		steps = append(steps, inputs[i].step())
	}
	var first int
	if c.use != "" {
		first, err = c.store.AppendStepsOnce(ctx, id, "mcp "+c.use, steps...)
	} else {
		first, err = c.store.AppendSteps(ctx, id, steps...)
	}
	if errors.Is(err, episodic.ErrConflict) {
		return "", bad("episode %s is complete; call start for another task", shortID(id))
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Logged %s to episode %s, from step %d on.", counted(len(steps), "step"), shortID(id), first), nil
}

func (c *call) completeTool(ctx context.Context) (string, error) {
	id, err := c.target(ctx)
	if err != nil {
		return "", err
	}
	o := episodic.Outcome{Kind: outcomeKinds[c.text("outcome")]}
	if o.Kind == episodic.Success || o.Kind == episodic.PartialSuccess {
		o.Verdict = c.text("summary")
	} else {
		o.Reason = c.text("summary")
	}
	err = c.store.CompleteEpisode(ctx, id, episodic.Completion{Outcome: o})
	if errors.Is(err, episodic.ErrConflict) {
		return "", bad("episode %s is complete already, with another outcome or summary; show tells them", shortID(id))
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Episode %s %s is complete: %s.", shortID(id), place(c.store.Scope()), c.text("outcome")), nil
}
