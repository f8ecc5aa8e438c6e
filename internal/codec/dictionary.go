package codec

import (
	_ "embed"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Ids of dictionaries. Frames refer to them, so that an id must never be reused.
const (
	// MinTrainedID and MaxTrainedID bound the ids of dictionaries trained at run time.
	// Ids below 256 are built in, the others are reserved.
	MinTrainedID = 1 << 15
	MaxTrainedID = 1<<16 - 1

	maxDictionaryID = 1<<16 - 1
	maxDictionary   = 1 << 20 // bytes
	deflateWindow   = 32 << 10
)

// Dictionary is a compression dictionary in the format of zstd. It is immutable.
type Dictionary struct {
	id    uint32
	bytes []byte
	tail  []byte // of the content, for deflate
}

// NewDictionary parses a zstd dictionary, as returned by Dictionary.Bytes, of at most
// 1 MiB and with this id. It keeps content, which must not be modified afterwards. Not
// all damage is detected: the caller must store a hash with content and check it.
func NewDictionary(id uint32, content []byte) (*Dictionary, error) {
	if id == 0 || id > maxDictionaryID {
		return nil, fmt.Errorf("dictionary id is %d, must be from 1 to %d", id, maxDictionaryID)
	}
	if len(content) > maxDictionary {
		return nil, fmt.Errorf("dictionary %d has %d bytes, at most %d are allowed", id, len(content), maxDictionary)
	}
	in, err := zstd.InspectDictionary(content)
	if err != nil {
		return nil, fmt.Errorf("dictionary %d: %w", id, err)
	}
	if in.ID() != id {
		return nil, fmt.Errorf("dictionary %d contains the id %d", id, in.ID())
	}
	tail := in.Content()
	return &Dictionary{id: id, bytes: content, tail: tail[max(0, len(tail)-deflateWindow):]}, nil
}

// ID returns the id of the dictionary in frames.
func (d *Dictionary) ID() uint32 { return d.id }

// Bytes returns the content passed to NewDictionary. It must not be modified.
func (d *Dictionary) Bytes() []byte { return d.bytes }

const builtinID = 1

//go:embed dict0.bin
var builtin []byte

var loadBuiltin = sync.OnceValue(func() *Dictionary { return must(NewDictionary(builtinID, builtin)) })

// Builtin returns the built-in dictionary, trained on text common to episodes. Every
// Decoder knows it. A better one would be added with another id.
func Builtin() *Dictionary { return loadBuiltin() }
