package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/setup"
)

// setupCheck is what setup --check finds.
type setupCheck struct {
	Clients []*setup.Report `json:"clients"`
	HookLog string          `json:"hook_log"`
	// HookErrors are the last lines of the log of hooks.
	HookErrors []string `json:"hook_errors,omitempty"`
	Capture    string   `json:"capture"` // its service: running, not running, not installed, unknown
}

// loggedErrors is how many of the errors of hooks are shown.
const loggedErrors = 5

func (c *setupCmd) check(ctx context.Context, a *app, s *setup.Setup, chosen []*setup.Client) error {
	found := setupCheck{Clients: []*setup.Report{}, HookLog: a.hookLog(), Capture: a.captureState()}
	broken := false
	for _, client := range chosen {
		r, err := s.Check(ctx, client)
		if err != nil {
			return err
		}
		if v := buildVersion().Version; r.Server != nil && r.Server.Problem == "" && r.Server.Version != v {
			r.Server.Problem = fmt.Sprintf("it is version %s, and this is %s; setup with the one that is to be used", r.Server.Version, v)
		}
		found.Clients = append(found.Clients, r)
		broken = broken || r.Broken()
	}
	text, err := os.ReadFile(found.HookLog)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lines := slices.Collect(strings.Lines(string(text)))
	for _, line := range lines[max(0, len(lines)-loggedErrors):] {
		found.HookErrors = append(found.HookErrors, strings.TrimSpace(line))
	}
	if !c.JSON {
		found.print(a)
	} else if err := a.printJSON(found); err != nil {
		return err
	}
	if broken {
		return errReported
	}
	return nil
}

func (f *setupCheck) print(a *app) {
	if len(f.Clients) == 0 {
		a.printf("no agent program that is known is on this machine\n")
	}
	for _, r := range f.Clients {
		title := setup.Find(r.Client).Title
		if !r.SetUp {
			a.printf("%s: not set up; %s setup %s does it\n", title, a.self, r.Client)
			continue
		}
		a.printf("%s\n", title)
		for _, file := range r.Files {
			a.printf("  %-13s %s\n", file.What, plain(file.Path))
			if file.Problem != "" {
				a.printf("  %-13s PROBLEM: %s\n", "", oneLine(file.Problem))
			}
		}
		if r.Server == nil {
			continue
		}
		a.printf("  %-13s %s\n", "command", plain(strings.Join(r.Server.Command, " ")))
		if r.Server.Problem != "" {
			a.printf("  %-13s PROBLEM: %s\n", "", oneLine(r.Server.Problem))
		} else {
			a.printf("  %-13s answers after %.0f ms, and can read its memory\n", "", r.Server.Milliseconds)
		}
	}
	a.printf("capture       %s\n", f.Capture)
	if len(f.HookErrors) == 0 {
		a.printf("hooks         no error is logged\n")
		return
	}
	a.printf("hooks         the last errors, of %s:\n", plain(f.HookLog))
	for _, line := range f.HookErrors {
		a.printf("  %s\n", oneLine(line))
	}
}

// captureState is how the service of capture is.
func (a *app) captureState() string {
	s, err := (&captureCmd{}).service(a)
	if err != nil {
		return "unknown" // there are no services that it knows
	}
	text, err := os.ReadFile(s.file)
	if err != nil || !isOurs(text) {
		return "not installed"
	}
	if _, err := a.command(s.active[0], s.active[1:]...); err != nil {
		return "not running; capture --status says more"
	}
	return "running"
}
