package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// replicaVariable makes this program a client with a replica in a process of its own.
const replicaVariable = "EPISODIC_BENCH_REPLICA"

const (
	manyEpisodes = 100_000
	mostMemory   = 200 << 20
)

// replicaTask is what the client is told on its standard input. Target may be a file too, which is
// then also the Path.
type replicaTask struct {
	Target, Path, LockDir string
	Queries               []string
}

// replicaResult is what it answers on its standard output. Memory is in bytes.
type replicaResult struct {
	First, Complete time.Duration // from before Open: the first search, all indexed
	Peak            int64         // most that was resident at once
	Anonymous, File int64         // resident after the searches: own, and pages of files
	Heap            int64         // that is in use after a collection
	Stored          int64         // the replica's file
}

// replicaMemory measures a client of a server with many small episodes.
func replicaMemory(ctx context.Context, b *bench) error {
	n := manyEpisodes
	if b.short {
		n = 300
	}
	server, err := startServer(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	store, err := episodic.Open(ctx, server.URL(), direct())
	if err != nil {
		return err
	}
	words, steps := &tally{}, 0
	for from := 0; from < n && err == nil; from += batchSize {
		batch := b.corpus.episodes(from, min(batchSize, n-from))
		for _, e := range batch {
			e.Steps = e.Steps[:min(2, len(e.Steps))]
			steps += len(e.Steps)
			if err := words.add(e); err != nil {
				return err
			}
		}
		err = addAll(ctx, store, batch)
	}
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	m, err := newMachine(b, server.URL(), b.replicaRTT())
	if err != nil {
		return err
	}
	defer m.link.Close()
	task := replicaTask{Target: m.link.URL(), Path: m.path(), LockDir: m.dir}
	for _, f := range frequencies {
		for range 20 {
			task.Queries = append(task.Queries, query(words.wordsOf(f)))
		}
	}
	got, err := task.run(ctx)
	if err != nil {
		return err
	}
	mb := func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/(1<<20)) }
	b.table([]string{fmt.Sprintf("%d episodes, %d steps, %s of JSON", n, steps, mb(int64(words.bytes))), ""},
		[]string{"first search", ms(got.First)},
		[]string{"complete and indexed", ms(got.Complete)},
		[]string{"bytes down", mb(m.link.Counts().BytesDown)},
		[]string{"the replica's file", mb(got.Stored)},
		[]string{"most memory resident at once, pages of files included", mb(got.Peak)},
		[]string{"resident after 60 searches: the process's own", mb(got.Anonymous)},
		[]string{"and pages of files", mb(got.File)},
		[]string{"heap in use after a collection, the index's corpus included", mb(got.Heap)})
	b.judge(got.Anonymous <= mostMemory, "a client of 100,000 episodes in less than 200 MB of its own", "%s", mb(got.Anonymous))
	b.judge(got.First <= 2*time.Second, "its first search within 2 s", "%s", ms(got.First))
	return nil
}

func (t *replicaTask) run(ctx context.Context) (result replicaResult, err error) {
	err = runChild(ctx, replicaVariable, t, &result)
	return result, err
}

func (t *replicaTask) do(ctx context.Context) (result replicaResult, err error) {
	begin := time.Now()
	store, err := episodic.Open(ctx, t.Target, &episodic.Options{LockDir: t.LockDir, Replica: episodic.Replica{Path: t.Path}})
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for i, q := range t.Queries {
		if _, err := store.Search(ctx, q, nil); err != nil {
			return result, err
		}
		if i > 0 {
			continue
		}
		result.First = time.Since(begin)
		if store.Stats().Replica != nil {
			if err := store.Sync(ctx, nil); err != nil {
				return result, err
			}
		}
		result.Complete = time.Since(begin)
	}
	var memory map[string]int64
	if memory, err = processMemory(os.Getpid()); err != nil {
		return result, err
	}
	result.Peak, result.Anonymous, result.File = memory["VmHWM"], memory["RssAnon"], memory["RssFile"]
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	result.Heap = int64(m.HeapAlloc)
	result.Stored, err = sizeOf(t.Path)
	return result, err
}

// processMemory are the lines of a process's status in /proc that are in kB, in bytes.
func processMemory(pid int) (map[string]int64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	status, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64)
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if fields := strings.Fields(value); len(fields) == 2 && fields[1] == "kB" {
			if sizes[name], err = strconv.ParseInt(fields[0], 10, 64); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			sizes[name] <<= 10
		}
	}
	return sizes, nil
}
