package main

import (
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"shop", "shop", 0}, {"shop", "shp", 1}, {"shop", "sohp", 1}, {"shop", "shops", 1}, {"shop", "chop", 1},
		{"kitten", "sitting", 3}, {"", "ab", 2}, {"shop", "warehouse", 4}, {"日本語", "日本", 1},
	} {
		if got := editDistance([]rune(tt.a), []rune(tt.b), 4); got != tt.want {
			t.Errorf("from %q to %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// inProjects stores an episode in each of two projects, and returns their ids.
func inProjects(t *testing.T, c *cli) (web, shop string) {
	t.Helper()
	a, b := sample(1, "Fix the race"), sample(2, "Fix the race again")
	a.Scope = episodic.Scope{Project: "web", User: "ann"}
	b.Scope = episodic.Scope{Project: "shop", User: "ann"}
	a.Context.Domain = "site"
	c.put(a, b)
	return a.ID.String(), b.ID.String()
}

func TestProjectsAreApart(t *testing.T) {
	c := newCLI(t)
	web, shop := inProjects(t, c)
	for _, command := range [][]string{{"list"}, {"search", "race"}} {
		if out := c.ok(append(command, "--project", "web")...); !strings.Contains(out, web) || strings.Contains(out, shop) {
			t.Errorf("%s in web printed %q", command, out)
		}
		if out := c.ok(append(command, "--user", "ann")...); !strings.Contains(out, web) || !strings.Contains(out, shop) {
			t.Errorf("%s of ann printed %q", command, out)
		}
	}
	c.fails(exitNotFound, "not found", "show", "--project", "web", shop)
	c.fails(exitNotFound, "not found", "delete", "--project", "web", shop)
	if out := c.ok("show", web); !strings.Contains(out, "project      web\nuser         ann\n") {
		t.Errorf("show printed %q", out)
	}
	if out := c.ok("stats", "--project", "web"); !strings.Contains(out, "episodes    1\n") {
		t.Errorf("stats printed %q", out)
	}
	c.env["EPISODIC_PROJECT"] = "shop"
	if out := c.ok("list"); strings.Contains(out, web) || !strings.Contains(out, shop) {
		t.Errorf("list with $EPISODIC_PROJECT printed %q", out)
	}
	if out := c.ok("list", "--project", ""); !strings.Contains(out, web) {
		t.Errorf("list of all projects printed %q", out)
	}
	c.ok("delete", shop)
}

// The same document makes an episode in each project that it is imported into.
func TestImportIntoProjects(t *testing.T) {
	c := newCLI(t)
	for _, project := range []string{"web", "shop", "web", "caf\u00e9", "cafe\u0301"} {
		c.stdin = strings.NewReader(`{"description":"x"}`)
		c.ok("import", "--project", project, "-")
	}
	if out := c.ok("names", "projects"); strings.Count(out, "       1  ") != 3 {
		t.Errorf("projects are %q", out)
	}
	c.stdin = strings.NewReader(`{"description":"x","scope":{"project":"shop"}}`)
	c.fails(exitFailure, "scope.project", "import", "--project", "web", "-")
}

func TestNames(t *testing.T) {
	c := newCLI(t)
	inProjects(t, c)
	for kind, want := range map[string]string{
		"tags": "       2  a\n       2  b,c\n", "domains": "       1  shop\n       1  site\n",
		"projects": "       1  shop\n       1  web\n", "users": "       2  ann\n",
	} {
		if got := c.ok("names", kind); got != want {
			t.Errorf("%s are %q, want %q", kind, got, want)
		}
	}
	if got := c.ok("names", "domains", "--project", "web", "--json"); got != `{"names":[{"name":"site","episodes":1}]}`+"\n" {
		t.Errorf("domains of web are %s", got)
	}
	c.fails(exitOK, "no agents", "names", "agents")
	c.fails(exitOK, "larger -n", "names", "tags", "-n", "1")
	c.fails(exitUsage, "must be one of", "names", "colours")
}

func TestUnknownNamesAreExplained(t *testing.T) {
	c := newCLI(t)
	inProjects(t, c)
	for _, tt := range []struct {
		says string
		args []string
	}{
		{`no episode has the domain "shp"; did you mean "shop"?`, []string{"list", "--domain", "shp"}},
		{`no episode has the domain "Shop"; did you mean "shop"?`, []string{"search", "race", "--domain", "Shop"}},
		{`no episode has the tag "bc"; did you mean "b,c"?`, []string{"list", "--tag", "a", "--tag", "bc"}},
		{`no episode has the project "wbe"; did you mean "web"?`, []string{"list", "--project", "wbe", "--domain", "x"}},
		{`no episode has the user "zoe"; episodic names users lists them`, []string{"search", "race", "--user", "zoe"}},
		{`no episode has the domain "shop"; episodic names`, []string{"list", "--project", "web", "--domain", "shop"}},
	} {
		got := c.fails(exitOK, tt.says, tt.args...)
		if got.stdout != "" || strings.Count(got.stderr, "\n") != 2 {
			t.Errorf("%s: printed %q and %q", tt.args, got.stdout, got.stderr)
		}
	}
	if got := c.fails(exitOK, "no episodes", "list", "--domain", "shop", "--outcome", "failure"); strings.Contains(got.stderr, "has the domain") {
		t.Errorf("a domain that is known: %q", got.stderr)
	}
}
