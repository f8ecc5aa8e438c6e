package payload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine"
)

// noDictionaries is an engine that cannot read dictionaries.
type noDictionaries struct{ engine.Engine }

func (e noDictionaries) Query(ctx context.Context, stmts ...engine.Stmt) ([]engine.Result, error) {
	if strings.Contains(stmts[0].SQL, "FROM dictionaries WHERE id") {
		return nil, errors.New("a dictionary was fetched")
	}
	return e.Engine.Query(ctx, stmts...)
}

// trained returns a memory with a trained dictionary, its id, and a payload that names it.
func trained(t *testing.T) (m *memory, id uint32, payload []byte) {
	m = onFile(t)
	m.putTasks(t, 0, 60)
	_, err := m.Train(t.Context())
	ok(t, err)
	h, _ := task(100)
	payload, err = m.Encode(Episodes, h)
	ok(t, err)
	header, err := codec.Inspect(payload)
	ok(t, err)
	if header.Dictionary < codec.MinTrainedID {
		t.Fatalf("the payload names dictionary %d", header.Dictionary)
	}
	return m, header.Dictionary, payload
}

// reading decodes the payload by a Codec of its own, which keeps copies in dir.
func reading(t *testing.T, e engine.Engine, dir string, payload []byte) error {
	t.Helper()
	c := New(e, false, Options{Folder: dir})
	defer c.Close()
	var h head
	err := c.Decode(t.Context(), payload, &h)
	if want, _ := task(100); err == nil && h.Description != want.Description {
		t.Errorf("read %q", h.Description)
	}
	return err
}

func TestCopiesOfDictionariesSaveFetching(t *testing.T) {
	m, id, payload := trained(t)
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := reading(t, noDictionaries{m.engine}, dir, payload); err == nil {
		t.Fatal("it was read without its dictionary")
	}
	ok(t, reading(t, m.engine, dir, payload))
	ok(t, reading(t, noDictionaries{m.engine}, dir, payload))

	file := newFolder(dir).path(id)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info, err)
	}
	old := time.Now().Add(-keepFor - time.Hour)
	ok(t, os.Chtimes(file, old, old))
	if err := reading(t, noDictionaries{m.engine}, dir, payload); err == nil {
		t.Error("an old copy was used")
	}
	ok(t, os.WriteFile(file, []byte("damaged"), 0o600))
	ok(t, reading(t, m.engine, dir, payload))
	ok(t, reading(t, noDictionaries{m.engine}, dir, payload))
}

// The database may be another one than the copy was made from, with a dictionary of the
// same id.
func TestCopyOfAnotherDatabaseIsReplaced(t *testing.T) {
	m, id, payload := trained(t)
	var samples []codec.Sample
	for i := range 100 {
		samples = append(samples, codec.Sample{Group: fmt.Sprint(i), Data: fmt.Appendf(nil, `{"other":%d,"text":"nothing of what is stored here %d"}`, i, i*i)})
	}
	other, err := codec.Train(t.Context(), samples, codec.TrainOptions{ID: id, Size: 4096})
	ok(t, err)
	dir := t.TempDir()
	wrong := func() { ok(t, newFolder(dir).write(other)) }
	wrong()
	ok(t, reading(t, m.engine, dir, payload))
	ok(t, reading(t, noDictionaries{m.engine}, dir, payload)) // the right one is kept now

	wrong()
	c := New(m.engine, false, Options{Folder: dir})
	defer c.Close()
	for range 2 {
		var h head
		ok(t, c.Decode(t.Context(), payload, &h))
		_, err = c.dictionaries.refresh(t.Context()) // activates it to write with
		ok(t, err)
	}
	damaged := slices.Clone(payload)
	damaged[len(damaged)-1] ^= 1
	var h head
	if err := c.Decode(t.Context(), damaged, &h); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged frame: %v", err)
	}
}

// A dictionary that is not in use any more may hold what was deleted.
func TestCopiesThatAreNotInUseAreDeleted(t *testing.T) {
	m, id, payload := trained(t)
	dir := t.TempDir()
	ok(t, reading(t, m.engine, dir, payload))
	c := New(m.engine, false, Options{Folder: dir})
	defer c.Close()
	f := newFolder(dir)
	for _, tt := range []struct {
		closed int
		want   bool
	}{{0, true}, {1, false}} {
		m.exec(t, "UPDATE dictionaries SET closed = ?", int64(tt.closed))
		_, err := c.dictionaries.refresh(t.Context())
		ok(t, err)
		if kept := f.read(id) != nil; kept != tt.want {
			t.Errorf("closed %d: the copy is kept: %v", tt.closed, kept)
		}
	}
}
