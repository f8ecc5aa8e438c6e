package episodic

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// word is a random one that no stemmer shortens, and no text holds by chance.
func word() string {
	return "x" + randomText(20) + "0"
}

// secret is a word, the item that holds it, and how to delete that.
type secret struct {
	word   string
	vector []byte // of its item, as it is stored
	forget func()
	search bool // it is in what searches look at
}

// hide stores a word somewhere, by n.
func hide(t *testing.T, s *Store, n int) secret {
	t.Helper()
	ctx, w := t.Context(), word()
	text := "check the reservation " + w + " of the customer"
	e := &Episode{Description: "change a flight", Context: Context{Domain: "airline", Tags: []string{"flights"}},
		Steps: []Step{{Tool: "get_reservation", Action: "look at it", Parameters: JSON(`{"id":"A1"}`), Result: &Result{Kind: ResultOutput, Text: "two bags"}}}}
	out := secret{word: w, search: n%12 != 2 && n%12 != 4, forget: func() { ok(t, s.DeleteEpisode(ctx, e.ID)) }}
	switch n % 12 {
	case 0:
		e.Description = text
	case 1:
		e.Steps[0].Action = text
	case 2:
		e.Steps[0].Parameters = JSON(fmt.Sprintf(`{"query":%q}`, `{"inner":"`+text+`"}`))
	case 3:
		e.Steps[0].Result.Text = text
	case 4:
		e.Metadata = map[string]string{"note": text}
	case 5:
		e.Context.Tags = []string{w}
	case 6:
		e.Steps[0].Result.Text = strings.Repeat(text+"\n", 2000) // more than a page
	case 7: // replaced
		e.Description = text
		out.forget = func() {
			e.Description, e.Steps[0].Action = "change a flight", "look at it again"
			ok(t, s.PutEpisode(ctx, e))
		}
	case 8:
		p := &Pattern{Description: text, ContextPattern: &ContextPattern{Features: []string{"fees"}, Approach: "ask"}}
		ok(t, s.PutPattern(ctx, p))
		return secret{word: w, forget: func() { ok(t, s.DeletePattern(ctx, p.ID)) }}
	case 9:
		h := &Heuristic{Condition: text, Action: "look it up"}
		ok(t, s.PutHeuristic(ctx, h))
		return secret{word: w, forget: func() { ok(t, s.DeleteHeuristic(ctx, h.ID)) }}
	case 10: // a vector, whose bytes are sought too
		e.Description = text
		ok(t, s.PutEpisode(ctx, e))
		v := make([]float32, 64)
		for i := range v {
			v[i] = rand.Float32() - 0.5
		}
		ok(t, s.PutEmbedding(ctx, &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: v}))
		r, err := s.engine.Query(ctx, stmt(`SELECT vector FROM embeddings WHERE item = ?`, e.ID.bytes()))
		ok(t, err)
		out.vector = r[0].Rows[0][0].([]byte)
		return out
	case 11: // steps one by one, which the end folds into one run
		e = &Episode{Description: "change a flight"}
		ok(t, s.StartEpisode(ctx, e))
		for _, action := range []string{"begin", text, "end"} {
			_, err := s.AppendSteps(ctx, e.ID, Step{Action: action})
			ok(t, err)
		}
		if n%24 == 11 {
			ok(t, s.CompleteEpisode(ctx, e.ID, Completion{Outcome: Outcome{Kind: Success}}))
		}
		return out
	}
	ok(t, s.PutEpisode(ctx, e))
	return out
}

// onDisk is what a file and its sidecars hold, in lower case.
func onDisk(t *testing.T, path string) []byte {
	t.Helper()
	var all []byte
	for _, suffix := range []string{"", "-wal", "-shm"} {
		data, err := os.ReadFile(path + suffix)
		if err == nil {
			all = append(all, data...)
		} else if !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return bytes.ToLower(all)
}

// copies counts the secrets of which something is in data: the index has of a word what it
// does not share with the one before.
func copies(data []byte, secrets []secret) (n int) {
	for _, x := range secrets {
		if bytes.Contains(data, []byte(x.word[4:])) || x.vector != nil && bytes.Contains(data, bytes.ToLower(x.vector[8:40])) {
			n++
		}
	}
	return n
}

func secretWords(secrets []secret) (words []string) {
	for _, x := range secrets {
		words = append(words, x.word)
	}
	return words
}

func TestCompactSecurelyLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, trained := range []bool{false, true} {
		t.Run(fmt.Sprint("dictionary ", trained), func(t *testing.T) {
			t.Parallel()
			ctx, path := t.Context(), filepath.Join(t.TempDir(), "m.db")
			s := open(t, path, nil)
			var kept, gone []secret
			for n := range 2 * testkit.Effort(12, 24, 200) {
				if x := hide(t, s, n/2); n%2 == 0 {
					kept = append(kept, x)
				} else {
					gone = append(gone, x)
				}
			}
			if trained { // of texts that hold the same words again and again, as logs do
				header := "Authorization: session " + gone[0].word + " for the payment service"
				for i := range 60 {
					e := task(i)
					e.Steps[0].Result = &Result{Kind: ResultOutput, Text: header}
					e.Steps[1].Action = header
					ok(t, s.PutEpisode(ctx, e))
					gone = append(gone, secret{word: gone[0].word, forget: func() { ok(t, s.DeleteEpisode(ctx, e.ID)) }})
				}
				_, err := s.TrainDictionaries(ctx)
				ok(t, err)
				if number(t, s, "SELECT count(*) FROM dictionaries WHERE instr(content, CAST(? AS BLOB))", gone[0].word) == 0 {
					t.Error("no dictionary holds the word: the test shows nothing")
				}
				put(t, s, 1000, 1030) // enough to train another one with
			}
			ok(t, s.keepIndex(ctx, true)) // so that a segment has the words
			for _, x := range gone {
				x.forget()
			}
			// What a merge has left that was killed before it took out what it had merged.
			_, err := s.engine.Batch(ctx, stmt("INSERT INTO index_blocks(segment, first, data) VALUES(12345, ?, x'00')", gone[0].word))
			ok(t, err)
			if n := copies(onDisk(t, path), gone); n == 0 {
				t.Error("nothing of what was deleted is left before: the test shows nothing")
			}

			done, err := s.CompactSecurely(ctx, &SecureOptions{Prove: secretWords(gone)})
			ok(t, err)
			if n := copies(onDisk(t, path), gone); n > 0 {
				t.Errorf("something is left of %d of %d secrets", n, len(gone))
			}
			if len(done.Found) > 0 || len(done.Left) > 0 || len(done.Files) != 1 || done.Files[0].Kind != "memory" || done.Files[0].Pages*4096 != done.Files[0].Bytes {
				t.Errorf("%+v", done)
			}
			for _, x := range kept {
				hits, err := s.searchHits(ctx, x.word, nil)
				if ok(t, err); x.search && len(hits) == 0 {
					t.Errorf("%s is not found any more", x.word)
				}
			}
			if done, err = s.CompactSecurely(ctx, &SecureOptions{Prove: secretWords(kept)}); err != nil {
				t.Fatal(err)
			}
			for i, x := range kept {
				if !slices.ContainsFunc(done.Found, func(f Trace) bool { return f.Text == i }) {
					t.Errorf("%s (%d) is stored, and not found to be", x.word, i)
				}
			}
		})
	}
}

// On a server what can be done is done, and the result tells the rest; the replica and the
// outbox on this machine hold nothing of what was deleted.
func TestCompactSecurelyOnAServer(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	server, link := offline(t)
	o := queueOptions(dir)
	s, err := Open(ctx, link.URL(), o)
	ok(t, err)
	defer func() { ok(t, s.Close()) }()
	var kept, gone []secret
	for n := range 12 {
		if n == 10 { // its vector is read from the server
			continue
		}
		kept, gone = append(kept, hide(t, s, n)), append(gone, hide(t, s, n))
	}
	ok(t, s.Flush(ctx))
	synced(t, s)
	for _, x := range gone {
		x.forget()
	}
	paths, err := filepath.Glob(filepath.Join(dir, "outbox", "*.db"))
	ok(t, err)
	if paths = append(paths, o.Replica.Path); len(paths) != 2 || copies(onDisk(t, paths[0]), gone) == 0 || copies(onDisk(t, paths[1]), gone) == 0 {
		t.Errorf("%v do not both hold what was deleted: the test shows nothing", paths)
	}
	done, err := s.CompactSecurely(ctx, &SecureOptions{Prove: secretWords(gone)})
	ok(t, err)
	if len(done.Found) > 0 || len(done.Left) != 1 || !strings.Contains(done.Left[0], "VACUUM") || len(done.Files) != 2 {
		t.Errorf("%+v", done)
	}
	for _, path := range paths {
		if n := copies(onDisk(t, path), gone); n > 0 {
			t.Errorf("something is left of %d of %d secrets in %s", n, len(gone), filepath.Base(path))
		}
	}
	direct := open(t, server.URL(), &Options{Cache: Cache{Disabled: true}})
	for _, from := range []*Store{s, direct} {
		if done, err = from.CompactSecurely(ctx, &SecureOptions{Prove: secretWords(kept)}); err != nil {
			t.Fatal(err)
		}
		for i, x := range kept {
			if !slices.ContainsFunc(done.Found, func(f Trace) bool { return f.Text == i }) {
				t.Errorf("%s is not there any more", x.word)
			}
		}
	}
}

const eraserEnv = "EPISODIC_TEST_ERASER"

// eraser is a program that compacts a file securely again and again, and changes it between,
// so that there is something to do.
func eraser() bool {
	path := os.Getenv(eraserEnv)
	if path == "" {
		return false
	}
	ctx := context.Background()
	s, err := Open(ctx, path, direct(nil))
	for i := 0; err == nil; i++ {
		fmt.Println("again")
		e := &Episode{Description: fmt.Sprint("meanwhile ", i)}
		if err = s.PutEpisode(ctx, e); err == nil {
			err = s.DeleteEpisode(ctx, e.ID)
		}
		if err == nil {
			_, err = s.CompactSecurely(ctx, nil)
		}
	}
	fmt.Println("error", err)
	return true
}

// Whoever is killed while it compacts securely loses nothing, and the next one ends it.
func TestKilledWhileCompactingSecurely(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	s := open(t, path, nil)
	ids := put(t, s, 0, testkit.Effort(20, 40, 200))
	var gone []secret
	for n := range 12 {
		gone = append(gone, hide(t, s, n))
	}
	for _, x := range gone {
		x.forget()
	}
	for round := range testkit.Effort(1, 3, 6) {
		testkit.Killed(t, eraserEnv+"="+path, round%5, 200*time.Millisecond, func(line string) {
			if strings.HasPrefix(line, "error") {
				t.Error(line)
			}
		})
		readable(t, s, ids)
		r, err := s.engine.Query(t.Context(), stmt("PRAGMA integrity_check"))
		if ok(t, err); r[0].Rows[0][0] != "ok" {
			t.Fatal(r[0].Rows)
		}
	}
	done, err := s.CompactSecurely(t.Context(), &SecureOptions{Prove: secretWords(gone)})
	ok(t, err)
	if n := copies(onDisk(t, path), gone); n > 0 || len(done.Found)+len(done.Left) > 0 {
		t.Errorf("something is left of %d secrets: %+v", n, done)
	}
	readable(t, s, ids)
}
