package project

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestNormalise(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"https://github.com/Owner/Name.git":                     "github.com/owner/name",
		"https://user:secret@GitHub.com:443/owner/name/":        "github.com/owner/name",
		"git@github.com:owner/name.git":                         "github.com/owner/name",
		"github.com:owner/name":                                 "github.com/owner/name",
		"ssh://git@ssh.github.com:443/owner/name.git":           "github.com/owner/name",
		"git://example.org/Deep/Path.GIT":                       "example.org/Deep/Path",
		"ssh://git@[::1]:22/x/y":                                "::1/x/y",
		"git@host.example:/srv/git/x.git":                       "host.example/srv/git/x",
		"https://token@dev.azure.com/org/project/_git/repo?a=b": "dev.azure.com/org/project/_git/repo",
		"/srv/git/x.git":                                        "",
		"../x":                                                  "",
		"file:///srv/x":                                         "",
		`C:\work\x`:                                             "",
		"C:/work/x":                                             "",
		"":                                                      "",
		"https://":                                              "",
		"host.example:":                                         "",
		"host.example:a\x1b[2Jb":                                "",
		"https://../A":                                          "",
		"https://host.example./x":                               "host.example/x",
	} {
		if got := Normalise(remote); got != want {
			t.Errorf("%q is %q, want %q", remote, got, want)
		}
	}
}

// What is normalised names no credentials, and is what it is of itself.
func TestNormaliseIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		remote := rapid.OneOf(rapid.String(), rapid.StringMatching(`(https|ssh|git)://([a-z]+(:SECRET)?@)?[a-zA-Z.]{1,9}(:[0-9]{1,4})?(/[a-zA-Z.]{1,6}){0,3}(\.git)?/?`)).Draw(t, "remote")
		name := Normalise(remote)
		if again := Normalise("https://" + name); name != "" && !strings.ContainsAny(name, "%?#@:[]\"<>^`{|}\\") && !strings.ContainsFunc(name, unicode.IsSpace) && again != name && !strings.HasSuffix(strings.ToLower(name), ".git") {
			t.Fatalf("%q is %q, which is %q", remote, name, again)
		}
		if strings.Contains(name, "SECRET") {
			t.Fatalf("%q is %q", remote, name)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func of(t *testing.T, f Finder, dir string) string {
	t.Helper()
	name, err := f.Of(dir)
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	return name
}

// repositoryAt makes what git would: no git is needed to read it.
func repositoryAt(t *testing.T, dir, config string) {
	t.Helper()
	write(t, filepath.Join(dir, ".git", "HEAD"), "ref: refs/heads/main\n")
	write(t, filepath.Join(dir, ".git", "config"), config)
}

const origin = "[core]\n\tbare = false\n[remote \"fork\"]\n\turl = https://example.org/fork/x\n[remote \"origin\"]\n\turl = git@github.com:me/mono.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n[branch \"main\"]\n\tremote = origin\n"

func TestRepositoryWithoutGit(t *testing.T) {
	t.Setenv("PATH", "") // git is not there
	home := t.TempDir()
	f := Finder{Home: home, Cache: filepath.Join(home, "cache")}
	mono := filepath.Join(home, "mono")
	repositoryAt(t, mono, origin)
	tree := filepath.Join(home, "elsewhere", "tree")
	write(t, filepath.Join(mono, ".git", "worktrees", "tree", "HEAD"), "ref: refs/heads/b\n")
	write(t, filepath.Join(mono, ".git", "worktrees", "tree", "commondir"), "../..\n")
	write(t, filepath.Join(tree, ".git"), "gitdir: "+filepath.Join(mono, ".git", "worktrees", "tree")+"\n")
	sub := filepath.Join(mono, "vendor", "lib")
	write(t, filepath.Join(sub, ".git"), "gitdir: ../../.git/modules/lib\n")
	write(t, filepath.Join(mono, ".git", "modules", "lib", "HEAD"), "ref: refs/heads/main\n")
	write(t, filepath.Join(mono, ".git", "modules", "lib", "config"), "[remote \"origin\"]\n\turl = https://u:p@example.org/lib.git\n")
	for dir, want := range map[string]string{
		mono:                                   "github.com/me/mono",
		filepath.Join(mono, "services", "api"): "github.com/me/mono",
		filepath.Join(mono, ".git"):            "github.com/me/mono",
		tree:                                   "github.com/me/mono",
		filepath.Join(tree, "gone", "in", "a", "b"): "github.com/me/mono",
		sub: "example.org/lib",
	} {
		if got := of(t, f, dir); got != want {
			t.Errorf("%s is %q, want %q", dir, got, want)
		}
	}
	link := filepath.Join(home, "link")
	if err := os.Symlink(mono, link); err != nil {
		t.Fatal(err)
	}
	if got := of(t, f, link); got != "github.com/me/mono" {
		t.Errorf("a link to it is %q", got)
	}
	// Without a remote and without git it is known by the folder of its main worktree.
	repositoryAt(t, mono, "[core]\n\tbare = false\n")
	if got := of(t, f, tree); !strings.HasPrefix(got, "folder:mono-") || got != of(t, f, mono) {
		t.Errorf("the worktree is %q, the repository %q", got, of(t, f, mono))
	}
}

// A repository whose configuration says that a program gets what it lacks has none run.
func TestAHostileRepositoryRunsNothing(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not there")
	}
	home := t.TempDir()
	repo, ran := filepath.Join(home, "repo"), filepath.Join(home, "ran")
	repositoryAt(t, repo, fmt.Sprintf(`[core]
	repositoryformatversion = 1
[extensions]
	partialClone = one
[remote "one"]
	promisor = true
	url = ext::touch %s
[remote "two"]
	url = ext::touch %[1]s
[protocol "ext"]
	allow = always
`, ran))
	write(t, filepath.Join(repo, ".git", "HEAD"), strings.Repeat("1", 40)+"\n")
	write(t, filepath.Join(repo, ".git", "objects", "info", "packs"), "")
	write(t, filepath.Join(repo, ".git", "refs", "heads", "none"), strings.Repeat("2", 40)+"\n")
	if got := of(t, Finder{Home: home}, repo); !strings.HasPrefix(got, "folder:repo-") {
		t.Errorf("it is %q", got)
	}
	if _, err := os.Stat(ran); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program was run: %v", err)
	}
}

func TestFolders(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	f := Finder{Home: home}
	for _, dir := range []string{home, home + "/", "/", "relative", ""} {
		if name, err := f.Of(dir); !errors.Is(err, ErrNone) {
			t.Errorf("%q: %q, %v", dir, name, err)
		}
	}
	a, b := filepath.Join(home, "a", "src"), filepath.Join(home, "b", "src")
	x, y := of(t, f, a), of(t, f, b)
	if x == y || !strings.HasPrefix(x, "folder:src-") || x != of(t, f, a+"/.") {
		t.Errorf("%q, %q", x, y)
	}
	// Settings that are kept in a repository at home do not make one project of all.
	repositoryAt(t, home, origin)
	if got := of(t, f, a); got != x {
		t.Errorf("below a home that is a repository: %q", got)
	}
	if got := of(t, f, home); got != "github.com/me/mono" {
		t.Errorf("the home that is a repository: %q", got)
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	f := Finder{Home: home, Aliases: filepath.Join(home, "projects")}
	mono := filepath.Join(home, "mono")
	repositoryAt(t, mono, origin)
	if got := of(t, f, mono); got != "github.com/me/mono" {
		t.Errorf("without a file: %q", got)
	}
	write(t, f.Aliases, "# mine\n\nmono = https://GitHub.com/me/mono.git\napi = github.com/me/mono//services/api\nold = ~/old\n")
	for dir, want := range map[string]string{
		mono: "mono", filepath.Join(mono, "services"): "mono", filepath.Join(mono, "services", "api", "x"): "api",
		filepath.Join(mono, "services", "apiary"): "mono", filepath.Join(home, "old", "x"): "old",
	} {
		if got := of(t, f, dir); got != want {
			t.Errorf("%s is %q, want %q", dir, got, want)
		}
	}
	write(t, f.Aliases, "here = ~/mono\napi = github.com/me/mono//services/api\n")
	if got := of(t, f, filepath.Join(mono, "services", "api")); got != "here" {
		t.Errorf("a path of this machine: %q", got)
	}
	write(t, f.Aliases, "a = b\nnothing\n")
	if _, err := f.Of(mono); err == nil || !strings.Contains(err.Error(), "projects:2: ") {
		t.Errorf("a bad line: %v", err)
	}
}

func TestRootCommit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not there")
	}
	home := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		c := exec.Command(git, args...)
		c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	f := Finder{Home: home, Cache: filepath.Join(home, "cache")}
	dir := filepath.Join(home, "x")
	run("init", "-q", dir)
	if got := of(t, f, dir); !strings.HasPrefix(got, "folder:x-") {
		t.Errorf("without a commit: %q", got)
	}
	for range 2 {
		run("-C", dir, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "m")
	}
	name := of(t, f, dir)
	if !strings.HasPrefix(name, "git:") || len(name) != len("git:")+16 {
		t.Fatalf("by its root: %q", name)
	}
	other := filepath.Join(home, "other-name")
	run("clone", "-q", dir, other) // its remote is a path
	run("-C", dir, "worktree", "add", "-q", filepath.Join(home, "tree"))
	for _, d := range []string{other, filepath.Join(home, "tree")} {
		if got := of(t, f, d); got != name {
			t.Errorf("%s is %q, want %q", d, got, name)
		}
	}
	t.Setenv("PATH", "")
	if got := of(t, f, dir); got != name {
		t.Errorf("what is kept: %q", got)
	}
}

func TestAliasComments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "projects")
	text := "# ours\npumps = " + dir + " # all of it\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if name, err := (Finder{Aliases: file}).Of(dir); err != nil || name != "pumps" {
		t.Errorf("it is %q, %v", name, err)
	}
}
