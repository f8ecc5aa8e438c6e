package transcript

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// packedPrefix begins a column that do-memory-storage-turso has compressed:
// __compressed__:ALGORITHM:SIZE, a line break, and Base64.
const packedPrefix = "__compressed__:"

var errPacked = errors.New("is not what its size and algorithm say")

// unpacked is what a column holds that may be compressed.
func unpacked(text string) ([]byte, error) {
	rest, found := strings.CutPrefix(text, packedPrefix)
	if !found {
		return []byte(text), nil
	}
	head, data, _ := strings.Cut(rest, "\n")
	algorithm, digits, _ := strings.Cut(head, ":")
	size, err := strconv.Atoi(digits)
	if err != nil || size < 0 || size > maxValue {
		return nil, errPacked
	}
	packed, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, errPacked
	}
	out, err := unpack(algorithm, packed, size)
	if err != nil || len(out) != size {
		return nil, errPacked
	}
	return out, nil
}

// unpack returns what was compressed: at most one byte more than size.
func unpack(algorithm string, packed []byte, size int) ([]byte, error) {
	switch algorithm {
	case "lz4":
		out := make([]byte, size)
		n, err := lz4.UncompressBlock(packed, out)
		return out[:max(n, 0)], err
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(r, int64(size)+1))
	case "zstd":
		r, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(512<<20))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(io.LimitReader(r, int64(size)+1))
	}
	return nil, errPacked
}
