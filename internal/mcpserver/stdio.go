package mcpserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Serve speaks the protocol on two streams, a message a line, until in ends or ctx does. Both
// mean the same: what was asked for is answered first, for drainPatience at most. A line that
// is no message is answered with an error and otherwise passed over. in is closed at the end,
// if it can be; a read of it that this does not interrupt goes on.
func (s *Server) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	c := &lineConn{
		out: out, lines: make(chan []byte), end: ctx.Done(), closed: make(chan struct{}),
		waiting: make(map[jsonrpc.ID]bool), answered: make(chan struct{}, 1),
	}
	go c.readLines(in)
	err := s.mcp.Run(context.WithoutCancel(ctx), c)
	if closer, ok := in.(io.Closer); ok {
		_ = closer.Close() // it has ended, or nobody wants what is left of it
	}
	if c.failed() != nil {
		err = nil // whoever asked is gone, and cannot be told of it
	}
	return err
}

const (
	// maxLine is the longest line that is read, in bytes; HTTP has the same limit.
	maxLine = 4 << 20
	// drainPatience bounds how long answers are waited for after the input has ended. It is
	// longer than a call takes at most.
	drainPatience = callPatience + 5*time.Second
)

// listen is the request that is answered only when its connection ends.
const listen = "subscriptions/listen"

// lineConn is the SDK's connection on two streams. The SDK's own one ends at the first line
// that is no message, and drops what was asked for when its input ends.
type lineConn struct {
	out io.Writer

	lines chan []byte     // of the input; it is closed behind the last one
	end   <-chan struct{} // no more is to be read

	closed chan struct{}
	close  sync.Once

	mu       sync.Mutex // of what follows, and of out
	waiting  map[jsonrpc.ID]bool
	answered chan struct{} // has something when an answer was written
	writeErr error
}

// Connect implements mcp.Transport.
func (c *lineConn) Connect(context.Context) (mcp.Connection, error) { return c, nil }

// SessionID implements mcp.Connection.
func (c *lineConn) SessionID() string { return "" }

// Close implements mcp.Connection.
func (c *lineConn) Close() error {
	c.close.Do(func() { close(c.closed) })
	return nil
}

// tooLong stands in the place of a line that is longer than maxLine.
var tooLong = []byte{0}

// readLines reads the lines of in until it ends, or the connection does.
func (c *lineConn) readLines(in io.Reader) {
	defer close(c.lines)
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := readLine(r)
		if line != nil {
			select {
			case c.lines <- line:
			case <-c.closed:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readLine returns a line without its end, nil if it is empty, and tooLong in place of one
// that it has passed over.
func readLine(r *bufio.Reader) (line []byte, err error) {
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if line = bytes.TrimSpace(line); long {
			line = tooLong
		} else if len(line) == 0 {
			line = nil
		}
		return line, err
	}
}

// Read implements mcp.Connection: it returns the next message that is one.
func (c *lineConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.closed:
			return nil, io.EOF
		case <-c.end:
			return nil, c.drain(ctx)
		case line, more := <-c.lines:
			if !more {
				return nil, c.drain(ctx)
			}
			msg, err := c.message(line)
			if err != nil {
				if err := c.refuse(err); err != nil {
					return nil, err
				}
			} else if msg != nil {
				return msg, nil
			}
		}
	}
}

// message reads a message; nil without an error is one that needs no attention.
func (c *lineConn) message(line []byte) (jsonrpc.Message, error) {
	refused := func(format string, args ...any) (jsonrpc.Message, error) {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case &line[0] == &tooLong[0]:
		return refused("the line is longer than %d bytes", maxLine)
	case !json.Valid(line): // it also refuses what is nested so deeply that decoders fail
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeParseError, Message: "the line is no JSON"}
	case line[0] == '[':
		return refused("batches are not supported: send each message on a line of its own")
	}
	var raw struct {
		ID json.RawMessage `json:"id"`
	}
	msg, err := jsonrpc.DecodeMessage(line)
	if err != nil || json.Unmarshal(line, &raw) != nil {
		return refused(`this is no message of JSON-RPC 2.0: it needs "jsonrpc" and "method", and an "id" that is a text or a whole number`)
	}
	if len(raw.ID) > 0 && raw.ID[0] != '"' && strings.ContainsAny(string(raw.ID), ".eE") {
		return refused("the id is neither a text nor a whole number")
	}
	req, ok := msg.(*jsonrpc.Request)
	if !ok {
		if res := msg.(*jsonrpc.Response); res.Result == nil && res.Error == nil {
			return refused("the message has neither a method nor a result")
		}
		return nil, nil // nothing was asked
	}
	if !req.IsCall() || req.Method == listen {
		return req, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[req.ID] {
		return refused("the id %v is that of a request that is not answered yet", req.ID.Raw())
	}
	c.waiting[req.ID] = true
	return req, nil
}

// refuse answers a line that is no message.
func (c *lineConn) refuse(err error) error {
	text, err := json.Marshal(struct {
		Version string `json:"jsonrpc"`
		ID      any    `json:"id"`
		Error   error  `json:"error"`
	}{"2.0", nil, err})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeLine(text)
}

// writeLine needs mu.
func (c *lineConn) writeLine(text []byte) error {
	if c.writeErr == nil {
		_, c.writeErr = c.out.Write(append(text, '\n'))
	}
	return c.writeErr
}

// Write implements mcp.Connection.
func (c *lineConn) Write(_ context.Context, msg jsonrpc.Message) error {
	text, err := jsonrpc.EncodeMessage(coded(msg))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.writeLine(text)
	if res, ok := msg.(*jsonrpc.Response); ok {
		delete(c.waiting, res.ID)
		select {
		case c.answered <- struct{}{}:
		default: // drain has not looked yet
		}
	}
	return err
}

// coded is a message whose error has a code. The SDK gives none to that of a request which came
// before initialize.
func coded(msg jsonrpc.Message) jsonrpc.Message {
	res, ok := msg.(*jsonrpc.Response)
	if !ok || res.Error == nil {
		return msg
	}
	if _, ok := errors.AsType[*jsonrpc.Error](res.Error); ok {
		return msg
	}
	with := *res
	with.Error = &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: res.Error.Error()}
	return &with
}

func (c *lineConn) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeErr
}

// drain waits until all requests are answered, and returns io.EOF.
func (c *lineConn) drain(ctx context.Context) error {
	patience := time.NewTimer(drainPatience)
	defer patience.Stop()
	for {
		c.mu.Lock()
		left := len(c.waiting)
		if c.writeErr != nil {
			left = 0
		}
		c.mu.Unlock()
		if left == 0 {
			return io.EOF
		}
		select {
		case <-c.answered:
		case <-c.closed:
			return io.EOF
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return io.EOF
		}
	}
}
