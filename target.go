package episodic

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine/remote"
)

// target is where a database lives: a path, or a URL with what it carried.
type target struct {
	path string
	url  string // http or https, without user, query and fragment
	// replicas are the URLs of servers that answer reads too, as url is.
	replicas []string
	token    string // of the query parameter authToken

	basicAuth     string // what stood before the host: user:password
	namespace     string // of the query parameters of the same names
	ca, cert, key string
}

// parameters are those that a server's URL may have.
var parameters = []string{"authToken", "tls", "namespace", "ca", "cert", "key"}

// windowsDrive is how a file: URL names a path of Windows.
var windowsDrive = regexp.MustCompile(`^/[A-Za-z]:[/\\]`)

var hostPort = regexp.MustCompile(`^(localhost|[0-9.]+|\[[0-9a-fA-F:]+\]|[\w-]+(\.[\w-]+)+):[0-9]+$`)

// parseTarget reads a file path, a file: URL, or a libsql:, https: or http: URL.
// Its errors never repeat the target's secrets.
func parseTarget(s string, allowPlaintext bool) (target, error) {
	scheme, rest, found := strings.Cut(s, ":")
	lower := strings.ToLower(s)
	switch {
	case s == "":
		return target{}, invalid("target", "is empty; give a file path or a libsql://, https:// or http:// URL")
	case strings.ContainsRune(s, 0):
		return target{}, invalid("target", "holds a NUL byte, at which the system would cut the name off")
	case strings.ContainsAny(s, "\r\n"):
		return target{}, invalid("target", "holds a line break, as a value has that comes from a file with Windows line ends; remove it")
	case s == ":memory:" || s == "file::memory:":
		return target{}, invalid("target", "in-memory databases are not supported; use a file in a temporary folder")
	case !strings.Contains(s, "://") && (strings.Contains(lower, "authtoken=") || strings.Contains(lower, ".turso.io") || hostPort.MatchString(s)):
		// A server's address whose scheme was forgotten must not become a file.
		return target{}, invalid("target", "looks like a server's address without its scheme; write libsql://HOST, or http://127.0.0.1:PORT")
	case !found || len(scheme) == 1 || strings.ContainsAny(scheme, `/\.`):
		return parsePath(s) // a single letter is a drive of Windows
	}
	switch strings.ToLower(scheme) {
	case "file":
		return parseFileURL(rest)
	case "libsql", "https", "http":
		return parseServerURL(s, allowPlaintext)
	case "ws", "wss":
		return target{}, invalid("target", "WebSocket URLs are not supported; write the same address with libsql://")
	}
	return target{}, invalid("target", "has the unknown scheme %.20q; give a file path or a libsql://, https:// or http:// URL", scheme)
}

func parseFileURL(rest string) (target, error) {
	if strings.ContainsAny(rest, "?#") {
		return target{}, invalid("target", "has parameters behind the file name; they are not supported, write file:PATH")
	}
	path, err := url.PathUnescape(rest)
	if err != nil {
		return target{}, invalid("target", "is not a valid file: URL; write file:PATH")
	}
	if strings.HasPrefix(path, "//") {
		path = strings.TrimPrefix(path[2:], "localhost")
		if !strings.HasPrefix(path, "/") {
			return target{}, invalid("target", "names another host's file; write file:PATH or file:///PATH")
		}
	}
	if windowsDrive.MatchString(path) {
		path = path[1:]
	}
	if strings.ContainsRune(path, 0) {
		return target{}, invalid("target", "holds a NUL byte (%%00), at which the system would cut the name off")
	}
	if path == "" {
		return target{}, invalid("target", "has no path; write file:PATH")
	}
	return parsePath(path)
}

// parsePath reads the path of a file. Its ~/ is the user's home folder, because no shell
// sees to that in a configuration file.
func parsePath(path string) (target, error) {
	if path != "~" && !strings.HasPrefix(path, "~/") {
		return target{path: path}, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return target{}, invalid("target", "begins with ~, and the home folder is not known (%v); write the whole path", err)
	}
	return target{path: filepath.Join(home, path[1:])}, nil
}

// hosts takes the host from a URL, which may be several with commas between, and returns
// the URL with the first one, and the others.
func hosts(s string) (first string, others []string) {
	begin := strings.Index(s, "://") + len("://")
	end := len(s)
	if i := strings.IndexAny(s[begin:], "/?#"); i >= 0 {
		end = begin + i
	}
	begin += strings.LastIndex(s[begin:end], "@") + 1 // of user and password
	all := strings.Split(s[begin:end], ",")
	return s[:begin] + all[0] + s[end:], all[1:]
}

func parseServerURL(s string, allowPlaintext bool) (target, error) {
	s, others := hosts(s)
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		// url.Parse repeats the whole URL in its error, the token too.
		return target{}, invalid("target", "is not a valid URL; write libsql://HOST, https://HOST or http://HOST:PORT")
	}
	q := u.Query()
	t := target{token: q.Get("authToken"), namespace: q.Get("namespace"), ca: q.Get("ca"), cert: q.Get("cert"), key: q.Get("key")}
	if u.User != nil {
		password, found := u.User.Password()
		if !found {
			return target{}, invalid("target", "holds a user name without a password; give a token apart from the target, or as the parameter authToken")
		}
		t.basicAuth = u.User.Username() + ":" + password
	}
	scheme := strings.ToLower(u.Scheme)
	if scheme == "libsql" {
		scheme = "https"
		if q.Get("tls") == "0" {
			scheme = "http"
		}
	}
	for key := range q {
		if !slices.Contains(parameters, key) {
			// Not shown: it may be a token whose name was forgotten.
			return target{}, invalid("target", "has an unknown parameter; known are %s", strings.Join(parameters, ", "))
		}
	}
	if scheme == "http" && t.ca+t.cert+t.key != "" {
		return target{}, invalid("target", "has certificates, and uses no TLS; use libsql:// or https://")
	}
	if scheme == "http" && !remote.IsLoopback(u.Hostname()) && !allowPlaintext {
		return target{}, invalid("target", "would send data and token unencrypted to %s; use libsql:// or https://, or allow it explicitly (AllowPlaintext)", u.Hostname())
	}
	t.url = (&url.URL{Scheme: scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, "/")}).String()
	if t.replicas, err = replicaURLs(t.url, others, allowPlaintext); err != nil {
		return target{}, invalid("target", "names several servers, and %v", err)
	}
	return t, nil
}

// replicaURLs returns the URLs of servers that are reached as that at primary is: HOST or
// HOST:PORT each.
func replicaURLs(primary string, hosts []string, allowPlaintext bool) ([]string, error) {
	u, err := url.Parse(primary)
	if err != nil {
		return nil, errors.New("the primary's address is no URL")
	}
	seen := map[string]bool{u.Host: true}
	var urls []string
	for i, host := range hosts {
		r, err := url.Parse(u.Scheme + "://" + host)
		switch {
		case err != nil || r.Host != host || r.Hostname() == "": // not shown: it may hold a secret
			return nil, fmt.Errorf("replica %d of %d is not HOST or HOST:PORT", i+1, len(hosts))
		case u.Scheme == "http" && !remote.IsLoopback(r.Hostname()) && !allowPlaintext:
			return nil, fmt.Errorf("data and token would travel unencrypted to %s; use libsql:// or https://, or allow it explicitly (AllowPlaintext)", r.Hostname())
		case seen[host]:
			return nil, fmt.Errorf("%s is named twice", host)
		}
		seen[host] = true
		r.Path = u.Path
		urls = append(urls, r.String())
	}
	return urls, nil
}

// String is the target as errors show it.
func (t target) String() string {
	switch {
	case t.path != "":
		return t.path
	case t.namespace != "":
		return t.url + "?namespace=" + url.QueryEscape(t.namespace)
	}
	return t.url
}
