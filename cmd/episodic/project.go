package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/clients"
	"github.com/episodic-memory/episodic/internal/hook"
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

// sessionScope is whom a session's episode belongs to, the same for hook, capture and import. If
// no project was chosen for all it is the project of the session's folder, or none where that is
// not known here. A session that hooks have recorded, or that is stored with that project or without,
// stays where it is.
func (a *app) sessionScope(ctx context.Context, store *episodic.Store, s session) (episodic.Scope, error) {
	without := store.Scope()
	if without.Project != "" || s.folder == "" || s.key == "" {
		return without, nil
	}
	if placed, ok := hook.Placed(a.hookDir(), clients.Client(s.format), s.key); ok && placed.User == without.User {
		return placed, nil
	}
	name := a.projectOf(s.folder)
	if name == "" {
		return without, nil
	}
	with := without
	with.Project = name
	preferred, other := with, without
	if !knownHere(name, s.folder) {
		preferred, other = without, with
	}
	switch _, err := store.ResolveEpisode(ctx, transcript.DeriveID(other, s.format, s.key).String()); {
	case err == nil:
		return other, nil
	case errors.Is(err, episodic.ErrNotFound):
		return preferred, nil
	default:
		return without, err
	}
}

// knownHere reports whether a folder's project is more than the path of a folder that is of another
// machine, or gone.
func knownHere(name, folder string) bool { return !project.ByPath(name) || isFolder(folder) }

// projectFor is how long the project of a folder is taken to stay what it was.
const projectFor = time.Minute

// knownProject is the project of a folder, as it was found.
type knownProject struct {
	name  string // empty: it has none
	found time.Time
}

// projectOf is the project of a folder; empty if it has none. What keeps it from being found is
// told once.
func (a *app) projectOf(folder string) string {
	if known, ok := a.folders[folder]; ok && time.Since(known.found) < projectFor {
		return known.name
	}
	name, err := a.projects().Of(folder)
	if err != nil && !errors.Is(err, project.ErrNone) && !a.aliasesTold {
		a.aliasesTold = true
		a.complain("%v; sessions are stored without a project", err)
	}
	if a.folders == nil {
		a.folders = make(map[string]knownProject)
	}
	a.folders[folder] = knownProject{name, time.Now()}
	return name
}
