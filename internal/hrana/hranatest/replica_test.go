package hranatest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// run runs a statement and returns the first value of its answer, if there is
// one.
func run(s *Server, sql string) (string, error) {
	body := fmt.Sprintf(`{"requests":[{"type":"execute","stmt":{"sql":%q}},{"type":"close"}]}`, sql)
	client := http.Client{Timeout: startTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(s.URL()+"/v3/pipeline", "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Error   string
		Results []struct {
			Error    struct{ Message string }
			Response struct {
				Result struct{ Rows [][]struct{ Value string } }
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("%s: %w", resp.Status, err)
	}
	if len(answer.Results) == 0 {
		return "", fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	if text := answer.Results[0].Error.Message; text != "" {
		return "", errors.New(text)
	}
	if rows := answer.Results[0].Response.Result.Rows; len(rows) > 0 {
		return rows[0][0].Value, nil
	}
	return "", nil
}

func TestReplicaIsKilledAndRestarted(t *testing.T) {
	primary := Start(t, WithReplication())
	replica := StartReplica(t, primary)
	restart := func(s *Server) {
		t.Helper()
		s.Kill()
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(s *Server, sql string) string {
		t.Helper()
		value, err := run(s, sql)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	const count = "SELECT count(*) FROM t"
	ask(primary, "CREATE TABLE t(n)")
	for want, deadline := 1, time.Now().Add(startTimeout); want <= 2; want++ {
		ask(primary, "INSERT INTO t VALUES(1)")
		for got := ""; got != strconv.Itoa(want); {
			if got = ask(replica, count); time.Now().After(deadline) {
				t.Fatalf("the replica has %s rows, want %d", got, want)
			}
		}
		restart(replica)
	}

	// Nothing is read from the replica from here on; see StartReplica.
	restart(primary)
	ask(replica, "INSERT INTO t VALUES(1)") // passed on
	if got := ask(primary, count); got != "3" {
		t.Errorf("the primary has %s rows, want 3", got)
	}
}
