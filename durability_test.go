package episodic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// What docs/durability.md promises of a local file.

// wholeFile fails unless a file passes SQLite's own check.
func wholeFile(t testing.TB, s *Store) {
	t.Helper()
	r, err := s.engine.Query(t.Context(), stmt("PRAGMA integrity_check"))
	if err != nil || len(r[0].Rows) != 1 || r[0].Rows[0][0] != "ok" {
		t.Errorf("integrity: %v, %v", r, err)
	}
}

// replaceFile puts a file with such content in the place of another one.
func replaceFile(path string, content []byte) error {
	other := path + ".other"
	if err := os.WriteFile(other, content, 0o600); err != nil {
		return err
	}
	return os.Rename(other, path)
}

// disruptions are what others do to a file, and to its log and the index of that.
var disruptions = map[string]func(path string) error{
	"log removed":   func(path string) error { return os.Remove(path + "-wal") },
	"index removed": func(path string) error { return os.Remove(path + "-shm") },
	"both removed": func(path string) error {
		return errors.Join(os.Remove(path+"-wal"), os.Remove(path+"-shm"))
	},
	"log emptied by another":   func(path string) error { return replaceFile(path+"-wal", nil) },
	"index emptied by another": func(path string) error { return replaceFile(path+"-shm", nil) },
	"log of garbage":           func(path string) error { return replaceFile(path+"-wal", make([]byte, 50_000)) },
	"file moved away and back": func(path string) error {
		return errors.Join(os.Rename(path, path+".away"), os.Rename(path+".away", path))
	},
	"file replaced by a copy": func(path string) error {
		content, err := os.ReadFile(path)
		if err == nil {
			err = replaceFile(path, content)
		}
		return err
	},
	"file removed": os.Remove,
}

// The file, its log or the index of that is removed or replaced while several write. What was
// acknowledged is there afterwards, or somebody was told (ErrReplaced) that it may not be; and no file is
// damaged.
func TestNothingIsLostInSilence(t *testing.T) {
	t.Parallel()
	names := make([]string, 0, len(disruptions))
	for name := range disruptions {
		names = append(names, name)
	}
	for i := range testkit.Effort(len(names), len(names), 60) {
		disrupted(t, names[i%len(names)])
	}
}

func disrupted(t *testing.T, name string) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.db")
	s, err := Open(t.Context(), path, direct(nil))
	ok(t, err)
	var (
		mu       sync.Mutex
		receipts []Receipt
		told     []error
		writers  sync.WaitGroup
	)
	begun, after := make(chan struct{}), make(chan struct{}) // closed when there is something to lose, and when that was disrupted
	var once sync.Once
	ctx := WithReceipts(t.Context(), func(r Receipt) {
		mu.Lock()
		defer mu.Unlock()
		if receipts = append(receipts, r); len(receipts) == 3 {
			once.Do(func() { close(begun) })
		}
	})
	for w := range 2 {
		writers.Go(func() {
			for left := 2; left > 0; {
				select {
				case <-after:
					left--
				default:
				}
				if err := s.PutEpisode(ctx, &Episode{Description: fmt.Sprint("writer ", w), Steps: []Step{{Action: strings.Repeat("x", rand.IntN(5000)+1)}}}); err != nil {
					mu.Lock()
					told = append(told, err)
					mu.Unlock()
					once.Do(func() { close(begun) })
					return
				}
			}
		})
	}
	<-begun
	time.Sleep(rand.N(3 * time.Millisecond))                                           // a random moment
	if err := disruptions[name](path); err != nil && !errors.Is(err, os.ErrNotExist) { // a mended log or index may be gone for a moment
		t.Fatal(err)
	}
	close(after)
	writers.Wait()
	if err := s.Close(); err != nil {
		told = append(told, err)
	}
	for _, err := range told {
		if !errors.Is(err, ErrReplaced) {
			t.Errorf("%s: a writer is told %v", name, err)
		}
	}
	// A file that was removed is not made anew by looking.
	o := direct(nil)
	o.MustExist = true
	fresh, err := Open(t.Context(), path, o)
	if errors.Is(err, ErrNotFound) {
		if len(told) == 0 {
			t.Errorf("%s: the file is gone, and nobody was told", name)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	wholeFile(t, fresh)
	verdicts, err := fresh.Verify(t.Context(), receipts...)
	ok(t, err)
	for i, v := range verdicts {
		if v.Status != WriteKept && (len(told) == 0 || v.Status != WriteMissing) {
			t.Errorf("%s: of %d receipts number %d is %+v; told: %v", name, len(receipts), i, v, told)
		}
	}
	ok(t, fresh.Close())
}

// logged writes by a Store, and returns the file and its log as they are on the disk then, the receipts, and
// how long the log was when each write was acknowledged.
func logged(t *testing.T, writes int) (file, log []byte, receipts []Receipt, upto []int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.db")
	s := open(t, path, direct(nil))
	ok(t, s.PutHeuristic(t.Context(), &Heuristic{Condition: "c", Action: "a"}))
	ctx := receiptsIn(t.Context(), &receipts)
	e := &Episode{Description: "task"}
	ok(t, s.StartEpisode(t.Context(), e))
	for i := range writes {
		if i%3 == 0 {
			ok(t, s.PutEpisode(ctx, &Episode{Description: fmt.Sprint("put ", i)}))
		} else {
			_, err := s.AppendSteps(ctx, e.ID, Step{Action: strings.Repeat(fmt.Sprint(i), 1+rand.IntN(3000))})
			ok(t, err)
		}
		info, err := os.Stat(path + "-wal")
		ok(t, err)
		upto = append(upto, int(info.Size()))
	}
	var err error
	log, err = os.ReadFile(path + "-wal")
	ok(t, err)
	file, err = os.ReadFile(path)
	ok(t, err)
	return file, log, receipts, upto
}

// After power loss the disk has the log up to where it was forced to it, or to any place behind. With
// synchronous=FULL, as of a memory, that is the end of the last acknowledged write; with NORMAL, as
// of a replica, some place before. The file opens, and holds the writes up to there: all of them,
// and none without those before it.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	const header, frame = 32, 24 + 4096
	file, log, receipts, upto := logged(t, testkit.Effort(6, 12, 60))
	if (len(log)-header)%frame != 0 {
		t.Fatalf("the log has %d bytes", len(log))
	}
	var cuts []int
	for at := 0; at <= len(log); at += frame {
		cuts = append(cuts, min(at+header, len(log)))
	}
	rand.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
	cuts = append(cuts[:min(len(cuts), testkit.Effort(8, 16, len(cuts)))], 0, len(log), upto[0], upto[len(upto)/2])
	for range testkit.Effort(4, 8, 200) {
		cuts = append(cuts, rand.IntN(len(log)))
	}
	for i, cut := range cuts {
		path := filepath.Join(t.TempDir(), "m.db")
		kept := append([]byte(nil), log[:cut]...)
		if i%2 == 1 { // a disk may have written something else behind
			kept = append(kept, make([]byte, 5000)...)
		}
		ok(t, errors.Join(os.WriteFile(path, file, 0o600), os.WriteFile(path+"-wal", kept, 0o600)))
		s, err := Open(t.Context(), path, direct(nil))
		if err != nil {
			t.Fatalf("the log cut at %d of %d: %v", cut, len(log), err)
		}
		wholeFile(t, s)
		lost := false
		verdicts, err := s.Verify(t.Context(), receipts...)
		ok(t, err)
		for n, v := range verdicts {
			switch is := v.Status == WriteKept; {
			case !is && v.Status != WriteMissing:
				t.Errorf("cut at %d: write %d is %+v", cut, n, v)
			case !is && upto[n] <= cut:
				t.Errorf("cut at %d: write %d is lost, which was on the disk up to %d", cut, n, upto[n])
			case is && lost:
				t.Errorf("cut at %d: write %d is there, and one before it is not", cut, n)
			default:
				lost = lost || !is
			}
		}
		ok(t, s.PutEpisode(t.Context(), &Episode{Description: "goes on"}))
		ok(t, s.Close())
	}
}

// Every 20th write finds the disk full: it is refused, what was acknowledged stays, deleting works,
// and when there is room the Store goes on.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	s := open(t, path, direct(nil))
	var receipts []Receipt
	ctx := receiptsIn(t.Context(), &receipts)
	var ids []ID
	put := func() error {
		text := make([]byte, 6000) // more than a page, of anything
		for i := range text {
			text[i] = byte('!' + rand.IntN(90))
		}
		e := &Episode{Description: "task", Steps: []Step{{Action: "a", Result: &Result{Kind: ResultOutput, Text: string(text)}}}}
		err := s.PutEpisode(ctx, e)
		if err == nil {
			ids = append(ids, e.ID)
		}
		return err
	}
	full := func(is bool) {
		pages := int64(1 << 30)
		if is {
			pages = number(t, s, "PRAGMA page_count")
		}
		_, err := s.engine.Batch(t.Context(), stmt(fmt.Sprintf("PRAGMA max_page_count = %d", pages)))
		ok(t, err)
	}
	for i := range testkit.Effort(45, 100, 500) {
		if i%20 < 19 {
			ok(t, put())
			continue
		}
		full(true)
		for range 3 { // the free pages may hold one
			if err := put(); err != nil {
				wants(t, err, ErrFull, "")
				break
			}
		}
		ok(t, s.DeleteEpisode(ctx, ids[0])) // while it is full
		ids = ids[1:]
		_, err := s.Episode(t.Context(), ids[0])
		ok(t, err)
		full(false)
		ok(t, put())
	}
	fresh := open(t, path, direct(nil))
	wholeFile(t, fresh)
	for i, f := range statuses(t, fresh, receipts...) {
		if f != WriteKept && f != WriteDeleted {
			t.Errorf("%v is %s", receipts[i], f)
		}
	}
	for _, id := range ids {
		_, err := fresh.Episode(t.Context(), id)
		ok(t, err)
	}
}
