package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/project"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// hereProject is what names the project of the folder that a command is run in.
const hereProject = "."

// scope is what the command line and the environment narrow the database to. A flag
// that was given empty does not narrow.
func (a *app) scope() (s episodic.Scope, err error) {
	chosen := func(flag *string, env string) string {
		if flag != nil {
			return *flag
		}
		return a.getenv(env)
	}
	s = episodic.Scope{Project: chosen(a.project, "EPISODIC_PROJECT"), User: chosen(a.user, "EPISODIC_USER")}
	if s.Project == hereProject {
		dir, err := os.Getwd()
		if err != nil {
			return s, err
		}
		if s.Project, err = a.projects().Of(dir); err != nil {
			return s, invalid("--project", "is %q: %v", hereProject, err)
		}
	}
	return s, nil
}

// projects finds the projects of folders, by the user's aliases too.
func (a *app) projects() project.Finder {
	f := project.Finder{Home: a.getenv("HOME")}
	if a.configHome != "" {
		f.Aliases = filepath.Join(a.configHome, "episodic", "projects")
	}
	if a.stateHome != "" {
		f.Cache = filepath.Join(a.stateHome, "episodic", "projects")
	}
	return f
}

// session is one of an agent program, as it is known by in all scopes.
type session struct {
	format, key string
	folder      string // where the agent works; empty: not known
}

func sessionOf(run *transcript.Run) session {
	s := session{format: run.Format, key: run.Key}
	if run.Episode != nil {
		s.folder = run.Episode.Metadata[transcript.MetaFolder]
	}
	return s
}

// sessionScope is whom a session's episode belongs to. If no project was chosen for all it is the
// project of the session's folder or none, so that hook, capture and import store it once: where
// it is stored already, and otherwise as told by own, the project. A folder that has no project
// is none.
func (a *app) sessionScope(ctx context.Context, store *episodic.Store, s session, own bool) (episodic.Scope, error) {
	without := store.Scope()
	if without.Project != "" || s.folder == "" || s.key == "" {
		return without, nil
	}
	name, err := a.projects().Of(s.folder)
	if errors.Is(err, project.ErrNone) {
		return without, nil
	}
	if err != nil {
		return without, err
	}
	with := without
	with.Project = name
	preferred, other := without, with
	if own {
		preferred, other = with, without
	}
	switch _, err := store.Episode(ctx, transcript.DeriveID(other, s.format, s.key)); {
	case err == nil:
		return other, nil
	case errors.Is(err, episodic.ErrNotFound):
		return preferred, nil
	default:
		return without, err
	}
}
