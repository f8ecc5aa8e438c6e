package main

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

type searchOutput = episodic.SearchResults

type listOutput struct {
	Episodes []*episodic.Episode `json:"episodes"`
	Next     string              `json:"next"`
}

// hostile steers a terminal: colours, the window's title, a C1 sequence, an
// overwritten line, reordered text.
const hostile = "\x1b[31mred\x1b]0;title\a \u009b2J \rover \u202egnp.exe"

func steered(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return steers(r) })
}

func sample(day int, description string) *episodic.Episode {
	start := time.Date(2026, 1, day, 9, 30, 0, 0, time.UTC)
	return &episodic.Episode{
		Description: description,
		Context:     episodic.Context{Domain: "shop", Language: "go", Tags: []string{"a", "b,c"}},
		TaskType:    episodic.TaskDebugging,
		Start:       start, End: start.Add(time.Hour),
		Outcome: episodic.Outcome{Kind: episodic.Success, Verdict: "done"},
	}
}

// rich has every field set.
func rich() *episodic.Episode {
	e := sample(3, "Find the leak <in> the pool & close it")
	e.Context.Framework, e.Context.Complexity = "net/http", episodic.Complex
	e.Steps = []episodic.Step{
		{Number: 1, Time: e.Start, Tool: "grep", Action: "look for Close", Parameters: `{ "q":"Close" ,"n":1.50}`,
			Result: &episodic.Result{Kind: episodic.ResultError, Text: "line one\n\tline <two>\n"}, Latency: 1500 * time.Millisecond, Tokens: 12,
			Metadata: map[string]string{"host": "ci-1"}},
		{Number: 2, Action: "think"},
	}
	e.StepCount = 2
	e.Outcome = episodic.Outcome{Kind: episodic.Failure, Reason: "gave out", Details: "stack"}
	e.Reward = &episodic.Reward{Total: -0.5, Components: map[string]float64{"speed": 0.25}}
	e.Reflection = episodic.Reflection{Successes: []string{"went"}, Improvements: []string{"could"}, Insights: []string{"saw"}}
	e.AppliedPatterns = []episodic.AppliedPattern{{PatternID: episodic.NewID(), Step: 1, Effect: episodic.Helped, Note: "useful"}}
	e.Metadata = map[string]string{"ticket": "T-1"}
	return e
}

func TestSearch(t *testing.T) {
	c := newCLI(t)
	e := sample(1, "Fix the <race> in the cache & the pool")
	c.put(e, sample(2, "Write the manual"))
	out := c.ok("search", "the", "race")
	lines := strings.Split(out, "\n")
	if len(lines) < 3 || !strings.Contains(lines[0], "success") || !strings.Contains(lines[0], "2026-01-01") ||
		!strings.HasSuffix(lines[0], e.Description) || strings.TrimSpace(lines[2]) != e.ID.String() {
		t.Errorf("search printed %q", out)
	}
	out = c.ok("search", "--json", "race")
	if !strings.HasPrefix(out, `{"hits":[{"episode":{"id":"`) || strings.Contains(out, `\u003c`) {
		t.Errorf("JSON is %s", out)
	}
	if hits := decode[searchOutput](t, out).Hits; len(hits) != 1 || hits[0].Episode.ID != e.ID || hits[0].Score <= 0 || hits[0].Snippet == "" {
		t.Errorf("hits are %+v", hits)
	}
	if got := c.run("search", "zebra"); got.code != exitOK || got.stdout != "" || !strings.Contains(got.stderr, "no episode fits") {
		t.Errorf("a search without hits: %+v", got)
	}
	if out := c.ok("search", "--json", "zebra"); out != "{\"hits\":[]}\n" {
		t.Errorf("JSON without hits is %q", out)
	}
}

func TestFiltersNarrowSearchAndList(t *testing.T) {
	c := newCLI(t)
	chosen := sample(5, "Repair the press")
	other := sample(1, "Repair the lathe")
	other.Context = episodic.Context{Domain: "mill", Language: "c", Tags: []string{"a"}}
	other.TaskType, other.Outcome = episodic.TaskTesting, episodic.Outcome{Kind: episodic.Abstained}
	late := sample(9, "Repair the saw")
	late.Context.Domain = "mill"
	c.put(chosen, other, late)
	for _, tt := range []struct {
		flags []string
		want  []string // newest first
	}{
		{[]string{"--domain", "shop"}, []string{"press"}},
		{[]string{"--task-type", "testing"}, []string{"lathe"}},
		{[]string{"--language", "c"}, []string{"lathe"}},
		{[]string{"--outcome", "abstained"}, []string{"lathe"}},
		{[]string{"--tag", "b,c"}, []string{"saw", "press"}},
		{[]string{"--tag", "a", "--tag", "b,c", "--domain", "shop"}, []string{"press"}},
		{[]string{"--since", "2026-01-05"}, []string{"saw", "press"}},
		{[]string{"--since", "2026-01-05T09:30:01Z"}, []string{"saw"}},
		{[]string{"--until", "2026-01-05T10:30:00+01:00"}, []string{"lathe"}},
	} {
		var listed, found []string
		for _, e := range decode[listOutput](t, c.ok(append([]string{"list", "--json"}, tt.flags...)...)).Episodes {
			listed = append(listed, strings.TrimPrefix(e.Description, "Repair the "))
		}
		for _, h := range decode[searchOutput](t, c.ok(append([]string{"search", "--json", "repair"}, tt.flags...)...)).Hits {
			found = append(found, strings.TrimPrefix(h.Episode.Description, "Repair the "))
		}
		slices.Sort(found)
		if !slices.Equal(listed, tt.want) || !slices.Equal(found, slices.Sorted(slices.Values(tt.want))) {
			t.Errorf("%q: listed %q, found %q, want %q", tt.flags, listed, found, tt.want)
		}
	}
	if hits := decode[searchOutput](t, c.ok("search", "--json", "-n", "2", "repair")).Hits; len(hits) != 2 {
		t.Errorf("-n 2 gave %d hits", len(hits))
	}
}

func TestListGoesOnWhereAPageEnds(t *testing.T) {
	c := newCLI(t)
	for day := range 5 {
		c.put(sample(day+1, fmt.Sprintf("Task %d", day+1)))
	}
	page := decode[listOutput](t, c.ok("list", "--json", "-n", "3"))
	if len(page.Episodes) != 3 || page.Episodes[0].Description != "Task 5" || page.Next == "" {
		t.Fatalf("the first page is %+v", page)
	}
	got := c.run("list", "-n", "3")
	if got.code != exitOK || strings.Count(got.stdout, "\n") != 3 || !strings.Contains(got.stderr, "--cursor "+page.Next) {
		t.Errorf("list: %+v", got)
	}
	last := c.ok("list", "-n", "3", "--cursor", page.Next)
	if strings.Count(last, "\n") != 2 || !strings.Contains(last, "Task 2") || !strings.Contains(last, "Task 1") {
		t.Errorf("the last page is %q", last)
	}
	if out := c.ok("list", "--json", "--domain", "nowhere"); out != `{"episodes":[],"next":""}`+"\n" {
		t.Errorf("an empty list is %q", out)
	}
}

func TestShowPrintsEverything(t *testing.T) {
	c := newCLI(t)
	e := rich()
	c.put(e)
	prefix := e.ID.String()[:13]
	out := c.ok("show", prefix)
	for _, want := range []string{
		e.Description, e.ID.String(), "debugging", "complex", "net/http", "shop", "a, b,c", "2026-01-03 09:30:00 UTC", "1h0m0s", "T-1",
		"grep", "look for Close", string(e.Steps[0].Parameters), "    line one\n    \tline <two>\n", "error", "1.5s", "12 tokens", "ci-1", "think",
		"failure", "gave out", "stack", "-0.5", "speed", "0.25", "went", "could", "saw", "helped", "useful",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("show lacks %q", want)
		}
	}
	e.Revision = 0 // no document has it
	got := decode[*episodic.Episode](t, c.ok("show", "--json", e.ID.String()))
	if !reflect.DeepEqual(got, e) {
		t.Errorf("show --json is\n%+v, want\n%+v", got, e)
	}
}

func TestShownEpisodeCanBeImportedElsewhere(t *testing.T) {
	c := newCLI(t)
	e := rich()
	c.put(e)
	e.Revision = 0 // no document has it
	c.stdin = strings.NewReader(c.ok("show", "--json", e.ID.String()))
	c.env["EPISODIC_DB"] += ".second"
	if out := c.ok("import", "-"); !strings.HasPrefix(out, "imported 1 episode, 2 steps;") {
		t.Fatalf("import printed %q", out)
	}
	if got := decode[*episodic.Episode](t, c.ok("show", "--json", e.ID.String())); !reflect.DeepEqual(got, e) {
		t.Errorf("the copy is\n%+v, want\n%+v", got, e)
	}
}

func TestShowAndDeleteOfNothingExitWith3(t *testing.T) {
	c := newCLI(t)
	e := sample(1, "Stay")
	c.put(e)
	unknown := episodic.NewID().String()
	for _, id := range []string{unknown, "ffffffff"} {
		c.fails(exitNotFound, "not found", "show", id)
		c.fails(exitNotFound, "nothing deleted", "delete", e.ID.String(), id)
	}
	c.ok("show", e.ID.String())
}

func TestDelete(t *testing.T) {
	c := newCLI(t)
	a, b, kept := sample(1, "First"), sample(2, "Second"), sample(3, "Third")
	a.ID, b.ID, kept.ID = episodic.ID{0xa0, 1}, episodic.ID{0xa0, 2}, episodic.ID{0xb0}
	c.put(a, b, kept)
	c.fails(exitUsage, "several", "delete", "a0")
	c.fails(exitUsage, "nothing was deleted", "delete", "a001") // nobody can be asked
	c.fails(exitUsage, "nothing was deleted", "delete", "a0010000", "a0020000")
	c.stdin = strings.NewReader("\n")
	c.fails(exitFailure, "nothing was deleted", "delete", "a001")
	c.ok("show", a.ID.String())
	c.stdin = nil
	out := c.ok("delete", "--yes", "a001", b.ID.String(), "a0-02")
	if want := fmt.Sprintf("deleted %v  First\ndeleted %v  Second\n", a.ID, b.ID); out != want {
		t.Errorf("delete printed %q, want %q", out, want)
	}
	if left := decode[listOutput](t, c.ok("list", "--json")).Episodes; len(left) != 1 || left[0].ID != kept.ID {
		t.Errorf("left are %+v", left)
	}
	a.Revision, b.Revision = 0, 0
	c.put(a, b)
	c.ok("delete", a.ID.String(), b.ID.String())
	c.ok("delete", "b0000000")
	a.Revision = 0
	c.put(a)
	c.stdin = strings.NewReader("y\n")
	if out := c.ok("delete", "a0"); !strings.Contains(out, "Delete 1 episode? [y/N] deleted "+a.ID.String()) {
		t.Errorf("with yes for an answer delete printed %q", out)
	}
}

func TestStats(t *testing.T) {
	c := newCLI(t)
	c.put(rich(), sample(1, "Another"))
	out := c.ok("stats", "--json")
	if !strings.HasPrefix(out, `{"episodes":2,"steps":2,"patterns":0,"heuristics":0,"embeddings":0,"relations":0,"tags":2,"storage":{"payloads":3,"stored_bytes":`) {
		t.Errorf("JSON is %s", out)
	}
	// Times are of now, and compress a little differently each time.
	want := regexp.MustCompile("^database    " + regexp.QuoteMeta(c.env["EPISODIC_DB"]) + `
episodes    2
steps       2
patterns    0
heuristics  0
embeddings  0
relations   0
tags        2
payloads    3 in 3[0-9]{2} bytes, 4[0-9] % of what they take plain
$`)
	if human := c.ok("stats"); !want.MatchString(human) {
		t.Errorf("stats printed %q, want %s", human, want)
	}
}

func TestStatsOfAServer(t *testing.T) {
	c := newCLI(t)
	c.env["EPISODIC_DB"] = hranatest.Start(t).URL()
	c.put(sample(1, "Something"))
	// The pool dials ahead of the calls, so the numbers are not always the same.
	want := regexp.MustCompile(`\ntags        2
payloads    1 in [0-9]+ bytes, [0-9]+ % of what they take plain

to the server, by this process:
requests    [1-9]
bytes       [1-9][0-9.]* k?B? ?(bytes )?sent, [1-9][0-9.]* k?B? ?(bytes )?received
connections [1-9] opened, [1-9] open
pings       0
failures    0
retries     0
$`)
	if human := c.ok("stats"); !want.MatchString(human) {
		t.Errorf("stats printed %q, want %s", human, want)
	}

	var out bytes.Buffer
	a := newApp(system{stdout: &out})
	a.printServer(episodic.Stats{Requests: 12345, Retries: 6, Failures: map[string]uint64{"busy": 0, "unavailable": 2, "unknown_outcome": 1}, Server: &episodic.ServerStats{
		RetryBudgetExhausted: 2, ReadBytes: episodic.Traffic{Sent: 500, Received: 3000}, UpkeepBytes: episodic.Traffic{Sent: 20, Received: 1},
		Pool: episodic.PoolStats{Opened: 4, Open: 3, PingsSent: 70, PingsFailed: 1},
	}})
	a.out.Flush()
	if got, want := out.String(), `
to the server, by this process:
requests    12345
bytes       520 bytes sent, 3 kB received
connections 4 opened, 3 open
pings       70, 1 failed
failures    2 unavailable, 1 unknown outcome
retries     6, 2 not made: retry budget exhausted
`; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestVersion(t *testing.T) {
	c := newCLI(t)
	if v := decode[version](t, c.ok("version", "--json")); v.Version == "" || v.Go == "" || !strings.Contains(v.Platform, "/") {
		t.Errorf("version is %+v", v)
	}
	if out := c.ok("version"); !strings.HasPrefix(out, "episodic ") {
		t.Errorf("version printed %q", out)
	}
}

func TestStoredTextCannotSteerTheTerminal(t *testing.T) {
	c := newCLI(t)
	e := rich()
	e.Description = "findme " + hostile
	e.Context.Tags = []string{"tag"}
	e.Steps[0].Tool, e.Steps[0].Action, e.Steps[0].Parameters = hostile, hostile, `"`+"\u009b\u202e"+`"`
	e.Steps[0].Result.Text = hostile
	e.Steps[0].Metadata = map[string]string{hostile: hostile}
	e.Outcome.Reason, e.Outcome.Details = hostile, hostile
	e.Reward.Components = map[string]float64{hostile: 1}
	e.Reflection = episodic.Reflection{Successes: []string{hostile}, Improvements: []string{hostile}, Insights: []string{hostile}}
	e.AppliedPatterns[0].Note = hostile
	e.Metadata = map[string]string{hostile: hostile}
	c.put(e)
	for _, args := range [][]string{
		{"search", "findme"}, {"brief", "findme"}, {"list"}, {"show", e.ID.String()},
		{"export"}, {"export", "--format", "markdown"}, {"export", "--format", "openai"}, {"delete", e.ID.String()},
	} {
		if got := c.run(args...); got.code != exitOK || steered(got.stdout) || !strings.Contains(got.stdout, "findme") {
			t.Errorf("%q: exit code %d, printed %q", args, got.code, got.stdout)
		}
	}
	e.Revision = 0 // it was deleted
	c.put(e)
	e.Revision = 0
	if got := decode[*episodic.Episode](t, c.ok("show", "--json", e.ID.String())); !reflect.DeepEqual(got, e) {
		t.Error("JSON output has been changed")
	}
	bad := c.file("bad.jsonl", `{"`+strings.ReplaceAll(hostile, "\x1b", `\u001b`)+`":1}`)
	for _, args := range [][]string{{"import", bad}, {"import", hostile}, {"show", hostile}, {hostile}} {
		if got := c.run(args...); got.code == exitOK || steered(got.stderr) {
			t.Errorf("%q: exit code %d, stderr %q", args, got.code, got.stderr)
		}
	}
}

func TestQuickstart(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	c := newCLI(t)
	out := c.ok("quickstart")
	if !strings.Contains(out, "imported 10 episodes, 51 steps; 0 were already there; 0 bad lines\n") {
		t.Errorf("quickstart printed %s", out)
	}
	for _, found := range []string{"concurrent map writes", "TestInvoiceMonthEnd", "column currency"} {
		if !strings.Contains(out, "\n 1. ") || !strings.Contains(out, found) {
			t.Errorf("no hit names %q", found)
		}
	}
	commands := 0
	for line := range strings.Lines(out) {
		command, ok := strings.CutPrefix(strings.TrimLeft(line, " $"), "episodic ")
		if !ok {
			continue
		}
		commands++
		if got := c.run(strings.Fields(command)...); got.code != exitOK || got.stdout == "" {
			t.Errorf("%q: %+v", line, got)
		}
	}
	if commands < 6 {
		t.Errorf("quickstart names %d commands", commands)
	}
	c.fails(exitFailure, "nothing has been stored there yet", "list") // the environment's database was left alone
}

func TestQuickstartIntoANamedDatabaseIsIdempotent(t *testing.T) {
	c := newCLI(t)
	db := c.env["EPISODIC_DB"] + " with a space"
	c.ok("quickstart", "--db", db)
	out := c.ok("quickstart", "--db", db)
	if !strings.Contains(out, "imported 0 episodes, 0 steps; 10 were already there;") || !strings.Contains(out, "episodic --db '"+db+"' list\n") {
		t.Errorf("the second quickstart printed %s", out)
	}
}
