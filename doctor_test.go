package episodic

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// patient is a copy of a memory that holds something of everything, with its log, as it was
// while the memory was open.
type patient struct {
	file, log []byte
	episodes  []*Episode
	pages     map[ID]map[int]bool // on which an episode lies, and the dictionaries
}

const testPage = 4096 // bytes

// newPatient makes one of so many episodes.
func newPatient(t *testing.T, episodes int) *patient {
	t.Helper()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "m.db")
	s, err := Open(ctx, path, &Options{})
	ok(t, err)
	words := strings.Fields("deploy the release again after its check has failed because a token of the server expired before the queue was empty")
	text := func(n int) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = words[rand.IntN(len(words))] + fmt.Sprint(rand.IntN(1000))
		}
		return strings.Join(parts, " ")
	}
	p := &patient{}
	var batch []*Episode
	for i := range episodes {
		e := &Episode{Description: text(30), Outcome: Outcome{Kind: Success, Verdict: text(5)}, Context: Context{Domain: "d", Tags: []string{"tag", fmt.Sprint("tag-", i)}}, Scope: Scope{Project: fmt.Sprint("p", i%3)}}
		for range 1 + i%7 {
			e.Steps = append(e.Steps, Step{Tool: "bash", Action: text(20), Result: &Result{Kind: ResultOutput, Text: text(10 + i%40*i%40)}})
		}
		batch = append(batch, e)
	}
	_, err = s.AddEpisodes(ctx, batch[:episodes*3/4]...)
	ok(t, err)
	_, err = s.Compact(ctx, nil) // trains dictionaries
	ok(t, err)
	for i, e := range batch[episodes*3/4:] {
		if i%2 == 0 {
			ok(t, s.PutEpisode(ctx, e))
			continue
		}
		running := *e
		running.Steps, running.Outcome = nil, Outcome{}
		ok(t, s.StartEpisode(ctx, &running))
		e.ID = running.ID
		for _, step := range e.Steps {
			_, err := s.AppendSteps(ctx, e.ID, step)
			ok(t, err)
		}
	}
	for i := range episodes / 4 {
		ok(t, s.PutPattern(ctx, &Pattern{Description: text(20), ToolSequence: &ToolSequence{Tools: []string{"a", "b"}}}))
		ok(t, s.PutHeuristic(ctx, &Heuristic{Condition: text(10), Action: text(10)}))
		ok(t, s.PutRelation(ctx, &Relation{From: batch[i].ID, Type: Follows, To: batch[i+1].ID, Reason: text(5)}))
		ok(t, s.PutEmbedding(ctx, &Embedding{Kind: ItemEpisode, Item: batch[i].ID, Model: "m", Vector: []float32{float32(i), 1, 2}}))
	}
	for _, e := range batch[:3] {
		ok(t, s.DeleteEpisode(ctx, e.ID))
	}
	for _, e := range batch[3:] {
		e, err := s.Episode(ctx, e.ID)
		ok(t, err)
		p.episodes = append(p.episodes, e)
	}
	p.file, err = os.ReadFile(path)
	ok(t, err)
	p.log, err = os.ReadFile(path + "-wal")
	if ok(t, err); len(p.log) == 0 {
		t.Fatal("there is no log")
	}
	r, err := s.engine.Query(ctx, stmt("SELECT id, payload FROM episodes UNION ALL SELECT id, r.payload FROM episodes JOIN runs r ON r.episode = seq"),
		stmt("SELECT content FROM dictionaries"))
	ok(t, err)
	ok(t, s.Close()) // writes the log into the file
	whole, err := os.ReadFile(path)
	ok(t, err)
	p.pages = map[ID]map[int]bool{}
	dictionary := map[int]bool{}
	for _, row := range r[1].Rows {
		pagesOf(whole, row[0].([]byte), dictionary)
	}
	for _, row := range r[0].Rows {
		id := ID(row[0].([]byte))
		if p.pages[id] == nil {
			p.pages[id] = maps.Clone(dictionary)
		}
		pagesOf(whole, row[1].([]byte), p.pages[id])
	}
	return p
}

// pagesOf adds the pages of a file on which parts of a payload lie.
func pagesOf(file, payload []byte, pages map[int]bool) {
	for at := 0; at < len(payload); at += 128 {
		part := payload[at:min(at+64, len(payload))]
		for from := 0; ; {
			i := bytes.Index(file[from:], part)
			if i < 0 {
				break
			}
			pages[(from+i)/testPage+1] = true
			pages[(from+i+len(part)-1)/testPage+1] = true
			from += i + 1
		}
	}
}

// damagedCopy is a copy that was damaged at random, in a folder of its own.
type damagedCopy struct {
	path, how string
	file, log []byte
	pages     map[int]bool // that are damaged, or were before a frame of the log was
}

func (p *patient) damage(t *testing.T, rng *rand.Rand) *damagedCopy {
	d := &damagedCopy{path: filepath.Join(t.TempDir(), "m.db"), file: slices.Clone(p.file), log: slices.Clone(p.log), pages: map[int]bool{}}
	const frame = 24 + testPage
	hitLog := func(at int) { // the frame at a byte
		if f := 32 + max(at-32, 0)/frame*frame; f+4 <= len(p.log) {
			d.pages[int(binary.BigEndian.Uint32(p.log[f:]))] = true
		}
	}
	for range 1 + rng.IntN(2) {
		switch kind := rng.IntN(8); kind {
		case 0, 1:
			n := 1 + rng.IntN(20)
			d.how += fmt.Sprintf("%d bits ", n)
			for range n {
				at := rng.IntN(len(d.file))
				d.file[at] ^= 1 << rng.IntN(8)
				d.pages[at/testPage+1] = true
			}
		case 2:
			for range 1 + rng.IntN(5) {
				at := rng.IntN(len(d.file)/testPage) * testPage
				d.how += fmt.Sprintf("page %d ", at/testPage+1)
				clear(d.file[at:min(at+testPage, len(d.file))])
				d.pages[at/testPage+1] = true
			}
		case 3:
			size := len(d.file) - rng.IntN(len(d.file)/3) - 1
			d.how += fmt.Sprintf("cut to %d ", size)
			for at := size / testPage; at <= len(p.file)/testPage; at++ {
				d.pages[at+1] = true
			}
			d.file = d.file[:size]
		case 4:
			n := []int{100, testPage}[rng.IntN(2)]
			d.how += fmt.Sprintf("first %d bytes ", n)
			clear(d.file[:n])
			d.pages[1] = true
		case 5:
			at := rng.IntN(len(d.log))
			d.how += fmt.Sprintf("bit of the log at %d ", at)
			d.log[at] ^= 1 << rng.IntN(8)
			hitLog(at)
			if at < 32 {
				hitLog(32)
			}
		case 6:
			size := 32 + rng.IntN(len(d.log)-32)
			d.how += fmt.Sprintf("log cut to %d ", size)
			for at := size; at < len(p.log); at += frame {
				hitLog(at)
			}
			hitLog(len(p.log) - 1)
			// The pages of a transaction that has lost its end.
			for at := size; at >= 32; at -= frame {
				if f := 32 + (at-32)/frame*frame; f+8 <= len(p.log) && binary.BigEndian.Uint32(p.log[f+4:]) > 0 && f+frame <= size {
					break
				}
				hitLog(at)
			}
			d.log = d.log[:size]
		case 7:
			d.how += "header of the log "
			clear(d.log[:32])
			hitLog(32)
		}
		if len(d.file) < testPage*2 || len(d.log) < 32 {
			break
		}
	}
	d.write(t, d.path)
	return d
}

func (d *damagedCopy) write(t *testing.T, path string) {
	ok(t, os.WriteFile(path, d.file, 0o600))
	ok(t, os.WriteFile(path+"-wal", d.log, 0o600))
}

// unchanged sees that a file and its log are as they were damaged.
func (d *damagedCopy) unchanged(t *testing.T, path, by string) {
	t.Helper()
	for suffix, want := range map[string][]byte{"": d.file, "-wal": d.log} {
		if got, err := os.ReadFile(path + suffix); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %s%s was changed by %s (%v)", d.how, filepath.Base(path), suffix, by, err)
		}
	}
}

// tally counts episodes of damaged copies.
type tally struct{ undamaged, saved, back, wrong, copies, repaired int }

// count compares what a file holds with what was stored.
func (p *patient) count(t *testing.T, d *damagedCopy, path string, n *tally) {
	s, err := Open(t.Context(), path, &Options{MustExist: true})
	if err != nil {
		t.Errorf("%s: open %s: %v", d.how, filepath.Base(path), err)
		return
	}
	defer s.Close()
	for _, want := range p.episodes {
		whole := true
		for page := range p.pages[want.ID] {
			whole = whole && !d.pages[page]
		}
		if whole {
			n.undamaged++
		}
		got, err := s.Episode(t.Context(), want.ID)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			t.Errorf("%s: episode %v: %v", d.how, want.ID, err)
			continue
		}
		n.back++
		if whole {
			n.saved++
		}
		if got.Description != want.Description || got.Outcome.Verdict != want.Outcome.Verdict || !reflect.DeepEqual(got.Steps, want.Steps) && !older(got, want) {
			n.wrong++
			t.Errorf("%s: episode %v is %+v", d.how, want.ID, got)
		}
	}
}

// older reports whether an episode is as it was before steps were appended.
func older(got, want *Episode) bool {
	return want.End.IsZero() && len(got.Steps) < len(want.Steps) && (len(got.Steps) == 0 || reflect.DeepEqual(got.Steps, want.Steps[:len(got.Steps)]))
}

// Whatever is damaged: nothing gets worse, a repair is no worse than what it repairs, what lies
// on undamaged pages is saved, and no text is wrong.
func TestDamagedCopies(t *testing.T) {
	t.Parallel()
	p := newPatient(t, testkit.Effort(40, 60, 120))
	var salvaged, repaired tally
	const seed = 1 // the same copies each time; another one tries others
	for i := range testkit.Effort(3, 4, 30) {
		d := p.damage(t, rand.New(rand.NewPCG(seed, uint64(i))))
		name := fmt.Sprintf("seed %d, copy %d: %s", seed, i, d.how)
		d.how = name
		before, err := Examine(t.Context(), d.path, nil)
		if err != nil && !errors.Is(err, ErrSchema) {
			t.Errorf("%s: examine: %v", name, err)
			continue
		}
		d.unchanged(t, d.path, "Examine")
		to := d.path + ".saved"
		if _, err := Salvage(t.Context(), d.path, to, nil); err != nil {
			t.Errorf("%s: salvage: %v", name, err)
			continue
		}
		d.unchanged(t, d.path, "Salvage")
		if x, err := Examine(t.Context(), to, nil); err != nil || !x.Clean() {
			t.Errorf("%s: what was saved is %+v, %v", name, x, err)
		}
		salvaged.copies++
		p.count(t, d, to, &salvaged)
		if before == nil {
			continue
		}
		r, err := Repair(t.Context(), d.path, nil)
		if err != nil {
			t.Errorf("%s: repair: %v", name, err)
			continue
		}
		if !r.Repaired && !before.Clean() {
			t.Logf("%s: not repaired: %s", name, r.Reason)
		}
		if !r.Repaired {
			d.unchanged(t, d.path, "Repair")
			continue
		}
		d.unchanged(t, r.Original, "Repair")
		after, err := Examine(t.Context(), d.path, nil)
		if err != nil || after.faults() > before.faults() || after.Items < before.Items || !after.Clean() {
			t.Errorf("%s: after a repair %+v, before it %+v, %v", name, after, before, err)
		}
		repaired.repaired++
		p.count(t, d, d.path, &repaired)
	}
	t.Logf("%d copies: of %d episodes on undamaged pages %d were salvaged, of all %d; %d wrong; %d repaired, which hold %d of %d; %d wrong", salvaged.copies, salvaged.undamaged, salvaged.saved, salvaged.back, salvaged.wrong,
		repaired.repaired, repaired.saved, repaired.undamaged, repaired.wrong)
	if float64(salvaged.saved) < 0.99*float64(salvaged.undamaged) || float64(repaired.saved) < 0.99*float64(repaired.undamaged) {
		t.Errorf("less than 99 %% was saved")
	}
}
