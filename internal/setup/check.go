package setup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/confedit"
)

// Report says how the setup of a client is.
type Report struct {
	Client string        `json:"client"`
	SetUp  bool          `json:"set_up"` // something of ours is there
	Files  []FileReport  `json:"files,omitempty"`
	Server *ServerReport `json:"server,omitempty"` // nil: there is no entry to start one by
}

// FileReport is what stands in a file.
type FileReport struct {
	Path    string `json:"path"`
	What    string `json:"what"`
	Problem string `json:"problem,omitempty"`
}

// ServerReport is what came of starting the MCP server as the client does.
type ServerReport struct {
	Command      []string `json:"command"`
	Version      string   `json:"version,omitempty"`
	Milliseconds float64  `json:"milliseconds,omitempty"` // until its first answer
	Problem      string   `json:"problem,omitempty"`
}

// Broken reports whether something that was set up does not work.
func (r *Report) Broken() bool {
	return r.SetUp && (r.Server == nil || r.Server.Problem != "" || slices.ContainsFunc(r.Files, func(f FileReport) bool { return f.Problem != "" }))
}

// Check says how the setup of a client is: whether its files have what the entry of the MCP server
// says they should, and whether that server works, which is started.
func (s *Setup) Check(ctx context.Context, c *Client) (*Report, error) {
	all, err := readRecords(s.Records)
	if err != nil {
		return nil, err
	}
	r := &Report{Client: c.Name}
	items := c.items(s.Machine, s.Program, s.Choice)
	command := serverOf(items)
	if program, hooks := programOf(command); program != nil {
		program.Variables = s.Program.Variables
		choice := *s.Choice
		choice.Hooks = hooks
		items = c.items(s.Machine, program, &choice)
	}
	for _, it := range items {
		f := FileReport{Path: it.path, What: it.what}
		rec := all.Files[it.path]
		r.SetUp = r.SetUp || rec != nil && slices.Contains(rec.Clients, c.Name)
		ours, right, err := it.state()
		switch {
		case err != nil:
			f.Problem = err.Error()
		case it.unwanted && !ours:
			continue
		case !ours:
			f.Problem = "it is not there; episodic setup " + c.Name + " puts it there"
		case !right:
			f.Problem = "it does not go with the rest, or is of another version; episodic setup " + c.Name + " makes it right"
		}
		r.SetUp = r.SetUp || ours && !it.unwanted
		r.Files = append(r.Files, f)
	}
	if len(command) > 0 {
		r.Server = try(ctx, command)
	}
	return r, nil
}

// state says whether something of ours is in the file, and whether it is what belongs there.
func (it item) state() (ours, right bool, err error) {
	file, err := readFile(it.path)
	if err != nil {
		return false, false, err
	}
	there, err := it.part.cut(file.text)
	if err != nil {
		return false, false, err
	}
	missing, err := want(it, file.text)
	return len(there) > 0, len(missing) == 0, err
}

// serverOf is the command line of the MCP server's entry; nil if there is none that can be read.
func serverOf(items []item) []string {
	for _, it := range items {
		if it.what == whatServer {
			if file, err := readFile(it.path); err == nil {
				return commandOf(it.part, file.text)
			}
		}
	}
	return nil
}

// programOf is what an MCP server's command line says of the program, and whether hooks go with
// it; nil if it is of something else.
func programOf(command []string) (p *Program, hooks bool) {
	at := slices.Index(command, "mcp")
	if at < 1 {
		return nil, false
	}
	p = &Program{Path: command[0], Flags: command[1:at]}
	return p, slices.Equal(command[1:], p.server(true))
}

// commandOf is the command line of an MCP server's entry; nil if there is none.
func commandOf(p part, text string) []string {
	var object map[string]any
	var err error
	switch p := p.(type) {
	case member:
		object, err = p.find(text)
	case tomlTable:
		object, err = confedit.FindTOML(text, p.in, name)
	case yamlMapping:
		object, err = confedit.FindYAML(text, p.in, name)
	}
	if err != nil {
		return nil // which was told of already
	}
	var command []string
	for _, key := range []string{"command", "cmd", "args"} {
		switch v := object[key].(type) {
		case string:
			command = append(command, v)
		case []any:
			for _, word := range v {
				command = append(command, fmt.Sprint(word))
			}
		}
	}
	return command
}

const (
	// answerTime is how long clients wait for a server's first answer at least.
	answerTime = 3 * time.Second
	// openTime is how long opening the memory may take.
	openTime = 40 * time.Second
)

// try starts an MCP server, asks who it is, and has it open its memory.
func try(ctx context.Context, command []string) *ServerReport {
	r := &ServerReport{Command: command}
	ctx, stop := context.WithTimeout(ctx, openTime)
	defer stop()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err == nil {
		var out io.ReadCloser
		if out, err = cmd.StdoutPipe(); err == nil {
			if err = cmd.Start(); err == nil {
				err = r.talk(in, bufio.NewReader(out), stop)
				err = errors.Join(err, in.Close())
				if waitErr := cmd.Wait(); err == nil {
					err = waitErr
				}
			}
		}
	}
	if err != nil {
		r.Problem = err.Error()
	}
	return r
}

// answer is what is read of an answer of an MCP server.
type answer struct {
	Result struct {
		Meta struct {
			Server struct {
				Name    string `json:"name"`
				Version string `json:"version"`
			} `json:"io.modelcontextprotocol/serverInfo"`
		} `json:"_meta"`
	} `json:"result"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// talk asks a server two things. giveUp ends the server.
func (r *ServerReport) talk(in io.Writer, out *bufio.Reader, giveUp func()) error {
	began := time.Now()
	late := time.AfterFunc(answerTime, giveUp)
	a, err := ask(in, out, 1, "server/discover", nil)
	if !late.Stop() {
		return fmt.Errorf("it has not answered within %v", answerTime)
	}
	if err != nil {
		return fmt.Errorf("it has not answered as an MCP server: %w", err)
	}
	r.Milliseconds = float64(time.Since(began).Microseconds()) / 1000
	if r.Version = a.Result.Meta.Server.Version; a.Result.Meta.Server.Name != name {
		return fmt.Errorf("it is another server, %q", a.Result.Meta.Server.Name)
	}
	if _, err := ask(in, out, 2, "resources/read", map[string]any{"uri": "episodic://stats"}); err != nil {
		return fmt.Errorf("it cannot read its memory: %w", err)
	}
	return nil
}

func ask(in io.Writer, out *bufio.Reader, id int, method string, params map[string]any) (*answer, error) {
	if params == nil {
		params = map[string]any{}
	}
	params["_meta"] = map[string]any{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": map[string]any{}}
	request, err := marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(in, request+"\n"); err != nil {
		return nil, err
	}
	line, err := out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	a := new(answer)
	if err := json.Unmarshal([]byte(line), a); err != nil {
		return nil, fmt.Errorf("%w: %.100q", err, strings.TrimSpace(line))
	}
	if a.Error != nil {
		return nil, errors.New(a.Error.Message)
	}
	return a, nil
}
