package doctor

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
)

// Of a log (-wal): its header, and what comes before each page.
const (
	logHeader   = 32
	frameHeader = 24
	logMagic    = 0x377f0682 // plus 1: checksums are of big-endian words
)

// logged is what a log holds of the file's pages.
type logged struct {
	at      map[uint32]int64 // where the newest version of a page is
	pages   uint32           // of the file after the last transaction; 0: the log holds none
	frames  int              // of whole transactions
	damaged int              // frames whose checksum is wrong
	hidden  int              // frames of whole transactions behind the first damaged one
}

// sums is the running checksum of a log.
type sums struct{ a, b uint32 }

func (s sums) add(order binary.ByteOrder, data []byte) sums {
	for ; len(data) >= 8; data = data[8:] {
		s.a += order.Uint32(data) + s.b
		s.b += order.Uint32(data[4:]) + s.a
	}
	return s
}

// logPageSize is the page size that a log names; 0: none.
func logPageSize(log io.ReaderAt) int {
	var b [logHeader]byte
	if n, _ := log.ReadAt(b[:], 0); n < logHeader || binary.BigEndian.Uint32(b[:])&^1 != logMagic {
		return 0
	}
	if n := int(binary.BigEndian.Uint32(b[8:])); validPageSize(n) {
		return n
	}
	return 0
}

// HiddenFrames reads a log, and returns how many pages of whole transactions lie behind the first
// damaged one: SQLite does not read them. A log that is not there, or empty, has none. Others may
// write to it meanwhile; what they write may be taken for damage. Errors: those of the file system.
func HiddenFrames(path string) (int, error) {
	log, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer log.Close()
	pageSize := logPageSize(log)
	if pageSize == 0 {
		pageSize = usualPageSize
	}
	l, err := readLog(log, pageSize)
	return l.hidden, err
}

// usualPageSize is SQLite's.
const usualPageSize = 4096

// readLog finds the newest versions of pages that transactions have left in a log. A frame
// whose checksum is wrong is passed over, and its page is as it was before. Each frame's
// checksum goes on from that of the one before, which is stored with it, so that the
// following ones can be checked. SQLite ends at the first that is wrong.
func readLog(log io.ReaderAt, pageSize int) (l logged, err error) {
	l.at = map[uint32]int64{}
	var head [logHeader]byte
	switch _, err := log.ReadAt(head[:], 0); {
	case errors.Is(err, io.EOF):
		return l, nil
	case err != nil:
		return l, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	var before sums
	var salt [8]byte
	known := binary.BigEndian.Uint32(head[:])&^1 == logMagic && int(binary.BigEndian.Uint32(head[8:])) == pageSize
	if known {
		if head[3]&1 != 0 {
			order = binary.BigEndian
		}
		before = sums{binary.BigEndian.Uint32(head[24:]), binary.BigEndian.Uint32(head[28:])}
		copy(salt[:], head[16:])
	}
	pending := map[uint32]int64{} // of a transaction whose end has not come yet
	frame := make([]byte, frameHeader+pageSize)
	for at := int64(logHeader); ; at += int64(len(frame)) {
		switch _, err := log.ReadAt(frame, at); {
		case errors.Is(err, io.EOF):
			return l, nil
		case err != nil:
			return l, err
		}
		stored := sums{binary.BigEndian.Uint32(frame[16:]), binary.BigEndian.Uint32(frame[20:])}
		if !known && at == logHeader {
			// Without the header the first frame cannot be checked.
			copy(salt[:], frame[8:])
			before = stored
			l.damaged++
			continue
		}
		if string(frame[8:16]) != string(salt[:]) {
			before = stored // it is of an earlier use of the log, or damaged
			continue
		}
		right := before.add(order, frame[:8]).add(order, frame[frameHeader:]) == stored
		if !right && !known && before.add(binary.BigEndian, frame[:8]).add(binary.BigEndian, frame[frameHeader:]) == stored {
			right, order = true, binary.BigEndian
		}
		before = stored
		if !right {
			l.damaged++
			continue
		}
		page, pages := binary.BigEndian.Uint32(frame), binary.BigEndian.Uint32(frame[4:])
		pending[page] = at + frameHeader
		if pages > 0 {
			l.frames += len(pending)
			if l.damaged > 0 {
				l.hidden += len(pending)
			}
			for p, at := range pending {
				l.at[p] = at
			}
			clear(pending)
			l.pages = pages
		}
	}
}
