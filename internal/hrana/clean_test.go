package hrana

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	const token = "0paque+s3cret/token=="
	for text, want := range map[string]string{
		"no such table: t":                   "no such table: t",
		"UNIQUE constraint failed: tokens.k": "UNIQUE constraint failed: tokens.k",
		"Authorization forbidden: Current session doesn't not have Write permission": "Authorization forbidden: Current session doesn't not have Write permission",
		"Expected authorization header but none given":                               "Expected authorization header but none given",
		"Basic authentication is required":                                           "Basic authentication is required",
		"see https://db.test/a?tls=1":                                                "see https://db.test/a?tls=1",

		"got " + token + ".":                         "got [redacted].",
		"got 0paque%2Bs3cret%2Ftoken%3D%3D.":         "got [redacted].",
		"Authorization: Bearer other.s3cret, x":      "Authorization: [redacted], x",
		`{"authorization":"Basic dTpw","a":1}`:       `{"authorization":"[redacted]","a":1}`,
		`{\"Authorization\":\"Bearer a-s3cret\"}`:    `{\"Authorization\":\"[redacted]\"}`,
		"Proxy-Authorization: Basic dTpw":            "Proxy-Authorization: [redacted]",
		"bad key=value in 'bearer 0123456789abcdef'": "bad key=value in 'bearer [redacted]'",
		"token eyJhbGciOiJFZERTQSJ9.c2VjcmV0 cut":    "token [redacted] cut",
		"https://user:s3cret@db.test/x":              "https://db.test/x",
		"socks5://s3cret@db.test":                    "socks5://db.test",
		"/v3?tls=1&authToken=s3cret&x=1":             "/v3?tls=1&authToken=[redacted]&x=1",
		"/v3?X-Amz-Signature=s3cret":                 "/v3?X-Amz-Signature=[redacted]",
		"authToken=s3cret":                           "authToken=[redacted]",
		`{"auth_token": "s3cret"}`:                   `{"auth_token": "[redacted]"}`,
	} {
		if got := Clean(text, token); got != want {
			t.Errorf("%s\nbecomes %s\nwant    %s", text, got, want)
		}
	}
	basic := base64.StdEncoding.EncodeToString([]byte("bob:s3cret"))
	if got := Clean("bob:s3cret, s3cret of bob, "+basic, basic); got != "[redacted], [redacted] of bob, [redacted]" {
		t.Errorf("basic authentication makes %q", got)
	}
	if got := Clean("a table", "a"); got != "a table" {
		t.Errorf("a short token makes %q", got)
	}
}

// An answer repeats the token in whatever place it has.
func TestNoErrorHoldsTheToken(t *testing.T) {
	const token = "eyJhbGciOiJFZERTQSJ9.c2VjcmV0"
	stmtError := `{"type":"error","error":{"message":"no ` + token + `","code":"` + token + `"}}`
	stepError := `{"type":"ok","response":{"type":"batch","result":{"step_results":[null],"step_errors":[{"message":"no ` + token + `"}]}}}`
	for name, answer := range map[string]string{
		"a refusal in JSON":  "HTTP/1.1 400 Bad Request\r\n\r\n" + `{"error":"no ` + token + `","code":"` + token + `"}`,
		"a long refusal":     "HTTP/1.1 400 Bad Request\r\n\r\n" + `{"error":"` + token + strings.Repeat("-", maxRefusalText-len(redacted)-5) + token + `"}`,
		"a refusal in words": "HTTP/1.1 400 Bad Request\r\n\r\nno " + token,
		"a page":             "HTTP/1.1 502 Bad Gateway\r\n\r\n<html><title>no " + token + "</title></html>",
		"a redirect":         "HTTP/1.1 302 Found\r\nLocation: https://db.test/" + token + "\r\n\r\n",
		"another protocol":   "SSH " + token + "\r\n\r\n",
		"a login page":       "HTTP/1.1 200 OK\r\n\r\n<title>" + token + "</title>",
		"a failed statement": "HTTP/1.1 200 OK\r\n\r\n" + `{"results":[` + stmtError + `]}`,
		"a failed step":      "HTTP/1.1 200 OK\r\n\r\n" + `{"results":[` + stepError + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			url, rt := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // else closing resets the connection
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_, _ = conn.Write([]byte(answer)) // an error means that the client is gone
					_ = conn.Close()
				}
			})
			c, err := NewClient(url, func(context.Context) (string, error) { return token, nil })
			if err != nil {
				t.Fatal(err)
			}
			c.learn(V3JSON, true)
			request := Request(Execute{Stmt: Stmt{SQL: "SELECT 1"}})
			if name == "a failed step" {
				request = Batch{Steps: []Step{{Stmt: Stmt{SQL: "SELECT 1"}}}}
			}
			a, err := c.Do(t.Context(), rt, Pipeline{Requests: []Request{request}})
			told := fmt.Sprintf("%v %#v", err, err)
			if a != nil {
				for _, r := range a.Results {
					told += fmt.Sprint(r.Err)
					if r.Batch != nil {
						told += fmt.Sprint(r.Batch.Steps[0].Err)
					}
				}
			}
			if strings.Contains(told, token[:3]) || !strings.Contains(told, redacted) {
				t.Errorf("told is %s", told)
			}
		})
	}
}
