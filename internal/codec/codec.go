// Package codec turns bytes into a self-describing compressed frame and back.
//
// A [Frame] says by itself how it is to be read: whatever an [Encoder] was told,
// any [Decoder] reads what it wrote, as long as it has learnt the [Dictionary]
// that the frame names. Frames of every version stay readable for ever.
//
//	plain --Encoder.Encode--> frame --Decoder.Decode--> plain
//	            |                          |
//	            +------- Dictionary -------+   made by Train of earlier plain bytes
package codec

import (
	"fmt"
	"strings"
)

// Codec is a way to compress.
type Codec uint8

// The codecs. Figures are frames as part of the plain bytes, for episodes of the
// tau-bench airline tasks, without a dictionary, with the built-in one, and with
// one trained on other tasks.
const (
	// Zstd is the smallest: 0.27, 0.20, 0.11.
	Zstd Codec = iota
	// LZ4 is the fastest: 0.37. It takes no dictionary.
	LZ4
	// Gzip is deflate, what gzip compresses with; header and checksum are the
	// frame's own, so that gzip tools do not read it. Of a dictionary it sees the
	// last 32 KiB: 0.26, 0.20, 0.13.
	Gzip
	// None stores bytes as they are.
	None
)

var codecNames = [...]string{Zstd: "zstd", LZ4: "lz4", Gzip: "gzip", None: "none"}

func (c Codec) String() string { return name(codecNames[:], int(c)) }

// Level is how hard an Encoder tries. It makes no difference to reading.
type Level uint8

// The levels. Figures are those of Zstd with a dictionary, for a payload of
// 14 KB. The memory is kept for each call at work at once, of which there are at
// most four; Gzip keeps 1 MB and LZ4, whose Fast is its Default, 0.2 MB.
const (
	Default Level = iota // 0.12 ms and 18 MB
	// Fast takes 0.04 ms and 5 MB; frames get 8 to 20 % larger.
	Fast
	// Best takes 2 ms, however short the payload is, and 80 MB, which is for
	// packing again in the background; frames get 3 to 11 % smaller.
	Best
)

var levelNames = [...]string{Default: "default", Fast: "fast", Best: "best"}

func (l Level) String() string { return name(levelNames[:], int(l)) }

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown (%d)", i)
}

// Options say how an Encoder compresses. The zero value of every field means its
// default.
type Options struct {
	// Codec is the way to compress. Default Zstd.
	Codec Codec
	// Level is how hard to try.
	Level Level
	// Threshold is the number of bytes from which on compressing is tried.
	// Default 1024, or 64 if a dictionary is used: shorter ones gain nothing.
	// Negative: never. A frame that compressing would not make smaller is stored
	// plain in any case.
	Threshold int
	// Dictionary is what the encoder assumes to be known to every reader; nil:
	// nothing. LZ4 and None do not use it.
	Dictionary *Dictionary
}

const (
	defaultThreshold     = 1024
	defaultThresholdDict = 64
)

// withDefaults returns o with what is zero or not used set.
func (o Options) withDefaults() Options {
	if o.Codec == LZ4 || o.Codec == None {
		o.Dictionary = nil
	}
	if o.Threshold == 0 {
		o.Threshold = defaultThreshold
		if o.Dictionary != nil {
			o.Threshold = defaultThresholdDict
		}
	}
	if o.Threshold < 0 {
		o.Codec = None
	}
	return o
}

// OptionError names an option that makes no sense.
type OptionError struct {
	Field   string // such as Codec
	Problem string // what is wrong and what would be right
}

func (e *OptionError) Error() string { return "codec option " + e.Field + " " + e.Problem }

// Validate returns an *OptionError for the first field that makes no sense.
func (o Options) Validate() error {
	switch {
	case int(o.Codec) >= len(codecNames):
		return &OptionError{"Codec", fmt.Sprintf("is %d, must be one of %s", o.Codec, strings.Join(codecNames[:], ", "))}
	case int(o.Level) >= len(levelNames):
		return &OptionError{"Level", fmt.Sprintf("is %d, must be one of %s", o.Level, strings.Join(levelNames[:], ", "))}
	}
	return nil
}
