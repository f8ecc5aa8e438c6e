package codec_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/codec"
	"pgregory.net/rapid"
)

func ratio(t testing.TB, o codec.Options, samples []codec.Sample) float64 {
	t.Helper()
	r, err := codec.Ratio(t.Context(), o, samples)
	ok(t, err)
	return r
}

func TestTrain(t *testing.T) {
	train, test := codec.HoldOut(newAuthor(t, 10).episodes(t, 60), 5)
	d, err := codec.Train(t.Context(), train, codec.TrainOptions{ID: codec.MinTrainedID})
	ok(t, err)
	if d.ID() != codec.MinTrainedID || len(d.Bytes()) > 113<<10 {
		t.Errorf("dictionary %d has %d bytes", d.ID(), len(d.Bytes()))
	}
	for _, c := range []codec.Codec{codec.Zstd, codec.Gzip} {
		with, without := ratio(t, codec.Options{Codec: c, Dictionary: d}, test), ratio(t, codec.Options{Codec: c}, test)
		t.Logf("%v: %.3f with the dictionary, %.3f without", c, with, without)
		if with > 0.7*without {
			t.Errorf("%v: %.3f with the dictionary, %.3f without", c, with, without)
		}
	}
	again, err := codec.Train(t.Context(), train, codec.TrainOptions{ID: codec.MinTrainedID})
	ok(t, err)
	if !bytes.Equal(d.Bytes(), again.Bytes()) {
		t.Error("the same samples made another dictionary")
	}
	small, err := codec.Train(t.Context(), train, codec.TrainOptions{ID: codec.MinTrainedID, Size: 4 << 10})
	ok(t, err)
	if n := len(small.Bytes()); n > 5<<10 {
		t.Errorf("a dictionary of at most 4 KiB of text has %d bytes", n)
	}
}

// TestTrainGroups shows that text repeated within a group is not taken for
// common.
func TestTrainGroups(t *testing.T) {
	var samples []codec.Sample
	loud := strings.Repeat("what only one task says, again and again; ", 50)
	for i := range 40 {
		quiet := fmt.Sprintf("what all the tasks have in common, number %d", i)
		samples = append(samples, codec.Sample{Group: fmt.Sprint(i), Data: []byte(quiet)}, codec.Sample{Group: "loud", Data: []byte(loud)})
	}
	d, err := codec.Train(t.Context(), samples, codec.TrainOptions{ID: 40000, Size: 256})
	ok(t, err)
	if n := bytes.Count(d.Bytes(), []byte("again and again")); n > 5 {
		t.Errorf("the dictionary says %d times what one task says", n)
	}
	if !bytes.Contains(d.Bytes(), []byte("what all the tasks have in common, ")) {
		t.Error("the dictionary lacks what is common")
	}
}

func TestTrainErrors(t *testing.T) {
	step := []byte(`{"tool":"bash","parameters":"{\"command\":\"ls\"}","result":{"kind":"output","text":"main.go"}}`)
	groups := func(data []byte, groups ...string) (list []codec.Sample) {
		for _, g := range groups {
			list = append(list, codec.Sample{Group: g, Data: data})
		}
		return list
	}
	for _, test := range []struct {
		name    string
		samples []codec.Sample
		want    string
	}{
		{"nothing", nil, "0 groups"},
		{"one sample", groups(step, "a"), "1 groups"},
		{"two samples", groups(step, "a", "b"), "2 groups"},
		{"many of one group", groups(step, "a", "a", "a", "a"), "1 groups"},
		{"empty ones", groups(nil, "a", "b", "c"), "no sample"},
		{"short ones", groups([]byte("1234567"), "a", "b", "c"), "no sample"},
	} {
		_, err := codec.Train(t.Context(), test.samples, codec.TrainOptions{ID: 40000})
		if !errors.Is(err, codec.ErrTooLittle) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want ErrTooLittle with %q", test.name, err, test.want)
		}
	}
	for field, o := range map[string][]codec.TrainOptions{
		"ID":   {{}, {ID: 1 << 16}},
		"Size": {{ID: 1, Size: -1}, {ID: 1, Size: 255}, {ID: 1, Size: 1_000_001}},
	} {
		for _, o := range o {
			_, err := codec.Train(t.Context(), groups(step, "a", "b", "c"), o)
			if e, is := errors.AsType[*codec.OptionError](err); !is || e.Field != field {
				t.Errorf("%+v: error is %v, want an OptionError of %s", o, err, field)
			}
		}
	}
}

// TestTrainAnything looks for samples that the libraries do not stand.
func TestTrainAnything(t *testing.T) {
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	rapid.Check(t, func(r *rapid.T) {
		var samples []codec.Sample
		for i := range rapid.IntRange(3, 5).Draw(r, "samples") {
			var data []byte
			switch rapid.IntRange(0, 3).Draw(r, "kind") {
			case 0:
				data = rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")
			case 1:
				data = noise[:rapid.IntRange(0, len(noise)).Draw(r, "noise")]
			case 2:
				data = bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(r, "part"), rapid.IntRange(0, 70_000).Draw(r, "times"))
			case 3:
				data = []byte(strings.Repeat("the same words in all of them. ", rapid.IntRange(0, 20).Draw(r, "times")))
			}
			samples = append(samples, codec.Sample{Group: fmt.Sprint(i), Data: data})
		}
		d, err := codec.Train(context.Background(), samples, codec.TrainOptions{ID: 40000, Size: 4096})
		if err != nil {
			if !errors.Is(err, codec.ErrTooLittle) {
				r.Fatal(err)
			}
			return
		}
		dec := codec.NewDecoder(limit)
		ok(t, dec.Learn(d))
		e := newEncoder(t, codec.Options{Dictionary: d})
		for _, s := range samples {
			got, err := dec.Decode(nil, e.Encode(nil, s.Data))
			if err != nil || !bytes.Equal(got, s.Data) {
				r.Fatalf("came back different: %v", err)
			}
		}
	})
}

func TestTrainCanceled(t *testing.T) {
	samples := newAuthor(t, 12).episodes(t, 20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := codec.Train(ctx, samples, codec.TrainOptions{ID: 40000}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	// The context is asked again and again, not only at the beginning.
	for asked := 1; ; asked *= 2 {
		ctx := &endingContext{Context: t.Context(), left: asked}
		_, err := codec.Train(ctx, samples, codec.TrainOptions{ID: 40000})
		if err == nil {
			if asked < 100 {
				t.Errorf("training was over after less than %d looks at the context", asked)
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("error is %v", err)
		}
	}
	if _, err := codec.Ratio(ctx, codec.Options{}, samples); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// endingContext ends when it has been asked so many times.
type endingContext struct {
	context.Context
	left int
}

func (c *endingContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestHoldOut(t *testing.T) {
	var samples []codec.Sample
	for i := range 40 {
		samples = append(samples, codec.Sample{Group: fmt.Sprint(i % 10), Data: []byte{byte(i)}})
	}
	train, test := codec.HoldOut(samples, 5)
	in := make(map[string]bool)
	for _, s := range test {
		in[s.Group] = true
	}
	if len(train) != 32 || len(test) != 8 || len(in) != 2 {
		t.Errorf("%d samples to train, %d of %d groups to test", len(train), len(test), len(in))
	}
	for _, s := range train {
		if in[s.Group] {
			t.Errorf("group %s is on both sides", s.Group)
		}
	}
}

func TestRatio(t *testing.T) {
	plain := make([]byte, 92) // with 8 bytes of header
	if r := ratio(t, codec.Options{Codec: codec.None}, []codec.Sample{{Data: plain}}); r != 100./92 {
		t.Errorf("ratio of plain frames is %v", r)
	}
	if r := ratio(t, codec.Options{}, nil); r != 1 {
		t.Errorf("ratio of nothing is %v", r)
	}
	if _, err := codec.Ratio(t.Context(), codec.Options{Codec: 9}, nil); err == nil {
		t.Error("no error for a codec that is none")
	}
}
