package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/vector"
)

const vectorsClaim = "What `Compression.Embeddings` costs and saves, and how fast `Nearest` is. **Formats:** vectors of 384 numbers are stored in a local file in each format, one for each episode, " +
	"and read back; each query, itself float32, is compared with all of them by cosine. recall@10 is the part of its ten nearest by the stored float32 that is among its ten nearest " +
	"by the format. Targets: float16 at least 0.999 in 0.51 of the bytes of float32, int8 at least 0.985 in 0.26. **Nearest:** the ten nearest of many float16 vectors in a file, beside a plain loop over all of " +
	"them as float32 in memory, which is also what is right; the number is 1,000 to 100,000, and 1,000,000 with -full. Targets: 2 ms (p50), for 1,000,000 15 ms, recall@10 at least 0.99; with a filter that one episode in a hundred passes " +
	"5 ms up to 100,000, and none is missing of the ten nearest as they are stored. **Storing:** the last of them by `PutEmbedding`, for information."

// storedByCalls is how many vectors at most are stored by PutEmbedding, and not by SQL.
const storedByCalls = 2000

func vectorSearch(ctx context.Context, b *bench) error {
	sentences, err := vectorFormats(ctx, b)
	if err != nil {
		return err
	}
	sizes, queries := []int{1000, 10_000, 100_000}, 200
	switch {
	case b.short:
		sizes, queries = []int{1000}, 20
	case b.full:
		sizes = append(sizes, 1_000_000)
	}
	asked := [][]string{{"vectors", "number", "loop over float32, p50", "Nearest, p50", "p99", "recall@10", "filter of 1 %, p50", "found of the ten of the filter"}}
	held := [][]string{{"vectors", "number", "PutEmbedding by 32 callers", "first Nearest, with loading", "held", "heap with it", "Nearest after a put", "after a deletion"}}
	var verdicts []func()
	for _, n := range sizes {
		makers := []func() vectors{func() vectors { return clusters("clusters, uneven numbers", n, queries, 0.5) }}
		if sentences != nil {
			makers = append(makers, func() vectors { return repeated(*sentences, n, queries) })
		}
		for _, set := range makers { // made one after the other, so that only one is in memory
			f, err := nearestInFile(ctx, b, set())
			if err != nil {
				return err
			}
			asked, held = append(asked, f.asked()), append(held, f.held())
			verdicts = append(verdicts, func() { f.judge(b) })
		}
	}
	b.printf("\nThe loop has eight sums and one goroutine, Nearest two at most here. A put and a deletion are followed by a Nearest that must show them.\n")
	b.table(asked...)
	b.table(held...)
	for _, say := range verdicts {
		say()
	}
	return nearestOnServer(ctx, b)
}

// repeated makes n vectors of those of a set: the first ones, and once it has no more, each again
// and again, changed at random by a third of its length.
func repeated(set vectors, n, queries int) vectors {
	name := "sentences"
	if n > len(set.base) {
		name += ", changed"
	}
	r := rand.New(rand.NewPCG(9, 10))
	base := slices.Clone(set.base[:min(n, len(set.base))])
	for i := 0; len(base) < n; i = (i + 1) % len(set.base) {
		v := make([]float64, vectorDim)
		for k, x := range set.base[i] {
			v[k] = float64(x) + r.NormFloat64()/3/math.Sqrt(vectorDim)
		}
		base = append(base, unit(v))
	}
	r.Shuffle(len(base), func(i, j int) { base[i], base[j] = base[j], base[i] })
	return vectors{name, base, set.queries[:min(queries, len(set.queries))]}
}

// fillWithVectors stores episodes, one in a hundred of them in the domain "rare", by SQL, and
// the vectors of all but the last ones.
func fillWithVectors(ctx context.Context, path string, base [][]float32, last int) (ids []episodic.ID, err error) {
	store, err := episodic.Open(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	for i, v := range base {
		id, domain := episodic.NewID(), "common"
		if rare(i) {
			domain = "rare"
		}
		ids = append(ids, id)
		if _, err := tx.ExecContext(ctx, `INSERT INTO episodes(id, task_type, domain, language, outcome, start_us, steps, rev, payload) VALUES(?, '', ?, '', '', ?, 0, 1, x'017b7d')`, id[:], domain, i); err != nil {
			return nil, err
		}
		if i >= len(base)-last {
			continue
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO embeddings VALUES('episode', ?, 'm', ?, ?)`, id[:], vectorDim, vector.Encode(v, vector.Float16)); err != nil {
			return nil, err
		}
	}
	return ids, tx.Commit()
}

func rare(i int) bool { return i%100 == 17 }

// nearestFigures are those of one number of vectors in a file.
type nearestFigures struct {
	name                  string
	n                     int
	stored                sample // by PutEmbedding
	first, loop, p50, p99 time.Duration
	rareP50               time.Duration // with a filter
	recall, rareRecall    float64
	bytes, heap           int64 // that the vectors take
	afterPut, afterDelete time.Duration
}

func nearestInFile(ctx context.Context, b *bench, set vectors) (_ *nearestFigures, err error) {
	f := &nearestFigures{name: set.name, n: len(set.base)}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s, %d vectors: %w", f.name, f.n, err)
		}
	}()
	path := filepath.Join(b.dir, fmt.Sprintf("nearest-%d-%s.db", f.n, set.name[:3]))
	last := min(f.n/2, storedByCalls)
	ids, err := fillWithVectors(ctx, path, set.base, last)
	if err != nil {
		return nil, err
	}
	if err := f.store(ctx, path, ids[f.n-last:], set.base[f.n-last:]); err != nil {
		return nil, err
	}
	number := make(map[episodic.ID]int, f.n)
	for i, id := range ids {
		number[id] = i
	}
	exact, loop := loopOver(set)
	exactRare, err := nearestRare(set)
	if err != nil {
		return nil, err
	}
	set.base = nil

	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	store, err := episodic.Open(ctx, path, &episodic.Options{Vectors: episodic.Vectors{MaxBytes: 4 << 30}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	nearest := func(q []float32, domain string) ([]episodic.Neighbor, time.Duration, error) {
		begin := time.Now()
		found, err := store.Nearest(ctx, episodic.NearestQuery{Kind: episodic.ItemEpisode, Model: "m", Vector: q, Filter: episodic.EpisodeFilter{Domain: domain}})
		return found, time.Since(begin), err
	}
	if _, f.first, err = nearest(set.queries[0], ""); err != nil {
		return nil, err
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	f.heap, f.bytes = int64(after.HeapAlloc)-int64(before.HeapAlloc), store.Stats().Vectors.Bytes

	var times, rareTimes []time.Duration
	for i, q := range set.queries {
		found, took, err := nearest(q, "")
		if err != nil {
			return nil, err
		}
		times, f.recall = append(times, took), f.recall+agree(found, number, exact[i])/float64(len(set.queries))
		if found, took, err = nearest(q, "rare"); err != nil {
			return nil, err
		}
		rareTimes, f.rareRecall = append(rareTimes, took), f.rareRecall+agree(found, number, exactRare[i])/float64(len(set.queries))
	}
	f.loop, f.p50, f.p99, f.rareP50 = percentile(loop, 0.5), percentile(times, 0.5), percentile(times, 0.99), percentile(rareTimes, 0.5)
	f.afterPut, f.afterDelete, err = afterChanges(ctx, store, ids[0], nearest)
	return f, err
}

// store stores vectors by a Store's own call.
func (f *nearestFigures) store(ctx context.Context, path string, ids []episodic.ID, base [][]float32) (err error) {
	store, err := episodic.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	begin := time.Now()
	err = putVectors(ctx, store, ids, base)
	f.stored = sample{window: time.Since(begin), done: float64(len(base))}
	return err
}

func (f *nearestFigures) asked() []string {
	return []string{f.name, fmt.Sprint(f.n), rounded(f.loop), rounded(f.p50), rounded(f.p99), fmt.Sprintf("%.4f", f.recall), rounded(f.rareP50), fmt.Sprintf("%.4f", f.rareRecall)}
}

func (f *nearestFigures) held() []string {
	mb := func(n int64) string { return digits(float64(n)/1e6) + " MB" }
	return []string{f.name, fmt.Sprint(f.n), digits(f.stored.rate()) + "/s", rounded(f.first), mb(f.bytes), mb(f.heap), rounded(f.afterPut), rounded(f.afterDelete)}
}

func (f *nearestFigures) judge(b *bench) {
	limit := 2 * time.Millisecond
	if f.n > 100_000 {
		limit = 15 * time.Millisecond
	}
	b.judge(f.p50 <= limit && f.recall >= 0.99, fmt.Sprintf("%s, %d vectors: the ten nearest in %v (p50) with a recall of 0.99", f.name, f.n, limit), "%s with %.4f", rounded(f.p50), f.recall)
	if f.n <= 100_000 {
		b.judge(f.rareP50 <= 5*time.Millisecond && f.rareRecall > 0.9999, fmt.Sprintf("%s, %d vectors, filter of 1 %%: within 5 ms, and none missing", f.name, f.n), "%s with %.4f", rounded(f.rareP50), f.rareRecall)
	}
}

func rounded(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// afterChanges puts another vector for an episode and deletes it again, and returns how long the
// Nearest took that must show it.
func afterChanges(ctx context.Context, store *episodic.Store, id episodic.ID, nearest func([]float32, string) ([]episodic.Neighbor, time.Duration, error)) (put, deleted time.Duration, err error) {
	v := make([]float32, vectorDim)
	v[0] = 1
	if err := store.PutEmbedding(ctx, &episodic.Embedding{Kind: episodic.ItemEpisode, Item: id, Model: "m", Vector: v}); err != nil {
		return 0, 0, err
	}
	found, put, err := nearest(v, "")
	if err != nil || found[0].Item != id {
		return 0, 0, errors.Join(err, fmt.Errorf("the vector that was put is not the nearest to itself: %v", found))
	}
	if err := store.DeleteEmbedding(ctx, episodic.ItemEpisode, id, "m"); err != nil {
		return 0, 0, err
	}
	found, deleted, err = nearest(v, "")
	if err != nil || found[0].Item == id {
		return 0, 0, errors.Join(err, fmt.Errorf("the vector that was deleted is found: %v", found))
	}
	return put, deleted, nil
}

// agree returns the part of the right ones that were found.
func agree(found []episodic.Neighbor, number map[episodic.ID]int, want []int) float64 {
	n := 0
	for _, f := range found {
		if slices.Contains(want, number[f.Item]) {
			n++
		}
	}
	return float64(n) / float64(len(want))
}

// loopOver finds the ten nearest of each query, and how long that takes.
func loopOver(set vectors) (exact [][]int, times []time.Duration) {
	flat := make([]float32, 0, len(set.base)*vectorDim)
	for _, v := range set.base {
		flat = append(flat, v...)
	}
	for _, q := range set.queries {
		begin := time.Now()
		var best []neighbour
		for i := range set.base {
			best = keep(best, neighbour{i, dot8(q, flat[i*vectorDim:][:vectorDim])})
		}
		times = append(times, time.Since(begin))
		exact = append(exact, numbers(best))
	}
	return exact, times
}

// nearestRare finds the ten nearest of the rare vectors, as they are stored: what is missing
// then is not for the rounding.
func nearestRare(set vectors) (exact [][]int, err error) {
	var at []int
	var stored [][]float32
	for i, v := range set.base {
		if !rare(i) {
			continue
		}
		if v, err = vector.Decode(vector.Encode(v, vector.Float16), vectorDim); err != nil {
			return nil, err
		}
		at, stored = append(at, i), append(stored, v)
	}
	for _, q := range set.queries {
		var best []neighbour
		for k, v := range stored {
			best = keep(best, neighbour{at[k], dot(q, v) / math.Sqrt(dot(v, v))})
		}
		exact = append(exact, numbers(best))
	}
	return exact, nil
}

// keep keeps the ten best, the best first.
func keep(best []neighbour, n neighbour) []neighbour {
	if len(best) == vectorNearest && n.cosine <= best[vectorNearest-1].cosine {
		return best
	}
	at, _ := slices.BinarySearchFunc(best, n.cosine, func(b neighbour, cosine float64) int {
		if b.cosine >= cosine {
			return -1
		}
		return 1
	})
	best = slices.Insert(best, at, n)
	return best[:min(len(best), vectorNearest)]
}

func numbers(all []neighbour) (n []int) {
	for _, x := range all {
		n = append(n, x.vector)
	}
	return n
}

// dot8 is the dot product with eight sums, the fastest way in plain Go.
func dot8(a, b []float32) float64 {
	var s [8]float32
	for len(a) >= 8 && len(b) >= 8 {
		x, y := (*[8]float32)(a), (*[8]float32)(b)
		s[0] += x[0] * y[0]
		s[1] += x[1] * y[1]
		s[2] += x[2] * y[2]
		s[3] += x[3] * y[3]
		s[4] += x[4] * y[4]
		s[5] += x[5] * y[5]
		s[6] += x[6] * y[6]
		s[7] += x[7] * y[7]
		a, b = a[8:], b[8:]
	}
	return float64(s[0]+s[1]+s[2]+s[3]) + float64(s[4]+s[5]+s[6]+s[7])
}

// nearestOnServer compares vectors held by the client with those that the server compares,
// on a server that is near.
func nearestOnServer(ctx context.Context, b *bench) (err error) {
	n, queries := 20_000, 50
	if b.short {
		n, queries = 1000, 5
	}
	server, err := startServer(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	set := clusters("clusters, uneven numbers", n, queries, 0.5)
	writer, err := episodic.Open(ctx, server.URL(), direct())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	ids, err := addItems(ctx, writer, n)
	if err != nil {
		return err
	}
	if err := putVectors(ctx, writer, ids, set.base); err != nil {
		return err
	}
	b.printf("\n%d vectors on a server near by: held by the client, and compared by the server because `Vectors.MaxBytes` forbids to hold them.\n\n", n)
	table := [][]string{{"", "first call", "p50", "p99", "MB received for the first call"}}
	for _, row := range []struct {
		name     string
		maxBytes int64
	}{{"held", 0}, {"by the server", 64 << 10}} {
		store, err := episodic.Open(ctx, server.URL(), &episodic.Options{Vectors: episodic.Vectors{MaxBytes: row.maxBytes}, Replica: episodic.Replica{Disabled: true}})
		if err != nil {
			return err
		}
		call := func(q []float32) (time.Duration, error) {
			begin := time.Now()
			_, err := store.Nearest(ctx, episodic.NearestQuery{Kind: episodic.ItemEpisode, Model: "m", Vector: q})
			return time.Since(begin), err
		}
		first, err := call(set.queries[0])
		received := float64(store.Stats().Server.ReadBytes.Received) / 1e6
		var times []time.Duration
		for _, q := range set.queries {
			took, callErr := call(q)
			times, err = append(times, took), errors.Join(err, callErr)
		}
		if err := errors.Join(err, store.Close()); err != nil {
			return err
		}
		table = append(table, []string{row.name, rounded(first), rounded(percentile(times, 0.5)), rounded(percentile(times, 0.99)), fmt.Sprintf("%.2f", received)})
	}
	b.table(table...)
	return nil
}
