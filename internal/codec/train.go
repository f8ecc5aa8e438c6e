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

// Sample is an example of what is to be compressed.
type Sample struct {
	// Group is what samples have in common that would be no surprise, such as
	// their task: text counts as common only if it is found in several groups.
	Group string
	Data  []byte
}

// TrainOptions say what Train makes.
type TrainOptions struct {
	// ID is the id of the dictionary, within 1 and 65535. MinTrainedID says which
	// are free.
	ID uint32
	// Size is how many bytes of text the dictionary holds at most. From 256 to
	// 1,000,000, default 114,688. Twice the default makes long episodes 4 %
	// smaller; for payloads of some hundred bytes 32,768 are enough.
	Size int
}

const (
	defaultDictionary = 112 << 10
	minDictionary     = 256
	// Most of a dictionary is text; the tables before it and the rounding of Size
	// to whole pieces have the rest of maxDictionary.
	maxDictionaryText = 1_000_000
	minGroups         = 3
	// zstd.BuildDict panics on samples over one block, 128 KiB.
	maxSample = 64 << 10
	// maxTraining bounds the bytes looked at.
	maxTraining = 4 << 20
)

// ErrTooLittle says that samples have too little in common to make a dictionary
// from.
var ErrTooLittle = errors.New("too little to train a dictionary from")

// Train makes a dictionary of the text that samples of different groups have in
// common. It looks at the first 64 KiB of a sample and at 4 MiB in all, picked
// from all over; for that much it takes 2 s of one processor and 70 MB. A hundred
// episodes are enough. The same samples in the same order make the same
// dictionary.
// Errors: *OptionError; ErrTooLittle; the context's.
func Train(ctx context.Context, samples []Sample, o TrainOptions) (*Dictionary, error) {
	o.Size = cmp.Or(o.Size, defaultDictionary)
	if o.Size < minDictionary || o.Size > maxDictionaryText {
		return nil, &OptionError{"Size", fmt.Sprintf("is %d, must be within %d and %d", o.Size, minDictionary, maxDictionaryText)}
	}
	if o.ID == 0 || o.ID > maxDictionaryID {
		return nil, &OptionError{"ID", fmt.Sprintf("is %d, must be within 1 and %d", o.ID, maxDictionaryID)}
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
	// wordSize is the length of the texts that are counted: shorter ones hardly
	// pay for a match, longer ones are counted by their parts.
	wordSize = 8
	// A word is worth worthMore for every group besides the first that holds it.
	// The first makes it worth a little, so that a dictionary that is not full
	// yet takes what was seen once before it takes nothing: 2 % on 50 tasks.
	worthOne, worthMore = 1, 16
	// Pieces of 64 bytes make 12 % larger frames, and those of 1,024 no smaller
	// ones. They are looked for at every pieceStep.
	pieceSize, pieceStep = 512, 64
)

// trainer chooses text after the idea of COVER (Liao, Petri, Moffat, Wirth 2016):
// a piece of a sample is worth what its different words are worth, and the words
// of a piece that was chosen are worth nothing any more.
type trainer struct {
	all    []byte // the samples, one after the other
	ends   []int  // where each ends in all
	shift  int    // of a word's hash, to index worth
	worth  []uint32
	seen   []uint32 // by the same index: the piece that was last asked about the word
	asking uint32
}

func newTrainer(ctx context.Context, samples []Sample) (*trainer, error) {
	samples = some(samples)
	slices.SortStableFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Group, b.Group) })
	t := &trainer{}
	for _, s := range samples {
		t.all = append(t.all, s.Data...)
		t.ends = append(t.ends, len(t.all))
	}
	// Two to four entries for a word, up to 4 Mi and 32 MiB of memory.
	size := min(bits.Len(uint(len(t.all)))+1, 22)
	t.shift = 64 - size
	t.worth, t.seen = make([]uint32, 1<<size), make([]uint32, 1<<size)
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
					t.worth[w] = worthOne
				} else {
					t.worth[w] += worthMore
				}
				t.seen[w] = groups
			}
		}
		start = t.ends[i]
	}
	if groups < minGroups {
		return nil, fmt.Errorf("%w: samples of %d groups, at least %d are needed", ErrTooLittle, groups, minGroups)
	}
	t.asking = groups
	return t, nil
}

// word returns the index of the word at p.
func (t *trainer) word(p int) uint32 {
	return uint32(binary.LittleEndian.Uint64(t.all[p:]) * 0x9e3779b97f4a7c15 >> t.shift)
}

// piece is a part of all.
type piece struct {
	start, end int
	worth      int
}

// value is the sum of what the different words of the piece are worth.
func (t *trainer) value(p piece) int {
	t.asking++
	sum := 0
	for at := p.start; at+wordSize <= p.end; at++ {
		if w := t.word(at); t.seen[w] != t.asking {
			t.seen[w] = t.asking
			sum += int(t.worth[w])
		}
	}
	return sum
}

// pieces is a heap, the most valuable first.
type pieces []piece

func (h pieces) Len() int      { return len(h) }
func (h pieces) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h pieces) Less(i, j int) bool {
	return h[i].worth > h[j].worth || h[i].worth == h[j].worth && h[i].start < h[j].start
}
func (h *pieces) Push(x any) { *h = append(*h, x.(piece)) }
func (h *pieces) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// text returns at most size bytes of the most valuable pieces, the best last:
// there zstd needs the fewest bits to point at it, and deflate sees only the end.
func (t *trainer) text(ctx context.Context, size int) ([]byte, error) {
	h, err := t.candidates(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []piece
	for turn, total := 0, 0; len(*h) > 0 && total < size; turn++ {
		if turn%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// Choosing a piece takes the worth of its words from the others, so the
		// first of the heap may be worth less than when it was put there.
		p := (*h)[0]
		if now := t.value(p); now < p.worth {
			(*h)[0].worth = now
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
			t.worth[t.word(at)] = 0
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

// candidates returns pieces from all over the samples that are worth something.
func (t *trainer) candidates(ctx context.Context) (*pieces, error) {
	h := &pieces{}
	start := 0
	for _, end := range t.ends {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for ; start < end; start += pieceStep {
			p := piece{start: start, end: min(start+pieceSize, end)}
			if p.worth = t.value(p); p.worth > 0 {
				*h = append(*h, p)
			}
		}
		start = end
	}
	heap.Init(h)
	return h, nil
}

// trim cuts off both ends what is worth nothing.
func (t *trainer) trim(p piece) piece {
	for p.end-p.start > wordSize && t.worth[t.word(p.start)] == 0 {
		p.start++
	}
	for p.end-p.start > wordSize && t.worth[t.word(p.end-wordSize)] == 0 {
		p.end--
	}
	return p
}

// samples returns the samples that all is made of.
func (t *trainer) samples() [][]byte {
	var list [][]byte
	start := 0
	for _, end := range t.ends {
		list = append(list, t.all[start:end])
		start = end
	}
	return list
}

// some returns so many of the samples, from all over, as Train looks at.
func some(samples []Sample) []Sample {
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

// HoldOut divides samples by their groups: the samples of every nth group are
// kept from training, to see what a dictionary is worth to what it was not made
// from. n is at least 2.
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

// Ratio returns the bytes of the frames that an Encoder with these options makes
// of the samples as part of the plain bytes. Errors: *OptionError; the context's.
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
