package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/episodic-memory/episodic"
)

const (
	vectorDim     = 384
	vectorNearest = 10
	formatQueries = 1000
	formatBase    = 10_000
	vectorPutters = 32
)

// vectors are some to be stored and some to ask for.
type vectors struct {
	name          string
	base, queries [][]float32
}

// vectorFormats measures what Compression.Embeddings costs and saves. It returns the vectors of
// sentences, nil if there are none.
func vectorFormats(ctx context.Context, b *bench) (sentences *vectors, err error) {
	base, queries, rounds := formatBase, formatQueries, 8
	if b.short {
		base, queries, rounds = 600, 50, 1
	}
	sets := []vectors{
		clusters("clusters, even numbers", base, queries, 0),
		clusters("clusters, uneven numbers", base, queries, 0.5),
	}
	real, about, err := realVectors(b.data, base, queries, rounds)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b.printf("\nThe real texts were left out, because they are not in %s.\n", b.data)
	case err != nil:
		return nil, err
	default:
		sentences, sets = &real, slices.Insert(sets, 0, real)
		b.printf("\n%s\n", about)
	}
	b.printf("\nThe clusters are of 50 vectors around a random centre, half as far from it as it is from zero; where numbers are uneven, the k-th is smaller by the square root of k.\n")

	table := [][]string{{"vectors", "format", "recall@10", "nearest is nearest", "largest error of a cosine among the ten", "bytes of a vector", "bytes of the file for one", "not in its format"}}
	var verdicts []func()
	for i, set := range sets {
		var exact *storedVectors
		for _, f := range []episodic.VectorFormat{episodic.Float32, episodic.Float16, episodic.Int8} {
			stored, err := storeVectors(ctx, filepath.Join(b.dir, fmt.Sprintf("formats-%d-%v.db", i, f)), f, set.base)
			if err != nil {
				return nil, fmt.Errorf("%s as %v: %w", set.name, f, err)
			}
			stored.rank(set.queries)
			if f == episodic.Float32 {
				exact = stored
			}
			got := stored.against(exact)
			table = append(table, []string{set.name, f.String(), fmt.Sprintf("%.4f", got.recall), fmt.Sprintf("%.4f", got.first), fmt.Sprintf("%.5f", got.off),
				fmt.Sprintf("%.0f", stored.bytes), fmt.Sprintf("%.0f", stored.onFile), fmt.Sprint(stored.exacter)})
			if f == episodic.Float32 {
				continue
			}
			least, most := 0.999, 0.51
			if f == episodic.Int8 {
				least, most = 0.985, 0.26
			}
			part := stored.bytes / exact.bytes
			verdicts = append(verdicts, func() {
				b.judge(got.recall >= least && part <= most, fmt.Sprintf("%s as %v: recall@10 at least %.3f in %.2f of the bytes", set.name, f, least, most), "%.4f in %.3f", got.recall, part)
			})
		}
	}
	b.table(table...)
	for _, say := range verdicts {
		say()
	}
	return sentences, nil
}

// clusters makes vectors around centres. The k-th number of each is scaled by k
// to the power of -decay.
func clusters(name string, base, queries int, decay float64) vectors {
	const members = 50
	r := rand.New(rand.NewPCG(5, 6))
	random := func() []float64 {
		v := make([]float64, vectorDim)
		for i := range v {
			v[i] = r.NormFloat64() * math.Pow(float64(i+1), -decay)
		}
		return v
	}
	centres := make([][]float64, (base+members-1)/members)
	for i := range centres {
		centres[i] = random()
	}
	near := func(centre []float64) []float32 {
		v := random()
		for i := range v {
			v[i] = centre[i] + v[i]/2
		}
		return unit(v)
	}
	set := vectors{name: name}
	for i := range base {
		set.base = append(set.base, near(centres[i/members]))
	}
	for range queries {
		set.queries = append(set.queries, near(centres[r.IntN(len(centres))]))
	}
	return set
}

// unit is v as float32 and of length 1.
func unit(v []float64) []float32 {
	length := math.Sqrt(dot(v, v))
	u := make([]float32, len(v))
	for i, x := range v {
		u[i] = float32(x / length)
	}
	return u
}

// dot is the dot product, in four sums, which do not wait for each other.
func dot[T float32 | float64](a, b []T) float64 {
	var s [4]float64
	for len(a) >= 4 && len(b) >= 4 {
		x, y := (*[4]T)(a), (*[4]T)(b)
		s[0] += float64(x[0]) * float64(y[0])
		s[1] += float64(x[1]) * float64(y[1])
		s[2] += float64(x[2]) * float64(y[2])
		s[3] += float64(x[3]) * float64(y[3])
		a, b = a[4:], b[4:]
	}
	for i, x := range a {
		s[0] += float64(x) * float64(b[i])
	}
	return s[0] + s[1] + s[2] + s[3]
}

// storedVectors is what came back of vectors that were stored in a format.
type storedVectors struct {
	format  episodic.VectorFormat
	all     [][]float32
	bytes   float64 // of a vector's column, on average
	onFile  float64 // by which a vector makes the file larger, on average
	exacter int     // vectors that were stored in an exacter format
	nearest [][]neighbour
}

// neighbour is a stored vector near a query.
type neighbour struct {
	vector int
	cosine float64
}

func storeVectors(ctx context.Context, path string, f episodic.VectorFormat, base [][]float32) (_ *storedVectors, err error) {
	s := &storedVectors{format: f}
	ids, before, err := storeItems(ctx, path, len(base))
	if err != nil {
		return nil, err
	}
	if err := s.putAndRead(ctx, path, ids, base); err != nil {
		return nil, err
	}
	info, err := os.Stat(path) // closing the Store has written the log back
	if err != nil {
		return nil, err
	}
	s.onFile = float64(info.Size()-before) / float64(len(base))
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	size := map[episodic.VectorFormat]int{episodic.Float32: 4 * vectorDim, episodic.Float16: 2*vectorDim + 1, episodic.Int8: vectorDim + 11}[f]
	return s, db.QueryRowContext(ctx, `SELECT avg(length(vector)), sum(length(vector) <> ?) FROM embeddings`, size).Scan(&s.bytes, &s.exacter)
}

// storeItems stores what the vectors shall be of, and returns the size of the
// file.
func storeItems(ctx context.Context, path string, n int) (ids []episodic.ID, size int64, err error) {
	store, err := episodic.Open(ctx, path, nil)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err = errors.Join(err, store.Close()); err == nil {
			info, statErr := os.Stat(path)
			if err = statErr; err == nil {
				size = info.Size()
			}
		}
	}()
	ids, err = addItems(ctx, store, n)
	return ids, 0, err
}

func addItems(ctx context.Context, store *episodic.Store, n int) (ids []episodic.ID, err error) {
	for part := range slices.Chunk(make([]*episodic.Episode, n), batchSize) {
		for i := range part {
			part[i] = &episodic.Episode{ID: episodic.NewID(), Description: "x"}
			ids = append(ids, part[i].ID)
		}
		if _, err := store.AddEpisodes(ctx, part...); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func (s *storedVectors) putAndRead(ctx context.Context, path string, ids []episodic.ID, base [][]float32) (err error) {
	store, err := episodic.Open(ctx, path, &episodic.Options{Compression: episodic.Compression{Embeddings: s.format}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := putVectors(ctx, store, ids, base); err != nil {
		return err
	}
	for _, id := range ids {
		e, err := store.Embedding(ctx, episodic.ItemEpisode, id, "m")
		if err != nil {
			return err
		}
		s.all = append(s.all, e.Vector)
	}
	return nil
}

// putVectors stores a vector for each episode, by many callers.
func putVectors(ctx context.Context, store *episodic.Store, ids []episodic.ID, base [][]float32) error {
	var wg sync.WaitGroup
	errs := make([]error, vectorPutters)
	next := counter()
	for i := range errs {
		wg.Go(func() {
			for n := next(); n < len(base) && errs[i] == nil; n = next() {
				errs[i] = store.PutEmbedding(ctx, &episodic.Embedding{Kind: episodic.ItemEpisode, Item: ids[n], Model: "m", Vector: base[n]})
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// rank finds the neighbours of each query, the nearest first.
func (s *storedVectors) rank(queries [][]float32) {
	lengths := make([]float64, len(s.all))
	for i, v := range s.all {
		lengths[i] = math.Sqrt(dot(v, v))
	}
	s.nearest = make([][]neighbour, len(queries))
	next := counter()
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for n := next(); n < len(queries); n = next() {
				for i, v := range s.all {
					s.nearest[n] = keep(s.nearest[n], neighbour{i, dot(queries[n], v) / lengths[i]}) // queries have the length 1
				}
			}
		})
	}
	wg.Wait()
}

type agreement struct {
	recall, first float64
	off           float64 // the most that the cosine of one of the ten differs
}

func (s *storedVectors) against(exact *storedVectors) (a agreement) {
	n := float64(len(exact.nearest))
	for q, want := range exact.nearest {
		got := s.nearest[q]
		if got[0].vector == want[0].vector {
			a.first += 1 / n
		}
		for _, w := range want {
			if i := slices.IndexFunc(got, func(g neighbour) bool { return g.vector == w.vector }); i >= 0 {
				a.recall += 1 / n / vectorNearest
				a.off = max(a.off, math.Abs(got[i].cosine-w.cosine))
			}
		}
	}
	return a
}

// realVectors makes vectors of sentences by latent semantic analysis: TF-IDF,
// projected on the strongest singular vectors. Every tenth text or so is a query.
func realVectors(dir string, base, queries, rounds int) (vectors, string, error) {
	texts, err := sentences(dir)
	if err != nil {
		return vectors{}, "", err
	}
	r := rand.New(rand.NewPCG(7, 8))
	r.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	texts = texts[:min(len(texts), base+queries)]
	queries = min(queries, len(texts)/8)

	docs, words := tfidf(texts)
	axes := singularVectors(docs, words, vectorDim, rounds, r)
	set := vectors{name: "sentences, LSA"}
	for i, d := range docs {
		v := make([]float64, vectorDim)
		for k, axis := range axes {
			for _, t := range d {
				v[k] += t.weight * axis[t.word]
			}
		}
		if dot(v, v) < 1e-12 {
			continue // none of its words is on an axis
		}
		if i < queries {
			set.queries = append(set.queries, unit(v))
		} else {
			set.base = append(set.base, unit(v))
		}
	}
	return set, fmt.Sprintf("The real vectors are %d sentences (and %d others that are asked for) of tau-bench airline trajectories and LoCoMo conversations, no two of the same words, "+
		"by latent semantic analysis (TF-IDF of %d words, %d rounds of orthogonal iteration). No neural model is at hand without a network: check on yours.",
		len(set.base), len(set.queries), words, rounds), nil
}

// sentences returns the sentences of at least four words of all texts in a folder
// of data, as their words. Of those with the same words there is one.
func sentences(dir string) ([][]string, error) {
	var texts [][]string
	known := make(map[string]bool)
	add := func(text string) {
		for s := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(".!?\n{}", r) }) {
			words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
			sorted := slices.Sorted(slices.Values(words))
			if key := strings.Join(sorted, " "); len(words) >= 4 && !known[key] {
				known[key] = true
				texts = append(texts, words)
			}
		}
	}
	if err := airlineTexts(dir, add); err != nil {
		return nil, err
	}
	return texts, locomoTexts(filepath.Join(dir, "locomo-dev.json"), add)
}

func airlineTexts(dir string, add func(string)) error {
	runs, err := airlineRuns(dir)
	for _, run := range runs {
		for _, m := range run.Traj {
			add(m.Content)
			for _, c := range m.ToolCalls {
				add(strings.ReplaceAll(c.Function.Name, "_", " ") + " " + c.Function.Arguments)
			}
		}
	}
	return err
}

func locomoTexts(path string, add func(string)) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var talks []struct {
		Conversation map[string]json.RawMessage `json:"conversation"`
		QA           []struct {
			Question string `json:"question"`
		} `json:"qa"`
	}
	if err := json.Unmarshal(data, &talks); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, talk := range talks {
		for session := 1; ; session++ {
			raw, found := talk.Conversation[fmt.Sprintf("session_%d", session)]
			if !found {
				break
			}
			var turns []struct {
				Text string `json:"text"`
			}
			if err := json.Unmarshal(raw, &turns); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, t := range turns {
				add(t.Text)
			}
		}
		for _, q := range talk.QA {
			add(q.Question)
		}
	}
	return nil
}

type term struct {
	word   int
	weight float64
}

// tfidf weighs the words of each text; words of one text alone are left out.
func tfidf(texts [][]string) (docs [][]term, words int) {
	in := make(map[string]int)
	for _, t := range texts {
		for _, w := range slices.Compact(slices.Sorted(slices.Values(t))) {
			in[w]++
		}
	}
	number := make(map[string]int)
	docs = make([][]term, len(texts))
	for i, t := range texts {
		sorted := slices.Sorted(slices.Values(t))
		for len(sorted) > 0 {
			w := sorted[0]
			count := slices.IndexFunc(append(sorted, ""), func(other string) bool { return other != w })
			sorted = sorted[count:]
			if in[w] < 2 {
				continue
			}
			if _, known := number[w]; !known {
				number[w] = len(number)
			}
			docs[i] = append(docs[i], term{number[w], (1 + math.Log(float64(count))) * math.Log(float64(len(texts))/float64(in[w]))})
		}
		var length float64
		for _, t := range docs[i] {
			length += t.weight * t.weight
		}
		for j := range docs[i] {
			docs[i][j].weight /= math.Sqrt(length)
		}
	}
	return docs, len(number)
}

// singularVectors returns the n strongest, the strongest first, by orthogonal
// iteration.
func singularVectors(docs [][]term, words, n, rounds int, r *rand.Rand) [][]float64 {
	axes := make([][]float64, n)
	for k := range axes {
		axes[k] = make([]float64, words)
		for i := range axes[k] {
			axes[k][i] = r.NormFloat64()
		}
	}
	for range rounds {
		for k, axis := range axes {
			next := make([]float64, words)
			for _, d := range docs {
				var on float64
				for _, t := range d {
					on += t.weight * axis[t.word]
				}
				for _, t := range d {
					next[t.word] += t.weight * on
				}
			}
			axes[k] = next
		}
		for k, axis := range axes {
			for _, before := range axes[:k] {
				on := dot(axis, before)
				for i, x := range before {
					axis[i] -= on * x
				}
			}
			length := math.Sqrt(dot(axis, axis))
			for i := range axis {
				axis[i] /= length
			}
		}
	}
	return axes
}
