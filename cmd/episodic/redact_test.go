package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

func TestRedact(t *testing.T) {
	c := newCLI(t)
	secret := "gh" + "p_" + "aZ3kQ9xLm2Vt7RbY1wN8cPd5HgJ4fS6uT0eK" // put together, so that no scanner takes it for a real one
	lines := c.file("a.jsonl", fmt.Sprintf(`{"description":"deploy with %s","steps":[{"tool":"shell","parameters":{"cmd":"export DB_PASSWORD=Tr0ub4dor"}}]}`, secret))
	c.env["EPISODIC_REDACT"] = "0"
	if out := c.ok("import", lines); strings.Contains(out, "redacted") {
		t.Errorf("import printed %q", out)
	}
	if out := c.ok("search", "deploy"); !strings.Contains(out, secret) {
		t.Errorf("search printed %q", out)
	}
	delete(c.env, "EPISODIC_REDACT")
	out := c.ok("redact")
	if !strings.HasPrefix(out, "episode   ") || !strings.HasSuffix(out, "1 item: 1 github-token, 1 password; redact --apply replaces them\n") {
		t.Errorf("redact printed %q", out)
	}
	if r := decode[episodic.Redaction](t, c.ok("redact", "--json")); r.Kind != "episode" || r.Found["password"] != 1 {
		t.Errorf("redact --json printed %+v", r)
	}
	if out := c.ok("redact", "--redact-allow", "/gh._.*/", "--redact-allow", "Tr0ub4dor"); out != "no secrets found\n" {
		t.Errorf("redact printed %q", out)
	}
	if out := c.ok("redact", "--apply"); !strings.Contains(out, "\n1 item changed: 1 github-token, 1 password\n") {
		t.Errorf("redact --apply printed %q", out)
	}
	for _, args := range [][]string{{"search", "deploy"}, {"list"}, {"export"}, {"redact"}} {
		if got := c.run(args...); got.code != exitOK || strings.Contains(got.stdout, secret) || strings.Contains(got.stdout, "Tr0ub4dor") {
			t.Errorf("%q printed %q", args, got.stdout)
		}
	}

	c.env["EPISODIC_DB"] += "2"
	if out := c.ok("import", lines); !strings.Contains(out, "\nredacted: 1 github-token, 1 password\n") {
		t.Errorf("import printed %q", out)
	}
	if out := c.ok("import", lines); !strings.HasPrefix(out, "imported 0 episodes, 0 steps; 1 were already there") {
		t.Errorf("the second import printed %q", out)
	}
	for _, name := range []string{"", "-wal"} {
		if content, err := os.ReadFile(c.env["EPISODIC_DB"] + name); err == nil && strings.Contains(string(content), secret) {
			t.Errorf("the secret is in the file%s", name)
		}
	}
	c.env["EPISODIC_REDACT_ALLOW"] = "Tr0ub4dor\n/(/\n"
	c.fails(exitUsage, "see $EPISODIC_REDACT_ALLOW\n", "list")
}
