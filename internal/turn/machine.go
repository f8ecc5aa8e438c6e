package turn

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Machine returns the number by which a server knows this machine: the same for all
// processes that have the folder, greater than 0. It is in a file, which is created if
// there is none. An error says why there is no such number; that returned with it is one
// that no other process has.
func (l *Lock) Machine() (int64, error) {
	own := 1 + rand.Int64N(1<<53-1)
	if l.unusable != nil {
		return own, l.unusable
	}
	path := l.base + ".machine"
	if n, err := readMachine(path); !errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(n, own), err
	}
	// By way of another name, so that nobody reads half of it.
	temp, err := os.CreateTemp(filepath.Dir(path), ".machine-*")
	if err != nil {
		return own, err
	}
	defer os.Remove(temp.Name())
	_, err = fmt.Fprintln(temp, own)
	if err := errors.Join(err, temp.Close()); err != nil {
		return own, err
	}
	if os.Link(temp.Name(), path) == nil {
		return own, nil
	}
	n, err := readMachine(path) // another process was faster
	return cmp.Or(n, own), err
}

// readMachine reads the number in a file; an error comes with 0.
func readMachine(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s holds no number of a machine; delete it", path)
	}
	return n, nil
}

// fileName is how the files of a database are called.
func fileName(database string) string {
	sum := sha256.Sum256([]byte(database))
	return hex.EncodeToString(sum[:8])
}
