package serve

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
	"github.com/episodic-memory/episodic/internal/mcpserver"
)

// Headers by which a client may say for which project and in which session it calls. A
// client's configuration is where people can set them.
const (
	projectHeader = "X-Episodic-Project"
	sessionHeader = "X-Episodic-Session"
)

// maxSession bounds the name of a session, in bytes.
const maxSession = 200

type tokenKey struct{}

// authorize returns the token of a request.
func (s *Server) authorize(r *http.Request) (*access.Token, *problem) {
	challenge := `Bearer realm="episodic"`
	given := r.Header.Values("Authorization")
	if len(given) == 0 {
		return nil, &problem{status: http.StatusUnauthorized, reason: "token", challenge: challenge,
			text: `a token is missing: send the header "Authorization: Bearer TOKEN"; episodic token create NAME makes one`}
	}
	challenge += `, error="invalid_token"`
	refused := func(text string) (*access.Token, *problem) {
		return nil, &problem{status: http.StatusUnauthorized, reason: "token", challenge: challenge, text: text}
	}
	scheme, secret, _ := strings.Cut(given[0], " ")
	if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return refused(`the header must be one, "Authorization: Bearer TOKEN"`)
	}
	token, err := s.o.Tokens.Find(strings.TrimSpace(secret), time.Now())
	switch {
	case errors.Is(err, access.ErrUnknown):
		return refused("the token is unknown, or was revoked")
	case errors.Is(err, access.ErrExpired):
		return refused("the token has expired")
	case err != nil:
		s.log.Error("tokens cannot be read", "error", err)
		return nil, &problem{status: http.StatusServiceUnavailable, reason: "tokens", text: "the server's file of tokens cannot be read; its log says why"}
	}
	return token, nil
}

// caller is on whose behalf a request is made: its headers say it within the bounds of its
// token.
func (s *Server) caller(r *http.Request, token *access.Token) (c mcpserver.Caller, _ *problem) {
	bound, err := s.o.Store.Scoped(token.Scope)
	if err != nil {
		return c, &problem{status: http.StatusForbidden, reason: "scope", text: "the token is for what this server does not have: " + err.Error()}
	}
	asked, err := bound.Scoped(episodic.Scope{Project: r.Header.Get(projectHeader)})
	if err != nil {
		return c, &problem{status: http.StatusForbidden, reason: "scope", text: projectHeader + ": " + err.Error()}
	}
	session := r.Header.Get(sessionHeader)
	if len(session) > maxSession {
		return c, &problem{status: http.StatusBadRequest, reason: "message", text: sessionHeader + " is longer than 200 bytes"}
	}
	return mcpserver.Caller{
		Within: bound.Scope(), Scope: asked.Scope(),
		Session: mcpserver.Session{Format: "mcp", ID: session}, Name: token.Name,
	}, nil
}
