package access

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTokensAreFoundUntilTheyEnd(t *testing.T) {
	t.Parallel()
	f := NewFile(filepath.Join(t.TempDir(), "new", "tokens"))
	if _, err := f.Find("epi_x", time.Now()); !errors.Is(err, ErrUnknown) {
		t.Errorf("without a file: %v", err)
	}
	ends := time.Now().Add(time.Hour)
	ada, err := f.Create(t.Context(), Token{Name: "ada", Rights: Write, Scope: episodic.Scope{Project: "shop"}, Expires: ends})
	ok(t, err)
	bob, err := f.Create(t.Context(), Token{Name: "bob", Rights: Read})
	ok(t, err)
	if _, err := f.Create(t.Context(), Token{Name: "ada", Rights: Read}); !errors.Is(err, ErrTaken) {
		t.Errorf("a second ada: %v", err)
	}
	content, err := os.ReadFile(f.Path())
	ok(t, err)
	if strings.Contains(string(content), ada) || strings.Contains(string(content), strings.TrimPrefix(bob, "epi_")) {
		t.Error("the file holds a secret")
	}
	if info, err := os.Stat(f.Path()); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, tt := range []struct {
		secret, name string
		now          time.Time
		err          error
	}{
		{ada, "ada", time.Now(), nil},
		{ada, "", ends, ErrExpired},
		{bob, "bob", ends.AddDate(50, 0, 0), nil},
		{"", "", time.Now(), ErrUnknown},
		{ada[:len(ada)-1], "", time.Now(), ErrUnknown},
		{strings.ToLower(ada), "", time.Now(), ErrUnknown},
	} {
		got, err := f.Find(tt.secret, tt.now)
		if !errors.Is(err, tt.err) || err == nil && got.Name != tt.name {
			t.Errorf("Find(%q) = %+v, %v", tt.secret, got, err)
		}
	}
	// Another process changes it.
	ok(t, NewFile(f.Path()).Revoke(t.Context(), "ada"))
	if _, err := f.Find(ada, time.Now()); !errors.Is(err, ErrUnknown) {
		t.Errorf("a revoked token: %v", err)
	}
	if err := f.Revoke(t.Context(), "ada"); !errors.Is(err, ErrUnknown) {
		t.Errorf("revoked again: %v", err)
	}
	ok(t, os.Remove(f.Path()))
	if _, err := f.Find(bob, time.Now()); !errors.Is(err, ErrUnknown) {
		t.Errorf("of a file that is gone: %v", err)
	}
}

func TestWhatIsWrongWithAFileIsTold(t *testing.T) {
	t.Parallel()
	good := `{"name":"ada","rights":"read","created":"2026-01-01T00:00:00Z","sha256":"` + strings.Repeat("ab", 32) + `"}`
	for content, want := range map[string]string{
		"# all good\n\n" + good + "\n": "",
		good:                           "", // without a last line feed
		good + "\n" + good:             `:2: name is "ada", as on line 1`,
		"ada read":                     ":1: invalid character",
		"\n" + strings.Replace(good, `"read"`, `"reed"`, 1):                     `:2: rights are "reed"`,
		strings.Replace(good, "ada", "a d a", 1):                                ":1: name is",
		strings.Replace(good, "abab", "", 1):                                    ":1: sha256 is",
		strings.Replace(good, `"name"`, `"who"`, 1):                             `unknown field "who"`,
		`{"name":"ada","rights":"read"}`:                                        ":1: sha256 is missing",
		good + good:                                                             ":1: something follows",
		strings.Replace(good, `"read"`, `"metrics","scope":{"user":"u"}`, 1):    ":1: rights are metrics",
		strings.Replace(good, `"read"`, `"read","scope":{"project":"a\nb"}`, 1): ":1: scope.project",
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		ok(t, os.WriteFile(path, []byte(content), 0o600))
		f := NewFile(path)
		_, err := f.Tokens()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
		if _, again := f.Tokens(); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Errorf("%q: %v at the second look", content, again)
		}
		_, err = f.Create(t.Context(), Token{Name: "bob", Rights: Read})
		if after, _ := os.ReadFile(path); want != "" && (err == nil || string(after) != content) {
			t.Errorf("%q: a token was added: %v", content, err)
		} else if want == "" && (err != nil || !strings.HasPrefix(string(after), content)) {
			t.Errorf("%q became %q, %v", content, after, err)
		}
		if want == "" {
			ok(t, f.Revoke(t.Context(), "bob"))
			if after, _ := os.ReadFile(path); strings.TrimSuffix(string(after), "\n") != strings.TrimSuffix(content, "\n") {
				t.Errorf("after all %q is %q", content, after)
			}
		}
	}
	for _, bad := range []Token{{}, {Name: "a/b", Rights: Read}, {Name: "ada", Rights: "all"}, {Name: "ada"}} {
		if _, err := NewFile(filepath.Join(t.TempDir(), "f")).Create(t.Context(), bad); err == nil {
			t.Errorf("%+v was created", bad)
		}
	}
}

func TestAFileThatOthersCanWriteIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes are made up there")
	}
	t.Parallel()
	f := NewFile(filepath.Join(t.TempDir(), "tokens"))
	secret, err := f.Create(t.Context(), Token{Name: "ada", Rights: Read})
	ok(t, err)
	ok(t, os.Chmod(f.Path(), 0o660))
	if _, err := f.Find(secret, time.Now()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("it is used: %v", err)
	}
	ok(t, os.Chmod(f.Path(), 0o640))
	if _, err := f.Find(secret, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestManyChangeAFileAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	link := path + ".link"
	ok(t, os.WriteFile(path, nil, 0o600))
	ok(t, os.Symlink(path, link))
	var changing sync.WaitGroup
	for i := range 12 {
		changing.Go(func() {
			f := NewFile(path)
			if i%2 == 0 {
				f = NewFile(link)
			}
			_, err := f.Create(context.Background(), Token{Name: fmt.Sprint("t", i), Rights: Read})
			if err == nil && i%3 == 0 {
				err = f.Revoke(context.Background(), fmt.Sprint("t", i))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	changing.Wait()
	tokens, err := NewFile(path).Tokens()
	if err != nil || len(tokens) != 8 {
		t.Errorf("%d of 8 are left, %v", len(tokens), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is %v, %v", info, err)
	}
	left, err := filepath.Glob(path + ".*[0-9]")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
