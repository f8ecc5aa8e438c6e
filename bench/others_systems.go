package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// otherSystem is a memory, or a driver that is used as one.
type otherSystem struct {
	name, version string
	start         func(ctx context.Context, short bool) (*worker, error)
	ours          bool
	file, server  bool // where it is measured
	most          int  // episodes of its memory, if it takes very long; 0: othersEpisodes

	// What is not equal between the systems.
	runs    string // in which process
	synced  string // whether what it acknowledges is synced to the disk
	search  string // by what it finds
	differs string // else

	lacks map[string]string // operations that it does not have, and why
}

var otherSystems = []*otherSystem{
	{
		name: "episodic, no cache", start: goWorker("uncached", nil), ours: true, file: true, server: true,
		runs: "in the program", synced: "each call; on a server none", search: "words, BM25", differs: "lists have no steps",
	},
	{
		name: "episodic, as it opens", start: goWorker("cached", nil), ours: true, file: true, server: true,
		runs: "in the program", synced: "each call; on a server none", search: "words, BM25", differs: "reads come from its cache",
	},
	{
		name: "bare driver, modernc.org/sqlite", version: moduleVersion("modernc.org/sqlite"), start: goWorker("driver", nil), file: true,
		runs: "in the program", synced: "each call", search: "words, FTS5", differs: "the tables of the scenario rivals",
	},
	{
		name: libsqlClient.name, version: libsqlClient.version, start: nodeWorker("libsql"), file: true, server: true,
		runs: "in the program", synced: "each call; on a server none", search: "words, FTS5", differs: "the tables of the bare driver; WAL, which is not its default",
	},
	{
		name: tursoServerless.name, version: tursoServerless.version, start: nodeWorker("serverless"), server: true,
		runs: "in the program", synced: "none", search: "words, FTS5", differs: "the tables of the bare driver; a connection for each caller",
	},
	{
		name: tursoDatabase.name, version: tursoDatabase.version, start: nodeWorker("turso"), file: true,
		runs: "in the program", synced: "each call", search: "words, LIKE in all rows", differs: "the tables of the bare driver without their index, for which its own, an experiment, is 80 times too slow; one connection",
	},
	{
		name: mastraLibSQL.name, version: mastraLibSQL.version + ", core " + mastraCore.version, start: nodeWorker("mastra"), file: true, most: 200,
		runs: "in the program", synced: "at checkpoints", search: "vectors", differs: "a thread with messages, and a vector in a file of its own; lists are of threads alone",
	},
	{
		name: mcpLibSQL.name, version: mcpLibSQL.version, start: goWorker("mcp-libsql", npm), file: true,
		runs: "a server on stdio", synced: "each call", search: "one word, LIKE", differs: "4 KB of a step; a get is a search for the name; no appends: lives rewrite the entity",
		lacks: map[string]string{"list": "read_graph tells of the ten newest"},
	},
	{
		name: mcpMemory.name, version: mcpMemory.version, start: goWorker("mcp-memory", npm), file: true, most: 200,
		runs: "a server on stdio", synced: "never", search: "one word, a scan", differs: "each call reads the whole file, each write rewrites it",
		lacks: map[string]string{"list": "read_graph tells all"},
	},
	{
		name: langGraph.name, version: langGraph.version, start: pythonWorker("langgraph", langGraphPython), file: true,
		runs: "in the program", synced: "each call", search: "vectors", differs: "no appends: lives rewrite the item",
	},
	{
		name: mem0.name, version: mem0.version, start: pythonWorker("mem0", mem0Python), file: true,
		runs: "in the program", synced: "each call", search: "vectors", differs: "no language model (infer=False); lives have a memory for each step; qdrant in a folder keeps a copy of all in memory",
	},
	{
		name: basicMemory.name, version: basicMemory.version, start: goWorker("basic-memory", basicMemoryPython), file: true, most: 20,
		runs: "a server on stdio", synced: "at checkpoints", search: "words, FTS5", differs: "a Markdown file for each note beside its database",
	},
	{
		name: doMemory.name, version: doMemory.version, start: cargoWorker, file: true,
		runs: "in the program", synced: "each call", search: "likeness, among the newest, which it has in memory", differs: "the original; no appends: lives rewrite the episode; searches are cached",
	},
}

func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

// goWorker starts this program as a worker, after what it needs is installed.
func goWorker(opener string, needs *installation) func(context.Context, bool) (*worker, error) {
	return func(ctx context.Context, short bool) (*worker, error) {
		if needs != nil {
			if _, err := needs.ensure(ctx, short); err != nil {
				return nil, err
			}
		}
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		return startWorker([]string{workerVariable + "=" + opener}, self)
	}
}

func nodeWorker(adapter string) func(context.Context, bool) (*worker, error) {
	return func(ctx context.Context, short bool) (*worker, error) {
		dir, err := npm.ensure(ctx, short)
		if err != nil {
			return nil, err
		}
		return startWorker(nil, "node", filepath.Join(dir, "worker.mjs"), adapter)
	}
}

func pythonWorker(adapter string, needs *installation) func(context.Context, bool) (*worker, error) {
	return func(ctx context.Context, short bool) (*worker, error) {
		dir, err := needs.ensure(ctx, short)
		if err != nil {
			return nil, err
		}
		return startWorker(nil, venvProgram(dir, "python"), filepath.Join(dir, "worker.py"), adapter)
	}
}

func cargoWorker(ctx context.Context, short bool) (*worker, error) {
	dir, err := cargo.ensure(ctx, short)
	if err != nil {
		return nil, err
	}
	return startWorker(nil, filepath.Join(dir, "target", "release", "do-memory-worker"))
}

// episodes is how many a memory of it holds, of so many.
func (s *otherSystem) episodes(of int) int {
	if s.most > 0 {
		return min(s.most, of)
	}
	return of
}

// fullName is the name with the version.
func (s *otherSystem) fullName() string { return strings.TrimSpace(s.name + " " + s.version) }
