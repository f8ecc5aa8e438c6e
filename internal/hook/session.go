package hook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/transcript"
	"github.com/episodic-memory/episodic/internal/wholefile"
)

// session is what is known of a session, and what of it the memory does not have yet. It is kept
// as JSON.
type session struct {
	Client     clients.Client `json:"client"`
	Key        string         `json:"key"`              // as internal/transcript calls the run
	Parent     string         `json:"parent,omitempty"` // of a sub-agent
	Session    string         `json:"session"`
	Transcript string         `json:"transcript,omitempty"`
	Folder     string         `json:"folder,omitempty"`
	Model      string         `json:"model,omitempty"`
	Begun      time.Time      `json:"begun"`
	Last       time.Time      `json:"last"` // when something happened

	Task   string    `json:"task,omitempty"`   // what people said first
	Prompt string    `json:"prompt,omitempty"` // what they said that no step has yet
	Said   string    `json:"said,omitempty"`   // what the model said that no step has yet
	SaidAt time.Time `json:"said_at,omitzero"`
	Spoke  string    `json:"spoke,omitempty"` // what it said last that one has

	Pending []pending `json:"pending,omitempty"` // steps that the memory does not have
	Sent    int       `json:"sent,omitempty"`    // as many of them are being stored together
	Lost    int       `json:"lost,omitempty"`    // steps for which there was no room
	Ending  bool      `json:"ending,omitempty"`  // it has ended, which the memory does not know
	Turned  bool      `json:"turned,omitempty"`  // a turn has ended, as well

	Placed   bool           `json:"placed,omitempty"` // Scope and ID are known
	Scope    episodic.Scope `json:"scope,omitzero"`
	ID       episodic.ID    `json:"id,omitzero"`
	Stored   bool           `json:"stored,omitempty"`   // the episode is
	Steps    int            `json:"steps,omitempty"`    // that were stored from here
	Followed bool           `json:"followed,omitempty"` // others store its steps: the transcript is what counts
	Closed   bool           `json:"closed,omitempty"`   // its end is stored
	Deleted  bool           `json:"deleted,omitempty"`  // the episode was deleted, and stays so

	Seen   []string `json:"seen,omitempty"`   // the last keys of events
	Taken  []string `json:"taken,omitempty"`  // files of events that may still be there
	Untold []string `json:"untold,omitempty"` // as well, about which their own process may tell something
	Shown  []string `json:"shown,omitempty"`  // what the model was told of

	folder string // it is kept in
}

// pending is a step that is to be stored.
type pending struct {
	Key  string        `json:"key"` // of AppendStepsOnce
	Step episodic.Step `json:"step"`
}

// Bounds of a session's file.
const (
	seenEvents   = 256
	untoldEvents = 16
	shownItems   = 500
	waitingSteps = 2000
	waitingBytes = 8 << 20
	promptBytes  = 256 << 10
	textBytes    = 768 << 10 // a Store takes steps of 4.5 MB
)

// name is that of a session's folder.
func name(client clients.Client, key string) string {
	sum := sha256.Sum256([]byte(string(client) + "\x00" + key))
	return string(client) + "-" + hex.EncodeToString(sum[:10])
}

const sessionFile = "session.json"

// errDamaged is of a session's file that is none.
var errDamaged = errors.New("is damaged")

// loadSession reads what is known of a session, which is nothing at first.
func loadSession(folder string) (*session, error) {
	s := new(session)
	b, err := os.ReadFile(filepath.Join(folder, sessionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", folder, err)
	}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("session %s %w: %w", folder, errDamaged, err)
	}
	return s, nil
}

// beginAnew is loadSession of whoever has its lock: a damaged file is put aside, which the error
// tells, and nothing is known of the session.
func beginAnew(folder string) (*session, error) {
	s, err := loadSession(folder)
	if errors.Is(err, errDamaged) {
		path := filepath.Join(folder, sessionFile)
		return new(session), errors.Join(fmt.Errorf("%w; it is put aside as %s.bad", err, path), os.Rename(path, path+".bad"))
	}
	return s, err
}

// Placed returns whom a session belongs to that hooks have recorded in a Recorder's Dir: what is
// found out of its folder later may be something else, as after git got a remote. It is false if
// none of them has stored anything.
func Placed(dir string, client clients.Client, key string) (episodic.Scope, bool) {
	s, err := loadSession(filepath.Join(dir, name(client, key)))
	if err != nil || !s.Placed {
		return episodic.Scope{}, false
	}
	return s.Scope, true
}

func (s *session) save(folder string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return wholefile.Replace(filepath.Join(folder, sessionFile), b, 0o600)
}

// dirty reports whether there is something to be done in the memory.
func (s *session) dirty() bool {
	return !s.Deleted && (len(s.Pending) > 0 || !s.Stored && s.Task != "" || s.Ending && (s.Stored || s.Task != "") || s.Turned && s.Followed)
}

// take makes an event part of the session, unless it was already.
func (s *session) take(a *arrival) bool {
	if slices.Contains(s.Seen, a.Key) {
		return false
	}
	s.Seen = bounded(append(s.Seen, a.Key), seenEvents)
	if s.Begun.IsZero() {
		s.Client, s.Session, s.Begun = a.Client, a.Session, a.At
		if s.Key = key(&a.Event); a.Agent != "" {
			s.Parent = a.Session
		}
	}
	late := a.Kind == clients.Tool && (s.Ending || s.Closed) && a.At.Sub(s.Last) < lateCall
	if a.At.After(s.Last) {
		s.Last = a.At
	}
	set(&s.Folder, a.Folder)
	set(&s.Model, a.Model)
	switch {
	case a.Agent == "" || a.Kind == clients.AgentEnd:
		set(&s.Transcript, a.Transcript)
	case s.Transcript == "" && a.Transcript != "": // the payload has that of the session
		s.Transcript = filepath.Join(strings.TrimSuffix(a.Transcript, ".jsonl"), "subagents", "agent-"+a.Agent+".jsonl")
	}
	s.Closed = false
	switch a.Kind {
	case clients.Start:
		s.Ending = false
		s.asked(a.Text)
	case clients.Prompt:
		s.Ending = false
		if s.Said != "" {
			s.add(pending{"said " + s.SaidAt.Format(time.RFC3339Nano), s.step(episodic.Step{Time: s.SaidAt})})
		}
		s.asked(a.Text)
		s.turn(a.Key)
	case clients.Tool:
		s.Ending = late
		step := episodic.Step{
			Time: a.At.Add(-a.Took), Tool: a.Tool, Parameters: episodic.JSON(a.Input), Latency: a.Took,
			Result: &episodic.Result{Kind: episodic.ResultOutput, Text: a.Result},
		}
		if a.Failed {
			step.Result.Kind = episodic.ResultError
		}
		s.add(pending{a.Key, s.step(step)})
	case clients.Reply, clients.AgentEnd, clients.End:
		if a.Text != "" {
			s.Said, s.SaidAt = a.Text, a.At
		}
		s.Turned = true
		s.Ending = a.Kind != clients.Reply
		s.turn(a.Key)
	}
	return true
}

// lateCall is how long after the end of a session a call may come that belongs before it: some
// clients do not wait for hooks.
const lateCall = 10 * time.Second

// turn forgets events that have no name of their own, but for the last: what is said again in
// another turn is another event.
func (s *session) turn(last string) {
	s.Seen = slices.DeleteFunc(s.Seen, func(key string) bool {
		return key != last && !strings.HasPrefix(key, "call ") && !strings.HasPrefix(key, "prompt ")
	})
}

// asked notes what people said. The first is the task.
func (s *session) asked(text string) {
	switch text = strings.TrimSpace(text); {
	case text == "" || text == s.Task:
	case s.Task == "":
		s.Task = text
	case len(s.Prompt)+len(text) > promptBytes: // they have said enough
	case s.Prompt == "":
		s.Prompt = text
	default:
		s.Prompt += "\n" + text
	}
}

// step is a step with what was said before it.
func (s *session) step(st episodic.Step) episodic.Step {
	if s.Prompt != "" {
		st.Metadata = map[string]string{transcript.MetaPrompt: s.Prompt}
		s.Prompt = ""
	}
	if s.Said != "" {
		st.Action, s.Spoke, s.Said = s.Said, s.Said, ""
	}
	return st
}

// add adds a step to those that wait. Where the transcript is what counts, or the episode is
// deleted, none does.
func (s *session) add(p pending) {
	if s.Followed || s.Deleted {
		return
	}
	size := p.bytes()
	for i := range s.Pending {
		size += s.Pending[i].bytes()
	}
	if len(s.Pending) >= waitingSteps || size > waitingBytes {
		s.Lost++
		return
	}
	s.Pending = append(s.Pending, p)
}

func (p *pending) bytes() int {
	n := len(p.Step.Action) + len(p.Step.Parameters)
	if p.Step.Result != nil {
		n += len(p.Step.Result.Text)
	}
	return n
}

func set(s *string, to string) {
	if to != "" {
		*s = to
	}
}

// bounded keeps the last of a list.
func bounded(list []string, n int) []string { return list[max(0, len(list)-n):] }
