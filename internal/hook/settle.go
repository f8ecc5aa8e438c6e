package hook

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// contentions is how often it is found out why steps cannot be added, for one event.
const contentions = 5

// settle brings the memory up to date with the session. What an error keeps it from is tried
// again next time.
func (w *work) settle(ctx context.Context, s *session) (err error) {
	if err := w.open(ctx); err != nil {
		return err
	}
	defer func() {
		if episodic.Retryable(err) || w.Remote && errors.Is(err, context.DeadlineExceeded) {
			w.reached(err)
		}
		if errors.Is(err, episodic.ErrNotFound) {
			s.Deleted, s.Pending, err = true, nil, nil // somebody deleted it
		}
		if s.Lost > 0 {
			err = errors.Join(err, fmt.Errorf("session %s: %d steps are lost: too much waits to be stored", s.Key, s.Lost))
			s.Lost = 0
		}
	}()
	if err := w.place(ctx, s); err != nil {
		return err
	}
	if !s.Stored && (s.Task != "" || len(s.Pending) > 0) && !s.Deleted {
		if err := w.begin(ctx, s); err != nil {
			return err
		}
	}
	for tries := 0; len(s.Pending) > 0 && !s.Followed && !s.Deleted; {
		err := w.append(ctx, s)
		if errors.Is(err, episodic.ErrConflict) && tries < contentions {
			tries++
			err = w.contend(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	if s.Followed {
		s.Pending, s.Sent = nil, 0
	}
	switch {
	case !s.Stored || s.Deleted:
		s.Closed = s.Ending
	case s.Ending:
		if read, err := w.readTranscript(ctx, s, true); err != nil {
			return err
		} else if !read {
			if err := w.end(ctx, s); err != nil {
				return err
			}
		}
		s.Closed = true
	case s.Turned && s.Followed:
		if _, err := w.readTranscript(ctx, s, false); err != nil {
			return err
		}
	}
	s.Turned, s.Ending = false, false
	return nil
}

// place decides, once, whom the session's episode belongs to.
func (w *work) place(ctx context.Context, s *session) (err error) {
	if s.Placed {
		return nil
	}
	if s.Scope, err = w.Scope(ctx, w.store, string(s.Client), s.Key, s.Folder); err != nil {
		return err
	}
	s.ID, s.Placed = transcript.DeriveID(s.Scope, string(s.Client), s.Key), true
	return nil
}

// begin stores the episode as running, as an import, so that one that was deleted stays so. One
// that is there already is followed by others, if there is a transcript that they can follow.
func (w *work) begin(ctx context.Context, s *session) error {
	e := s.episode()
	there, err := w.store.Episode(ctx, s.ID)
	switch {
	case err == nil:
		ours := there.StepCount == 0 && there.Start.Equal(e.Start.Truncate(time.Microsecond))
		s.Steps, s.Followed = there.StepCount, !ours && s.readable()
	case errors.Is(err, episodic.ErrNotFound):
		err = w.importOne(ctx, e)
	}
	if err != nil {
		return err
	}
	w.at("begun")
	s.Stored = true
	if s.Parent != "" {
		parent := transcript.DeriveID(s.Scope, string(s.Client), s.Parent)
		err = w.store.PutRelation(ctx, &episodic.Relation{From: parent, Type: episodic.ParentOf, To: s.ID, By: "hook"})
		if errors.Is(err, episodic.ErrNotFound) || errors.Is(err, episodic.ErrConflict) {
			err = nil // the session is not stored, or told so
		}
	}
	return err
}

// episode is the session as it begins.
func (s *session) episode() *episodic.Episode {
	e := &episodic.Episode{ID: s.ID, Scope: s.Scope, Description: s.Task, Start: s.Begun, Metadata: map[string]string{
		transcript.MetaAgent: agentNames[string(s.Client)], transcript.MetaFolder: s.Folder, transcript.MetaModel: s.Model, transcript.MetaSession: s.Session,
	}}
	if e.Metadata[transcript.MetaAgent] == "" {
		e.Metadata[transcript.MetaAgent] = string(s.Client)
	}
	for key, value := range e.Metadata {
		if value == "" {
			delete(e.Metadata, key)
		}
	}
	if e.Description == "" {
		e.Description = "a run without a recorded task" // as internal/transcript has it
	}
	if domain := filepath.Base(strings.ReplaceAll(s.Folder, `\`, "/")); s.Folder != "" && len(domain) <= domainBytes && !strings.ContainsFunc(domain, unicode.IsControl) {
		e.Context.Domain = domain
	}
	return e
}

// domainBytes is how long a domain may be.
const domainBytes = 1000

// agentNames are those of MetaAgent that differ from the format's.
var agentNames = map[string]string{"gemini": "gemini-cli"}

// Bounds of what is stored together, so that it takes little time.
const (
	sentSteps = 64
	sentBytes = 1 << 20
)

// append stores the first steps that wait. They have the place behind those that were stored from
// here, so that they are refused where others have stored them, or other ones, before. What is
// stored together is noted before, so that it is the same when a killed hook is made up for.
func (w *work) append(ctx context.Context, s *session) error {
	if s.Sent == 0 {
		for size := 0; s.Sent < min(len(s.Pending), sentSteps) && size < sentBytes; s.Sent++ {
			size += s.Pending[s.Sent].bytes()
		}
		if err := s.save(s.folder); err != nil {
			return err
		}
	}
	sent := s.Pending[:s.Sent]
	steps := make([]episodic.Step, len(sent))
	for i := range sent {
		steps[i] = sent[i].Step
	}
	steps[0].Number = s.Steps + 1
	w.at("sending")
	first, err := w.store.AppendStepsOnce(ctx, s.ID, sent[0].Key, steps...)
	switch {
	case errors.Is(err, episodic.ErrInvalid) && len(sent) > 1: // the others can be stored
		s.Sent = 1
		return s.save(s.folder)
	case errors.Is(err, episodic.ErrInvalid):
		s.Pending, s.Sent = s.Pending[1:], 0
		return fmt.Errorf("a step is lost: %w", err)
	case err != nil:
		return err
	}
	w.at("sent")
	s.Steps, s.Pending, s.Sent = max(s.Steps, first+len(sent)-1), s.Pending[len(sent):], 0
	return nil
}

// contend finds out why steps cannot be added to the episode: others add to it too, or it has
// ended. Then it is opened again, or, if it was judged, stored with the steps.
func (w *work) contend(ctx context.Context, s *session) error {
	e, err := w.store.Episode(ctx, s.ID)
	if err != nil {
		return err
	}
	if e.StepCount != s.Steps && s.readable() {
		s.Followed = true
		return nil
	}
	s.Steps, s.Sent = e.StepCount, 0
	switch {
	case e.Running():
		return nil
	case e.Outcome.Kind == "":
		e.End, e.Outcome = time.Time{}, episodic.Outcome{}
		return w.importOne(ctx, e)
	}
	for i := range s.Pending {
		step := s.Pending[i].Step
		there := func(other episodic.Step) bool { // stored by a hook that was killed then
			return other.Tool == step.Tool && other.Time.Equal(step.Time.Truncate(time.Microsecond)) && len(other.Parameters) == len(step.Parameters)
		}
		if !slices.ContainsFunc(e.Steps, there) {
			e.Steps = append(e.Steps, step)
		}
	}
	e.StepCount, e.End = len(e.Steps), s.Last
	if err := w.importOne(ctx, e); errors.Is(err, episodic.ErrInvalid) {
		lost := len(s.Pending)
		s.Pending = nil
		return fmt.Errorf("%d steps are lost: %w", lost, err)
	} else if err != nil {
		return err
	}
	w.at("sent")
	s.Steps, s.Pending = e.StepCount, nil
	return nil
}

// importOne stores an episode that goes on, or has just ended, as the record of its session.
func (w *work) importOne(ctx context.Context, e *episodic.Episode) error {
	hash := make([]byte, 16)
	_, _ = rand.Read(hash) // never fails
	return w.imported(ctx, episodic.Record{Episode: e, Hash: hash, Ongoing: true})
}

func (w *work) imported(ctx context.Context, r episodic.Record) error {
	results, err := w.store.Import(ctx, []episodic.Record{r})
	if err == nil {
		err = results[0].Err
	}
	if err == nil && results[0].Outcome == episodic.ImportDeleted {
		err = episodic.ErrNotFound
	}
	return err
}

// end stores that the session has ended, with the last that the model said.
func (w *work) end(ctx context.Context, s *session) error {
	e, err := w.store.Episode(ctx, s.ID)
	if err != nil || !e.Running() {
		return err
	}
	if e.End = s.Last; e.End.Before(e.Start) {
		e.End = e.Start
	}
	if e.Outcome.Kind == "" {
		e.Outcome.Verdict = cmp.Or(s.Said, s.Spoke, e.Outcome.Verdict)
	}
	if s.Prompt != "" {
		if e.Metadata == nil {
			e.Metadata = make(map[string]string)
		}
		e.Metadata[transcript.MetaLastPrompt] = s.Prompt
	}
	return w.importOne(ctx, e)
}
