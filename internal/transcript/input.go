package transcript

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// plain returns what a file holds: decompressed, if it is a gzip or Zstandard file, and in
// UTF-8, if a byte order mark says that it is in UTF-16. close must be called.
func plain(r io.Reader) (_ *bufio.Reader, close func(), err error) {
	in, close := bufio.NewReaderSize(r, 64<<10), func() {}
	magic, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, nil, &Problem{Text: "is a damaged gzip file: " + err.Error()}
		}
		in = bufio.NewReaderSize(damaged{unzipped, "gzip"}, 64<<10)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		unzipped, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(512<<20))
		if err != nil {
			return nil, nil, err
		}
		in, close = bufio.NewReaderSize(damaged{unzipped, "Zstandard"}, 64<<10), unzipped.Close
	}
	if mark, _ := in.Peek(2); bytes.Equal(mark, []byte{0xff, 0xfe}) || bytes.Equal(mark, []byte{0xfe, 0xff}) {
		utf16 := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder()
		in = bufio.NewReaderSize(transform.NewReader(in, utf16), 64<<10)
	}
	return in, close, nil
}

// damaged is a reader of a compressed file. What is wrong with the file is a *Problem.
type damaged struct {
	r    io.Reader
	form string
}

func (d damaged) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	for _, wrong := range []error{gzip.ErrChecksum, gzip.ErrHeader, io.ErrUnexpectedEOF, zstd.ErrCRCMismatch, zstd.ErrMagicMismatch} {
		if errors.Is(err, wrong) {
			return n, &Problem{Text: "is a damaged " + d.form + " file: " + err.Error()}
		}
	}
	return n, err
}
