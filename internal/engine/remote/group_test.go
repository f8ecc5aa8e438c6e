package remote

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func units(batches ...[]engine.Stmt) []*engine.Unit {
	var group []*engine.Unit
	for _, stmts := range batches {
		group = append(group, &engine.Unit{Stmts: stmts})
	}
	return group
}

func insert(k int64) engine.Stmt { return stmt("INSERT INTO t VALUES(?)", k) }

func keys(t *testing.T, e *Engine) string {
	t.Helper()
	r, err := e.Query(t.Context(), stmt("SELECT group_concat(k, ' ') FROM (SELECT k FROM t ORDER BY k)"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(r[0].Rows[0][0])
}

// A group is committed as one transaction even if it is the first request, from
// which the protocol is still to be learned.
func TestOneBadUnitHurtsNoOther(t *testing.T) {
	for protocol := range protocols() {
		for _, tt := range []struct {
			name string
			bad  []engine.Stmt
			kind engine.Kind
			stmt int
			// commits counts the transactions: two for the good units where the bad
			// one is known, otherwise one for each good unit.
			commits uint64
		}{
			{"a single statement", []engine.Stmt{insert(0)}, engine.KindUnique, 0, 2},
			{"the last of several", []engine.Stmt{insert(10), insert(11), insert(0)}, engine.KindUnique, 2, 2},
			{"the first of several", []engine.Stmt{insert(0), insert(10)}, engine.KindUnique, 0, 2},
			{"a missing table", []engine.Stmt{insert(10), stmt("INSERT INTO nowhere VALUES(1)")}, engine.KindNoTable, 1, 2},
			{"unparsable", []engine.Stmt{insert(10), stmt("INSERT INTO t VALUS(1)")}, engine.KindOther, 1, 4},
			{"ends the transaction", []engine.Stmt{stmt("INSERT OR ROLLBACK INTO t VALUES(0)")}, engine.KindUnique, 0, 2},
			{"ends it late", []engine.Stmt{insert(10), stmt("INSERT OR ROLLBACK INTO t VALUES(0)"), insert(11)}, engine.KindUnique, 1, 2},
			{"fails at COMMIT", []engine.Stmt{insert(10), stmt("INSERT INTO f VALUES(77)")}, engine.KindConstraint, -1, 4},
		} {
			t.Run(protocol.String()+"/"+tt.name, func(t *testing.T) {
				e, proxy := open(t, protocol)
				must(t, e,
					stmt("CREATE TABLE t(k INTEGER PRIMARY KEY)"),
					stmt("CREATE TABLE f(k INTEGER REFERENCES t(k) DEFERRABLE INITIALLY DEFERRED)"),
					insert(0))
				first := openURL(t, proxy.URL())
				group := units(
					[]engine.Stmt{insert(1)},
					[]engine.Stmt{insert(2), insert(3)},
					tt.bad,
					[]engine.Stmt{insert(4), stmt("UPDATE t SET k = k + 1 WHERE k = 4 RETURNING k")},
					[]engine.Stmt{insert(6)},
				)
				first.commit(group)
				for i, u := range group {
					if i != 2 && (u.Err != nil || len(u.Results) != len(u.Stmts)) {
						t.Errorf("unit %d: %v, %v", i, u.Results, u.Err)
					}
				}
				wantError(t, group[2].Err, tt.kind, tt.stmt, "")
				if got := fmt.Sprint(group[3].Results); got != "[{[] 1} {[[5]] 1}]" {
					t.Errorf("results are %s", got)
				}
				if got := keys(t, e); got != "0 1 2 3 5 6" {
					t.Errorf("stored are %s", got)
				}
				if s := first.Stats(); s.Commits != tt.commits || s.Retries != 0 {
					t.Errorf("counted %+v, want %d commits", s, tt.commits)
				}
			})
		}
	}
}

func TestALoneUnitIsAllOrNothing(t *testing.T) {
	for protocol := range hrana.V2JSON + 1 {
		e, _ := open(t, protocol)
		must(t, e, stmt("CREATE TABLE t(k INTEGER PRIMARY KEY)"), insert(0))
		for _, stmts := range [][]engine.Stmt{
			{insert(1), insert(0), insert(2)},
			{insert(1), stmt("INSERT OR ROLLBACK INTO t VALUES(0)"), insert(2)},
		} {
			_, err := e.Batch(t.Context(), stmts...)
			wantError(t, err, engine.KindUnique, 1, "statement 1: UNIQUE constraint failed: t.k")
		}
		if got := keys(t, e); got != "0" {
			t.Errorf("%v: stored are %s", protocol, got)
		}
		if s := e.Stats(); s.Batches != 1 || s.Commits != 1 {
			t.Errorf("%v: counted %+v", protocol, s)
		}
	}
}

// Two programs on one database: each has a write lane of its own.
func TestTwoEnginesOnOneDatabase(t *testing.T) {
	e, proxy := open(t, hrana.V3Protobuf)
	must(t, e, stmt("CREATE TABLE t(k INTEGER PRIMARY KEY)"))
	other := openURL(t, proxy.URL())
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range int64(writers) {
		wg.Go(func() {
			on := []*Engine{e, other}[w%2]
			for i := range int64(each) {
				if _, err := on.Batch(t.Context(), insert(w*each+i)); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, e, "SELECT count(*) FROM t"); n != writers*each {
		t.Errorf("%d rows, want %d", n, writers*each)
	}
}

// script answers batches as told: for each step "ok", "" (skipped), or an error
// as "CODE: message".
func script(steps ...string) hranatest.Fault {
	var results, failures []string
	for _, s := range steps {
		result, failure := "null", "null"
		if code, message, ok := strings.Cut(s, ": "); ok {
			failure = fmt.Sprintf(`{"code":%q,"message":%q}`, code, message)
		} else if s == "ok" {
			result = `{"rows":[]}`
		}
		results, failures = append(results, result), append(failures, failure)
	}
	return answer(`{"type":"ok","response":{"type":"batch","result":{"step_results":[` + strings.Join(results, ",") +
		`],"step_errors":[` + strings.Join(failures, ",") + `]}}}`)
}

// answer answers the one request of a pipeline, and the one to close its stream
// if it is there.
func answer(result string) hranatest.Fault {
	return func(x *hranatest.Exchange) {
		baton, results := `"b"`, result
		if strings.Contains(string(x.Body()), `"type":"close"`) {
			baton, results = "null", result+`,{"type":"ok","response":{"type":"close"}}`
		}
		if body := string(x.Body()); strings.Contains(body, `"type":"batch"`) && strings.Contains(body, `"type":"execute"`) { // askIndex
			results = strings.Replace(results, result, result+`,{"type":"ok","response":{"type":"execute","result":{"rows":[]}}}`, 1)
		}
		x.Answer(http.StatusOK, nil, []byte(`{"baton":`+baton+`,"results":[`+results+`]}`))
	}
}

func TestGroupsThatMeetAScript(t *testing.T) {
	const busy, stolen = "SQLITE_BUSY: SQLite error: database is locked", "TRANSACTION_TIMEOUT: Transaction timed out"
	one := units([]engine.Stmt{insert(1), insert(2)}) // steps: BEGIN, 2 inserts, COMMIT, ROLLBACK
	stored := script("ok", "ok", "ok", "ok", "")
	for _, tt := range []struct {
		name   string
		faults []hranatest.Fault
		kind   engine.Kind
		stmt   int
		text   string // empty if the unit is stored
		want   engine.Stats
	}{
		{"stored", []hranatest.Fault{stored}, 0, 0, "", engine.Stats{Batches: 1, Commits: 1}},
		{"busy at BEGIN", []hranatest.Fault{script(busy, "", "", "", ""), stored}, 0, 0, "", engine.Stats{Batches: 1, Commits: 1, Retries: 1}},
		{"stolen within", []hranatest.Fault{script("ok", stolen, "", "", ""), stored}, 0, 0, "", engine.Stats{Batches: 1, Commits: 1, Retries: 1}},
		{"stolen without a word", []hranatest.Fault{script("ok", "ok", "", "", ""), stored}, 0, 0, "", engine.Stats{Batches: 1, Commits: 1, Retries: 1}},
		{"stolen at COMMIT", []hranatest.Fault{script("ok", "ok", "ok", stolen, "ok"), stored}, 0, 0, "", engine.Stats{Batches: 1, Commits: 1, Retries: 1}},
		{"busy for ever", slices.Repeat([]hranatest.Fault{script(busy, "", "", "", "")}, busyTries), engine.KindBusy, -1, "database is locked", engine.Stats{Retries: busyTries - 1}},
		{"refused BEGIN", []hranatest.Fault{script("SQLITE_READONLY: attempt to write a readonly database", "", "", "", "")}, engine.KindReadOnly, -1, "attempt to write", engine.Stats{}},
		{"full disk", []hranatest.Fault{script("ok", "ok", "SQLITE_FULL: database or disk is full", "", "")}, engine.KindFull, 1, "statement 1: database or disk is full", engine.Stats{}},
		{"failed COMMIT", []hranatest.Fault{script("ok", "ok", "ok", "SQLITE_IOERR: disk I/O error", "")}, engine.KindOther, -1, "disk I/O error", engine.Stats{}},
		{"COMMIT lost by a replica", []hranatest.Fault{script("ok", "ok", "ok", "PROXY_ERROR: transport error", "")}, engine.KindUnknownOutcome, -1, "transport error", engine.Stats{}},
		{"COMMIT refused through a replica", []hranatest.Fault{script("ok", "ok", "ok", "PROXY_ERROR: error executing a request on the primary: FOREIGN KEY constraint failed", "ok")}, engine.KindConstraint, -1, "FOREIGN KEY constraint failed", engine.Stats{}},
		{"refused as a whole", []hranatest.Fault{answer(`{"type":"error","error":{"code":"RESPONSE_TOO_LARGE","message":"Response is too large"}}`)}, engine.KindUnknownOutcome, -1, "Response is too large", engine.Stats{}},
		{"damaged answer", []hranatest.Fault{hranatest.Refuse(200, `{"results":[]}`)}, engine.KindUnknownOutcome, -1, "0 results for ", engine.Stats{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := hranatest.NewProxy(t, "http://"+hranatest.Unused(t))
			proxy.Hide("/v3-protobuf")
			proxy.Next(tt.faults...)
			e := openURL(t, proxy.URL())
			group := units(one[0].Stmts)
			e.commit(group)
			if tt.text == "" {
				if group[0].Err != nil || len(group[0].Results) != 2 {
					t.Errorf("results %v, error %v", group[0].Results, group[0].Err)
				}
			} else {
				wantError(t, group[0].Err, tt.kind, tt.stmt, tt.text)
			}
			got := e.Stats()
			if n := uint64(proxy.Requests("/v3/")); n != uint64(len(tt.faults)) {
				t.Errorf("%d requests, want %d", n, len(tt.faults))
			}
			got.Requests, got.Turns = 0, engine.TurnStats{}
			if got != tt.want {
				t.Errorf("counted %+v, want %+v", got, tt.want)
			}
		})
	}
}

// A statement that is a unit by itself travels without BEGIN and COMMIT.
func TestSingleStatementsThatMeetAScript(t *testing.T) {
	stored := answer(`{"type":"ok","response":{"type":"execute","result":{"rows":[]}}}`)
	failed := func(code, message string) hranatest.Fault {
		return answer(fmt.Sprintf(`{"type":"error","error":{"code":%q,"message":%q}}`, code, message))
	}
	busy := failed("SQLITE_BUSY", "SQLite error: database is locked")
	for _, tt := range []struct {
		name   string
		faults []hranatest.Fault
		kind   engine.Kind
		text   string // empty if the unit is stored
		want   engine.Stats
	}{
		{"stored", []hranatest.Fault{stored}, 0, "", engine.Stats{Batches: 1, Commits: 1, Requests: 1}},
		{"busy twice", []hranatest.Fault{busy, busy, stored}, 0, "", engine.Stats{Batches: 1, Commits: 1, Retries: 2, Requests: 3}},
		{"there already", []hranatest.Fault{failed("SQLITE_CONSTRAINT", "UNIQUE constraint failed: t.k")}, engine.KindUnique, "UNIQUE", engine.Stats{Requests: 1}},
		{"there already, says a replica", []hranatest.Fault{failed("PROXY_ERROR", "error executing a request on the primary: UNIQUE constraint failed: t.k")}, engine.KindUnique, "UNIQUE", engine.Stats{Requests: 1}},
		{"disk full", []hranatest.Fault{failed("SQLITE_FULL", "database or disk is full")}, engine.KindFull, "disk is full", engine.Stats{Requests: 1}},
		{"no SQL", []hranatest.Fault{failed("SQL_PARSE_ERROR", "near x")}, engine.KindOther, "near x", engine.Stats{Requests: 1}},
		{"stored, but too much to answer", []hranatest.Fault{failed("RESPONSE_TOO_LARGE", "Response is too large")}, engine.KindUnknownOutcome, "too large", engine.Stats{Requests: 1}},
		{"a replica lost its primary", []hranatest.Fault{failed("PROXY_ERROR", "error executing a request on the primary: broken pipe")}, engine.KindUnknownOutcome, "broken pipe", engine.Stats{Requests: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := hranatest.NewProxy(t, "http://"+hranatest.Unused(t))
			proxy.Hide(hidden[hrana.V3JSON]...)
			proxy.Next(tt.faults...)
			e := openURL(t, proxy.URL())
			r, err := e.Batch(t.Context(), insert(1))
			if tt.text == "" {
				if err != nil || len(r) != 1 {
					t.Errorf("%v, %v", r, err)
				}
			} else {
				wantError(t, err, tt.kind, 0, tt.text)
			}
			got := e.Stats()
			got.Requests -= 1 // that found out the protocol
			got.Turns = engine.TurnStats{}
			got.Failures = engine.Failures{}
			if got != tt.want {
				t.Errorf("counted %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestAGroupTakenApartStopsWhenTheServerIsGone(t *testing.T) {
	proxy := hranatest.NewProxy(t, "http://"+hranatest.Unused(t))
	proxy.Next(
		hranatest.Refuse(http.StatusForbidden, `{"error":"Authorization forbidden: no"}`),
		hranatest.CutAnswer,
	)
	e := openURL(t, proxy.URL())
	group := units([]engine.Stmt{insert(1)}, []engine.Stmt{insert(2)}, []engine.Stmt{insert(3)})
	e.commit(group)
	wantError(t, group[0].Err, engine.KindUnknownOutcome, -1, "no usable answer")
	wantError(t, group[1].Err, engine.KindUnavailable, -1, "not sent after another batch failed: no usable answer")
	wantError(t, group[2].Err, engine.KindUnavailable, -1, "not sent after another batch failed: no usable answer")
	if n := proxy.Requests(""); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}
