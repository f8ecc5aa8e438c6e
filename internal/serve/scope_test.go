package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
)

// TestScopesAreApart tries everything that is offered with tokens of other scopes: nothing of
// what is stored may be seen, or changed.
func TestScopesAreApart(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	own := episodic.Scope{Project: "shop", User: "ada"}
	narrow, err := s.store.Scoped(own)
	ok(t, err)
	const secret = "kumquat"
	e := &episodic.Episode{Description: "Ripen the " + secret, Steps: []episodic.Step{{Tool: secret, Action: "wait", Result: &episodic.Result{Kind: episodic.ResultError, Text: secret}}}}
	ok(t, narrow.StartEpisode(t.Context(), e))
	h := &episodic.Heuristic{Condition: "ripening a " + secret, Action: "wait for the " + secret, Confidence: .5}
	ok(t, narrow.PutHeuristic(t.Context(), h))
	p := &episodic.Pattern{Description: "a " + secret + " ripens", ContextPattern: &episodic.ContextPattern{Features: []string{secret}, Approach: "wait"}}
	ok(t, narrow.PutPattern(t.Context(), p))
	for i := range 9 { // for pages
		ok(t, narrow.PutEpisode(t.Context(), &episodic.Episode{Description: fmt.Sprintf("Ripen %s number %d", secret, i), Outcome: episodic.Outcome{Kind: episodic.Success}}))
	}
	ada := s.token("ada", access.Admin, own)
	page, failed := s.tool(ada, "recall", `{"query":"`+secret+`","limit":2}`)
	_, cursor, more := strings.Cut(page, `cursor "`)
	if cursor, _, _ = strings.Cut(cursor, `"`); failed || !more {
		t.Fatalf("there is no second page behind %s", page)
	}
	if text, failed := s.tool(ada, "start", `{"task":"`+secret+`"}`, sessionHeader, "s"); failed {
		t.Fatal(text)
	}
	before := everything(t, s.store)

	ids := []string{e.ID.String(), e.ID.String()[:13], e.ID.String()[:8], h.ID.String(), h.ID.String()[:13], p.ID.String(), p.ID.String()[:13]}
	arguments := map[string][]string{
		"recall": {`{"query":"kumquat"}`, `{"query":"kumquat","project":"shop"}`, `{"query":"kumquat","project":"*"}`, fmt.Sprintf(`{"query":"kumquat","limit":2,"cursor":%q}`, cursor)},
		"start":  {`{"task":"Ripen fruit"}`},
		"log":    {`{"steps":["x"]}`},
	}
	for _, id := range ids {
		for tool, with := range map[string]string{
			"show": "", "log": `,"steps":["x"]`, "complete": `,"outcome":"failure","summary":"x"`, "feedback": `,"verdict":"wrong"`, "forget": `,"confirm":true`,
			"learn": `,"text":"x","when":"y","replaces":"` + id + `"`,
		} {
			field := "id"
			if tool == "log" || tool == "complete" {
				field = "episode"
			}
			arguments[tool] = append(arguments[tool], fmt.Sprintf(`{%q:%q%s}`, field, id, with))
		}
	}
	for name, scope := range map[string]episodic.Scope{
		"another project": {Project: "bank", User: "ada"}, "another user": {Project: "shop", User: "bob"}, "an agent": {Project: "shop", User: "ada", Agent: "a"},
		"only another project": {Project: "bank"}, "only another user": {User: "bob"},
	} {
		other := s.token(strings.ReplaceAll(name, " ", "-"), access.Admin, scope)
		_, offered, _ := s.do(s.request(other, "tools/list", "", ""))
		var list struct {
			Result struct{ Tools []struct{ Name string } }
		}
		ok(t, json.Unmarshal([]byte(offered), &list))
		if len(list.Result.Tools) != 8 {
			t.Fatalf("tools are %s", offered)
		}
		for _, tool := range list.Result.Tools {
			if arguments[tool.Name] == nil {
				t.Errorf("the tool %s is not tried", tool.Name)
			}
			for _, given := range arguments[tool.Name] {
				text, failed := s.tool(other, tool.Name, given, sessionHeader, "t")
				names := strings.Contains(given, "id\":") || strings.Contains(given, `episode":`) || strings.Contains(given, "replaces")
				if strings.Contains(strings.ReplaceAll(text, `in project "shop"`, ""), secret) || names && !failed {
					t.Errorf("%s: %s %s: %s", name, tool.Name, given, text)
				}
			}
		}
		for _, uri := range []string{"episodic://recent", "episodic://stats", "episodic://episode/" + ids[0], "episodic://episode/" + ids[1], "episodic://episode/" + ids[3]} {
			_, text, _ := s.do(s.request(other, "resources/read", uri, `"uri":"`+uri+`"`))
			if strings.Contains(text, secret) || strings.Contains(uri, "/episode/") != strings.Contains(text, "-32602") {
				t.Errorf("%s: %s: %s", name, uri, text)
			}
			if uri == "episodic://stats" && !strings.Contains(text, `\"episodes\":1`) {
				t.Errorf("%s: %s", name, text) // its own one, that it has started
			}
		}
		for _, prompt := range []string{"before", "handoff", "retrospective"} {
			_, text, _ := s.do(s.request(other, "prompts/get", prompt, `"name":"`+prompt+`","arguments":{"task":"x"}`))
			if strings.Contains(text, secret) || !strings.Contains(text, "messages") {
				t.Errorf("%s: %s: %s", name, prompt, text)
			}
		}
		if text, failed := s.tool(other, "log", `{"steps":["x"]}`, sessionHeader, "s"); !failed || strings.Contains(text, secret) {
			t.Errorf("%s: in a session of another's: %s", name, text)
		}
		if scope.Project == "bank" {
			r := s.request(other, "tools/list", "", "")
			r.Header.Set(projectHeader, "shop")
			if status, text, _ := s.do(r); status != http.StatusForbidden {
				t.Errorf("%s: with a header for another: %d %s", name, status, text)
			}
		}
		narrow, err := s.store.Scoped(scope)
		ok(t, err)
		for e, err := range narrow.Episodes(t.Context(), nil) {
			ok(t, err)
			ok(t, narrow.DeleteEpisode(t.Context(), e.ID))
		}
		if after := everything(t, s.store); after != before {
			t.Fatalf("%s: there was\n%s\nand is\n%s", name, before, after)
		}
	}

	// A token without a project is for whichever is asked for.
	all := s.token("all", access.Read, episodic.Scope{User: "ada"})
	if text, failed := s.tool(all, "recall", `{"query":"kumquat","project":"shop"}`); failed || !strings.Contains(text, secret) {
		t.Errorf("a token without a project is shown %s", text)
	}
	if text, failed := s.tool(all, "recall", `{"query":"kumquat"}`, projectHeader, "shop"); failed || !strings.Contains(text, secret) {
		t.Errorf("with a header it is shown %s", text)
	}
	if text, failed := s.tool(all, "recall", `{"query":"kumquat"}`, projectHeader, "bank"); failed || strings.Contains(text, "number") {
		t.Errorf("with a header for another it is shown %s", text)
	}
}

// everything is all that is stored.
func everything(t *testing.T, store *episodic.Store) string {
	t.Helper()
	var all []any
	for e, err := range store.Episodes(t.Context(), nil) {
		ok(t, err)
		e, err := store.Episode(t.Context(), e.ID)
		ok(t, err)
		all = append(all, e)
	}
	for h, err := range store.Heuristics(t.Context(), nil) {
		ok(t, err)
		all = append(all, h)
	}
	for p, err := range store.Patterns(t.Context(), nil) {
		ok(t, err)
		all = append(all, p)
	}
	text, err := json.Marshal(all)
	ok(t, err)
	return string(text)
}

func TestRightsBoundTools(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for rights, want := range map[access.Rights]string{
		access.Read: "recall show", access.Write: "complete feedback learn log recall show start", access.Admin: "complete feedback forget learn log recall show start",
	} {
		token := s.token(string(rights), rights, episodic.Scope{})
		_, text, _ := s.do(s.request(token, "tools/list", "", ""))
		var list struct {
			Result struct{ Tools []struct{ Name string } }
		}
		ok(t, json.Unmarshal([]byte(text), &list))
		var names []string
		for _, tool := range list.Result.Tools {
			names = append(names, tool.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s is offered %s", rights, got)
		}
		for _, tool := range []string{"forget", "start"} {
			if text, failed := s.tool(token, tool, `{"id":"0","task":"x"}`); !strings.Contains(want, tool) && (!failed || !strings.Contains(text, "unknown tool")) {
				t.Errorf("%s calls %s: %s", rights, tool, text)
			}
		}
	}
}
