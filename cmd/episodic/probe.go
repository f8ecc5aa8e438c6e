package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

type probeCmd struct {
	Target *string `arg:"" optional:"" help:"The database, as --db. Default: the one that the other commands use."`
	JSON   bool    `name:"json" help:"Print JSON."`
}

// Help is shown by probe --help.
func (probeCmd) Help() string {
	return `Prints one fact a line: the way to a server and how long it takes, what the database can do, and what it holds. The last line says whether episodic can use it, or why not; then the exit code is 1. Nothing is written or created.`
}

func (c *probeCmd) Run(ctx context.Context, a *app) error {
	if c.Target != nil {
		a.db = c.Target
	}
	target, err := a.target(false)
	if err != nil {
		return err
	}
	r, err := episodic.Probe(ctx, target, a.options(target))
	if err != nil {
		return err
	}
	if !r.Usable {
		r.Reason += advice(r)
	}
	if c.JSON {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		a.printProbe(r)
	}
	if !r.Usable {
		return errReported
	}
	return nil
}

// advice is what to do on this command line about a target that is not usable.
func advice(r *episodic.ProbeReport) string {
	switch {
	case r.Server != nil && (r.Server.Token == "missing" || r.Server.Token == "refused"):
		return "; set EPISODIC_AUTH_TOKEN to a token of this server"
	case r.File != nil && !r.File.Exists:
		return "; check the path, or let episodic import create it"
	}
	return ""
}

// probeLine is a line of the text: what the check of the same name found out.
type probeLine struct{ check, fact string }

func (a *app) printProbe(r *episodic.ProbeReport) {
	lines := []probeLine{{"target", r.Target}}
	if f := r.File; f != nil && f.Exists {
		lines = append(lines, probeLine{"file", fmt.Sprintf("%s, %d bytes", f.Path, f.Size)}, probeLine{"journal mode", f.JournalMode})
	}
	if r.Server != nil {
		lines = append(lines, serverLines(r.Server)...)
	}
	if r.Database != nil {
		lines = append(lines, databaseLines(r.Database)...)
	}
	failed := map[string]string{}
	for _, p := range r.Problems {
		failed[p.Check] = p.Error
	}
	for _, l := range lines {
		fact := l.fact
		if text, ok := failed[l.check]; ok {
			fact = "FAILED: " + text
			delete(failed, l.check)
		}
		if fact != "" {
			a.printf("%-17s %s\n", l.check, oneLine(fact))
		}
	}
	for _, p := range r.Problems {
		if _, ok := failed[p.Check]; ok {
			a.printf("%-17s %s\n", p.Check, oneLine("FAILED: "+p.Error))
		}
	}
	switch {
	case !r.Usable:
		a.printf("usable: no: %s\n", oneLine(r.Reason))
	case r.Server != nil && r.Server.Writes == "forbidden":
		a.printf("usable: yes, for reading\n")
	default:
		a.printf("usable: yes\n")
	}
}

func serverLines(s *episodic.ProbedServer) []probeLine {
	address := strings.Join(s.Addresses, ", ")
	if s.Resolve >= 1 {
		address += fmt.Sprintf(" (looked up in %.0f ms)", s.Resolve)
	}
	if s.Proxy != "" {
		address = "behind the proxy " + s.Proxy
	}
	certificate := ""
	if !s.CertificateExpires.IsZero() {
		certificate = s.TLS + ", certificate valid until " + s.CertificateExpires.Format(time.DateOnly)
	}
	protocols := strings.Join(s.Protocols, ", ")
	if s.Protocol != "" {
		protocols = fmt.Sprintf("%s; answered in %s", cmp.Or(protocols, "none announced"), s.Protocol)
	}
	kept := "an answer without SQL on the kept connection, median of 9"
	if !s.KeepAlive {
		kept = "an answer without SQL; the server closes each connection, which makes it slow"
	}
	value := ""
	switch {
	case s.RefusedValue > 0:
		value = fmt.Sprintf("%d MB; %d MB is refused", s.LargestValue/1e6, s.RefusedValue/1e6)
	case s.LargestValue > 0:
		value = fmt.Sprintf("%d MB or more", s.LargestValue/1e6)
	}
	index := ""
	if s.Protocol != "" {
		index = "none told"
		if s.ReplicationIndex > 0 {
			index = fmt.Sprint(s.ReplicationIndex)
		}
	}
	role := s.Role
	switch {
	case s.Lag != nil:
		role = fmt.Sprintf("replica, %d frames of the log behind its primary", *s.Lag)
	case s.Primary != "":
		role = "replica; its primary " + s.Primary
	}
	parameters := ""
	if s.Parameters > 0 {
		parameters = fmt.Sprint(s.Parameters)
	}
	return []probeLine{
		{"address", address},
		{"connection", took(s.Cold, "dial"+ifSet(s.TLS, ", TLS")+" and first answer on a new connection")},
		{"TLS", certificate},
		{"HTTP", strings.Join(s.HTTP, ", ")},
		{"HTTP/2", ""},
		{"server", cmp.Or(s.Version, s.ServerHeader)},
		{"gateway", ifSet(s.Version, s.ServerHeader)},
		{"protocols", protocols},
		{"warm", took(s.Warm, kept)},
		{"first query", took(s.FirstQuery, "the first SELECT 1")},
		{"token", s.Token},
		{"role", role},
		{"new stream", took(s.NewStream, "SELECT 1 that opens and closes a stream, median of 9")},
		{"kept stream", took(s.KeptStream, "SELECT 1 on an open stream, median of 9")},
		{"streams go on at", s.BaseURL},
		{"retry after", s.RetryAfter},
		{"writing", s.Writes},
		{"replication index", index},
		{"largest value", value},
		{"parameters", parameters},
	}
}

func databaseLines(d *episodic.ProbedDatabase) []probeLine {
	holds := d.Holds
	switch d.Holds {
	case "nothing":
		holds = "nothing yet"
	case "memory":
		holds = fmt.Sprintf("an episodic memory, schema version %d", d.SchemaVersion)
	case "other":
		holds = "another program's tables: " + strings.Join(d.Tables, ", ")
	}
	return []probeLine{
		{"SQLite", d.SQLite},
		{"FTS5", yesNo(d.FTS5)},
		{"JSON", yesNo(d.JSON)},
		{"vectors", yesNo(d.Vectors)},
		{"holds", holds},
	}
}

// took is a time that was measured and what it is; empty for one that was not.
func took(ms float64, what string) string {
	if ms == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f ms: %s", ms, what)
}

func ifSet(condition, s string) string {
	if condition == "" {
		return ""
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
