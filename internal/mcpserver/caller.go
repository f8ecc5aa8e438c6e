package mcpserver

import (
	"context"

	"github.com/episodic-memory/episodic"
)

// Caller is on whose behalf a request is made, where one Server serves several: what Options
// say of the only caller otherwise.
type Caller struct {
	// Within, Scope, Session and Folder are as in Options.
	Within, Scope episodic.Scope
	Session       Session
	Folder        string
	// Name is that of the caller, to be noted in what is recorded. Default: not noted.
	Name string
}

type callerKey struct{}

// For returns a context for requests of a caller, who takes the place of the one in Options.
func For(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func (s *Server) caller(ctx context.Context) Caller {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		c = Caller{Within: s.o.Within, Scope: s.o.Scope, Session: s.o.Session, Folder: s.o.Folder}
	}
	if c.Scope == (episodic.Scope{}) {
		c.Scope = c.Within
	}
	return c
}
