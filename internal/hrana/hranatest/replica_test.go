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

func TestReplicaFollowsItsPrimaryThroughRestarts(t *testing.T) {
	primary := Start(t, WithReplication())
	replica := StartReplica(t, primary)
	write := func(s *Server, sql string) {
		t.Helper()
		if _, err := run(s, sql); err != nil {
			t.Fatal(err)
		}
	}
	write(primary, "CREATE TABLE t(n)")
	rows := 0
	for _, restarted := range []*Server{nil, replica, primary} {
		if restarted != nil {
			restarted.Kill()
			if err := restarted.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []*Server{primary, replica} { // a replica passes writes on
			write(s, "INSERT INTO t VALUES(1)")
			rows++
			// While a replica gets everything anew, reads may also fail.
			want, deadline := strconv.Itoa(rows), time.Now().Add(startTimeout)
			for got := ""; got != want; {
				var err error
				if got, err = run(replica, "SELECT count(*) FROM t"); time.Now().After(deadline) {
					t.Fatalf("the replica has %q rows after %v, want %s; error %v", got, startTimeout, want, err)
				}
			}
		}
	}
}
