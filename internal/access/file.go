package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/episodic-memory/episodic/internal/wholefile"
)

// File is a file of tokens, a JSON object on each line. Empty lines, and those that begin with
// "#", are passed over, and kept. Any number of processes may use and change it at once. It is
// safe for concurrent use.
type File struct {
	path string

	mu   sync.Mutex
	seen fs.FileInfo // of what was read; nil: nothing yet, or there was no file
	read []Token
	err  error
}

// NewFile returns the File of a path. It need not be there yet.
func NewFile(path string) *File { return &File{path: path} }

// Path is where the file is.
func (f *File) Path() string { return f.path }

// The errors of Find and Revoke.
var (
	ErrUnknown = errors.New("there is no such token")
	ErrExpired = errors.New("the token has expired")
)

// ErrTaken says that a token of the name is there already.
var ErrTaken = errors.New("there is a token of this name already")

// Tokens returns the tokens, the oldest first; none if there is no file. It looks at the file
// each time, and reads it again if it has changed. The caller must not change them. The error
// names the line that is wrong: then no token is good.
func (f *File) Tokens() ([]Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.seen, f.read, f.err = nil, nil, nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if f.seen == nil || !same(info, f.seen) {
		var content []byte
		if content, f.seen, f.err = readFile(f.path); f.err == nil {
			f.read, f.err = parse(f.path, content)
		}
	}
	if f.err != nil {
		return nil, f.err
	}
	return f.read, nil
}

// same reports whether a file is as it was.
func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// maxFile bounds the size of a file, in bytes: some ten thousand tokens.
const maxFile = 4 << 20

// readFile reads a file, and what it is at that moment.
func readFile(path string) (content []byte, info fs.FileInfo, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	if err := private(path, info); err != nil {
		return nil, info, err
	}
	content, err = io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return content, info, err
}

// parse reads the lines of a file. The error begins with its path and the number of the line.
func parse(path string, content []byte) (tokens []Token, err error) {
	names := make(map[string]int)
	n := 0
	for line := range bytes.Lines(content) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		var t Token
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		err := dec.Decode(&t)
		if err == nil && dec.More() {
			err = errors.New("something follows the token")
		}
		if err == nil {
			err = t.check()
		}
		if err == nil && t.Hash == (Hash{}) {
			err = errors.New("sha256 is missing")
		}
		if before := names[t.Name]; err == nil && before > 0 {
			err = fmt.Errorf("name is %q, as on line %d", t.Name, before)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w; correct the line, or delete it", path, n, err)
		}
		names[t.Name] = n
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// Find returns the token with a secret. Errors: ErrUnknown; ErrExpired; those of Tokens.
func (f *File) Find(secret string, now time.Time) (*Token, error) {
	tokens, err := f.Tokens()
	if err != nil {
		return nil, err
	}
	t := find(tokens, secret)
	switch {
	case t == nil:
		return nil, ErrUnknown
	case t.Expired(now):
		return nil, ErrExpired
	}
	return t, nil
}

// Create adds a token and returns its secret, which is kept nowhere. It sets Created and Hash.
// Errors: ErrTaken; what is wrong with the token or the file.
func (f *File) Create(ctx context.Context, t Token) (secret string, err error) {
	if err := t.check(); err != nil {
		return "", err
	}
	secret = newSecret()
	t.Created, t.Hash = time.Now().UTC().Truncate(time.Second), hashOf(secret)
	err = f.change(ctx, func(content []byte, tokens []Token) ([]byte, error) {
		for i := range tokens {
			if tokens[i].Name == t.Name {
				return nil, fmt.Errorf("%q: %w", t.Name, ErrTaken)
			}
		}
		line, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		if len(content) > 0 && content[len(content)-1] != '\n' {
			content = append(content, '\n')
		}
		return append(append(content, line...), '\n'), nil
	})
	return secret, err
}

// Revoke removes a token by its name. A server that uses the file refuses it from then on.
// Errors: ErrUnknown; what is wrong with the file.
func (f *File) Revoke(ctx context.Context, name string) error {
	return f.change(ctx, func(content []byte, _ []Token) ([]byte, error) {
		var kept []byte
		for line := range bytes.Lines(content) {
			var t Token
			if json.Unmarshal(line, &t) != nil || t.Name != name {
				kept = append(kept, line...)
			}
		}
		if len(kept) == len(content) {
			return nil, fmt.Errorf("%q: %w", name, ErrUnknown)
		}
		return kept, nil
	})
}

// lockPatience bounds how long others are waited for who change the file.
const lockPatience = 10 * time.Second

// change replaces the file by what edit makes of it, while nobody else changes it. Readers see
// either one or the other.
func (f *File) change(ctx context.Context, edit func(content []byte, tokens []Token) ([]byte, error)) error {
	path := f.path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // the link stays
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		return fmt.Errorf("lock %s.lock: %w", path, err)
	}
	defer lock.Unlock()
	content, _, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tokens, err := parse(f.path, content)
	if err != nil {
		return err
	}
	if content, err = edit(content, tokens); err != nil {
		return err
	}
	return wholefile.ReplaceSynced(path, content, 0o600)
}
