package agenttest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

// Home is the computer of a person who works with agent programs: a home folder with nothing in
// it but what is set up there, and a git repository to work in.
type Home struct {
	Dir     string
	Folder  string // of the repository
	Program string // the path of episodic
}

// Project is the repository's, as episodic calls it.
const Project = "example.com/acme/shop"

// NewHome returns a Home with the episodic of that path.
func NewHome(t testing.TB, program string) *Home {
	t.Helper()
	h := &Home{Dir: t.TempDir(), Program: program}
	h.Folder = filepath.Join(h.Dir, "src", "checkout")
	h.Write(t, filepath.Join(h.Folder, "README.md"), "A shop.\n")
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"remote", "add", "origin", "https://" + Project + ".git"}, {"add", "."},
		{"-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "The shop"},
	} {
		if out, err := h.Run(t, time.Minute, nil, "git", args...); err != nil {
			t.Fatal(err, out)
		}
	}
	return h
}

// Write writes a file, and makes the folders that it is in.
func (h *Home) Write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Env is the environment of the person's programs. None of it is the test's but the PATH.
func (h *Home) Env() []string {
	return []string{"HOME=" + h.Dir, "PATH=" + filepath.Dir(h.Program) + string(os.PathListSeparator) + os.Getenv("PATH"), "LANG=C.UTF-8", "TERM=dumb"}
}

// Run runs a program in the repository, and returns what it prints.
func (h *Home) Run(t testing.TB, patience time.Duration, env []string, name string, args ...string) (string, error) {
	return h.RunWith(t, patience, "", env, name, args...)
}

// RunWith is Run for a program that reads something.
func (h *Home) RunWith(t testing.TB, patience time.Duration, stdin string, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = h.Folder, append(h.Env(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second // what it has started may hold its output
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if err != nil {
		err = errors.Join(err, context.Cause(ctx), errors.New(complaints.String()))
	}
	return strings.TrimSpace(out.String()), err
}

// Episodes are those that are stored, the newest first, with their steps.
func (h *Home) Episodes(t testing.TB) []*episodic.Episode {
	t.Helper()
	store, err := episodic.Open(t.Context(), filepath.Join(h.Dir, ".local", "share", "episodic", "episodic.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	page, err := store.ListEpisodes(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range page.Items {
		if page.Items[i], err = store.Episode(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
	}
	return page.Items
}

// Complaints is the log of what went wrong in hooks.
func (h *Home) Complaints(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(h.Dir, ".local", "state", "episodic", "hooks", "hook.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(log)
}
