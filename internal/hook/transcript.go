package hook

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// How much of a transcript is read while somebody waits. What is larger capture reads, or
// import.
const (
	endBytes  = 24 << 20
	turnBytes = 2 << 20
)

// readable reports whether the session has a transcript that capture and import read.
func (s *session) readable() bool {
	if s.Transcript == "" || !slices.Contains(transcript.Formats(), string(s.Client)) {
		return false
	}
	info, err := os.Stat(s.Transcript)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// readTranscript stores the episode as the session's transcript has it. It reports whether it
// has: not if there is none, or it is too large, or tells less than what was stored from here.
func (w *work) readTranscript(ctx context.Context, s *session, ending bool) (bool, error) {
	if !s.readable() {
		return false, nil
	}
	f, err := os.Open(s.Transcript)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || ending && info.Size() > endBytes || !ending && info.Size() > turnBytes {
		return false, err
	}
	var run *transcript.Run
	o := &transcript.Options{Format: string(s.Client), Modified: info.ModTime()}
	for r, err := range transcript.Read(f, s.Transcript, o) {
		if _, bad := errors.AsType[*transcript.Problem](err); bad {
			continue // the rest of it can be read
		}
		if errors.Is(err, transcript.ErrUnknown) || ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			return false, fmt.Errorf("transcript %s: %w", s.Transcript, err)
		}
		if r.Episode != nil && r.Key == s.Key {
			run = r
		}
	}
	if run == nil || !s.Followed && len(run.Episode.Steps) < s.Steps {
		return false, nil
	}
	e, hash := run.Episode, w.Hash(run)
	e.ID, e.Scope = s.ID, s.Scope
	if !ending {
		e.End = time.Time{}
		sum := sha256.Sum256(fmt.Appendf(nil, "open %x %d", hash, info.Size()))
		hash = sum[:16]
	}
	if err := w.imported(ctx, episodic.Record{Episode: e, Hash: hash, Ongoing: true}); err != nil {
		return false, err
	}
	s.Steps = len(run.Episode.Steps)
	return true, nil
}
