package episodic

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]target{
		"memory.db":                            {path: "memory.db"},
		"./a:b.db":                             {path: "./a:b.db"},
		`C:\memory.db`:                         {path: `C:\memory.db`},
		"file:memory.db":                       {path: "memory.db"},
		"file:///var/m%20m.db":                 {path: "/var/m m.db"},
		"file://localhost/var/m.db":            {path: "/var/m.db"},
		"libsql://db-me.turso.io":              {url: "https://db-me.turso.io"},
		"https://host/path/":                   {url: "https://host/path"},
		"HTTPS://Host":                         {url: "https://Host"},
		"http://127.0.0.1:8080":                {url: "http://127.0.0.1:8080"},
		"http://[::1]:8080":                    {url: "http://[::1]:8080"},
		"http://db.localhost:8080":             {url: "http://db.localhost:8080"},
		"libsql://localhost:8080?tls=0":        {url: "http://localhost:8080"},
		"http://LOCALHOST:1":                   {url: "http://LOCALHOST:1"},
		"http://db.localhost.:8080":            {url: "http://db.localhost.:8080"},
		"file:///C:/Users/m.db":                {path: "C:/Users/m.db"},
		"a.b/m.db":                             {path: "a.b/m.db"},
		"10.db":                                {path: "10.db"},
		"libsql://host?authToken=abc%2Bd":      {url: "https://host", token: "abc+d"},
		"https://me:s%40same@host":             {url: "https://host", basicAuth: "me:s@same"},
		"libsql://a,b:1,[::1]/p?namespace=n":   {url: "https://a/p", replicas: []string{"https://b:1/p", "https://[::1]/p"}, namespace: "n"},
		"https://me:s,same@a:1,b":              {url: "https://a:1", replicas: []string{"https://b"}, basicAuth: "me:s,same"},
		"libsql://host?namespace=a%20b":        {url: "https://host", namespace: "a b"},
		"libsql://host?ca=a.pem&cert=/b&key=c": {url: "https://host", ca: "a.pem", cert: "/b", key: "c"},
	} {
		if got, err := parseTarget(in, false); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", in, got, err, want)
		}
	}
	if got, err := parseTarget("http://10.0.0.1", true); err != nil || got.url != "http://10.0.0.1" {
		t.Errorf("plain text allowed: %+v, %v", got, err)
	}
}

// No shell has seen to the ~ of a configuration file.
func TestParseTargetInTheHomeFolder(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for in, want := range map[string]string{"~/m.db": filepath.Join(home, "m.db"), "file:~/a/m.db": filepath.Join(home, "a/m.db"), "~": home, "~m.db": "~m.db", "a/~/m.db": "a/~/m.db"} {
		if got, err := parseTarget(in, false); err != nil || got.path != want {
			t.Errorf("%s: %+v, %v; want the path %s", in, got, err, want)
		}
	}
	t.Setenv("HOME", "")
	_, err := parseTarget("~/m.db", false)
	wants(t, err, ErrInvalid, "write the whole path")
}

func TestParseTargetRefusals(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "is empty",
		"memory.db\r":                      "line break",
		"libsql://host\r\n":                "line break",
		"redis://sesame@host":              "unknown scheme",
		"libsql://":                        "not a valid URL",
		"https://sesame@host":              "user name without a password",
		"http://127.0.0.1?ca=sesame":       "uses no TLS",
		"https://ho st?authToken=sesame":   "not a valid URL",
		"libsql//host?authToken=sesame":    "without its scheme",
		"db.turso.io?authToken=sesame":     "without its scheme",
		"db-me.turso.io":                   "without its scheme",
		"127.0.0.1:8080":                   "without its scheme",
		"localhost:8080":                   "without its scheme",
		"db.example.com:443":               "without its scheme",
		"libsql://host?sesame":             "unknown parameter",
		"https://host?auth=sesame":         "unknown parameter",
		"http://10.0.0.1?authToken=sesame": "unencrypted to 10.0.0.1",
		"libsql://10.0.0.1?tls=0":          "unencrypted",
		"http://notlocalhost":              "unencrypted to notlocalhost",
		"http://localhost.example":         "unencrypted to localhost.example",
		"libsql://host,":                   "replica 1 of 1 is not HOST",
		"libsql://host,b,x@sesame:y":       "not a valid URL",
		"libsql://host,b,ses ame":          "replica 2 of 2 is not HOST",
		"libsql://host,b,host":             "host is named twice",
		"http://127.0.0.1:1,10.0.0.1:1":    "unencrypted to 10.0.0.1",
		"file:m.db?mode=ro":                "parameters",
		"file://host/m.db":                 "another host",
		"file:":                            "no path",
		"wss://host":                       "WebSocket",
		"file::memory:":                    "in-memory",
	} {
		_, err := parseTarget(in, false)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v, want %q and no secret", in, err, want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"m.db", "file:///x", "libsql://h?authToken=t", "http://[::1]:1", "https://u:p@h", "libsql://a,b:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTarget(s, false)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && (got.path == "") == (got.url == "") {
			t.Fatalf("%q: %+v", s, got)
		}
	})
}
