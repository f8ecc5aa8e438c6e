package mcpserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

// ping is answered in the older era, whatever was sent before.
const ping = `{"jsonrpc":"2.0","id":"p","method":"ping"}`

func TestALineThatIsNoMessageIsAnsweredWithAnError(t *testing.T) {
	p := serve(t, Options{})
	p.send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`)
	p.line()
	for line, code := range map[string]int{
		"garbage":                      -32700,
		`{"jsonrpc":"2.0","id":1`:      -32700,
		"\x00\x01\xff":                 -32700,
		strings.Repeat("[", 1<<20):     -32700,
		strings.Repeat("x", maxLine+1): -32600,
		`[]`:                           -32600,
		`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`: -32600,
		`7`:                        -32600,
		`null`:                     -32600,
		`{}`:                       -32600,
		`{"id":1,"method":"ping"}`: -32600,
		`{"jsonrpc":"1.0","id":1,"method":"ping"}`:                   -32600,
		`{"jsonrpc":"2.0","id":1}`:                                   -32600,
		`{"jsonrpc":"2.0","id":{},"method":"ping"}`:                  -32600,
		`{"jsonrpc":"2.0","id":[1],"method":"ping"}`:                 -32600,
		`{"jsonrpc":"2.0","id":true,"method":"ping"}`:                -32600,
		`{"jsonrpc":"2.0","id":1.5,"method":"ping"}`:                 -32600,
		`{"jsonrpc":"2.0","id":1,"method":7}`:                        -32600,
		`{"jsonrpc":"2.0","id":1,"method":"nope"}`:                   -32601,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}`: -32602,
	} {
		p.send(line)
		var res struct {
			ID    any
			Error struct{ Code int }
		}
		got := p.line()
		ok(t, json.Unmarshal([]byte(got), &res))
		if res.Error.Code != code {
			t.Errorf("%.80q is answered with %s, want the code %d", line, got, code)
		}
		if code != -32601 && code != -32602 && res.ID != nil {
			t.Errorf("%.80q is answered as request %v", line, res.ID)
		}
		p.send("\r")
		p.send(ping + "\r")
		if got := p.line(); got != `{"jsonrpc":"2.0","id":"p","result":{}}` {
			t.Errorf("after %.80q a ping is answered with %s", line, got)
		}
	}
	p.send(`{"jsonrpc":"2.0","id":99,"result":{}}`) // an answer to nothing
	p.send(ping)
	if got := p.line(); !strings.Contains(got, `"result"`) {
		t.Errorf("after an answer that nobody wanted, a ping is answered with %s", got)
	}
}

// slow opens a memory when it is told to.
func slow(t *testing.T) (o Options, opening <-chan struct{}, open chan struct{}) {
	began, open := make(chan struct{}, 1), make(chan struct{})
	file := filepath.Join(t.TempDir(), "m.db")
	return Options{Open: func(ctx context.Context) (*episodic.Store, error) {
		began <- struct{}{}
		<-open
		return episodic.Open(ctx, file, nil)
	}}, began, open
}

const stats = `{"jsonrpc":"2.0","id":%d,"method":"resources/read","params":{"uri":"episodic://stats"` + modern + `}}`

func TestWhatWasAskedForIsAnsweredAfterTheEnd(t *testing.T) {
	for _, end := range []string{"of the input", "of the context"} {
		t.Run(end, func(t *testing.T) {
			o, opening, open := slow(t)
			s := New(o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			in, write := io.Pipe()
			read, out := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := s.Serve(ctx, in, out)
				done <- errors.Join(err, out.Close())
			}()
			fmt.Fprintf(write, stats+"\n", 1)
			<-opening
			if end == "of the input" {
				ok(t, write.Close())
			} else {
				cancel()
			}
			close(open)
			lines := bufio.NewScanner(read)
			if !lines.Scan() || !strings.Contains(lines.Text(), "heuristics") {
				t.Errorf("the answer is %q, %v", lines.Text(), lines.Err())
			}
			if lines.Scan() {
				t.Errorf("behind it there is %q", lines.Text())
			}
			ok(t, <-done)
			ok(t, s.Close())
		})
	}
}

func TestARequestWithTheIDOfAnotherIsRefused(t *testing.T) {
	o, opening, open := slow(t)
	p := serve(t, o)
	p.send(fmt.Sprintf(stats, 1))
	<-opening
	p.send(fmt.Sprintf(stats, 1))
	if got := p.line(); !strings.Contains(got, "-32600") || !strings.Contains(got, `"id":null`) {
		t.Errorf("the second one is answered with %s", got)
	}
	close(open)
	if got := p.line(); !strings.Contains(got, "heuristics") {
		t.Errorf("the first one is answered with %s", got)
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.db")
	calls := 0
	p := serve(t, Options{Open: func(ctx context.Context) (*episodic.Store, error) {
		if calls++; calls <= 2 {
			panic("a defect")
		}
		return episodic.Open(ctx, file, nil)
	}})
	if text, failed := p.tool("recall", `{"query":"x"}`); !failed || !strings.Contains(text, "defect") {
		t.Errorf("the answer is %s", text)
	}
	p.send(fmt.Sprintf(stats, 2))
	if got := p.line(); !strings.Contains(got, "-32603") {
		t.Errorf("of a resource it is %s", got)
	}
	if text, failed := p.tool("recall", `{"query":"x"}`); failed {
		t.Errorf("afterwards it is %s", text)
	}
}

func TestAMemoryThatCannotBeOpenedIsAnAnswer(t *testing.T) {
	for want, open := range map[string]func(context.Context) (*episodic.Store, error){
		"EPISODIC_AUTH_TOKEN": func(context.Context) (*episodic.Store, error) {
			return nil, fmt.Errorf("open: %w", episodic.ErrUnauthorized)
		},
		"try once more":  opener("http://127.0.0.1:1"),
		"episodic probe": opener(filepath.Join(t.TempDir(), "no", "such", "folder", "m.db")),
	} {
		p := serve(t, Options{Open: open})
		if text, failed := p.tool("recall", `{"query":"x"}`); !failed || !strings.Contains(text, want) {
			t.Errorf("the answer is %s, want %q in it", text, want)
		}
	}
}
