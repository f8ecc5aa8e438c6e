package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// The first episode of a session has the ID that import and capture give the session, so that
// all of them write one episode. Those that follow it, after it was judged, have keys with
// numbers.

func (c *call) sessionEpisode(n int) episodic.ID {
	key := c.Session.ID
	if n > 1 {
		key = fmt.Sprintf("%s#%d", key, n)
	}
	return transcript.DeriveID(c.store.Scope(), c.Session.Format, key)
}

// latest returns the number and the ID of the newest episode of the session; 0 if there is
// none, or no session.
func (c *call) latest(ctx context.Context) (n int, id episodic.ID, err error) {
	if c.Session.ID == "" {
		return 0, id, nil
	}
	for {
		next := c.sessionEpisode(n + 1)
		_, err := c.store.ResolveEpisode(ctx, next.String())
		if errors.Is(err, episodic.ErrNotFound) {
			return n, id, nil
		}
		if err != nil {
			return 0, id, err
		}
		n, id = n+1, next
	}
}

// target is the episode that a call names, or else the newest one of the session.
func (c *call) target(ctx context.Context) (episodic.ID, error) {
	if named := c.text("episode"); named != "" {
		kind, id, err := c.resolve(ctx, named)
		if err == nil && kind != episodic.ItemEpisode {
			err = bad("episode %s is a %s", shortID(id), noun(kind))
		}
		return id, err
	}
	n, id, err := c.latest(ctx)
	if err != nil || n > 0 {
		return id, err
	}
	const most = 5
	running, err := c.store.ListEpisodes(ctx, &episodic.EpisodeFilter{State: episodic.StateRunning}, &episodic.Paging{Limit: most})
	if err != nil {
		return id, err
	}
	others := ""
	for _, e := range running.Items {
		others += fmt.Sprintf("; %s is %.60q", shortID(e.ID), line(e.Description))
	}
	if others != "" {
		others = ", or name one of those that are open " + place(c.store.Scope()) + others
	}
	if damaged := leftOut(running.Damaged); damaged != "" {
		others += "." + strings.TrimSuffix(damaged, ".")
	}
	missing := "this session has no episode"
	if c.Session.ID == "" {
		missing = "episode is missing"
	}
	return id, bad("%s; call start first%s", missing, others)
}

func noun(kind episodic.ItemKind) string {
	if kind == episodic.ItemHeuristic {
		return "lesson"
	}
	return strings.ToLower(string(kind))
}
