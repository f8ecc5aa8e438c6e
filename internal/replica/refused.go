package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

const (
	sqlRefused  = `UPDATE replica SET refused_us = ? WHERE refused_us = 0`
	sqlAnswered = `UPDATE replica SET refused_us = 0`
)

// RefusedSince returns since when every pull that was answered, by whatever process, has been
// answered that its user may not read the database, or that there is none; zero if the last
// one was not. local has been prepared.
func RefusedSince(ctx context.Context, local engine.Engine) (time.Time, error) {
	p, err := readPosition(ctx, local)
	return p.refused, err
}

// NoteRefusal notes in a replica's file that the server has refused, if that is what err says.
// Its own error is about the file, which has been prepared.
func NoteRefusal(ctx context.Context, local engine.Engine, err error) error {
	switch engine.KindOf(err) {
	case engine.KindAuth, engine.KindNotFound:
	default:
		return nil
	}
	if _, err := local.Repeatable(ctx, engine.Stmt{SQL: sqlRefused, Args: []engine.Value{time.Now().UnixMicro()}}); err != nil {
		return fmt.Errorf("note that the server refuses: %w", err)
	}
	return nil
}

// noteAnswer takes back what NoteRefusal has noted, if it has.
func (r *Replica) noteAnswer() error {
	r.mu.Lock()
	refused := !r.position.refused.IsZero()
	r.mu.Unlock()
	if !refused {
		return nil
	}
	if _, err := r.cfg.Local.Repeatable(r.ctx, engine.Stmt{SQL: sqlAnswered}); err != nil {
		return fmt.Errorf("note that the server refuses no more: %w", err)
	}
	return nil
}
