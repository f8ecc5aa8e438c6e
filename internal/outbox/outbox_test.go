package outbox_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/outbox"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *outbox.Outbox {
	t.Helper()
	file, err := embedded.Open(t.Context(), embedded.Config{Path: path, LockDir: filepath.Dir(path)})
	ok(t, err)
	o, err := outbox.New(t.Context(), file, "a server", filepath.Dir(path), path)
	ok(t, err)
	t.Cleanup(func() {
		o.Close()
		ok(t, file.Close())
	})
	return o
}

// filled returns an outbox with five operations of the items a, b, a, c and a, whose
// revisions are ten times their numbers.
func filled(t *testing.T) *outbox.Outbox {
	t.Helper()
	o := open(t, filepath.Join(t.TempDir(), "outbox.db"))
	for i, item := range "abaca" {
		op := &outbox.Op{Item: [16]byte{byte(item)}, Kind: 1, Rev: int64(10 * (i + 1)), At: time.UnixMicro(int64(i + 1)).UTC(), Body: []byte("body")}
		if ok(t, o.Add(t.Context(), op)); op.N != int64(i+1) {
			t.Errorf("operation %d got number %d", i+1, op.N)
		}
	}
	return o
}

// numbers are those of the operations that wait, and after a bar of all.
func numbers(t *testing.T, o *outbox.Outbox) string {
	t.Helper()
	waiting, err := o.Waiting(t.Context(), 100)
	ok(t, err)
	all, err := o.After(t.Context(), 0, 100)
	ok(t, err)
	var words []string
	for _, op := range waiting {
		words = append(words, fmt.Sprint(op.N))
	}
	words = append(words, "|")
	for _, op := range all {
		word := fmt.Sprintf("%d:%d", op.N, op.Rev)
		if op.Failed != "" {
			word += ":" + op.Failed
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestWhatHasFailedIsHeldBack(t *testing.T) {
	o, ctx := filled(t), t.Context()
	want := func(want string) {
		t.Helper()
		if got := numbers(t, o); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	want("1 2 3 4 5 | 1:10 2:20 3:30 4:40 5:50")
	ok(t, o.Fail(ctx, 3, "why"))
	want("1 2 4 | 1:10 2:20 3:30:why 4:40 5:50")
	p, err := o.Position(ctx)
	ok(t, err)
	ok(t, o.Stands(ctx, p, 4, 40))
	want("| 3:30:why 5:50")
	counts, err := o.Counts(ctx, 9)
	if ok(t, err); counts != (outbox.Counts{Ops: 2, Bytes: 8, Oldest: time.UnixMicro(3).UTC(), Failed: 1}) {
		t.Errorf("%+v", counts)
	}
	ok(t, o.Again(ctx))
	want("8 10 | 8:30 10:50")
	op := &outbox.Op{Item: [16]byte{'d'}, Rev: 60, Body: []byte{}}
	if ok(t, o.Add(ctx, op)); op.N != 11 {
		t.Errorf("the next number is %d", op.N)
	}
	taken, err := o.Take(ctx, 60)
	if ok(t, err); !taken {
		t.Error("not taken back")
	}
	taken, err = o.Take(ctx, 60)
	if ok(t, err); taken {
		t.Error("taken back twice")
	}
	has, err := o.Has(ctx, []int64{30, 60, 50})
	if ok(t, err); fmt.Sprint(has) != "map[30:true 50:true]" {
		t.Errorf("has %v", has)
	}
}

func TestWhereTheServerStands(t *testing.T) {
	tests := []struct {
		name    string
		n, rev  int64
		left    string
		renamed bool
		at      int64
	}{
		{"where it stood", 2, 20, "3 4 5 | 3:30 4:40 5:50", false, 2},
		{"further", 4, 40, "5 | 5:50", false, 4},
		{"at the end", 5, 50, "|", false, 5},
		{"back: an older copy of its database", 1, 10, "3 4 5 | 3:30 4:40 5:50", false, 1},
		{"as a copy of this outbox has left it", 4, 41, "3 4 5 | 3:30 4:40 5:50", true, 0},
		{"further than anything here", 9, 90, "3 4 5 | 3:30 4:40 5:50", true, 0},
		{"at the same number, by a copy", 2, 21, "3 4 5 | 3:30 4:40 5:50", true, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := filled(t)
			before, err := o.Position(t.Context())
			ok(t, err)
			ok(t, o.Stands(t.Context(), before, 2, 20))
			p, err := o.Position(t.Context())
			ok(t, err)
			ok(t, o.Stands(t.Context(), p, tt.n, tt.rev))
			after, err := o.Position(t.Context())
			ok(t, err)
			if got := numbers(t, o); got != tt.left || after.N != tt.at || bytes.Equal(before.Name, after.Name) == tt.renamed || after.Last != 5 {
				t.Errorf("left %s at %+v, want %s at %d", got, after, tt.left, tt.at)
			}
		})
	}
}

func TestOutboxOfAnotherServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	open(t, path)
	file, err := embedded.Open(t.Context(), embedded.Config{Path: path, LockDir: filepath.Dir(path)})
	ok(t, err)
	defer file.Close()
	if _, err := outbox.New(t.Context(), file, "another", filepath.Dir(path), path); err == nil {
		t.Error("it was opened")
	}
}

// Who comes late, because another process has pushed meanwhile, changes nothing.
func TestWhereTheServerStoodBefore(t *testing.T) {
	o, ctx := filled(t), t.Context()
	before, err := o.Position(ctx)
	ok(t, err)
	ok(t, o.Stands(ctx, before, 3, 30))
	after, err := o.Position(ctx)
	ok(t, err)
	for _, at := range []struct{ n, rev int64 }{{2, 20}, {3, 30}, {4, 41}, {9, 90}} {
		ok(t, o.Stands(ctx, before, at.n, at.rev))
		p, err := o.Position(ctx)
		if ok(t, err); fmt.Sprint(p) != fmt.Sprint(after) {
			t.Errorf("it stands at %+v, and stood at %+v", p, after)
		}
		if got := numbers(t, o); got != "4 5 | 4:40 5:50" {
			t.Errorf("left %s", got)
		}
	}
}

func TestAdopt(t *testing.T) {
	o, ctx := filled(t), t.Context()
	taken, err := o.Take(ctx, 20)
	if ok(t, err); !taken {
		t.Error("not taken back")
	}
	for range 2 {
		adopted, err := o.Adopt(ctx, []int64{10, 20})
		if ok(t, err); fmt.Sprint(adopted) != "map[10:true]" {
			t.Errorf("adopted %v", adopted)
		}
	}
	for _, rev := range []int64{10, 20} {
		taken, err := o.Take(ctx, rev)
		if ok(t, err); taken {
			t.Errorf("operation of revision %d is taken back", rev)
		}
	}
}
