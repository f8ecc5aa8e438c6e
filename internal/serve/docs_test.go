package serve

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
)

// What an operator is told of the server's own metrics, and of why it refuses, is all there is, and
// exists; package prom has the same test for those of a Store.
func TestOperationsPageHasEveryMetricOfTheServer(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	ok(t, err)
	_, table, _ := strings.Cut(string(page), "\n## A server for agents\n")
	table, _, _ = strings.Cut(table, "\n## ")
	first := regexp.MustCompile("(?m)^\\| `(\\w+)` \\|(.*)$")
	var documented, reasons []string
	for _, row := range first.FindAllStringSubmatch(table, -1) {
		documented = append(documented, row[1])
		if row[1] == "http_refused_total" {
			cell, _, _ := strings.Cut(row[2], "|")
			_, list, _ := strings.Cut(cell, "label `reason`:")
			for _, reason := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(list, -1) {
				reasons = append(reasons, reason[1])
			}
		}
	}

	s := open(t, nil)
	s.tool(s.token("ada", access.Write, episodic.Scope{}), "recall", `{"query":"x"}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/metrics", nil)
	ok(t, err)
	if status, _, _ := s.do(r); status != http.StatusUnauthorized { // and that is counted
		t.Errorf("/metrics without a token is answered with %d", status)
	}
	r.Header.Set("Authorization", "Bearer "+s.token("prometheus", access.Metrics, episodic.Scope{}))
	_, body, _ := s.do(r)
	var exported []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE episodic_(http_\w+) `).FindAllStringSubmatch(body, -1) {
		exported = append(exported, m[1])
	}
	if slices.Sort(documented); len(exported) < 4 || !slices.Equal(documented, exported) {
		t.Errorf("docs/operations.md explains\n%q\n/metrics exports\n%q", documented, exported)
	}

	var given []string
	files, err := filepath.Glob("*.go")
	ok(t, err)
	for _, path := range files {
		source, err := os.ReadFile(path)
		ok(t, err)
		for _, m := range regexp.MustCompile(`\breason: "(\w+)"`).FindAllSubmatch(source, -1) {
			given = append(given, string(m[1]))
		}
	}
	slices.Sort(given)
	if slices.Sort(reasons); !slices.Equal(reasons, slices.Compact(given)) {
		t.Errorf("docs/operations.md explains the reasons\n%q\nthe server gives\n%q", reasons, slices.Compact(given))
	}
}
