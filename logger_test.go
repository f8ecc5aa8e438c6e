package episodic

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// What no call reports is logged, and no record holds a token or anything stored.
func TestLogger(t *testing.T) {
	const token = "t0p.s3cret"
	server := hranatest.Start(t)
	proxy := hranatest.NewProxy(t, server.URL())
	var records lockedBuffer
	openLogged := func() *Store {
		return open(t, proxy.URL(), &Options{
			AuthToken: StaticToken(token), Cache: Cache{Disabled: true},
			Logger: slog.New(slog.NewTextHandler(&records, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
	}
	logged := func(parts ...string) {
		t.Helper()
		got := records.take()
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s is missing in\n%s", part, got)
			}
		}
		for _, secret := range []string{token, "authToken", "SELECT", task(0).Description[:10]} {
			if strings.Contains(got, secret) {
				t.Errorf("a record holds %q:\n%s", secret, got)
			}
		}
	}

	s := openLogged()
	ids := put(t, s, 0, 25)
	_, err := s.TrainDictionaries(t.Context())
	ok(t, err)
	logged(`level=INFO msg="dictionary adopted" kind=episode`)

	proxy.Next(hranatest.Refuse(http.StatusServiceUnavailable, `{"error":"`+token+" "+task(0).Description+`"}`))
	_, err = s.Episode(t.Context(), ids[0])
	ok(t, err)
	logged(`level=DEBUG msg="request is sent again"`, `cause="HTTP 503"`)

	_, err = s.engine.Batch(t.Context(), stmt("DROP TRIGGER dictionary_changed"),
		stmt("UPDATE dictionaries SET content = CAST(substr(content, 1, 5000) || x'00' || substr(content, 5002) AS BLOB)"))
	ok(t, err)
	_, err = openLogged().TrainDictionaries(t.Context())
	ok(t, err)
	logged(`level=WARN msg="dictionary unusable"`, "hash differs")
}

// lockedBuffer is a buffer for concurrent writers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was written since the last time.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}
