package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestSystemsHaveNamesAndWaysToDoWithout(t *testing.T) {
	seen := make(map[string]bool)
	for i, s := range systems {
		if seen[s.name] {
			t.Errorf("there are two systems %q", s.name)
		}
		seen[s.name] = true
		if nothing := s.off == nil && s.how == (agentWays{}); nothing != (i == 0) {
			t.Errorf("%s: it is off %v", s.name, !nothing)
		}
		if s.against != "" && !seen[s.against] {
			t.Errorf("%s is compared with %q, which is not before it", s.name, s.against)
		}
	}
	if systems[0].name != wholeWork {
		t.Errorf("the first is %q", systems[0].name)
	}
}

func TestBrings(t *testing.T) {
	findings := []finding{
		{"cache", "file", "time of reads", ratio{3, 2.5, 4}},
		{"cache", "file", "time of writes", ratio{5, 0.9, 9}}, // not in all rounds
		{"cache", "server", "time of reads", ratio{8, 7, 9}},
		{"cache", "server", "peak memory", ratio{0.8, 0.7, 0.9}},
		{"cache", "file", "peak memory", ratio{0.9, 0.85, 0.95}},
		{"pings", "server", "requests", ratio{1.04, 1.01, 1.06}},
		{"pings", "server", "CPU", ratio{1, 1, 1}},
		{"redaction", "file", "CPU", ratio{0.5, 0.4, 0.6}},
	}
	got := brings(findings)
	var names []string
	for _, s := range got {
		names = append(names, s.system)
	}
	if !slices.Equal(names, []string{"cache", "pings", "redaction"}) {
		t.Fatalf("systems %q", names)
	}
	for i, want := range []struct {
		gain, price string
		little      bool
	}{
		{"8.00x (7.00 to 9.00), time of reads, server", "0.80x (0.70 to 0.90), peak memory, server", false},
		{"1.04x (1.01 to 1.06), requests, server", "-", true},
		{"-", "0.50x (0.40 to 0.60), CPU, file", true},
	} {
		if s := got[i]; s.gain.cell() != want.gain || s.price.cell() != want.price || s.little() != want.little {
			t.Errorf("%s: %q, %q, little %v", s.system, s.gain.cell(), s.price.cell(), s.little())
		}
	}
}

func TestBringTable(t *testing.T) {
	var out strings.Builder
	b := &bench{report: &report{out: &out}, rounds: 3}
	bringTable(b, nil)
	if out.Len() > 0 {
		t.Errorf("of nothing it says %q", &out)
	}
	bringTable(b, []finding{{"pings", "server", "requests", ratio{1.04, 1.01, 1.06}}, {"cache", "file", "CPU", ratio{2, 2, 2}}})
	if text := out.String(); !strings.Contains(text, "| cache | 2.00x (2.00 to 2.00), CPU, file | - |") || !strings.HasSuffix(text, "less than 5 % in every column of every table: pings.\n") {
		t.Errorf("it says %q", text)
	}
}

func TestInverse(t *testing.T) {
	if got := (ratio{0.5, 0.25, 2}).inverse(); got != (ratio{2, 0.5, 4}) {
		t.Errorf("got %v", got)
	}
}

func TestAblationTable(t *testing.T) {
	var out strings.Builder
	b := &bench{report: &report{out: &out}}
	chosen := []system{{name: wholeWork}, {name: "cache"}, {name: "batching", against: "cache"}}
	took := func(writes, reads time.Duration, requests int) ablated {
		return ablated{Writes: writes, Reads: reads, link: hranatest.LinkCounts{Requests: requests}}
	}
	findings := ablationTable(b, "here", chosen, [][]ablated{
		{took(time.Second, time.Second, 10), took(time.Second, 2*time.Second, 20)},
		{took(time.Second, 3*time.Second, 20), took(time.Second, 8*time.Second, 40)},
		{took(2*time.Second, 3*time.Second, 60), took(2*time.Second, 8*time.Second, 120)},
	})
	want := []finding{
		{"cache", "here", "time of writes", ratio{1, 1, 1}},
		{"batching", "here", "time of writes", ratio{2, 2, 2}},
		{"cache", "here", "time of reads", ratio{3, 3, 4}},
		{"batching", "here", "time of reads", ratio{1, 1, 1}},
		{"cache", "here", "requests", ratio{2, 2, 2}},
		{"batching", "here", "requests", ratio{3, 3, 3}},
	}
	if !slices.Equal(findings, want) {
		t.Errorf("found %v", findings)
	}
	for _, line := range []string{
		"| here | time of writes | time of reads | requests |",
		"| everything on | 1.00 s | 1.00 s | 10 |",
		"| without batching | 2.00x (2.00 to 2.00) | 1 | 3.00x (3.00 to 3.00) |",
		"batching is compared with the work without cache.",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("%q is not in %q", line, &out)
		}
	}
}

func TestHideProtobuf(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }))
	defer server.Close()
	front, err := hideProtobuf(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	for path, want := range map[string]int{"/v3-protobuf": 404, "/v3-protobuf/pipeline": 404, "/v3/pipeline": 200} {
		resp, err := http.Get(front.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want || want == 200 && string(text) != path {
			t.Errorf("%s: %s, %q, %v", path, resp.Status, text, err)
		}
	}
}
