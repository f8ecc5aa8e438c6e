package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

func TestVerify(t *testing.T) {
	c := newCLI(t)
	lines := c.file("a.jsonl", `{"description":"one"}`+"\n"+`{"description":"two"}`+"\n"+`{"description":"three"}`)
	receipts := filepath.Join(c.home, "receipts")
	c.ok("import", "--receipts", receipts, lines)
	c.ok("import", "--receipts", receipts, lines) // changes nothing, and so has no receipts
	if out := c.ok("verify", receipts); out != "3 receipts, 3 kept\n" {
		t.Errorf("verify printed %q", out)
	}
	ids := make([]string, 0, 3)
	for _, e := range decode[listOutput](t, c.ok("list", "--json")).Episodes {
		ids = append(ids, e.ID.String())
	}
	c.ok("delete", "--receipts", receipts, ids[0])
	out := c.ok("verify", receipts)
	if !strings.HasPrefix(out, "deleted     put episode episode "+ids[0]+": 20") || !strings.HasSuffix(out, "\n4 receipts, 3 kept, 1 deleted\n") {
		t.Errorf("verify printed %q", out)
	}
	out = c.ok("delete", "--receipts", "-", ids[1])
	line, _, _ := strings.Cut(out, "\n")
	r, err := episodic.ParseReceipt(line)
	if err != nil || r.ID.String() != ids[1] || r.Write != "delete item" {
		t.Errorf("delete printed %q, %v", out, err)
	}

	r = episodic.Receipt{Write: "put pattern", Kind: episodic.ItemPattern, ID: episodic.NewID(), Hash: strings.Repeat("0a", 32), Seq: 7}
	c.stdin = strings.NewReader("\n" + r.String() + "\n")
	got := c.fails(exitFailure, "1 of 1 receipt: what was acknowledged is not there", "verify", "-")
	if want := "missing     put pattern pattern " + r.ID.String() + ": it is not there\n1 receipt, 1 missing\n"; got.stdout != want {
		t.Errorf("verify printed %q, want %q", got.stdout, want)
	}
	c.stdin = strings.NewReader(r.String() + "\n")
	got = c.fails(exitFailure, "", "verify", "--json", "-")
	each, sum, _ := strings.Cut(got.stdout, "\n")
	if v := decode[verified](t, each); v.Receipt != r || v.Status != episodic.WriteMissing {
		t.Errorf("verify --json printed %q", each)
	}
	type counted struct {
		Receipts, Lost int
		Status         map[episodic.WriteStatus]int
	}
	if n := decode[counted](t, sum); n.Receipts != 1 || n.Lost != 1 || n.Status[episodic.WriteMissing] != 1 {
		t.Errorf("verify --json printed %q", sum)
	}

	c.stdin = strings.NewReader(r.String() + "\n{}\n")
	c.fails(exitUsage, "line 2: write: ", "verify", "-")
	c.fails(exitFailure, "no such file", "verify", filepath.Join(c.home, "none"))
	c.fails(exitFailure, "no such file", "import", "--receipts", filepath.Join(c.home, "none", "x"), lines)
}
