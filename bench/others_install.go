package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// pinned is a package of one version.
type pinned struct{ name, version string }

func (p pinned) String() string { return p.name + " " + p.version }

var (
	libsqlClient    = pinned{"@libsql/client", "0.18.0"}
	tursoServerless = pinned{"@tursodatabase/serverless", "1.4.0"}
	tursoDatabase   = pinned{"@tursodatabase/database", "0.7.2"}
	mastraLibSQL    = pinned{"@mastra/libsql", "1.23.1"}
	mastraCore      = pinned{"@mastra/core", "1.71.0"}
	mcpLibSQL       = pinned{"mcp-memory-libsql", "0.0.17"}
	mcpMemory       = pinned{"@modelcontextprotocol/server-memory", "2026.8.31"}

	langGraph   = pinned{"langgraph-checkpoint-sqlite", "3.1.2"}
	mem0        = pinned{"mem0ai", "2.2.1"}
	basicMemory = pinned{"basic-memory", "0.24.1"}

	doMemory = pinned{"do-memory-storage-turso", "0.1.47"}
)

// workerSources are the workers in other languages.
//
//go:embed others
var workerSources embed.FS

// installation is packages in a folder of .cache/rivals, which are installed once, and
// the worker that uses them, which is copied there.
type installation struct {
	folder   string
	quick    bool // enough to be installed with -short
	packages []pinned
	sources  []string // paths in others
	compiled bool     // the sources, by install
	install  func(ctx context.Context, i *installation, dir string) error

	once sync.Once
	err  error
}

var (
	npm = &installation{
		folder: "npm", quick: true, sources: []string{"worker.mjs"}, install: installNPM,
		packages: []pinned{libsqlClient, tursoServerless, tursoDatabase, mastraLibSQL, mastraCore, mcpLibSQL, mcpMemory},
	}
	// Each package of Python has an interpreter of its own, since they need different ones.
	langGraphPython   = inPython(langGraph, "hasattr(sqlite3.Connection, 'enable_load_extension')")
	mem0Python        = inPython(mem0, "sys.version_info >= (3, 10)")
	basicMemoryPython = inPython(basicMemory, "sys.version_info >= (3, 12)")

	cargo = &installation{
		folder: "do-memory", packages: []pinned{doMemory}, sources: []string{"Cargo.toml", "src/main.rs"}, compiled: true, install: installCargo,
	}
)

const installationTimeout = 15 * time.Minute

// dir is the folder of the installation.
func (i *installation) dir() (string, error) {
	return filepath.Abs(filepath.Join("..", ".cache", "rivals", i.folder))
}

// ensure installs what is not there, and returns the folder. With short it installs only
// what is quick.
func (i *installation) ensure(ctx context.Context, short bool) (dir string, err error) {
	if dir, err = i.dir(); err != nil {
		return "", err
	}
	i.once.Do(func() { i.err = i.make(ctx, dir, short) })
	return dir, i.err
}

func (i *installation) make(ctx context.Context, dir string, short bool) error {
	stamp := filepath.Join(dir, "installed")
	changed, err := i.copySources(dir)
	if err != nil {
		return err
	}
	if changed && i.compiled {
		if err := os.RemoveAll(stamp); err != nil {
			return err
		}
	}
	want := fmt.Sprint(i.packages)
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return nil
	}
	if short && !i.quick {
		return errors.New("not installed, and -short installs nothing that takes long")
	}
	fmt.Fprintf(os.Stderr, "bench: installing %s\n", want)
	ctx, cancel := context.WithTimeout(ctx, installationTimeout)
	defer cancel()
	if err := i.install(ctx, i, dir); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// copySources copies the sources that are not the same in the folder.
func (i *installation) copySources(dir string) (changed bool, err error) {
	for _, name := range i.sources {
		from := "others/" + name
		if i.compiled {
			from = "others/" + i.folder + "/" + name
		}
		text, err := workerSources.ReadFile(from)
		if err != nil {
			return changed, err
		}
		path := filepath.Join(dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
			continue
		}
		changed = true
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644)); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// runInstaller runs a program, and says what it said if it fails.
func runInstaller(ctx context.Context, program string, args ...string) error {
	said := &tail{}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[0], err, said)
	}
	return nil
}

func installNPM(ctx context.Context, i *installation, dir string) error {
	args := []string{"install", "--prefix", dir, "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--loglevel", "error"}
	for _, p := range i.packages {
		args = append(args, p.name+"@"+p.version)
	}
	return runInstaller(ctx, "npm", args...)
}

// inPython is a package of Python for an interpreter of which an expression is true.
func inPython(p pinned, needs string) *installation {
	return &installation{
		folder: p.name, packages: []pinned{p}, sources: []string{"worker.py"},
		install: func(ctx context.Context, _ *installation, dir string) error {
			interpreter, err := findPython(ctx, needs)
			if err != nil {
				return err
			}
			if err := runInstaller(ctx, interpreter, "-m", "venv", "--clear", filepath.Join(dir, "venv")); err != nil {
				return err
			}
			return runInstaller(ctx, venvProgram(dir, "pip"), "install", "--quiet", "--disable-pip-version-check", p.name+"=="+p.version)
		},
	}
}

// venvProgram is the path of a program in the environment of a package of Python.
func venvProgram(dir, name string) string { return filepath.Join(dir, "venv", "bin", name) }

// findPython finds an interpreter of which an expression is true: $PYTHON, a list of
// paths, comes first.
func findPython(ctx context.Context, needs string) (string, error) {
	candidates := slices.DeleteFunc(filepath.SplitList(os.Getenv("PYTHON")), func(s string) bool { return s == "" })
	for _, name := range append(candidates, "python3", "/usr/bin/python3", "python3.14", "python3.13", "python3.12") {
		if exec.CommandContext(ctx, name, "-c", "import sqlite3, sys, venv; sys.exit(not ("+needs+"))").Run() == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("no interpreter of Python, neither in $PYTHON nor in $PATH, of which this is true: %s", needs)
}

func installCargo(ctx context.Context, _ *installation, dir string) error {
	return runInstaller(ctx, "cargo", "build", "--quiet", "--release", "--manifest-path", filepath.Join(dir, "Cargo.toml"))
}
