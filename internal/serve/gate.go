package serve

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// gate knows by which names a Server may be called, and from which web pages. A page that a
// browser on this machine shows can reach addresses that nobody else can, under a name of its
// own if it has to (DNS rebinding).
type gate struct {
	hosts   []string // lower case, without a port
	origins []string // lower case
}

func newGate(hosts, origins []string) (*gate, error) {
	g := &gate{hosts: []string{"localhost", "127.0.0.1", "::1"}}
	for _, host := range hosts {
		name := hostName(host)
		if name == "" || strings.ContainsAny(host, "/@ *") {
			return nil, fmt.Errorf("host %q must be a name or an address such as memory.example.com", host)
		}
		g.hosts = append(g.hosts, name)
	}
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || strings.TrimSuffix(u.Path, "/")+u.RawQuery+u.Fragment != "" {
			return nil, fmt.Errorf("origin %q must be like https://example.com", origin)
		}
		g.origins = append(g.origins, strings.ToLower(u.Scheme+"://"+u.Host))
	}
	return g, nil
}

// hostName is the name or address in a Host header, without the port.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// check returns why a request is refused, or nil.
func (g *gate) check(r *http.Request) *problem {
	if !slices.Contains(g.hosts, hostName(r.Host)) {
		return &problem{status: http.StatusForbidden, reason: "host", text: fmt.Sprintf("%.100q is no name of this server; --allow-host allows one", r.Host)}
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "" || site == "same-origin" || site == "none" {
			return nil
		}
	} else if len(origins) == 1 && g.allowed(origins[0], r.Host) {
		return nil
	}
	return &problem{status: http.StatusForbidden, reason: "origin", text: fmt.Sprintf("web pages of %.100q may not call this server; --allow-origin allows it", strings.Join(origins, ", "))}
}

// allowed reports whether pages of an origin may call a host: those of its own, and those that
// were named.
func (g *gate) allowed(origin, host string) bool {
	origin = strings.ToLower(origin)
	_, own, _ := strings.Cut(origin, "://")
	return own == strings.ToLower(host) || slices.Contains(g.origins, origin)
}

// preflight lets the pages of allowed origins read answers, and answers the question of a
// browser whether they may ask. It reports whether that was all.
func (g *gate) preflight(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate")
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", strings.Join([]string{
		"Authorization", "Content-Type", "Accept", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", projectHeader, sessionHeader,
	}, ", "))
	h.Set("Access-Control-Max-Age", "3600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
