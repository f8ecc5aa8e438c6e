package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrNoDatabase is returned for a file in which no page of a SQLite database is found.
var ErrNoDatabase = errors.New("not a database")

// File is a SQLite file with its log. It is only read, by one goroutine at a time.
type File struct {
	header
	file, log *os.File // log is nil if there is none
	logged    logged
	size      int64
}

// Open opens a file, and the log beside it if there is one. It takes no locks: nobody may
// write the file meanwhile, and closing it ends the locks that this process has on it.
// Errors: ErrNoDatabase; those of the file system.
func Open(path string) (_ *File, err error) {
	f := &File{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.file, err = os.Open(path); err != nil {
		return nil, err
	}
	info, err := f.file.Stat()
	if err != nil {
		return nil, err
	}
	f.size = info.Size()
	if f.log, err = os.Open(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		f.log = nil
	} else if err != nil {
		return nil, err
	}
	if err := f.readHeader(); err != nil {
		return nil, err
	}
	if f.log != nil {
		if f.logged, err = readLog(f.log, f.pageSize); err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		f.readNewHeader()
	}
	return f, nil
}

func (f *File) readHeader() error {
	var b [headerSize]byte
	if _, err := f.file.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if h, ok := parseHeader(b[:]); ok {
		f.header = h
		return nil
	}
	if f.log != nil {
		f.pageSize = logPageSize(f.log)
	}
	if f.pageSize == 0 {
		var err error
		if f.pageSize, err = guessPageSize(f.file, f.size); err != nil {
			return err
		}
	}
	f.usable = f.pageSize
	return nil
}

// readNewHeader reads the header again where the log has a newer one.
func (f *File) readNewHeader() {
	if f.logged.at[1] == 0 {
		return
	}
	if data, err := f.read(1); err == nil {
		if h, ok := parseHeader(data); ok && h.pageSize == f.pageSize {
			f.header = h
		}
	}
}

// Close closes the file.
func (f *File) Close() error {
	var errs []error
	for _, file := range []*os.File{f.file, f.log} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}

// count is how many pages there are, or were before the end of the file was cut.
func (f *File) count() uint32 {
	n := uint32((f.size + int64(f.pageSize) - 1) / int64(f.pageSize))
	for p := range f.logged.at {
		n = max(n, p)
	}
	if f.whole && f.pages > n && f.pages-n < 1<<20 {
		n = f.pages
	}
	return n
}

// has reports whether a page lies in the file, or a part of it does, or in the log.
func (f *File) has(n uint32) bool {
	_, logged := f.logged.at[n]
	return logged || int64(n-1)*int64(f.pageSize) < f.size
}

// missing is how many pages there were that there are not any more.
func (f *File) missing() (n int64) {
	for page := range f.count() {
		if !f.has(page + 1) {
			n++
		}
	}
	return n
}

// errMissing says that a page lies behind the end of the file.
var errMissing = errors.New("page is not in the file")

// read reads page n, of which the end may be missing.
func (f *File) read(n uint32) ([]byte, error) {
	if n == 0 {
		return nil, errMissing
	}
	b := make([]byte, f.pageSize)
	if at, ok := f.logged.at[n]; ok {
		_, err := f.log.ReadAt(b, at)
		return b, err
	}
	if !f.has(n) {
		return nil, errMissing
	}
	at := int64(n-1) * int64(f.pageSize)
	got, err := f.file.ReadAt(b, at)
	if errors.Is(err, io.EOF) && got > 0 {
		err = nil
	}
	return b[:got], err
}

// tree reads page n as one of a b-tree; false if it is none.
func (f *File) tree(n uint32) (p page, ok bool, err error) {
	data, err := f.read(n)
	if errors.Is(err, errMissing) {
		return p, false, nil
	}
	if err != nil {
		return p, false, fmt.Errorf("page %d: %w", n, err)
	}
	at := 0
	if n == 1 {
		at = headerSize
	}
	p, ok = parsePage(data, at, f.usable)
	return p, ok, nil
}

// content is the whole record of a cell; false if it cannot be had.
func (f *File) content(c *cell) ([]byte, bool, error) {
	if c.size == int64(len(c.local)) {
		return c.local, true, nil
	}
	if c.size > int64(f.count())*int64(f.usable) {
		return nil, false, nil
	}
	b := append([]byte{}, c.local...) // grows with what is found: the size may be a damaged one
	for next := c.overflow; int64(len(b)) < c.size; {
		data, err := f.read(next)
		if errors.Is(err, errMissing) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("page %d: %w", next, err)
		}
		n := int(min(c.size-int64(len(b)), int64(f.usable-4)))
		if len(data) < 4+n {
			return nil, false, nil
		}
		b = append(b, data[4:4+n]...)
		next = binary.BigEndian.Uint32(data)
	}
	return b, true, nil
}
