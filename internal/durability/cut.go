package durability

import (
	"errors"
	"io"
	"net"
	"sync"
)

// cutter passes connections on to a server, and cuts them when it is told to: requests and
// answers end where they are.
type cutter struct {
	to     string
	listen net.Listener
	done   sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

// newCutter returns a cutter in front of the server at an address, HOST:PORT.
func newCutter(to string) (*cutter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cutter{to: to, listen: l, open: make(map[net.Conn]bool)}
	c.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.done.Go(func() { c.pass(conn) })
		}
	})
	return c, nil
}

func (c *cutter) addr() string { return c.listen.Addr().String() }

// pass passes a connection on until one of its ends is closed, or it is cut.
func (c *cutter) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		return // the client sees its connection closed, as if the server had refused it
	}
	defer server.Close()
	if !c.keep(client, server) {
		return
	}
	defer c.forget(client, server)
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(client, server) // how it ended is for the client to find out
		client.Close()
	})
	_, _ = io.Copy(server, client)
	server.Close()
	answers.Wait()
}

func (c *cutter) keep(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		c.open[conn] = true
	}
	return !c.closed
}

func (c *cutter) forget(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		delete(c.open, conn)
	}
}

// cut cuts all connections, and returns how many there were.
func (c *cutter) cut() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, not an end; a connection that is gone already is cut
		}
		conn.Close()
	}
	n := len(c.open) / 2
	clear(c.open)
	return n
}

// close cuts all connections and accepts no more.
func (c *cutter) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.listen.Close()
	c.cut()
	c.done.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
