package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/access"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token, and print it: it is kept nowhere."`
	List   tokenListCmd   `cmd:"" help:"List the tokens, and what they are for."`
	Revoke tokenRevokeCmd `cmd:"" help:"End a token."`
}

// Help is shown by token --help.
func (*tokenCmd) Help() string {
	return `Tokens let clients reach a memory through episodic serve. Each is for a project, user or agent, or for the whole memory, and gives rights: read (recall and show), write (record, learn and correct too), admin (delete too), metrics (nothing but read /metrics).

They are kept as SHA-256 in a file of the user who runs the server (--tokens, or else $EPISODIC_TOKENS), apart from the memory. A running server notices changes at once.`
}

// tokensFlag names the file of tokens.
type tokensFlag struct {
	Tokens string `placeholder:"FILE" help:"The file of tokens; default: $$EPISODIC_TOKENS, or one in the user's configuration folder."`
}

func (f *tokensFlag) file(a *app) (*access.File, error) {
	path := f.Tokens
	if path == "" {
		path = a.getenv("EPISODIC_TOKENS")
	}
	if path == "" {
		path = filepath.Join(a.configHome, "episodic", "tokens")
	}
	path, err := filepath.Abs(path)
	return access.NewFile(path), err
}

type tokenCreateCmd struct {
	tokensFlag
	Name    string `arg:"" help:"Of whom or what it is for: letters, digits and any of \"._@-\"."`
	Agent   string `placeholder:"NAME" help:"Only what belongs to this agent; what is recorded will. --project and --user bind it likewise."`
	Rights  string `default:"write" enum:"read,write,admin,metrics" help:"read, write (all but delete), admin, or metrics."`
	Expires age    `placeholder:"AGE" help:"End it after this: 90d, 12w, 36h; otherwise only revoke does."`
}

func (c *tokenCreateCmd) Run(ctx context.Context, a *app) error {
	file, err := c.file(a)
	if err != nil {
		return err
	}
	scope, err := a.scope()
	if err != nil {
		return err
	}
	t := access.Token{Name: c.Name, Rights: access.Rights(c.Rights), Scope: scope}
	t.Scope.Agent = c.Agent
	if c.Expires > 0 {
		t.Expires = time.Now().Add(time.Duration(c.Expires)).UTC().Truncate(time.Second)
	}
	secret, err := file.Create(ctx, t)
	if errors.Is(err, access.ErrTaken) {
		return fmt.Errorf("%w; choose another one, or revoke that first", err)
	}
	if err != nil {
		return err
	}
	a.printf("%s\n", secret)
	if err := a.out.Flush(); err != nil {
		return err
	}
	a.note("%s may %s. The token above is shown this once; clients send it as \"Authorization: Bearer TOKEN\".", c.Name, purpose(&t))
	return nil
}

// purpose is what a token is for, in words.
func purpose(t *access.Token) string {
	if t.Rights == access.Metrics {
		return "read the metrics" + until(t)
	}
	words := map[access.Rights]string{access.Read: "read", access.Write: "read and write", access.Admin: "read, write and delete"}[t.Rights]
	return words + " " + whole(t.Scope) + until(t)
}

func whole(scope episodic.Scope) string {
	var parts []string
	for _, f := range []struct{ noun, name string }{{"project", scope.Project}, {"user", scope.User}, {"agent", scope.Agent}} {
		if f.name != "" {
			parts = append(parts, f.noun+" "+oneLine(f.name))
		}
	}
	if len(parts) == 0 {
		return "the whole memory"
	}
	return "what belongs to " + strings.Join(parts, ", ")
}

func until(t *access.Token) string {
	if t.Expires.IsZero() {
		return ""
	}
	return " until " + t.Expires.Local().Format(time.DateTime)
}

type tokenListCmd struct {
	tokensFlag
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *tokenListCmd) Run(a *app) error {
	file, err := c.file(a)
	if err != nil {
		return err
	}
	tokens, err := file.Tokens()
	if err != nil {
		return err
	}
	if c.JSON {
		return a.printJSON(struct {
			Tokens []access.Token `json:"tokens"`
		}{append([]access.Token{}, tokens...)})
	}
	if len(tokens) == 0 {
		a.complain("no tokens in %s; episodic token create NAME makes one", file.Path())
	}
	for i := range tokens {
		t := &tokens[i]
		state := ""
		if t.Expired(time.Now()) {
			state = " (it has expired)"
		}
		a.printf("%-20s made %s, may %s%s\n", t.Name, t.Created.Local().Format(time.DateOnly), purpose(t), state)
	}
	return nil
}

type tokenRevokeCmd struct {
	tokensFlag
	Name string `arg:"" help:"Of the token, as list shows it."`
}

func (c *tokenRevokeCmd) Run(ctx context.Context, a *app) error {
	file, err := c.file(a)
	if err != nil {
		return err
	}
	if err := file.Revoke(ctx, c.Name); err != nil {
		return err
	}
	a.printf("Revoked %s.\n", c.Name)
	return nil
}
