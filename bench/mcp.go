package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// mcpServer is a process that serves the Model Context Protocol on its standard input and output.
// One call is under way at a time.
type mcpServer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	id  int

	kill func() // ends it at once; calls under way fail
}

// startMCP starts a server and greets it.
func startMCP(env []string, program string, args ...string) (*mcpServer, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := &mcpServer{cmd: cmd, in: in, out: bufio.NewScanner(out), kill: sync.OnceFunc(func() { _ = cmd.Process.Kill() })}
	m.out.Buffer(nil, 1<<30)
	_, err = m.request("initialize", map[string]any{
		"protocolVersion": "2024-11-05", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "bench", "version": "1"},
	})
	if err == nil {
		err = m.send(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
	}
	if err != nil {
		m.end()
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return m, nil
}

// end ends the process, and returns when it is gone.
func (m *mcpServer) end() {
	m.kill()
	_ = m.cmd.Wait() // it was killed
}

func (m *mcpServer) send(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = m.in.Write(append(text, '\n'))
	return err
}

// errGone says that the process ended before it answered.
var errGone = errors.New("the process ended before it answered")

func (m *mcpServer) request(method string, params any) (json.RawMessage, error) {
	m.id++
	if err := m.send(map[string]any{"jsonrpc": "2.0", "id": m.id, "method": method, "params": params}); err != nil {
		return nil, errGone
	}
	for m.out.Scan() {
		var answer struct {
			ID     *int            `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal(m.out.Bytes(), &answer); err != nil {
			return nil, errGone // half an answer
		}
		switch {
		case answer.ID == nil || *answer.ID != m.id: // a notification
		case answer.Error != nil:
			return nil, errors.New(answer.Error.Message)
		default:
			return answer.Result, nil
		}
	}
	return nil, errGone
}

// call calls a tool, and returns the text that it answers.
func (m *mcpServer) call(tool string, arguments any) (string, error) {
	raw, err := m.request("tools/call", map[string]any{"name": tool, "arguments": arguments})
	if err != nil {
		return "", err
	}
	var result struct {
		IsError bool `json:"isError"`
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return "", err
	}
	text := ""
	for _, c := range result.Content {
		text += c.Text
	}
	if result.IsError {
		return "", errors.New(text)
	}
	return text, nil
}
