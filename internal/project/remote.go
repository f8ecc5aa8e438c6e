package project

import (
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// scp is the form USER@HOST:PATH, of which the user may be missing. A single letter before the
// colon is a drive of Windows.
var scp = regexp.MustCompile(`^(?:[^@/\\:]+@)?([A-Za-z0-9._-]{2,}|\[[0-9A-Fa-f:]+\]):([^/\\].*|/[^/].*)$`)

// Normalise returns HOST/PATH of a remote's URL, the same for all the ways to write it: without
// scheme, credentials, port, query, ".git" and slashes at the end, the host in small letters.
// The path of a host where letter case makes no difference is in small letters too. Empty: it
// names no host, as the path of a folder.
func Normalise(remote string) string {
	remote = strings.TrimSpace(remote)
	host, at := "", ""
	if strings.Contains(remote, "://") {
		u, err := url.Parse(remote)
		if err != nil || u.Scheme == "file" {
			return ""
		}
		host, at = u.Hostname(), u.Path
	} else if m := scp.FindStringSubmatch(remote); m != nil {
		host, at = strings.Trim(m[1], "[]"), m[2]
		at, _, _ = strings.Cut(at, "?")
	}
	host = strings.TrimRight(strings.ToLower(host), ".")
	at = strings.Trim(path.Clean("/"+at), "/")
	if n := len(at) - len(".git"); n > 0 && strings.EqualFold(at[n:], ".git") {
		at = strings.Trim(path.Clean("/"+at[:n]), "/")
	}
	if host == "" || at == "" || strings.ContainsFunc(host+at, unicode.IsControl) {
		return ""
	}
	switch host {
	case "github.com", "ssh.github.com", "gitlab.com", "altssh.gitlab.com", "bitbucket.org", "altssh.bitbucket.org", "codeberg.org":
		host = strings.TrimPrefix(strings.TrimPrefix(host, "ssh."), "altssh.")
		at = strings.ToLower(at)
	}
	return host + "/" + at
}
