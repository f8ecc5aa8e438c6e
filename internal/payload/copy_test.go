package payload

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

// countingDictionaries counts the dictionaries that are read from an engine.
type countingDictionaries struct {
	engine.Engine
	reads int
}

func (e *countingDictionaries) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if strings.Contains(stmts[0].SQL, "FROM dictionaries WHERE id") {
		e.reads++
	}
	return e.Engine.Query(ctx, stmts...)
}

// A copy of the database saves fetching the dictionary to write with, if it has that one.
func TestDictionariesComeFromTheCopy(t *testing.T) {
	m := onFile(t)
	m.putTasks(t, 0, 60)
	_, err := m.Train(t.Context())
	ok(t, err)
	id := uint32(m.number(t, "SELECT id FROM dictionaries"))
	var samples []codec.Sample
	for i := range 100 {
		samples = append(samples, codec.Sample{Group: fmt.Sprint(i), Data: fmt.Appendf(nil, `{"other":%d,"text":"nothing of what is stored here %d"}`, i, i*i)})
	}
	other, err := codec.Train(t.Context(), samples, codec.TrainOptions{ID: id, Size: 4096})
	ok(t, err)

	columns := "id, tag, kind, created_us, samples, ratio, removals, sha256, content"
	row, err := m.engine.Query(t.Context(), stmt("SELECT "+columns+" FROM dictionaries"))
	ok(t, err)
	right := row[0].Rows[0]
	insert := func(t *testing.T, c *memory, row []any) {
		c.exec(t, "INSERT INTO dictionaries("+columns+") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", row...)
	}
	for _, tt := range []struct {
		name  string
		fill  func(t *testing.T, c *memory)
		reads int // from the database
	}{
		{"it has it", func(t *testing.T, c *memory) { insert(t, c, right) }, 0},
		{"it has none", func(*testing.T, *memory) {}, 1},
		{"it has another one of that id", func(t *testing.T, c *memory) {
			d := dictionaryRow{id: id, kind: Episodes, items: 1, dictionary: other}
			stmts := d.insert(time.Now())
			_, err := c.engine.Batch(t.Context(), stmts...)
			ok(t, err)
		}, 1},
		{"it is damaged", func(t *testing.T, c *memory) {
			wrong := append([]any{}, right...)
			wrong[8] = other.Bytes()
			insert(t, c, wrong)
		}, 1},
		{"it is closed", func(t *testing.T, c *memory) { ok(t, c.engine.Close()) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := openMemory(t.Context(), filepath.Join(t.TempDir(), "copy.db"), Options{})
			ok(t, err)
			defer c.close()
			tt.fill(t, c)
			database := &countingDictionaries{Engine: m.engine}
			reader := New(database, false, Options{Copy: c.engine})
			defer reader.Close()
			for range 2 {
				_, err = reader.dictionaries.refresh(t.Context())
				ok(t, err)
			}
			h, _ := task(100)
			payload, err := reader.Encode(Episodes, 0, h)
			ok(t, err)
			var got head
			if err := m.Decode(t.Context(), payload, 0, &got); err != nil || got != h {
				t.Errorf("read %+v, %v", got, err)
			}
			header, err := codec.Inspect(payload)
			if ok(t, err); header.Dictionary != id || database.reads != tt.reads {
				t.Errorf("wrote with dictionary %d, want %d; read %d from the database, want %d", header.Dictionary, id, database.reads, tt.reads)
			}
			payload[len(payload)-1] ^= 1
			if err := reader.Decode(t.Context(), payload, 0, &got); !errors.Is(err, ErrCorrupt) {
				t.Errorf("a damaged frame: %v", err)
			}
		})
	}
}
