package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

const capturedSession = "5a1c0000-0000-4000-8000-000000000001"

// session writes a session of Claude Code of some calls, and returns its path.
func (c *cli) session(calls int) string {
	c.t.Helper()
	var b strings.Builder
	line := func(kind, uuid, content string) {
		fmt.Fprintf(&b, `{"type":%q,"uuid":%q,"parentUuid":null,"sessionId":%q,"cwd":"/w/app","timestamp":"2026-01-02T03:00:00Z","message":{"role":%q,"content":%s}}`+"\n", kind, uuid, capturedSession, kind, content)
	}
	line("user", "u", `"mend the pump"`)
	for i := range calls {
		line("assistant", fmt.Sprint("a", i), fmt.Sprintf(`[{"type":"tool_use","id":"c%d","name":"Bash","input":{"command":"turn valve%[1]d"}}]`, i))
		line("user", fmt.Sprint("r", i), fmt.Sprintf(`[{"type":"tool_result","tool_use_id":"c%d","content":"opened outlet%[1]d"},{"type":"image"}]`, i))
	}
	path := filepath.Join(c.home, "claude", "projects", "-w-app", capturedSession+".jsonl")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func TestCaptureOnce(t *testing.T) {
	c := newCLI(t)
	c.env["CLAUDE_CONFIG_DIR"] = filepath.Join(c.home, "claude")
	t.Setenv("HOME", c.home)
	t.Setenv("USERPROFILE", c.home)
	path := c.session(2)
	out := c.ok("capture", "--once", "-v")
	for _, want := range []string{filepath.Join(c.home, "claude", "projects") + "\n", "1 session file; 1 changed since ", "  2 steps  ", "stored 2 steps of 1 session; 0 ended; 0 problems\n", "left out: 2 x image\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	c.session(3)
	if out = c.ok("capture", "--once", "--from", "claude-code,codex"); !strings.Contains(out, "stored 1 step of 1 session") {
		t.Error(out)
	}
	if out = c.ok("list"); !strings.Contains(out, "running") {
		t.Error(out)
	}
	old := time.Now().Add(-5 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if out = c.ok("capture", "--once"); !strings.Contains(out, "stored 0 steps of 1 session; 1 ended;") {
		t.Error(out)
	}
	if out = c.ok("import", "--from", "claude-code"); !strings.Contains(out, "imported 0 episodes, 0 steps; 1 were already there") {
		t.Error(out)
	}
	if out = c.ok("capture", "--once", filepath.Join(c.home, "claude")); !strings.Contains(out, "stored 0 steps of 0 sessions; 0 ended;") {
		t.Error(out)
	}
	for says, args := range map[string][]string{
		"known are claude-code": {"--from", "tau2"},
		"--since":               {"--since", "soon"},
		"--idle":                {"--idle", "1s"},
		"no such file":          {filepath.Join(c.home, "nowhere")},
		"one, or none":          {"--from", "codex,gemini", c.home},
	} {
		if got := c.run(append([]string{"capture", "--once"}, args...)...); got.code == exitOK || !strings.Contains(got.stderr, says) {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// TestCaptureWaits: while another process holds the database, capture waits, says so once, and
// ends at once when it is told to.
func TestCaptureWaits(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("it takes seconds, and ends a process by a signal")
	}
	c := newCLI(t)
	c.session(1)
	cmd := exec.Command(os.Args[0], "capture", "-v", filepath.Join(c.home, "claude"))
	cmd.Env = append(os.Environ(), "EPISODIC_TEST_AS_PROGRAM=1", "EPISODIC_DB=http://127.0.0.1:1", "EPISODIC_REPLICA=0", liveDirEnv+"="+c.env[liveDirEnv])
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(2*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	_, _ = said.Read(make([]byte, 100)) // until it ends
	begun := time.Now()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it ended after %v", took)
	}
	if n := strings.Count(stderr.String(), "waiting until it can be opened"); n != 1 {
		t.Errorf("said %q", stderr.String())
	}
}

func TestServiceTexts(t *testing.T) {
	t.Parallel()
	command := []string{`/opt/my "own"/episodic`, "--db=/m/$x 100%.db", "capture"}
	variables := []string{"CODEX_HOME=/c & d"}
	for goos, want := range map[string]string{
		"linux": `/home/x/.config/systemd/user/episodic-capture.service
# Written by episodic capture, and removed by its flag uninstall.
[Unit]
Description=episodic: store what agents do

[Service]
ExecStart="/opt/my \"own\"/episodic" "--db=/m/$$x 100%%.db" "capture"
Environment="CODEX_HOME=/c & d"
EnvironmentFile=-/home/x/.config/episodic/capture.env
Restart=on-failure
RestartSec=10
Nice=10

[Install]
WantedBy=default.target
`,
		"darwin": `/home/x/Library/LaunchAgents/io.github.episodic-memory.capture.plist
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by episodic capture, and removed by its flag uninstall. -->
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>io.github.episodic-memory.capture</string>
  <key>ProgramArguments</key>
  <array>
    <string>/bin/sh</string>
    <string>-c</string>
    <string>set -a; [ ! -r &#34;$0&#34; ] || . &#34;$0&#34;; set +a; exec &#34;$@&#34;</string>
    <string>/home/x/.config/episodic/capture.env</string>
    <string>/opt/my &#34;own&#34;/episodic</string>
    <string>--db=/m/$x 100%.db</string>
    <string>capture</string>
  </array>
  <key>EnvironmentVariables</key>
  <dict>
    <key>CODEX_HOME</key>
    <string>/c &amp; d</string>
  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ProcessType</key>
  <string>Background</string>
  <key>StandardErrorPath</key>
  <string>/home/x/Library/Logs/episodic-capture.log</string>
</dict>
</plist>
`,
	} {
		s := newService(goos, "/home/x", "/home/x/.config", 501, command, variables)
		if got := s.file + "\n" + s.text; filepath.Separator == '/' && got != want {
			t.Errorf("%s:\n%s\nwant\n%s", goos, got, want)
		}
	}
	if newService("windows", "/h", "/c", 1, command, nil) != nil {
		t.Error("a service of Windows")
	}
}

// TestCaptureService: the service is shown and asked for, keeps what the command line says but
// no secret, and is removed without a trace.
func TestCaptureService(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("systemd's")
	}
	c := newCLI(t)
	t.Setenv("HOME", c.home)
	c.env["XDG_CONFIG_HOME"], c.env["CODEX_HOME"], c.env["EPISODIC_AUTH_TOKEN"] = filepath.Join(c.home, "config"), "/codex", "top-secret"
	unit := filepath.Join(c.home, "config", "systemd", "user", unitName)
	var ran []string
	var fails error
	service := func(stdin string, args ...string) outcome {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), append([]string{"capture"}, args...), system{
			stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr,
			getenv: func(name string) string { return c.env[name] }, dataHome: c.home, configHome: filepath.Join(c.home, "config"), stateHome: filepath.Join(c.home, "state"), hookWait: time.Minute,
			command: func(name string, args ...string) (string, error) {
				ran = append(ran, name+" "+strings.Join(args, " "))
				return "active", fails
			},
		})
		return outcome{code, stdout.String(), stderr.String()}
	}
	if got := service("", "--status"); got.code != exitOK || !strings.Contains(got.stdout, "not installed") || !strings.Contains(got.stdout, "none of a session") {
		t.Errorf("%+v", got)
	}
	for _, answer := range []string{"", "n\n", "what\n"} {
		if got := service(answer, "--install"); got.code == exitOK || exists(unit) || len(ran) > 0 || !strings.Contains(got.stderr, "nothing was changed") {
			t.Errorf("answer %q: %+v", answer, got)
		}
	}
	got := service("y\n", "--install", "--from", "codex", "--idle", "1h")
	text, err := os.ReadFile(unit)
	if err != nil || got.code != exitOK {
		t.Fatalf("%v: %+v", err, got)
	}
	for _, want := range []string{`"capture" "--from=codex" "--idle=1h0m0s"`, `Environment="CODEX_HOME=/codex"`, `Environment="EPISODIC_DB=` + c.env["EPISODIC_DB"] + `"`} {
		if !strings.Contains(string(text), want) || !strings.Contains(got.stdout, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if strings.Contains(string(text)+got.stdout, "top-secret") || !strings.Contains(got.stdout, "EPISODIC_AUTH_TOKEN=... into "+filepath.Join(c.home, "config", "episodic", "capture.env")) {
		t.Errorf("%s", got.stdout)
	}
	if want := "systemctl --user daemon-reload; systemctl --user enable " + unitName + "; systemctl --user restart " + unitName; strings.Join(ran, "; ") != want {
		t.Errorf("ran %q", ran)
	}
	e := sample(1, "mend the pump")
	e.Start, e.End, e.Outcome = time.Now().Add(-time.Hour), time.Time{}, episodic.Outcome{}
	e.Metadata = map[string]string{"session_id": "s", "agent": "codex"}
	c.put(e)
	if got := service("", "--status"); !strings.Contains(got.stdout, "running\n") || !strings.Contains(got.stdout, ", codex: mend the pump\n") || !strings.Contains(got.stdout, "1 session\n") {
		t.Errorf("%+v", got)
	}
	fails = errors.New("exit status 3")
	if got := service("", "--status"); !strings.Contains(got.stdout, "not running: active") {
		t.Errorf("%+v", got)
	}
	ran = nil
	if got := service("", "--uninstall", "--yes"); got.code != exitOK || exists(unit) || strings.Join(ran, "") != "systemctl --user disable --now "+unitName {
		t.Errorf("%+v, ran %q", got, ran)
	}
	if got := service("", "--uninstall", "--yes"); got.code != exitOK || !strings.Contains(got.stdout, "no service is installed") {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(unit, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--install", "--uninstall"} {
		if got := service("", flag, "--yes"); got.code == exitOK || !strings.Contains(got.stderr, "not written by episodic") {
			t.Errorf("%s: %+v", flag, got)
		}
	}
	if text, err := os.ReadFile(unit); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
	c.env["EPISODIC_DB"] = "libsql://x.example?authToken=top-secret"
	if got := service("", "--install", "--yes"); got.code != exitUsage || strings.Contains(got.stdout+got.stderr, "top-secret") {
		t.Errorf("%+v", got)
	}
}
