package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
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
	"them as float32 in memory, which is also what is right. Targets: 2 ms (p50) for 100,000 and 15 ms for 1,000,000, recall@10 at least 0.99; with a filter that one episode in a hundred passes 5 ms, and none is missing."

func vectorSearch(ctx context.Context, b *bench) error {
	if err := vectorFormats(ctx, b); err != nil {
		return err
	}
	sizes, queries := []int{100_000, 1_000_000}, 200
	if b.short {
		sizes, queries = []int{3000}, 20
	}
	near := [][]string{{"vectors", "number", "loop over float32, p50", "Nearest, p50", "p99", "recall@10", "first call, with loading", "held, MB", "filter of 1 %, p50", "found of the ten of the filter", "after a put", "after a deletion"}}
	var verdicts []func()
	for _, n := range sizes {
		sets, err := manyVectors(b, n, queries)
		if err != nil {
			return err
		}
		for i, set := range sets {
			sets[i] = vectors{} // so that only one is in memory
			row, judge, err := nearestInFile(ctx, b, set)
			if err != nil {
				return fmt.Errorf("%s: %w", set.name, err)
			}
			near, verdicts = append(near, row), append(verdicts, judge)
		}
	}
	b.printf("\nThe loop has eight sums and one goroutine, Nearest two at most here. A put and a deletion are followed by a Nearest that must show them.\n\n")
	b.table(near...)
	for _, say := range verdicts {
		say()
	}
	return nearestOnServer(ctx, b)
}

// manyVectors makes n vectors: of clusters, and of sentences, each of them often enough,
// changed at random by a third of its length.
func manyVectors(b *bench, n, queries int) ([]vectors, error) {
	sets := []vectors{clusters("clusters, uneven numbers", n, queries, 0.5)}
	real, _, err := realVectors(b.data, min(n, formatBase), queries, 2)
	if errors.Is(err, fs.ErrNotExist) {
		return sets, nil
	}
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(9, 10))
	texts := real.base
	for i := 0; len(real.base) < n; i = (i + 1) % len(texts) {
		v := make([]float64, vectorDim)
		for k, x := range texts[i] {
			v[k] = float64(x) + r.NormFloat64()/3/math.Sqrt(vectorDim)
		}
		real.base = append(real.base, unit(v))
	}
	r.Shuffle(len(real.base), func(i, j int) { real.base[i], real.base[j] = real.base[j], real.base[i] })
	real.name = "sentences, changed"
	return append(sets, real), nil
}

// fillWithVectors stores episodes with the vectors, one in a hundred of them in the domain
// "rare", by SQL: storing is not what is measured.
func fillWithVectors(ctx context.Context, path string, base [][]float32) (ids []episodic.ID, err error) {
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
		if _, err := tx.ExecContext(ctx, `INSERT INTO embeddings VALUES('episode', ?, 'm', ?, ?)`, id[:], vectorDim, vector.Encode(v, vector.Float16)); err != nil {
			return nil, err
		}
	}
	return ids, tx.Commit()
}

func rare(i int) bool { return i%100 == 17 }

func nearestInFile(ctx context.Context, b *bench, set vectors) (row []string, judge func(), err error) {
	n := len(set.base)
	path := filepath.Join(b.dir, fmt.Sprintf("nearest-%d-%s.db", n, set.name[:3]))
	ids, err := fillWithVectors(ctx, path, set.base)
	if err != nil {
		return nil, nil, err
	}
	number := make(map[episodic.ID]int, n)
	for i, id := range ids {
		number[id] = i
	}
	exact, exactRare, loop := loopOver(set)
	set.base = nil

	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	store, err := episodic.Open(ctx, path, &episodic.Options{Vectors: episodic.Vectors{MaxBytes: 4 << 30}})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	nearest := func(q []float32, domain string) ([]episodic.Neighbor, time.Duration, error) {
		begin := time.Now()
		found, err := store.Nearest(ctx, episodic.NearestQuery{Kind: episodic.ItemEpisode, Model: "m", Vector: q, Filter: episodic.EpisodeFilter{Domain: domain}})
		return found, time.Since(begin), err
	}
	_, first, err := nearest(set.queries[0], "")
	if err != nil {
		return nil, nil, err
	}
	runtime.GC()
	runtime.ReadMemStats(&after)

	var recall, rareRecall float64
	var times, rareTimes []time.Duration
	for i, q := range set.queries {
		found, took, err := nearest(q, "")
		if err != nil {
			return nil, nil, err
		}
		times, recall = append(times, took), recall+agree(found, number, exact[i])/float64(len(set.queries))
		if found, took, err = nearest(q, "rare"); err != nil {
			return nil, nil, err
		}
		rareTimes, rareRecall = append(rareTimes, took), rareRecall+agree(found, number, exactRare[i])/float64(len(set.queries))
	}
	afterPut, afterDelete, err := afterChanges(ctx, store, ids[0], nearest)
	if err != nil {
		return nil, nil, err
	}
	p50, rareP50 := percentile(times, 0.5), percentile(rareTimes, 0.5)
	held := store.Stats().Vectors
	row = []string{
		set.name, fmt.Sprint(n), rounded(percentile(loop, 0.5)), rounded(p50), rounded(percentile(times, 0.99)), fmt.Sprintf("%.4f", recall), rounded(first),
		fmt.Sprintf("%.0f (heap %.0f)", float64(held.Bytes)/1e6, float64(after.HeapAlloc-before.HeapAlloc)/1e6), rounded(rareP50), fmt.Sprintf("%.4f", rareRecall), rounded(afterPut), rounded(afterDelete),
	}
	limit := 2 * time.Millisecond
	if n > 100_000 {
		limit = 15 * time.Millisecond
	}
	return row, func() {
		b.judge(p50 <= limit && recall >= 0.99, fmt.Sprintf("%s, %d vectors: the ten nearest in %v (p50) with a recall of 0.99", set.name, n, limit), "%s with %.4f", rounded(p50), recall)
		if n <= 100_000 {
			b.judge(rareP50 <= 5*time.Millisecond && rareRecall > 0.9999, fmt.Sprintf("%s, %d vectors, filter of 1 %%: within 5 ms, and none missing", set.name, n), "%s with %.4f", rounded(rareP50), rareRecall)
		}
	}, nil
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

// loopOver finds the ten nearest of each query, of all vectors and of the rare ones, and
// how long the former takes.
func loopOver(set vectors) (exact, exactRare [][]int, times []time.Duration) {
	flat := make([]float32, 0, len(set.base)*vectorDim)
	for _, v := range set.base {
		flat = append(flat, v...)
	}
	for _, q := range set.queries {
		begin := time.Now()
		var best, bestRare []neighbour
		for i := range set.base {
			cosine := dot8(q, flat[i*vectorDim:][:vectorDim])
			best = keep(best, neighbour{i, cosine})
			if rare(i) {
				bestRare = keep(bestRare, neighbour{i, cosine})
			}
		}
		times = append(times, time.Since(begin))
		exact, exactRare = append(exact, numbers(best)), append(exactRare, numbers(bestRare))
	}
	return exact, exactRare, times
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
