package codec_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/testkit"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write testdata/*.frame anew; a released frame must never change")

const (
	limit      = 1 << 20
	trainedSum = "0717bfa4bdbcc86a6fb4a545706696773d218514b3cbd1bfa32832039d0a0461" // of testdata/trained.dict, which is for ever
)

var codecs = []codec.Codec{codec.Zstd, codec.LZ4, codec.Gzip, codec.None}

// dictionaries returns no dictionary, the built-in one and a trained one.
var dictionaries = sync.OnceValue(func() []*codec.Dictionary {
	content, err := os.ReadFile("testdata/trained.dict")
	if err != nil {
		panic(err)
	}
	d, err := codec.NewDictionary(40000, content)
	if err != nil {
		panic(err)
	}
	return []*codec.Dictionary{nil, codec.Builtin(), d}
})

func newEncoder(t testing.TB, o codec.Options) *codec.Encoder {
	t.Helper()
	e, err := codec.NewEncoder(o)
	ok(t, err)
	return e
}

// newDecoder returns a Decoder that knows all dictionaries.
func newDecoder(t testing.TB) *codec.Decoder {
	t.Helper()
	d := codec.NewDecoder(limit)
	ok(t, d.Learn(dictionaries()[2]))
	return d
}

// payload returns the payload of an episode of at least n bytes.
func payload(t testing.TB, seed uint64, n int) []byte {
	a := newAuthor(t, seed)
	var steps []any
	for {
		steps = append(steps, a.step(t))
		if p := encode(t, steps); len(p) >= n {
			return p
		}
	}
}

// everyEncoder calls f with an Encoder for every codec, level and dictionary.
func everyEncoder(t testing.TB, threshold int, f func(o codec.Options, e *codec.Encoder)) {
	t.Helper()
	for _, c := range codecs {
		for _, l := range []codec.Level{codec.Default, codec.Fast, codec.Best} {
			for _, d := range dictionaries() {
				o := codec.Options{Codec: c, Level: l, Threshold: threshold, Dictionary: d}
				f(o, newEncoder(t, o))
			}
		}
	}
}

func describe(o codec.Options) string {
	id := uint32(0)
	if o.Dictionary != nil {
		id = o.Dictionary.ID()
	}
	return fmt.Sprintf("%v, %v, dictionary %d", o.Codec, o.Level, id)
}

func TestRoundTrip(t *testing.T) {
	type pair struct {
		o codec.Options
		e *codec.Encoder
	}
	var encoders []pair
	everyEncoder(t, 1, func(o codec.Options, e *codec.Encoder) { encoders = append(encoders, pair{o, e}) })
	d := newDecoder(t)
	texts := payload(t, 7, 100_000)
	rapid.Check(t, func(r *rapid.T) {
		p := rapid.SampledFrom(encoders).Draw(r, "encoder")
		var plain []byte
		for range rapid.IntRange(0, 6).Draw(r, "parts") {
			switch rapid.IntRange(0, 2).Draw(r, "part") {
			case 0:
				plain = append(plain, rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")...)
			case 1:
				from := rapid.IntRange(0, len(texts)).Draw(r, "from")
				plain = append(plain, texts[from:from+rapid.IntRange(0, len(texts)-from).Draw(r, "length")]...)
			case 2:
				plain = append(plain, bytes.Repeat([]byte{rapid.Byte().Draw(r, "byte")}, rapid.IntRange(0, 300_000).Draw(r, "times"))...)
			}
		}
		plain = plain[:min(len(plain), limit)]
		before := []byte("before")
		frame := p.e.Encode(before, plain)
		if !bytes.HasPrefix(frame, before) {
			r.Fatalf("%s: what stood in dst is lost", describe(p.o))
		}
		frame = frame[len(before):]
		h, err := codec.Inspect(frame)
		ok(t, err)
		if h.PlainSize != int64(len(plain)) {
			r.Fatalf("%s: Inspect says %d bytes, want %d", describe(p.o), h.PlainSize, len(plain))
		}
		if worst := len(plain) + 2 + 1 + len(binary.AppendUvarint(nil, uint64(len(plain)))) + 4; len(frame) > worst {
			r.Fatalf("%s: %d bytes make a frame of %d, at most %d are needed", describe(p.o), len(plain), len(frame), worst)
		}
		got, err := d.Decode(before, frame)
		if err != nil {
			r.Fatalf("%s: decode: %v", describe(p.o), err)
		}
		if !bytes.Equal(got, append(before, plain...)) {
			r.Fatalf("%s: %d bytes came back as %d others", describe(p.o), len(plain), len(got))
		}
	})
}

func TestLargePayload(t *testing.T) {
	plain := bytes.Repeat(payload(t, 3, 50_000), testkit.Effort(6, 6, 30))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	plain = append(plain, noise...)
	d := codec.NewDecoder(len(plain))
	ok(t, d.Learn(dictionaries()[2]))
	for _, c := range codecs {
		e := newEncoder(t, codec.Options{Codec: c, Dictionary: dictionaries()[2]})
		got, err := d.Decode(nil, e.Encode(nil, plain))
		ok(t, err)
		if !bytes.Equal(got, plain) {
			t.Errorf("%v: %d bytes came back different", c, len(plain))
		}
	}
}

func TestCompresses(t *testing.T) {
	plain := payload(t, 2, 14_000)
	everyEncoder(t, 0, func(o codec.Options, e *codec.Encoder) {
		frame := e.Encode(nil, plain)
		h, err := codec.Inspect(frame)
		ok(t, err)
		want := codec.Header{Codec: o.Codec, Fast: o.Level == codec.Fast && o.Codec != codec.None, PlainSize: int64(len(plain))}
		if o.Dictionary != nil && (o.Codec == codec.Zstd || o.Codec == codec.Gzip) {
			want.Dictionary = o.Dictionary.ID()
		}
		if h != want {
			t.Errorf("%s: header is %+v, want %+v", describe(o), h, want)
		}
		if most := len(plain) * 2 / 3; o.Codec != codec.None && len(frame) > most {
			t.Errorf("%s: frame has %d bytes, want at most %d", describe(o), len(frame), most)
		}
	})
}

func TestThreshold(t *testing.T) {
	text := []byte(strings.Repeat(`{"tool":"bash","result":{"kind":"output"}},`, 100))
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for _, test := range []struct {
		name  string
		o     codec.Options
		plain []byte
		want  codec.Codec
	}{
		{"under the default", codec.Options{}, text[:1023], codec.None},
		{"at the default", codec.Options{}, text[:1024], codec.Zstd},
		{"under the default of a dictionary", codec.Options{Dictionary: codec.Builtin()}, text[:63], codec.None},
		{"at the default of a dictionary", codec.Options{Dictionary: codec.Builtin()}, text[:64], codec.Zstd},
		{"with a dictionary that the codec does not use", codec.Options{Codec: codec.LZ4, Dictionary: codec.Builtin()}, text[:1023], codec.None},
		{"one that is set", codec.Options{Codec: codec.Gzip, Threshold: 200}, text[:200], codec.Gzip},
		{"what does not get smaller", codec.Options{Threshold: 1}, noise, codec.None},
		{"what does not get smaller as gzip", codec.Options{Codec: codec.Gzip, Threshold: 1}, noise, codec.None},
		{"what does not get smaller as lz4", codec.Options{Codec: codec.LZ4, Threshold: 1}, noise, codec.None},
		{"nothing", codec.Options{Threshold: 1}, nil, codec.None},
	} {
		frame := newEncoder(t, test.o).Encode(nil, test.plain)
		h, err := codec.Inspect(frame)
		ok(t, err)
		if h.Codec != test.want {
			t.Errorf("%s: %d bytes are stored as %v, want %v", test.name, len(test.plain), h.Codec, test.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		o     codec.Options
		field string
	}{
		{codec.Options{Codec: 4}, "Codec"},
		{codec.Options{Level: 4}, "Level"},
		{codec.Options{Threshold: -1}, "Threshold"},
	} {
		_, err := codec.NewEncoder(test.o)
		if e, is := errors.AsType[*codec.OptionError](err); !is || e.Field != test.field {
			t.Errorf("%+v: error is %v, want an OptionError of %s", test.o, err, test.field)
		}
	}
}

// frame makes a frame by hand.
func frame(version, c byte, dict, size uint64, plain string, body string) []byte {
	b := []byte{version, c}
	b = binary.AppendUvarint(b, dict)
	b = binary.AppendUvarint(b, size)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum([]byte(plain), crc32.MakeTable(crc32.Castagnoli)))
	return append(b, body...)
}

func TestHeaders(t *testing.T) {
	long := "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
	for _, test := range []struct {
		name  string
		frame []byte
		want  string // "": it is read
	}{
		{"plain", frame(2, 0, 0, 2, "ab", "ab"), ""},
		{"empty", frame(2, 0, 0, 0, "", ""), ""},
		{"nothing", nil, "only 0 bytes"},
		{"one byte", []byte{2}, "only 1 bytes"},
		{"an older payload", []byte("\x01{}"), "version 0x01"},
		{"a newer version", frame(3, 0, 0, 2, "ab", "ab"), "version 0x03"},
		{"a newer codec", frame(2, 4, 0, 2, "ab", "ab"), "codec 4"},
		{"cut before the dictionary", []byte{2, 1}, "dictionary id"},
		{"dictionary without end", []byte("\x02\x01" + long), "dictionary id"},
		{"dictionary too large", frame(2, 1, 1<<16, 2, "ab", "ab"), "dictionary id"},
		{"dictionary for none", frame(2, 0, 1, 2, "ab", "ab"), "no dictionary"},
		{"dictionary for lz4", frame(2, 2, 1, 2, "ab", "ab"), "no dictionary"},
		{"cut before the length", []byte{2, 1, 0}, "length"},
		{"length without end", []byte("\x02\x01\x00" + long), "length"},
		{"length too large", frame(2, 0, 0, 1<<63, "ab", "ab"), "length"},
		{"cut in the checksum", []byte{2, 1, 0, 5, 1, 2, 3}, "checksum"},
		{"wrong checksum", frame(2, 0, 0, 2, "ac", "ab"), "checksum"},
		{"too short", frame(2, 0, 0, 3, "ab", "ab"), "cannot hold"},
		{"too long", frame(2, 0, 0, 1, "a", "ab"), "instead of"},
		{"zstd without body", frame(2, 1, 0, 2, "ab", ""), "zstd"},
		{"zstd of noise", frame(2, 1, 0, 2, "ab", "\xff\xff\xff\xff"), "zstd"},
		{"zstd of another length", frame(2, 1, 0, 3, "abc", "\x11\x00\x00ab"), "zstd"},
		{"zstd, one raw block", frame(2, 1, 0, 2, "ab", "\x11\x00\x00ab"), ""},
		{"lz4 without body", frame(2, 2, 0, 2, "ab", ""), "cannot hold"},
		{"lz4 of noise", frame(2, 2, 0, 2, "ab", "\xff\xff\xff\xff"), "lz4"},
		{"lz4, literals", frame(2, 2, 0, 2, "ab", "\x20ab"), ""},
		{"deflate without body", frame(2, 3, 0, 2, "ab", ""), "gzip"},
		{"deflate of noise", frame(2, 3, 0, 2, "ab", "\xff\xff\xff\xff"), "gzip"},
		{"deflate, stored", frame(2, 3, 0, 2, "ab", "\x01\x02\x00\xfd\xffab"), ""},
		{"deflate, shorter", frame(2, 3, 0, 3, "abc", "\x01\x02\x00\xfd\xffab"), "gzip"},
		{"deflate, longer", frame(2, 3, 0, 1, "a", "\x01\x02\x00\xfd\xffab"), "more than 1"},
		{"deflate, trailing", frame(2, 3, 0, 2, "ab", "\x01\x02\x00\xfd\xffabc"), "1 bytes follow"},
	} {
		got, err := newDecoder(t).Decode([]byte("x"), test.frame)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (!errors.Is(err, codec.ErrDamaged) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error is %v, want ErrDamaged with %q", test.name, err, test.want)
		case test.want != "" && string(got) != "x":
			t.Errorf("%s: dst came back as %q", test.name, got)
		}
	}
}

func TestUnknownDictionary(t *testing.T) {
	trained := dictionaries()[2]
	plain := payload(t, 4, 2000)
	for _, c := range []codec.Codec{codec.Zstd, codec.Gzip} {
		f := newEncoder(t, codec.Options{Codec: c, Dictionary: trained}).Encode(nil, plain)
		d := codec.NewDecoder(limit)
		_, err := d.Decode(nil, f)
		if e, is := errors.AsType[*codec.UnknownDictionaryError](err); !is || e.ID != trained.ID() {
			t.Errorf("%v: error is %v, want an UnknownDictionaryError of %d", c, err, trained.ID())
		}
		ok(t, d.Learn(trained))
		ok(t, d.Learn(trained))
		got, err := d.Decode(nil, f)
		ok(t, err)
		if !bytes.Equal(got, plain) {
			t.Errorf("%v: came back different", c)
		}
	}
}

func TestDictionaryOfAnotherContent(t *testing.T) {
	rename := func(d *codec.Dictionary, id uint32) *codec.Dictionary {
		content := bytes.Clone(d.Bytes())
		binary.LittleEndian.PutUint32(content[4:], id)
		renamed, err := codec.NewDictionary(id, content)
		ok(t, err)
		return renamed
	}
	trained := dictionaries()[2]
	d := newDecoder(t)
	if err := d.Learn(rename(codec.Builtin(), trained.ID())); err == nil {
		t.Error("a second dictionary took the id of the first")
	}
	if err := codec.NewDecoder(limit).Learn(rename(trained, codec.Builtin().ID())); err == nil {
		t.Error("a dictionary took the id of the built-in one")
	}
	// A reader that has the wrong one must notice.
	for _, c := range []codec.Codec{codec.Zstd, codec.Gzip} {
		f := newEncoder(t, codec.Options{Codec: c, Dictionary: trained}).Encode(nil, payload(t, 4, 2000))
		wrong := codec.NewDecoder(limit)
		ok(t, wrong.Learn(rename(codec.Builtin(), trained.ID())))
		if _, err := wrong.Decode(nil, f); !errors.Is(err, codec.ErrDamaged) {
			t.Errorf("%v: error is %v, want ErrDamaged", c, err)
		}
	}
}

func TestNewDictionary(t *testing.T) {
	good := dictionaries()[2]
	if sum := sha256.Sum256(good.Bytes()); fmt.Sprintf("%x", sum) != trainedSum {
		t.Errorf("sum is %x", sum)
	}
	for _, test := range []struct {
		name    string
		id      uint32
		content []byte
	}{
		{"id 0", 0, good.Bytes()},
		{"id over 16 bits", 1 << 16, good.Bytes()},
		{"another id", 40001, good.Bytes()},
		{"nothing", 40000, nil},
		{"cut off", 40000, good.Bytes()[:100]},
		{"raw text", 40000, []byte(strings.Repeat("text", 100))},
		{"too large", 40000, append(bytes.Clone(good.Bytes()), make([]byte, 1<<20)...)},
	} {
		if _, err := codec.NewDictionary(test.id, test.content); err == nil {
			t.Errorf("%s: no error", test.name)
		}
	}
}

func TestBombs(t *testing.T) {
	zeros := make([]byte, limit+1)
	for _, c := range codecs {
		bomb := newEncoder(t, codec.Options{Codec: c}).Encode(nil, zeros)
		d := codec.NewDecoder(limit)
		_, err := d.Decode(nil, bomb)
		if e, is := errors.AsType[*codec.TooLargeError](err); !is || e.Size != limit+1 || e.Max != limit {
			t.Errorf("%v: error is %v, want a TooLargeError", c, err)
		}
		// The same with a header that says less.
		h, err := codec.Inspect(bomb)
		ok(t, err)
		head := 2 + 1 + len(binary.AppendUvarint(nil, uint64(h.PlainSize))) + 4
		lie := frame(2, bomb[1], 0, 100, string(zeros[:100]), string(bomb[head:]))
		got, err := d.Decode(nil, lie)
		if !errors.Is(err, codec.ErrDamaged) || got != nil {
			t.Errorf("%v: a lying header gives %d bytes, %v", c, len(got), err)
		}
	}
	// A header that says more makes nothing be allocated.
	d := codec.NewDecoder(1 << 31)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for c := range byte(len(codecs)) {
		if _, err := d.Decode(nil, frame(2, c, 0, 1<<30, "", "1234567")); !errors.Is(err, codec.ErrDamaged) {
			t.Errorf("codec %d: error is %v, want ErrDamaged", c, err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > limit {
		t.Errorf("refusing lies allocated %d bytes", n)
	}
}

func TestDamage(t *testing.T) {
	frames := testkit.Effort(200, 1000, 10_000)
	d := newDecoder(t)
	r := rand.New(rand.NewPCG(5, 0))
	samples := newAuthor(t, 5).episodes(t, 100)
	caught, kept, out := 0, 0, []byte(nil)
	try := func(o codec.Options, f, plain []byte, bit int) {
		f[bit/8] ^= 1 << (bit % 8)
		defer func() { f[bit/8] ^= 1 << (bit % 8) }()
		got, err := d.Decode(out[:0], f)
		if err != nil {
			caught++
			return
		}
		if !bytes.Equal(got, plain) {
			t.Errorf("%s: bit %d of %d changed decodes to wrong bytes", describe(o), bit, len(f)*8)
		}
		kept++
		out = got
	}
	everyEncoder(t, 1, func(o codec.Options, e *codec.Encoder) {
		const encoders = 4 * 3 * 3
		for i := range frames / encoders {
			plain := samples[r.IntN(len(samples))].Data
			f := e.Encode(nil, plain)
			if i == 0 { // every bit of one frame
				for bit := range 8 * min(len(f), 200) {
					try(o, f, plain, bit)
				}
			}
			for range 10 {
				try(o, f, plain, r.IntN(len(f)*8))
			}
		}
	})
	// A few bits mean nothing: those that pad a stream to whole bytes, and how
	// often a table may be used again.
	t.Logf("%d flips caught, %d made no difference", caught, kept)
	if kept*20 > caught {
		t.Errorf("%d of %d flips made no difference", kept, caught+kept)
	}
}

func TestConcurrentUse(t *testing.T) {
	trained := dictionaries()[2]
	d := codec.NewDecoder(limit)
	var encoders []*codec.Encoder
	everyEncoder(t, 1, func(o codec.Options, e *codec.Encoder) {
		if o.Level != codec.Best {
			encoders = append(encoders, e)
		}
	})
	var wg sync.WaitGroup
	for i := range 8 {
		plain := payload(t, uint64(i), 1000+i*500)
		wg.Go(func() {
			for _, e := range encoders {
				f := e.Encode(nil, plain)
				got, err := d.Decode(nil, f)
				if e, is := errors.AsType[*codec.UnknownDictionaryError](err); is && e.ID == trained.ID() {
					if err := d.Learn(trained); err != nil {
						t.Error(err)
					}
					got, err = d.Decode(nil, f)
				}
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("came back different: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d := newDecoder(t)
	plain := payload(t, 6, 14_000)
	buf, out := make([]byte, 0, 2*len(plain)), make([]byte, 0, len(plain)+16)
	everyEncoder(t, 0, func(o codec.Options, e *codec.Encoder) {
		if n := testing.AllocsPerRun(20, func() { buf = e.Encode(buf[:0], plain) }); n > 0 {
			t.Errorf("%s: Encode allocates %v times", describe(o), n)
		}
		n := testing.AllocsPerRun(20, func() {
			var err error
			if out, err = d.Decode(out[:0], buf); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%s: Decode allocates %v times", describe(o), n)
		}
	})
}

// TestGolden reads what earlier versions wrote. The frames are for ever.
func TestGolden(t *testing.T) {
	plain, err := os.ReadFile("testdata/plain.json")
	ok(t, err)
	d := newDecoder(t)
	seen := 0
	everyEncoder(t, 1, func(o codec.Options, e *codec.Encoder) {
		if o.Level == codec.Best || o.Level == codec.Fast && (o.Codec == codec.None || o.Codec == codec.LZ4) ||
			o.Dictionary != nil && o.Codec != codec.Zstd && o.Codec != codec.Gzip {
			return
		}
		name := filepath.Join("testdata", strings.NewReplacer(", ", "-", " ", "").Replace(describe(o))+".frame")
		if *update {
			ok(t, os.WriteFile(name, e.Encode(nil, plain), 0o644))
		}
		f, err := os.ReadFile(name)
		ok(t, err)
		h, err := codec.Inspect(f)
		ok(t, err)
		if h.Codec != o.Codec || h.Fast != (o.Level == codec.Fast) || (h.Dictionary != 0) != (o.Dictionary != nil) {
			t.Errorf("%s: header is %+v", name, h)
		}
		got, err := d.Decode(nil, f)
		ok(t, err)
		if !bytes.Equal(got, plain) {
			t.Errorf("%s: decodes to other bytes", name)
		}
		seen++
	})
	if seen != 14 {
		t.Errorf("%d frames were read, want 14", seen)
	}
}

func FuzzDecode(f *testing.F) {
	plain := payload(f, 8, 600)
	everyEncoder(f, 1, func(o codec.Options, e *codec.Encoder) {
		if o.Level != codec.Best {
			f.Add(e.Encode(nil, plain))
			f.Add(codec.Seal(e.Encode(nil, plain), 1))
		}
	})
	d := newDecoder(f)
	table := crc32.MakeTable(crc32.Castagnoli)
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, inspectErr := codec.Inspect(frame)
		got, err := d.Decode(nil, frame)
		if inspectErr != nil && err == nil {
			t.Fatalf("decodes although: %v", inspectErr)
		}
		if err == nil && (h.PlainSize != int64(len(got)) || len(got) > limit) {
			t.Fatalf("%d bytes of a frame of %d", len(got), h.PlainSize)
		}
		if err != nil {
			if got != nil {
				t.Fatal("bytes beside an error")
			}
			return
		}
		_, dict := binary.Uvarint(frame[2:])
		_, size := binary.Uvarint(frame[2+dict:])
		if crc32.Checksum(got, table) != binary.LittleEndian.Uint32(frame[2+dict+size:]) {
			t.Fatal("bytes that the checksum is not of")
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("some text, some text, some text"), uint8(0))
	f.Add(payload(f, 9, 600), uint8(4))
	var encoders []*codec.Encoder
	everyEncoder(f, 1, func(o codec.Options, e *codec.Encoder) {
		if o.Level == codec.Default {
			encoders = append(encoders, e)
		}
	})
	d := newDecoder(f)
	f.Fuzz(func(t *testing.T, plain []byte, which uint8) {
		got, err := d.Decode(nil, encoders[int(which)%len(encoders)].Encode(nil, plain))
		ok(t, err)
		if !bytes.Equal(got, plain) {
			t.Fatal("came back different")
		}
	})
}
