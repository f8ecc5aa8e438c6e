package main

import (
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

func TestBriefSaysWhatHelped(t *testing.T) {
	c := newCLI(t)
	good, bad := sample(1, "Deploy the billing service"), sample(2, "Deploy the billing service")
	good.Steps = []episodic.Step{{Tool: "migrate", Parameters: `{"to": 42}`}, {Tool: "apply"}}
	bad.Steps = []episodic.Step{{Tool: "apply"}}
	bad.Outcome = episodic.Outcome{Kind: episodic.Failure, Reason: "timed out\x1b[31m"}
	c.put(good, bad)

	out := c.ok("brief", "deploy", "billing")
	for _, want := range []string{"Tried before: Deploy the billing service\n", "1 of 2 succeeded: ", "\n- migrate {\"to\":42} (2026-01-01 " + good.ID.String()[:13]} {
		if !strings.Contains(out, want) {
			t.Errorf("brief lacks %q:\n%s", want, out)
		}
	}
	if steered(out) {
		t.Errorf("brief steers the terminal: %q", out)
	}
	b := decode[episodic.Brief](t, c.ok("brief", "--json", "deploy billing"))
	if len(b.Tasks) != 1 || len(b.Tasks[0].Worked) != 1 || plain(b.Text()) != out {
		t.Errorf("brief --json printed %+v", b)
	}
	if out := c.ok("brief", "deploy billing", "--budget", "100"); len(out) > 400 {
		t.Errorf("100 tokens are\n%s", out)
	}

	if got := c.run("brief", "bake", "a", "cake"); got.code != exitOK || got.stdout != "" || !strings.Contains(got.stderr, "nothing in the memory fits") {
		t.Errorf("a brief of nothing: %+v", got)
	}
	if got := c.run("brief", "deploy billing", "--domain", "shpo"); got.code != exitOK || got.stdout != "" || !strings.Contains(got.stderr, `did you mean "shop"?`) {
		t.Errorf("a brief of no domain: %+v", got)
	}
	if got := c.run("brief", "--json", "bake a cake"); got.code != exitOK || got.stdout != "{}\n" {
		t.Errorf("brief --json of nothing: %+v", got)
	}
	for _, args := range [][]string{{"brief"}, {"brief", "x", "--budget", "0"}, {"brief", "x", "--budget", "-5"}, {"brief", "x", "--budget", "99"}, {"brief", "x", "--outcome", "great"}} {
		c.fails(exitUsage, "episodic: ", args...)
	}
}
