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
// Several calls may be under way at a time.
type mcpServer struct {
	cmd  *exec.Cmd
	kill func()        // ends it at once; calls under way fail
	read chan struct{} // closed when its output has ended

	writing sync.Mutex // apart from mu, so that answers are taken while a call waits to be read
	in      io.WriteCloser

	mu      sync.Mutex
	id      int
	waiting map[int]chan mcpAnswer // nil when its output has ended
}

type mcpAnswer struct {
	ID     *int            `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// startMCP starts a server and greets it.
func startMCP(env []string, program string, args ...string) (*mcpServer, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	in, out, err := startPiped(cmd)
	if err != nil {
		return nil, err
	}
	m := &mcpServer{cmd: cmd, in: in, kill: sync.OnceFunc(func() { _ = cmd.Process.Kill() }), read: make(chan struct{}), waiting: make(map[int]chan mcpAnswer)}
	go m.receive(out)
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

// receive hands out the answers until there are no more, or one of which half is missing.
func (m *mcpServer) receive(out io.Reader) {
	defer close(m.read)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<30)
	for lines.Scan() {
		var answer mcpAnswer
		if err := json.Unmarshal(lines.Bytes(), &answer); err != nil {
			break
		}
		if answer.ID == nil {
			continue // a notification
		}
		m.mu.Lock()
		waiter := m.waiting[*answer.ID]
		delete(m.waiting, *answer.ID)
		m.mu.Unlock()
		if waiter != nil {
			waiter <- answer
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, waiter := range m.waiting {
		close(waiter)
	}
	m.waiting = nil
}

// end ends the process, and returns when it is gone.
func (m *mcpServer) end() {
	m.kill()
	<-m.read
	_ = m.cmd.Wait() // it was killed
}

func (m *mcpServer) send(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	_, err = m.in.Write(append(text, '\n'))
	return err
}

// errGone says that the process ended before it answered.
var errGone = errors.New("the process ended before it answered")

func (m *mcpServer) request(method string, params any) (json.RawMessage, error) {
	waiter := make(chan mcpAnswer, 1)
	m.mu.Lock()
	if m.waiting == nil {
		m.mu.Unlock()
		return nil, errGone
	}
	m.id++
	id := m.id
	m.waiting[id] = waiter
	m.mu.Unlock()
	if err := m.send(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params}); err != nil {
		return nil, errGone
	}
	answer, is := <-waiter
	switch {
	case !is:
		return nil, errGone
	case answer.Error != nil:
		return nil, errors.New(answer.Error.Message)
	}
	return answer.Result, nil
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
