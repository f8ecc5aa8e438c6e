package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

const durabilityClaim = "Eight processes on one memory, of which one is killed (kill -9) every half second: what was acknowledged and is not there afterwards, and what is stored twice. " +
	"Ours is `episodic bench durability`, on a file and on a server that is killed too. The others are MCP servers, eight processes on one file, each driven by an agent that creates an entity and a relation by turns and repeats a call that failed or whose process was killed. " +
	"Target: ours loses nothing, doubles nothing, has no error that says locked, and doctor finds nothing wrong with it afterwards."

const (
	durableProcesses = 8
	durableKills     = 500 * time.Millisecond
)

// graphMemory is an MCP server that keeps a graph of entities and relations.
type graphMemory struct {
	pinned
	env      func(dir string) []string
	relation func(from, to, typ string) map[string]any
	// read returns the names of entities and the types of relations, as often as they are stored.
	read func(ctx context.Context, g *graphMemory, dir string) ([]string, error)
}

var graphMemories = []graphMemory{
	{
		pinned: mcpLibSQL,
		env:    func(dir string) []string { return []string{"LIBSQL_URL=file:" + filepath.Join(dir, "memory.db")} },
		relation: func(from, to, typ string) map[string]any {
			return map[string]any{"source": from, "target": to, "type": typ}
		},
		read: func(ctx context.Context, _ *graphMemory, dir string) (names []string, err error) {
			db, err := sql.Open("sqlite", filepath.Join(dir, "memory.db"))
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			rows, err := db.QueryContext(ctx, "SELECT name FROM entities UNION ALL SELECT relation_type FROM relations")
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			for rows.Next() {
				var name string
				if err := rows.Scan(&name); err != nil {
					return nil, err
				}
				names = append(names, name)
			}
			return names, rows.Err()
		},
	},
	{
		pinned: mcpMemory,
		env:    func(dir string) []string { return []string{"MEMORY_FILE_PATH=" + filepath.Join(dir, "memory.jsonl")} },
		relation: func(from, to, typ string) map[string]any {
			return map[string]any{"from": from, "to": to, "relationType": typ}
		},
		read: func(_ context.Context, g *graphMemory, dir string) ([]string, error) {
			m, err := g.start(dir)
			if err != nil {
				return nil, err
			}
			defer m.end()
			text, err := m.call("read_graph", map[string]any{})
			if err != nil {
				return nil, err
			}
			var graph struct {
				Entities  []struct{ Name string }
				Relations []struct{ RelationType string }
			}
			err = json.Unmarshal([]byte(text), &graph)
			var names []string
			for _, e := range graph.Entities {
				names = append(names, e.Name)
			}
			for _, r := range graph.Relations {
				names = append(names, r.RelationType)
			}
			return names, err
		},
	},
}

// start starts a process of the memory in a folder.
func (g *graphMemory) start(dir string) (*mcpServer, error) {
	return startNodeMCP(g.pinned, g.env(dir)...)
}

// graphResult is what has become of a graphMemory.
type graphResult struct {
	acknowledged, kills, lost, doubled int
	errs                               map[string]int
	unreadable                         error
}

// durable tries a memory for a while.
func (g *graphMemory) durable(ctx context.Context, dir string, window time.Duration) (*graphResult, error) {
	r := &graphResult{errs: make(map[string]int)}
	if m, err := g.start(dir); err != nil { // makes what is made once
		return nil, err
	} else {
		m.end()
	}
	ctx, stop := context.WithTimeout(ctx, window)
	defer stop()
	var (
		mu    sync.Mutex
		acked = make(map[string]bool)
		now   = make([]*mcpServer, durableProcesses)
		all   sync.WaitGroup
	)
	for i := range now {
		all.Go(func() {
			var m *mcpServer
			defer func() {
				if m != nil {
					m.end()
				}
			}()
			last := "" // the entity, for the relation that follows
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("e%d-%d", i, n)
				tool, arguments := "create_entities", map[string]any{"entities": []any{map[string]any{"name": name, "entityType": "try", "observations": []string{name}}}}
				if n%2 == 1 {
					tool, arguments = "create_relations", map[string]any{"relations": []any{g.relation(last, last, name)}}
				}
				for ctx.Err() == nil {
					var err error
					if m == nil {
						if m, err = g.start(dir); err == nil {
							mu.Lock()
							now[i] = m
							mu.Unlock()
						}
					}
					if err == nil {
						_, err = m.call(tool, arguments)
					}
					mu.Lock()
					if err == nil {
						acked[name] = true
						last = name
					} else if !errors.Is(err, errGone) {
						r.errs[graphError(err)]++
					}
					mu.Unlock()
					if errors.Is(err, errGone) && m != nil {
						m.end()
						m = nil
					}
					if err == nil {
						break
					}
				}
			}
		})
	}
	ticker := time.NewTicker(durableKills)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			mu.Lock()
			if m := now[rand.IntN(len(now))]; m != nil {
				m.kill()
				r.kills++
			}
			mu.Unlock()
		}
	}
	all.Wait()
	names, err := g.read(context.WithoutCancel(ctx), g, dir)
	r.unreadable = err
	r.acknowledged = len(acked)
	count := make(map[string]int)
	for _, name := range names {
		count[name]++
	}
	for name := range acked {
		if count[name] == 0 {
			r.lost++
		}
	}
	for _, n := range count {
		r.doubled += n - 1
	}
	return r, nil
}

// graphError is an error in a few words.
func graphError(err error) string {
	text := strings.ToLower(err.Error())
	for _, word := range []string{"locked", "busy", "json", "foreign key", "malformed"} {
		if strings.Contains(text, word) {
			return word
		}
	}
	return fmt.Sprintf("%.40q", text)
}

func errorTable(errs map[string]int) string {
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(errs)) {
		list = append(list, fmt.Sprintf("%d %s", errs[kind], kind))
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// ourReport is what bench durability --json prints.
type ourReport struct {
	Acknowledged, Lost, Doubled int
	Kills, Errors               map[string]int
	Doctor                      episodic.Examination
	Wait                        float64 `json:"longest_wait_ms"`
	Recovery                    float64 `json:"longest_recovery_ms"`
}

func durability(ctx context.Context, b *bench) error {
	command := filepath.Join(b.dir, "episodic")
	build := exec.CommandContext(ctx, "go", "build", "-o", command, "./cmd/episodic")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	table := [][]string{{"memory", "acknowledged", "killed", "lost", "doubled", "doctor", "failed attempts", "longest wait", "longest recovery"}}
	targets := [][2]string{{"episodic, a file", ""}}
	if sqld, err := hranatest.FindProgram(); err == nil {
		targets = append(targets, [2]string{"episodic, sqld", sqld})
	}
	for _, t := range targets {
		args := []string{"bench", "durability", "--json", "--processes", fmt.Sprint(durableProcesses), "--duration", b.duration.String(), "--kill-every", durableKills.String()}
		if t[1] != "" {
			args = append(args, "--sqld", t[1])
		}
		out, err := exec.CommandContext(ctx, command, args...).Output()
		var r ourReport
		if parseErr := json.Unmarshal(out, &r); parseErr != nil { // a loss is an exit code too
			return fmt.Errorf("%s: %w", t[0], errors.Join(err, parseErr))
		}
		kills := 0
		for _, n := range r.Kills {
			kills += n
		}
		diagnosis := "clean"
		if !r.Doctor.Clean() {
			diagnosis = fmt.Sprintf("%d findings", len(r.Doctor.Findings)+len(r.Doctor.Skipped))
		}
		table = append(table, []string{t[0], fmt.Sprint(r.Acknowledged), fmt.Sprint(kills), fmt.Sprint(r.Lost), fmt.Sprint(r.Doubled), diagnosis, errorTable(r.Errors), fmt.Sprintf("%.0f ms", r.Wait), fmt.Sprintf("%.0f ms", r.Recovery)})
		b.judge(r.Acknowledged > 0 && r.Lost == 0 && r.Doubled == 0 && r.Errors["locked"] == 0 && r.Doctor.Clean(), t[0]+": 0 lost, 0 doubled, 0 locked, doctor clean",
			"%d acknowledged, %d, %d, %d, %s", r.Acknowledged, r.Lost, r.Doubled, r.Errors["locked"], diagnosis)
	}
	for i := range graphMemories {
		if b.short {
			break // each takes its time
		}
		g := &graphMemories[i]
		if _, err := npm.ensure(ctx, b.short); err != nil {
			b.printf("\n%s was not tried: %v\n", g.name, err)
			continue
		}
		dir := filepath.Join(b.dir, fmt.Sprint("graph", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		r, err := g.durable(ctx, dir, b.duration)
		if err != nil {
			b.printf("\n%s was not tried: %v\n", g.name, err)
			continue
		}
		if r.unreadable != nil {
			b.printf("\n%s cannot be read afterwards: %.200v\n", g.name, r.unreadable)
		}
		table = append(table, []string{g.name + " " + g.version, fmt.Sprint(r.acknowledged), fmt.Sprint(r.kills), fmt.Sprint(r.lost), fmt.Sprint(r.doubled), "", errorTable(r.errs), "", ""})
	}
	b.table(table...)
	return ctx.Err()
}
