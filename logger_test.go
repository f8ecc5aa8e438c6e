package episodic

import (
	"net/http"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

// What no call reports is logged, and no record holds a token or anything stored.
func TestLogger(t *testing.T) {
	const token = "t0p.s3cret"
	server := hranatest.Start(t)
	proxy := hranatest.NewProxy(t, server.URL())
	var records testkit.Log
	openLogged := func() *Store {
		return open(t, proxy.URL(), &Options{
			AuthToken: StaticToken(token), Cache: Cache{Disabled: true}, DisableCacheDir: true,
			Logger: records.Logger(),
		})
	}
	logged := func(parts ...string) {
		t.Helper()
		got := records.Take()
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
