package codec

import (
	_ "embed"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Ids of dictionaries. The frames of a program name them, so an id never gets
// another dictionary.
const (
	// MinTrainedID and MaxTrainedID bound the ids that are for dictionaries
	// trained at run time; those below 256 are built in, the rest is reserved.
	MinTrainedID = 1 << 15
	MaxTrainedID = 1<<16 - 1

	maxDictionaryID = 1<<16 - 1
	maxDictionary   = 1 << 20 // bytes
	deflateWindow   = 32 << 10
)

// Dictionary is text that is known before a frame is read. It has the format of
// zstd's dictionaries and does not change.
type Dictionary struct {
	id    uint32
	bytes []byte
	tail  []byte // of the content, for deflate
}

// NewDictionary returns the dictionary that content holds, which is in the
// format of zstd's dictionaries (as Dictionary.Bytes returns it), with this id,
// and at most 1 MiB. It keeps content, which must not be changed any more. Content
// that was damaged may be accepted: who stores it must tell by a hash.
func NewDictionary(id uint32, content []byte) (*Dictionary, error) {
	if id == 0 || id > maxDictionaryID {
		return nil, fmt.Errorf("dictionary id %d is not within 1 and %d", id, maxDictionaryID)
	}
	if len(content) > maxDictionary {
		return nil, fmt.Errorf("dictionary %d has %d bytes, at most %d are allowed", id, len(content), maxDictionary)
	}
	in, err := zstd.InspectDictionary(content)
	if err != nil {
		return nil, fmt.Errorf("dictionary %d: %w", id, err)
	}
	if in.ID() != id {
		return nil, fmt.Errorf("dictionary %d says that its id is %d", id, in.ID())
	}
	tail := in.Content()
	return &Dictionary{id: id, bytes: content, tail: tail[max(0, len(tail)-deflateWindow):]}, nil
}

// ID returns the id that frames made with the dictionary name.
func (d *Dictionary) ID() uint32 { return d.id }

// Bytes returns the dictionary as NewDictionary takes it. It must not be changed.
func (d *Dictionary) Bytes() []byte { return d.bytes }

const builtinID = 1

//go:embed dict0.bin
var builtin []byte

var loadBuiltin = sync.OnceValue(func() *Dictionary { return must(NewDictionary(builtinID, builtin)) })

// Builtin returns the dictionary that is part of every program: what all
// episodes have in common. Every Decoder knows it. A better one would come
// beside it, with another id.
func Builtin() *Dictionary { return loadBuiltin() }
