package mcpserver

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/episodic-memory/episodic"
)

const (
	episodeURI = "episodic://episode/"
	plainText  = "text/plain"
	// resourceTokens are what an episode may take that a person attaches to a prompt.
	resourceTokens = 10_000
	recentEpisodes = 20
)

// addResources adds what people attach to a prompt. All of it the tools tell too, since few
// clients have resources.
func (s *Server) addResources() {
	s.mcp.AddResourceTemplate(&mcp.ResourceTemplate{
		URITemplate: episodeURI + "{id}", Name: "episode", Title: "Episode", Description: "The outline of an episode, by its id or the beginning of it.", MIMEType: plainText,
	}, s.resource(plainText, func(ctx context.Context, store *episodic.Store, uri string) (string, error) {
		id, err := store.ResolveEpisode(ctx, strings.TrimPrefix(uri, episodeURI))
		if err != nil {
			return "", err
		}
		e, err := store.Episode(ctx, id)
		if err != nil {
			return "", err
		}
		return showEpisode(e, "", resourceTokens)
	}))
	s.mcp.AddResource(&mcp.Resource{URI: "episodic://recent", Name: "recent", Title: "Recent episodes", MIMEType: plainText},
		s.resource(plainText, func(ctx context.Context, store *episodic.Store, _ string) (string, error) {
			page, err := store.ListEpisodes(ctx, nil, &episodic.Paging{Limit: recentEpisodes})
			if err != nil {
				return "", err
			}
			var lines strings.Builder
			for _, e := range page.Items {
				lines.WriteString(provenance(e, time.Now()) + " " + line(e.Description) + "\n")
			}
			return framed(store.Scope(), lines.String()) + leftOut(page.Damaged), nil
		}))
	s.mcp.AddResource(&mcp.Resource{URI: "episodic://stats", Name: "stats", Title: "What is stored", MIMEType: "application/json"},
		s.resource("application/json", func(ctx context.Context, store *episodic.Store, _ string) (string, error) {
			counts, err := store.Counts(ctx)
			if err != nil {
				return "", err
			}
			text, err := json.Marshal(struct {
				Scope episodic.Scope `json:"scope"`
				episodic.Counts
			}{store.Scope(), counts})
			return string(text), err
		}))
}

// resource makes a handler of what reads a resource.
func (s *Server) resource(mime string, read func(ctx context.Context, store *episodic.Store, uri string) (string, error)) mcp.ResourceHandler {
	return func(ctx context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		ctx, cancel := context.WithTimeout(ctx, callPatience)
		defer cancel()
		uri := req.Params.URI
		by := s.caller(ctx)
		store, err := s.memory(ctx, by, by.Scope)
		var text string
		if err == nil {
			text, err = read(ctx, store, uri)
		}
		switch {
		case errors.Is(err, episodic.ErrNotFound), errors.Is(err, episodic.ErrInvalid):
			return nil, mcp.ResourceNotFoundError(uri)
		case err != nil:
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: explain("resource", err)}
		}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: mime, Text: text}}}, nil
	}
}
