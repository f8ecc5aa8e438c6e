package schema

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/engine"
)

// writer is a row of the table writers, relative to now.
type writer struct{ age, active, hold, left int64 }

// turns replaces the rows of writers, and returns those of the views turns and newcomers by machine.
func turns(t testing.TB, e engine.Engine, writers map[int64]writer) map[int64][]int64 {
	t.Helper()
	stmts := []engine.Stmt{{SQL: "DELETE FROM writers"}}
	for machine, w := range writers {
		stmts = append(stmts, engine.Stmt{
			SQL:  "INSERT INTO writers SELECT ?1, now - ?2, now + ?3, ?4, now + ?5 FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now)",
			Args: []engine.Value{machine, w.age, w.active, w.hold, w.left},
		})
	}
	if _, err := e.Batch(t.Context(), stmts...); err != nil {
		t.Fatal(err)
	}
	r, err := e.Query(t.Context(), engine.Stmt{SQL: "SELECT * FROM turns UNION ALL SELECT * FROM newcomers"})
	if err != nil {
		t.Fatal(err)
	}
	rows := map[int64][]int64{}
	for _, row := range r[0].Rows {
		var in []int64
		for _, v := range row {
			in = append(in, v.(int64))
		}
		rows[in[0]] = in
	}
	return rows
}

// columns of turns
const (
	machines = iota + 1
	_
	now
	slot
	period
	place
	until
	mayWrite
)

// However many machines there are: of those that wrote lately at most one has a slot, and
// of the others at most one has it too. Who may write always are three at most.
func TestSlotsAreOfOneMachine(t *testing.T) {
	e := fresh(t)
	if err := Migrate(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		writers := map[int64]writer{}
		active, known := 0, 0
		for i := range rapid.Int64Range(0, 30).Draw(rt, "machines") {
			w := writer{
				age:    rapid.SampledFrom([]int64{0, 700, 60_000, 7_200_000, -7_200_000}).Draw(rt, "age"),
				active: 100_000,
				hold:   rapid.Int64Range(0, 3000).Draw(rt, "hold"),
			}
			if w.age > 700 || w.age < 0 {
				w.active = -1
			}
			writers[i+1] = w
			if w.age >= 0 && w.age <= 60_000 {
				known++
			}
			if w.active > 0 {
				active++
			}
		}
		rows := turns(t, e, writers)
		for machine, w := range writers {
			if w.age < 0 || w.age > 60_000 { // not counted; it is when it has written
				delete(rows, machine)
			}
		}
		if len(rows) != known+1 || rows[0] == nil || rows[0][machines] != int64(known) {
			rt.Fatalf("rows are %v of %d known machines", rows, known)
		}
		for n := range int64(60) {
			var lately, others, always int
			for machine, row := range rows {
				if row[period] < 1 || row[place] < 0 || row[place] >= row[period] || row[slot] != 10 {
					rt.Fatalf("row %v", row)
				}
				if want := row[until] <= row[now] && row[now]/row[slot]%row[period] == row[place]; (row[mayWrite] == 1) != want {
					rt.Fatalf("open is %d in %v", row[mayWrite], row)
				}
				switch {
				case machine == 0:
				case row[period] == 1:
					always++
				case n%row[period] != row[place]:
				case writers[machine].active > 0:
					lately++
				default:
					others++
				}
			}
			if always > 3 || lately > 1 || others > 1 || n%2 == 0 && others > 0 || known > 3 && lately+others+always > 3 {
				rt.Fatalf("slot %d: %d, %d and always %d of %v", n, lately, others, always, rows)
			}
			if active > 2 && known > 3 && lately != 1 {
				rt.Fatalf("slot %d is nobody's: %v", n, rows)
			}
		}
	})
}

func TestSlotIsThreeTimesAsLongAsWrites(t *testing.T) {
	e := fresh(t)
	if err := Migrate(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ hold, other, want int64 }{
		{0, 0, 10}, {3333, 3333, 10}, {3334, 3334, 20}, {1000, 9000, 20}, {20000, 0, 40}, {26000, 26000, 80}, {27000, 27000, 160}, {1e6, 1e6, 160},
	} {
		rows := turns(t, e, map[int64]writer{1: {active: 1e6, hold: test.hold}, 2: {active: 1e6, hold: test.other}, 3: {hold: 1e9}})
		if rows[1][slot] != test.want {
			t.Errorf("writes take %d and %d us: a slot lasts %d ms, want %d", test.hold, test.other, rows[1][slot], test.want)
		}
	}
}

// An announced write keeps the others away, not its own machine, and not for longer than
// one can be announced for.
func TestAnnouncedWrite(t *testing.T) {
	e := fresh(t)
	if err := Migrate(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	rows := turns(t, e, map[int64]writer{1: {left: 5000}, 2: {}})
	if rows[1][mayWrite] != 1 || rows[2][mayWrite] != 0 || rows[0][mayWrite] != 0 || rows[2][until]-rows[2][now] < 4000 {
		t.Errorf("while machine 1 writes: %v", rows)
	}
	rows = turns(t, e, map[int64]writer{1: {left: 60_000}, 2: {}})
	if rows[2][mayWrite] != 1 || rows[0][until] > rows[0][now] {
		t.Errorf("after a clock was set back: %v", rows)
	}
}

// Both sides of the check by which a write asks for its turn.
func TestCheckFailsUnlessOpen(t *testing.T) {
	e := fresh(t)
	if err := Migrate(t.Context(), e, true); err != nil {
		t.Fatal(err)
	}
	turns(t, e, map[int64]writer{1: {left: 5000}, 2: {}})
	const check = "SELECT *, abs(open - 9223372036854775807 - 1) FROM " // as the engine asks
	for from, passes := range map[string]bool{"turns WHERE machine = 1": true, "turns WHERE machine = 2": false, "newcomers": false} {
		_, err := e.Query(t.Context(), engine.Stmt{SQL: check + from})
		if passes && err != nil || !passes && (err == nil || !strings.Contains(fmt.Sprint(err), "overflow")) {
			t.Errorf("%s: %v", from, err)
		}
	}
}
