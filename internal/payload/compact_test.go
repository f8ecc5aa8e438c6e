package payload

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
)

// holdsText reports whether a dictionary holds the text.
func (m *memory) holdsText(t *testing.T, text string) bool {
	t.Helper()
	r, err := m.engine.Query(t.Context(), stmt("SELECT content FROM dictionaries"))
	ok(t, err)
	for _, row := range r[0].Rows {
		if bytes.Contains(row[0].([]byte), []byte(text)) {
			return true
		}
	}
	return false
}

// What was deleted or replaced leaves the dictionaries with the next compaction,
// whatever kind of item it was, and whether there is enough left to train with.
func TestDictionariesKeepNothingThatIsGone(t *testing.T) {
	const secret = "Authorization: Bearer sk-live-QUAGGAZEBRA-4711"
	filler := func(i int) string { h, steps := task(i); return h.Description + steps[0].Parameters + steps[1].Result }
	for _, tt := range []struct {
		name, insert, remove string
		kind                 Kind
	}{
		{"delete episodes", "INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(?1, '', ?2, '', '', 0, 0, 0, ?3)",
			"DELETE FROM episodes WHERE domain = 'secret'", Episodes},
		{"replace episodes", "INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(?1, '', ?2, '', '', 0, 0, 0, ?3)",
			"UPDATE episodes SET id = id, payload = x'017b7d' WHERE domain = 'secret'", Episodes},
		{"delete all", "INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(?1, '', ?2, '', '', 0, 0, 0, ?3)",
			"DELETE FROM episodes", Episodes},
		{"delete patterns", "INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload) VALUES(?1, '', ?2, 0, 0, ?3)",
			"DELETE FROM patterns WHERE domain = 'secret'", Patterns},
		{"replace patterns", "INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload) VALUES(?1, '', ?2, 0, 0, ?3)",
			"UPDATE patterns SET created_us = 0, payload = x'017b7d' WHERE domain = 'secret'", Patterns},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := onFile(t)
			for i := range 60 {
				text, domain := filler(i), ""
				if i%3 == 0 {
					text, domain = secret+text, "secret"
				}
				payload, err := m.Encode(tt.kind, 0, head{Description: text})
				ok(t, err)
				m.exec(t, tt.insert, []byte{byte(i)}, domain, payload)
			}
			_, err := m.Train(t.Context())
			ok(t, err)
			if !m.holdsText(t, "QUAGGAZEBRA") {
				t.Fatal("the dictionary does not hold the text that should go")
			}
			m.exec(t, tt.remove)
			done, err := m.Compact(t.Context(), nil)
			ok(t, err)
			if m.holdsText(t, "QUAGGAZEBRA") || done.Deleted != 1 || done.Damaged != 0 {
				t.Errorf("the text is held still; compaction: %+v", done)
			}
		})
	}
}

// What is deleted between the reading of samples and the storing of the dictionary
// taints it.
func TestRemovalsDuringATrainingTaint(t *testing.T) {
	m := onFile(t)
	m.putTasks(t, 0, 30)
	samples, id, removals, err := m.dictionaries.sample(t.Context(), Episodes)
	ok(t, err)
	m.exec(t, "DELETE FROM episodes WHERE seq = 1")
	dict, err := m.dictionaries.candidate(t.Context(), Episodes, samples, id, false, &Training{})
	ok(t, err)
	row := &dictionaryRow{id: id, kind: Episodes, items: 30, samples: 30, ratio: 0.1, removals: removals, dictionary: dict}
	for range 2 { // an answer may be lost
		_, err = m.engine.Repeatable(t.Context(), row.insert(time.Now())...)
	}
	states, err2 := m.dictionaries.refresh(t.Context())
	ok(t, err2)
	if s := states[Episodes]; s.id != id || !s.tainted {
		t.Errorf("state %+v, error %v", s, err)
	}
}

// No row of any table can newly name a dictionary that is closed or gone, whatever
// the codec, and every row that does keeps it.
func TestRowsAndTheirDictionaries(t *testing.T) {
	rows := map[string]string{
		"episodes":   "INSERT INTO episodes(seq, id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(1, x'01', '', '', '', '', 0, 0, 0, ?)",
		"runs":       "INSERT INTO runs VALUES((1 << 24) + 1, 1, NULL, ?)",
		"patterns":   "INSERT INTO patterns(id, kind, domain, success_rate, created_us, payload) VALUES(x'01', '', '', 0, 0, ?)",
		"heuristics": "INSERT INTO heuristics(id, confidence, created_us, payload) VALUES(x'01', 0, 0, ?)",
		"relations":  "INSERT INTO relations VALUES(1, 'follows', 1, 0, ?)",
	}
	if len(rows) != len(tables) {
		t.Errorf("%d of %d tables are tried", len(rows), len(tables))
	}
	m := onFile(t)
	try := func(sql string, args ...any) error {
		_, err := m.engine.Batch(t.Context(), stmt(sql, args...))
		return err
	}
	for _, id := range []uint32{codec.MinTrainedID, codec.MinTrainedID + 12345, codec.MaxTrainedID} {
		for _, c := range []codec.Codec{codec.Zstd, codec.Gzip} {
			for i := range tables {
				table := tables[i].table
				payload := append(codec.Prefix(c, id, false), 1, 2, 3)
				m.exec(t, "DELETE FROM dictionaries")
				if table != "episodes" { // which the others refer to
					m.exec(t, rows["episodes"], []byte{formatJSON})
				}
				if err := try(rows[table], payload); !IsDictionaryGone(err) {
					t.Errorf("%s takes what names no dictionary: %v", table, err)
				}
				m.exec(t, "INSERT INTO dictionaries VALUES(?, ?, ?, 0, 20, 0.2, 0, 0, x'00', x'00')", int64(id), TagOf(id), tables[i].kind.String())
				m.exec(t, rows[table], payload)
				if n := m.count(t, &tables[i], []uint32{id}); n != 1 {
					t.Errorf("%d rows of %s name %d", n, table, id)
				}
				m.exec(t, "UPDATE dictionaries SET closed = 1")
				if err := try("UPDATE "+table+" SET payload = ?", payload); !IsDictionaryGone(err) {
					t.Errorf("%s takes what names a closed dictionary: %v", table, err)
				}
				done, err := m.Compact(t.Context(), nil)
				ok(t, err)
				if done.Deleted != 0 || !strings.Contains(done.Damage, table) {
					t.Errorf("%s: compaction: %+v", table, done)
				}
				m.exec(t, "DELETE FROM "+table)
				m.exec(t, "DELETE FROM episodes")
				done, err = m.Compact(t.Context(), nil)
				ok(t, err)
				if done.Deleted != 1 {
					t.Errorf("%s: compaction without the row: %+v", table, done)
				}
			}
		}
	}
}

func (m *memory) count(t *testing.T, tb *table, ids []uint32) int64 {
	t.Helper()
	r, err := m.engine.Query(t.Context(), tb.count(tb.names(ids)))
	ok(t, err)
	return r[0].Rows[0][0].(int64)
}
