package codec

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Sample is a training sample.
type Sample struct {
	// Group identifies related samples, such as those of one task. Text counts as
	// common only if it occurs in several groups.
	Group string
	Data  []byte
}

// TrainOptions configures Train.
type TrainOptions struct {
	// ID is the id of the dictionary, from 1 to 65535. See MinTrainedID for those that
	// are free.
	ID uint32
	// Size is the maximum number of bytes of text in the dictionary. From 256 to
	// 1,000,000, default 114,688. Twice the default makes long episodes 4 % smaller;
	// for payloads of a few hundred bytes 32,768 is enough.
	Size int
}

const (
	defaultDictionary = 112 << 10
	minDictionary     = 256
	// The rest of maxDictionary is for the entropy tables.
	maxDictionaryText = 1_000_000
	minGroups         = 3
	// zstd.BuildDict panics on samples over one block, 128 KiB.
	maxSample = 64 << 10
	// maxTraining bounds the bytes of samples used.
	maxTraining = 4 << 20
)

// ErrTooLittle is wrapped by errors of Train if the samples have too little in common.
var ErrTooLittle = errors.New("too little to train a dictionary from")

// Train builds a dictionary from text that samples of different groups have in common.
// It uses the first 64 KiB of a sample and a random subset of at most 4 MiB in all,
// which takes 2 s of CPU time and 70 MB. A hundred episodes are enough. It is
// deterministic.
// Errors: *OptionError; ErrTooLittle; the context's.
func Train(ctx context.Context, samples []Sample, o TrainOptions) (*Dictionary, error) {
	o.Size = cmp.Or(o.Size, defaultDictionary)
	if o.Size < minDictionary || o.Size > maxDictionaryText {
		return nil, &OptionError{"Size", fmt.Sprintf("is %d, must be from %d to %d", o.Size, minDictionary, maxDictionaryText)}
	}
	if o.ID == 0 || o.ID > maxDictionaryID {
		return nil, &OptionError{"ID", fmt.Sprintf("is %d, must be from 1 to %d", o.ID, maxDictionaryID)}
	}
	t, err := newTrainer(ctx, samples)
	if err != nil {
		return nil, err
	}
	text, err := t.text(ctx, o.Size)
	if err != nil {
		return nil, err
	}
	content, err := zstd.BuildDict(zstd.BuildDictOptions{
		ID: o.ID, Contents: t.samples(), History: text, Offsets: [3]int{1, 4, 8},
		CompatV155: true, Level: zstd.SpeedBetterCompression,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTooLittle, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return NewDictionary(o.ID, content)
}

const (
	// wordSize is the length of the substrings that are counted: shorter ones are
	// hardly worth a match, longer ones are counted by their parts.
	wordSize = 8
	// A word scores firstGroupScore for the first group that contains it and otherGroupScore for
	// every other. firstGroupScore fills a dictionary that would otherwise not be full with
	// text of a single group: 2 % on 50 tasks.
	firstGroupScore, otherGroupScore = 1, 16
	// Segments of 64 bytes make frames 12 % larger; 1,024 bytes make them no smaller.
	// A segment can begin at every multiple of segmentStep.
	segmentSize, segmentStep = 512, 64
)

// trainer selects text by the COVER algorithm (Liao, Petri, Moffat, Wirth 2016): the
// score of a segment of a sample is the sum of the scores of its distinct words. Words
// of a selected segment then score zero.
type trainer struct {
	all    []byte // the concatenated samples
	ends   []int  // end of each sample in all
	shift  int    // of a word's hash, gives the index in scores
	scores []uint32
	seen   []uint32 // by the same index: the group or scoring pass that last saw the word
	pass   uint32   // number of the current scoring pass
}

func newTrainer(ctx context.Context, samples []Sample) (*trainer, error) {
	samples = subsample(samples)
	slices.SortStableFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Group, b.Group) })
	t := &trainer{}
	for _, s := range samples {
		t.all = append(t.all, s.Data...)
		t.ends = append(t.ends, len(t.all))
	}
	// Two to four entries for a word, up to 4 Mi and 32 MiB of memory.
	size := min(bits.Len(uint(len(t.all)))+1, 22)
	t.shift = 64 - size
	t.scores, t.seen = make([]uint32, 1<<size), make([]uint32, 1<<size)
	groups, start := uint32(0), 0
	for i, s := range samples {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if i == 0 || s.Group != samples[i-1].Group {
			groups++
		}
		for p := start; p+wordSize <= t.ends[i]; p++ {
			if w := t.word(p); t.seen[w] != groups {
				if t.seen[w] == 0 {
					t.scores[w] = firstGroupScore
				} else {
					t.scores[w] += otherGroupScore
				}
				t.seen[w] = groups
			}
		}
		start = t.ends[i]
	}
	if groups < minGroups {
		return nil, fmt.Errorf("%w: samples of %d groups, at least %d are needed", ErrTooLittle, groups, minGroups)
	}
	t.pass = groups
	return t, nil
}

// word returns the index of the word at p.
func (t *trainer) word(p int) uint32 {
	return uint32(binary.LittleEndian.Uint64(t.all[p:]) * 0x9e3779b97f4a7c15 >> t.shift)
}

// segment is a part of all.
type segment struct {
	start, end int
	score      int
}

// score returns the sum of the scores of the distinct words of p. It is most of the
// work of training, which one goroutine does alone: the race detector would make all
// tests that train ten times as slow.
//
//go:norace
func (t *trainer) score(p segment) int {
	t.pass++
	sum := 0
	for at := p.start; at+wordSize <= p.end; at++ {
		if w := t.word(at); t.seen[w] != t.pass {
			t.seen[w] = t.pass
			sum += int(t.scores[w])
		}
	}
	return sum
}

// segments is a heap with the highest score first.
type segments []segment

func (h segments) Len() int      { return len(h) }
func (h segments) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h segments) Less(i, j int) bool {
	return h[i].score > h[j].score || h[i].score == h[j].score && h[i].start < h[j].start
}
func (h *segments) Push(x any) { *h = append(*h, x.(segment)) }
func (h *segments) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// text returns at most size bytes of the segments with the highest scores, the best one
// last: zstd needs the fewest bits for offsets into the end, and deflate uses only the
// end.
func (t *trainer) text(ctx context.Context, size int) ([]byte, error) {
	h, err := t.candidates(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []segment
	for turn, total := 0, 0; len(*h) > 0 && total < size; turn++ {
		if turn%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// Selecting a segment lowers the scores of others with the same words, so that
		// the score in the heap may be outdated.
		p := (*h)[0]
		if now := t.score(p); now < p.score {
			(*h)[0].score = now
			if now == 0 {
				heap.Pop(h)
			} else {
				heap.Fix(h, 0)
			}
			continue
		}
		heap.Pop(h)
		p = t.trim(p)
		p.start = max(p.start, p.end-(size-total))
		for at := p.start; at+wordSize <= p.end; at++ {
			t.scores[t.word(at)] = 0
		}
		chosen = append(chosen, p)
		total += p.end - p.start
	}
	var text []byte
	for _, p := range slices.Backward(chosen) {
		text = append(text, t.all[p.start:p.end]...)
	}
	if len(text) < wordSize {
		return nil, fmt.Errorf("%w: no sample has %d bytes", ErrTooLittle, wordSize)
	}
	return text, nil
}

// candidates returns all segments with a positive score.
func (t *trainer) candidates(ctx context.Context) (*segments, error) {
	h := &segments{}
	start := 0
	for _, end := range t.ends {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for ; start < end; start += segmentStep {
			p := segment{start: start, end: min(start+segmentSize, end)}
			if p.score = t.score(p); p.score > 0 {
				*h = append(*h, p)
			}
		}
		start = end
	}
	heap.Init(h)
	return h, nil
}

// trim removes words that score zero from both ends.
func (t *trainer) trim(p segment) segment {
	for p.end-p.start > wordSize && t.scores[t.word(p.start)] == 0 {
		p.start++
	}
	for p.end-p.start > wordSize && t.scores[t.word(p.end-wordSize)] == 0 {
		p.end--
	}
	return p
}

// samples returns the samples in all.
func (t *trainer) samples() [][]byte {
	var list [][]byte
	start := 0
	for _, end := range t.ends {
		list = append(list, t.all[start:end])
		start = end
	}
	return list
}

// subsample returns a random subset of at most maxTraining bytes, each sample cut to
// maxSample. It is deterministic.
func subsample(samples []Sample) []Sample {
	var list []Sample
	total := 0
	for _, i := range rand.New(rand.NewPCG(0, 0)).Perm(len(samples)) {
		s := samples[i]
		s.Data = s.Data[:min(len(s.Data), maxSample)]
		if total += len(s.Data); total > maxTraining {
			break
		}
		list = append(list, s)
	}
	return list
}

// HoldOut splits samples by group into a training and a test set. The test set has every
// nth group. n is at least 2.
func HoldOut(samples []Sample, n int) (train, test []Sample) {
	number := make(map[string]int)
	for _, s := range samples {
		if _, found := number[s.Group]; !found {
			number[s.Group] = len(number)
		}
		if number[s.Group]%n == n-1 {
			test = append(test, s)
		} else {
			train = append(train, s)
		}
	}
	return train, test
}

// Ratio returns the compressed size of the samples relative to their plain size, 1 if
// they are empty. Errors: *OptionError; the context's.
func Ratio(ctx context.Context, o Options, samples []Sample) (float64, error) {
	e, err := NewEncoder(o)
	if err != nil {
		return 0, err
	}
	var plain, frames int
	var frame []byte
	for _, s := range samples {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		frame = e.Encode(frame[:0], s.Data)
		plain += len(s.Data)
		frames += len(frame)
	}
	if plain == 0 {
		return 1, nil
	}
	return float64(frames) / float64(plain), nil
}
