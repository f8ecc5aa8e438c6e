package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/serve"
)

type serveCmd struct {
	tokensFlag
	Listen      string   `default:"127.0.0.1:8765" placeholder:"HOST:PORT" help:"Where to listen; port 0 takes a free one."`
	AllowHost   []string `sep:"none" placeholder:"NAME" help:"A name or address by which clients reach this server; repeatable. localhost and 127.0.0.1 always are."`
	AllowOrigin []string `sep:"none" placeholder:"ORIGIN" help:"Web pages that may call this server, such as those of https://example.com; repeatable."`
	TLSCert     string   `name:"tls-cert" placeholder:"FILE" help:"The server's certificate, in PEM format, with those that it follows from."`
	TLSKey      string   `name:"tls-key" placeholder:"FILE" help:"Its key, in PEM format."`
}

// Help is shown by serve --help.
func (*serveCmd) Help() string {
	return `Offers the memory by the Model Context Protocol over HTTP, at /mcp, to agents on this machine and others. Each needs a token (see token --help), which says for which project it is; of one that is for several, the client chooses by the header X-Episodic-Project. /healthz says ok to everybody, /metrics is for Prometheus.

Beyond this machine it listens with --tls-cert and --tls-key only, or, where something else encrypts, with --allow-plaintext. SIGINT and SIGTERM end it, after what was asked for is answered. See docs/agents.md.`
}

func (c *serveCmd) Run(ctx context.Context, a *app) error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return invalid("--listen", "is %q; it must be HOST:PORT, such as 127.0.0.1:8765", c.Listen)
	}
	certificate, err := c.certificate()
	if err != nil {
		return err
	}
	ip := net.ParseIP(host)
	local := host == "localhost" || ip.IsLoopback()
	switch {
	case !local && certificate == nil && !a.allowPlaintext:
		return invalid("--listen", "is %q, which other machines can reach, and what they send would not be encrypted: give --tls-cert and --tls-key, or --allow-plaintext before serve", c.Listen)
	case !local && (host == "" || ip.IsUnspecified()) && len(c.AllowHost) == 0:
		return invalid("--allow-host", "is needed with --listen %s: the name by which clients reach this server", c.Listen)
	case !local && host != "" && !ip.IsUnspecified():
		c.AllowHost = append(c.AllowHost, host)
	}
	file, err := c.file(a)
	if err != nil {
		return err
	}
	tokens, err := file.Tokens()
	if err != nil {
		return err
	}
	store, err := a.openStore(ctx, false)
	if err != nil {
		return err
	}
	a.publish(store)
	scope, err := a.scope()
	var narrow *episodic.Store
	if err == nil {
		narrow, err = store.Scoped(scope)
	}
	if err != nil {
		return errors.Join(err, store.Close())
	}
	if a.getenv("GOGC") == "" {
		debug.SetGCPercent(50) // what clients send is garbage soon, and there may be many
	}
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	server, err := serve.New(serve.Options{
		Store: narrow, Tokens: file, Hosts: c.AllowHost, Origins: c.AllowOrigin, TLS: certificate,
		Version: buildVersion().Version,
		Logger:  slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), // the SDK tells of each request
	})
	if err != nil {
		return errors.Join(invalid("serve", "%v", err), store.Close())
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w; --listen chooses another address", err), store.Close())
	}
	scheme := "http"
	if certificate != nil {
		scheme = "https"
	}
	log.Info("serving", "url", scheme+"://"+listener.Addr().String()+"/mcp", "tokens", file.Path())
	if len(tokens) == 0 {
		log.Warn("there is no token yet, so that nobody is let in; episodic token create NAME makes one")
	}
	err = server.Serve(ctx, listener)
	log.Info("ended")
	return errors.Join(err, store.Close())
}

// certificate is the server's; nil without one.
func (c *serveCmd) certificate() (*tls.Config, error) {
	if c.TLSCert == "" && c.TLSKey == "" {
		return nil, nil
	}
	if c.TLSCert == "" || c.TLSKey == "" {
		return nil, invalid("--tls-cert", "and --tls-key belong together; give both")
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}, nil
}
