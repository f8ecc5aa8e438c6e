package remote

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestLogTellsWhatNoCallReports(t *testing.T) {
	const token, argument = "t0p.s3cret", "pr1vate"
	server := hranatest.Start(t)
	proxy := hranatest.NewProxy(t, server.URL())
	var records testkit.Log
	logger := records.Logger()
	e, err := Open(Config{URL: proxy.URL(), Logger: logger, Token: func(context.Context) (string, error) { return token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ask := func() error {
		_, err := e.Query(t.Context(), stmt("SELECT ?", argument))
		return err
	}
	// A gateway that repeats what it was sent.
	echo := hranatest.Refuse(http.StatusServiceUnavailable, `{"error":"`+token+" "+argument+`"}`)
	for _, tt := range []struct {
		name  string
		play  func() error
		fails bool
		want  []string // of the records, in order
	}{
		{"nothing happens", ask, false, nil},
		{"an answer is cut", func() error {
			proxy.Next(hranatest.CutAnswer)
			return ask()
		}, false, []string{`level=DEBUG msg="request is sent again" server=`, "attempt=2 write=false cause=\"no usable answer from "}},
		{"a gateway refuses", func() error {
			proxy.Next(echo)
			return ask()
		}, false, []string{`msg="request is sent again"`, `cause="HTTP 503"`}},
		{"the server restarts", func() error {
			for range streamStreak + 1 {
				if err := ask(); err != nil {
					return err
				}
			}
			server.Kill()
			if err := server.Restart(); err != nil {
				return err
			}
			return ask()
		}, false, []string{`level=DEBUG msg="server has forgotten the streams"`, "streams=1"}},
		{"the breaker opens", func() error {
			for range breakerCalls {
				e.record(&hrana.Error{Status: http.StatusServiceUnavailable, Message: token}, false)
			}
			return ask()
		}, true, []string{`level=WARN msg="server does not answer, requests are held back"`, `cause="HTTP 503"`}},
		{"a try fails", func() error {
			e.breaker.HalfOpen()
			e.breaker.RecordFailure()
			return ask()
		}, true, nil},
		{"the breaker closes", func() error {
			e.breaker.HalfOpen()
			return ask()
		}, false, []string{`level=INFO msg="server is back, requests are sent again"`}},
	} {
		if err := tt.play(); (err != nil) != tt.fails || tt.fails && engine.KindOf(err) != engine.KindUnavailable {
			t.Errorf("%s: %v", tt.name, err)
		}
		got := records.Take()
		rest := got
		for _, part := range tt.want {
			_, after, found := strings.Cut(rest, part)
			if !found {
				t.Errorf("%s: %q is missing in\n%s", tt.name, part, got)
			}
			rest = after
		}
		if len(tt.want) == 0 && got != "" {
			t.Errorf("%s: logged %s", tt.name, got)
		}
		if strings.Contains(got, token) || strings.Contains(got, argument) || strings.Contains(got, "SELECT") {
			t.Errorf("%s: a record holds a secret: %s", tt.name, got)
		}
	}
}
