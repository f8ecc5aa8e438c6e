package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/transcript"
	"github.com/episodic-memory/episodic/internal/wholefile"
)

// service is capture as a service of the user.
type service struct {
	file        string // that defines it
	text        string
	secrets     string // a file with variables that are not to be in it
	start, stop [][]string
	active      []string // says whether it is running
}

// mark is in every file that --install writes.
const mark = "Written by episodic capture, and removed by its flag uninstall."

const (
	unitName  = "episodic-capture.service"
	agentName = "io.github.episodic-memory.capture"
)

// keptVariables are those of the environment that the service gets as they are now; a login
// gives it no others.
var keptVariables = []string{
	"EPISODIC_DB", "TURSO_DATABASE_URL", "EPISODIC_PROJECT", "EPISODIC_USER", "EPISODIC_NAMESPACE", "EPISODIC_CA_FILE", "EPISODIC_CERT_FILE",
	"EPISODIC_KEY_FILE", "EPISODIC_REPLICA", "EPISODIC_OFFLINE", "EPISODIC_INDEX_STEPS",
	"CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME",
}

// secretVariables are those that it must get otherwise.
var secretVariables = []string{"EPISODIC_AUTH_TOKEN", "TURSO_AUTH_TOKEN", "EPISODIC_BASIC_AUTH"}

// newService returns the service of an operating system; nil if there is none that is known.
// command is what it runs, and variables, "NAME=value", what it gets.
func newService(goos, home, config string, uid int, command, variables []string) *service {
	s := &service{secrets: filepath.Join(config, "episodic", "capture.env")}
	switch goos {
	case "linux":
		s.file = filepath.Join(config, "systemd", "user", unitName)
		s.text = systemdUnit(command, variables, s.secrets)
		systemctl := func(args ...string) []string { return append([]string{"systemctl", "--user"}, args...) }
		s.start = [][]string{systemctl("daemon-reload"), systemctl("enable", unitName), systemctl("restart", unitName)}
		s.stop = [][]string{systemctl("disable", "--now", unitName)}
		s.active = systemctl("is-active", unitName)
	case "darwin":
		s.file = filepath.Join(home, "Library", "LaunchAgents", agentName+".plist")
		s.text = launchAgent(command, variables, s.secrets, filepath.Join(home, "Library", "Logs", "episodic-capture.log"))
		domain := fmt.Sprintf("gui/%d", uid)
		s.start = [][]string{{"launchctl", "bootstrap", domain, s.file}}
		s.stop = [][]string{{"launchctl", "bootout", domain + "/" + agentName}}
		s.active = []string{"launchctl", "print", domain + "/" + agentName}
	default:
		return nil
	}
	return s
}

// systemdUnit is the text of a user unit: systemd.service(5), systemd.exec(5).
func systemdUnit(command, variables []string, secrets string) string {
	quote := func(s string, dollars bool) string {
		s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(s)
		if dollars {
			s = strings.ReplaceAll(s, "$", "$$")
		}
		return `"` + s + `"`
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n[Unit]\nDescription=episodic: store what agents do\n\n[Service]\nExecStart=", mark)
	for i, arg := range command {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(quote(arg, true))
	}
	b.WriteByte('\n')
	for _, v := range variables {
		fmt.Fprintf(&b, "Environment=%s\n", quote(v, false))
	}
	fmt.Fprintf(&b, "EnvironmentFile=-%s\nRestart=on-failure\nRestartSec=10\nNice=10\n\n[Install]\nWantedBy=default.target\n", strings.ReplaceAll(secrets, "%", "%%"))
	return b.String()
}

// launchAgent is the text of a property list: launchd.plist(5). A shell reads the file of
// secrets, which launchd cannot.
func launchAgent(command, variables []string, secrets, log string) string {
	var b strings.Builder
	text := func(s string) string { return "<string>" + html.EscapeString(s) + "</string>" }
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- %s -->
<plist version="1.0">
<dict>
  <key>Label</key>
  %s
  <key>ProgramArguments</key>
  <array>
`, mark, text(agentName))
	for _, arg := range append([]string{"/bin/sh", "-c", `set -a; [ ! -r "$0" ] || . "$0"; set +a; exec "$@"`, secrets}, command...) {
		fmt.Fprintf(&b, "    %s\n", text(arg))
	}
	b.WriteString("  </array>\n")
	if len(variables) > 0 {
		b.WriteString("  <key>EnvironmentVariables</key>\n  <dict>\n")
		for _, v := range variables {
			name, value, _ := strings.Cut(v, "=")
			fmt.Fprintf(&b, "    <key>%s</key>\n    %s\n", name, text(value))
		}
		b.WriteString("  </dict>\n")
	}
	fmt.Fprintf(&b, `  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ProcessType</key>
  <string>Background</string>
  <key>StandardErrorPath</key>
  %s
</dict>
</plist>
`, text(log))
	return b.String()
}

// service is the one of this machine.
func (c *captureCmd) service(a *app) (*service, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	command, variables, err := c.serviceCommand(a)
	if err != nil {
		return nil, err
	}
	s := newService(runtime.GOOS, home, cmp.Or(a.getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), os.Getuid(), command, variables)
	if s == nil {
		return nil, invalid("--install", "knows no services of %s; have %s started at each login, on Windows by a task of the Task Scheduler with the trigger At log on", runtime.GOOS, strings.Join(command, " "))
	}
	return s, nil
}

// serviceCommand is the command line that does what this one would, with absolute paths, and
// the variables that it needs.
func (c *captureCmd) serviceCommand(a *app) (command, variables []string, err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	flags, err := a.memoryFlags("--install")
	if err != nil {
		return nil, nil, err
	}
	command = append([]string{exe}, flags...)
	command = append(command, "capture")
	if len(c.From) > 0 {
		command = append(command, "--from="+strings.Join(c.From, ","))
	}
	if c.Idle != 0 {
		command = append(command, "--idle="+c.Idle.String())
	}
	for _, path := range c.Paths {
		if path, err = filepath.Abs(path); err != nil {
			return nil, nil, err
		}
		command = append(command, path)
	}
	for _, name := range keptVariables {
		if value := a.getenv(name); value != "" && (a.db == nil || name != "EPISODIC_DB" && name != "TURSO_DATABASE_URL") {
			variables = append(variables, name+"="+value)
		}
	}
	return command, variables, nil
}

func (c *captureCmd) install(a *app) error {
	s, err := c.service(a)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(s.file); err == nil && !isOurs(old) {
		return fmt.Errorf("%s is there, and was not written by episodic; move it away first", s.file)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a.printf("%s is to be written:\n\n%s\nand then run:\n", plain(s.file), plain(s.text))
	for _, command := range s.start {
		a.printf("  %s\n", plain(strings.Join(command, " ")))
	}
	for _, name := range secretVariables {
		if a.getenv(name) != "" {
			a.printf("%s is secret, and not in it: put the line %s=... into %s, which only you can read.\n", name, name, plain(s.secrets))
		}
	}
	if err := c.confirm(a); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.file), 0o700); err != nil {
		return err
	}
	if err := wholefile.Replace(s.file, []byte(s.text), 0o600); err != nil {
		return err
	}
	if runtime.GOOS == "darwin" {
		_, _ = a.command(s.stop[0][0], s.stop[0][1:]...) // one that runs already; there may be none
	}
	for _, command := range s.start {
		if err := a.carryOut(command); err != nil {
			return fmt.Errorf("%s is written, but the service does not run: %w", s.file, err)
		}
	}
	a.printf("the service runs, and starts with each login; capture --status says how it is\n")
	return nil
}

// isOurs reports whether --install has written a file.
func isOurs(text []byte) bool {
	return bytes.Contains(text, []byte(mark))
}

// carryOut runs a command of the system.
func (a *app) carryOut(command []string) error {
	if said, err := a.command(command[0], command[1:]...); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, cut(oneLine(said), 300))
	}
	return nil
}

// confirm asks whether to go on.
func (c *captureCmd) confirm(a *app) error {
	if c.Yes {
		return nil
	}
	return a.agree("Go on?", "nothing was changed")
}

func (c *captureCmd) uninstall(a *app) error {
	s, err := c.service(a)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(s.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.printf("no service is installed\n")
		return nil
	case err != nil:
		return err
	case !isOurs(text):
		return fmt.Errorf("%s was not written by episodic; it stays as it is", s.file)
	}
	a.printf("the service is to be stopped, and %s removed\n", plain(s.file))
	if err := c.confirm(a); err != nil {
		return err
	}
	for _, command := range s.stop {
		if err := a.carryOut(command); err != nil {
			a.complain("%v", err) // it may not run
		}
	}
	if err := os.Remove(s.file); err != nil {
		return err
	}
	a.printf("the service is removed; what it has stored stays\n")
	return nil
}

func (c *captureCmd) status(ctx context.Context, a *app) error {
	s, err := c.service(a)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(s.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.printf("service     not installed; capture --install does it\n")
	case err != nil:
		return err
	case !isOurs(text):
		a.printf("service     %s, which episodic has not written\n", plain(s.file))
	default:
		running := "running"
		if said, err := a.command(s.active[0], s.active[1:]...); err != nil {
			running = "not running: " + cut(oneLine(said), 100)
		}
		a.printf("service     %s\n            %s\n", running, plain(s.file))
	}
	var last time.Time
	var of *episodic.Episode
	open := 0
	err = a.toRead(ctx, func(store *episodic.Store) error {
		page, err := store.ListEpisodes(ctx, &episodic.EpisodeFilter{From: time.Now().AddDate(0, 0, -30)}, &episodic.Paging{Limit: 100})
		if err != nil {
			return err
		}
		for _, e := range page.Items {
			if e.Metadata[transcript.MetaSession] == "" {
				continue
			}
			at := e.End
			if e.Running() {
				open++
				if e, err = store.Episode(ctx, e.ID); err != nil {
					return err
				}
				at = e.Start
				if n := len(e.Steps); n > 0 {
					at = e.Steps[n-1].Time
				}
			}
			if at.After(last) {
				last, of = at, e
			}
		}
		return nil
	})
	if errors.Is(err, errNoMemory) || err == nil && of == nil {
		a.printf("last step   none of a session in the last 30 days\n")
		return nil
	}
	if err != nil {
		return err
	}
	a.printf("last step   %s, %s: %s\n", last.Local().Format(time.DateTime), oneLine(of.Metadata[transcript.MetaAgent]), cut(oneLine(of.Description), 60))
	a.printf("running     %s\n", count(open, "session"))
	return nil
}
