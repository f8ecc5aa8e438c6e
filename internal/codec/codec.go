// Package codec encodes bytes as self-describing compressed frames and decodes them.
//
// Any [Decoder] can decode the frames of any [Encoder], whatever its options, if it has
// learnt the [Dictionary] that the frame names. Frames of all versions stay readable.
//
//	plain --Encoder.Encode--> frame --Decoder.Decode--> plain
//	            |                          |
//	            +------- Dictionary -------+   trained by Train on earlier plain bytes
package codec

import (
	"fmt"
	"strings"
)

// Codec is a compression algorithm.
type Codec uint8

// The codecs. Figures are the size of frames relative to the plain bytes, for episodes
// of the tau-bench airline tasks: without a dictionary, with the built-in one, and with
// one trained on other tasks.
const (
	// Zstd compresses best: 0.27, 0.20, 0.11.
	Zstd Codec = iota
	// LZ4 is fastest: 0.37. It uses no dictionary.
	LZ4
	// Gzip is deflate, the algorithm of gzip, with the header and checksum of a frame,
	// so that gzip tools cannot read it. It uses the last 32 KiB of a dictionary:
	// 0.26, 0.20, 0.13.
	Gzip
	// None stores bytes uncompressed.
	None
)

var codecNames = [...]string{Zstd: "zstd", LZ4: "lz4", Gzip: "gzip", None: "none"}

func (c Codec) String() string { return name(codecNames[:], int(c)) }

// Level trades compression speed for size. It does not affect decoding.
type Level uint8

// The levels. Times and memory are those of Zstd with a dictionary, for a payload of
// 13 KB. The memory is per concurrent call of Encode, of which at most four run at once.
// Gzip needs 1 MB and LZ4, for which Fast equals Better, 0.2 MB.
const (
	Default Level = iota // Better
	// Fast takes 0.04 ms and 5 MB; frames are 8 to 20 % larger than those of Better, and
	// marked, so that whoever has time can find them and compress them again.
	Fast
	Better // 0.3 ms and 18 MB
	// Best takes 4 ms, even for short payloads, and 80 MB; frames are 3 to 11 % smaller
	// than those of Better.
	Best
)

var levelNames = [...]string{Default: "default", Fast: "fast", Better: "better", Best: "best"}

func (l Level) String() string { return name(levelNames[:], int(l)) }

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown (%d)", i)
}

// Options configures an Encoder. The zero value of a field means its default.
type Options struct {
	// Codec is the compression algorithm. Default Zstd.
	Codec Codec
	// Level trades speed for size. Default Better.
	Level Level
	// Threshold is the minimum number of plain bytes to compress. Not negative, default
	// 1024, or 64 with a dictionary: shorter payloads do not get smaller. Payloads that
	// compression would not make smaller are always stored uncompressed.
	Threshold int
	// Dictionary is used for compression and must be known to every Decoder; nil is
	// none. LZ4 and None ignore it.
	Dictionary *Dictionary
}

const (
	defaultThreshold     = 1024
	defaultThresholdDict = 64
)

// withDefaults returns o with zero fields set and unused ones cleared.
func (o Options) withDefaults() Options {
	if o.Codec == LZ4 || o.Codec == None {
		o.Dictionary = nil
	}
	if o.Level == Default {
		o.Level = Better
	}
	if o.Threshold == 0 {
		o.Threshold = defaultThreshold
		if o.Dictionary != nil {
			o.Threshold = defaultThresholdDict
		}
	}
	return o
}

// OptionError reports an invalid option.
type OptionError struct {
	Field   string // such as Codec
	Problem string // the value and the allowed values
}

func (e *OptionError) Error() string { return "codec option " + e.Field + " " + e.Problem }

// Validate returns an *OptionError for the first invalid field.
func (o Options) Validate() error {
	switch {
	case int(o.Codec) >= len(codecNames):
		return &OptionError{"Codec", fmt.Sprintf("is %d, must be one of %s", o.Codec, strings.Join(codecNames[:], ", "))}
	case int(o.Level) >= len(levelNames):
		return &OptionError{"Level", fmt.Sprintf("is %d, must be one of %s", o.Level, strings.Join(levelNames[:], ", "))}
	case o.Threshold < 0:
		return &OptionError{"Threshold", fmt.Sprintf("is negative (%d)", o.Threshold)}
	}
	return nil
}
