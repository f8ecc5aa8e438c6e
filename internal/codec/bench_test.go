package codec_test

import (
	"fmt"
	"testing"

	"github.com/episodic-memory/episodic/internal/codec"
)

// eachPayload runs f for payloads of 14 KB and 500 B, with every codec that
// compresses, without a dictionary and with one trained on other payloads.
func eachPayload(b *testing.B, f func(b *testing.B, e *codec.Encoder, d *codec.Decoder, plain []byte)) {
	trained, err := codec.Train(b.Context(), newAuthor(b, 20).episodes(b, 200), codec.TrainOptions{ID: 40001})
	ok(b, err)
	for _, size := range []int{14_000, 500} {
		plain := payload(b, 21, size)[:size]
		for _, o := range []codec.Options{
			{}, {Dictionary: trained}, {Level: codec.Fast, Dictionary: trained}, {Level: codec.Best, Dictionary: trained},
			{Codec: codec.LZ4}, {Codec: codec.Gzip}, {Codec: codec.Gzip, Dictionary: trained},
		} {
			o.Threshold = 1
			b.Run(fmt.Sprintf("size=%d/codec=%v/level=%v/dictionary=%t", size, o.Codec, o.Level, o.Dictionary != nil), func(b *testing.B) {
				d := codec.NewDecoder(limit)
				ok(b, d.Learn(trained))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				f(b, newEncoder(b, o), d, plain)
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	eachPayload(b, func(b *testing.B, e *codec.Encoder, _ *codec.Decoder, plain []byte) {
		frame := e.Encode(make([]byte, 0, 2*len(plain)+64), plain)
		for b.Loop() {
			frame = e.Encode(frame[:0], plain)
		}
		b.ReportMetric(float64(len(frame))/float64(len(plain)), "ratio")
	})
}

func BenchmarkDecode(b *testing.B) {
	eachPayload(b, func(b *testing.B, e *codec.Encoder, d *codec.Decoder, plain []byte) {
		frame, out := e.Encode(nil, plain), make([]byte, 0, len(plain)+16)
		for b.Loop() {
			var err error
			if out, err = d.Decode(out[:0], frame); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFirst is what a short command pays that encodes one frame.
func BenchmarkFirst(b *testing.B) {
	plain := payload(b, 21, 14_000)
	for _, o := range []codec.Options{{Dictionary: codec.Builtin()}, {Level: codec.Fast, Dictionary: codec.Builtin()}, {Codec: codec.LZ4}, {Codec: codec.Gzip}} {
		b.Run(fmt.Sprintf("codec=%v/level=%v", o.Codec, o.Level), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				newEncoder(b, o).Encode(nil, plain)
			}
		})
	}
	b.Run("decoder", func(b *testing.B) {
		frame := newEncoder(b, codec.Options{Dictionary: codec.Builtin()}).Encode(nil, plain)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := codec.NewDecoder(limit).Decode(nil, frame); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkTrain(b *testing.B) {
	for _, episodes := range []int{20, 200, 1000} {
		samples := newAuthor(b, 22).episodes(b, episodes)
		size := 0
		for _, s := range samples {
			size += len(s.Data)
		}
		b.Run(fmt.Sprintf("episodes=%d", episodes), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := codec.Train(b.Context(), samples, codec.TrainOptions{ID: 40000}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
