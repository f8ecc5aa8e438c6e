package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/codec"
)

const payloadClaim = "What a Store on a local file makes of the JSON it stores: frames by zstd with a dictionary that was trained of other tasks, as bytes of the plain JSON, and the time that compressing one took. " +
	"Beside it the same JSON by the same libraries the plain way, without a dictionary: LZ4 blocks, gzip at level 6, zstd at its default. " +
	"Targets for tau-bench: episodes at most 0.15 of their bytes, steps that are appended one by one 0.30, the first episode of a new database 0.45. " +
	"Then payloads of about 14 KB. Targets: a p50 of at most 0.6 ms to compress and 60 µs to decompress, without allocations."

const (
	payloadEpisodes = 22 // generated ones that are measured, of each size
	payloadSize     = 14_000
)

func payload(ctx context.Context, b *bench) error {
	n := payloadEpisodes
	if b.short {
		n = 2
	}
	list, err := b.materials(n)
	if err != nil {
		return err
	}
	table := [][]string{{"", "payloads", "bytes of each", "episodic", "time", "LZ4", "time", "gzip", "time", "zstd", "time"}}
	var verdicts []func()
	var timed *packedPayloads // what is judged by the clock
	for i, m := range list {
		all, err := b.pack(ctx, m, fmt.Sprintf("payload-%d", i))
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		for _, p := range all {
			row, err := p.row(m.name)
			if err != nil {
				return err
			}
			table = append(table, row)
			if m.real {
				verdicts = append(verdicts, func() {
					b.judge(p.ratio() <= p.most, fmt.Sprintf("%s, %s: at most %.2f of the bytes", m.name, p.name, p.most), "%.3f", p.ratio())
				})
			}
		}
		if timed == nil {
			timed = all[0]
		}
	}
	b.printf("\nBytes as part of the plain ones, and the time to compress a payload, which for a first episode is also that to make the encoder:\n")
	b.table(table...)
	for _, say := range verdicts {
		say()
	}
	return b.timePayload(ctx, list[0].name, timed)
}

// packedPayloads is what became of the payloads of one way to store episodes.
type packedPayloads struct {
	name  string
	most  float64 // part of the bytes, the target for tau-bench
	plain [][]byte
	// of a Store that compresses
	payloads, plainBytes, storedBytes uint64
	took                              time.Duration
	dictionary                        *codec.Dictionary // that was trained; nil for the built-in one
}

func (p *packedPayloads) ratio() float64 { return float64(p.storedBytes) / float64(p.plainBytes) }

// storing stores an episode in some way, and returns what the Store's statistics
// say of the part that is looked at.
type storing func(context.Context, *episodic.Store, *episodic.Episode) (episodic.ID, episodic.PayloadStats, error)

// pack stores the test episodes of m in the ways that are compared.
func (b *bench) pack(ctx context.Context, m *material, name string) (all []*packedPayloads, err error) {
	path := filepath.Join(b.dir, name+".db")
	dict, err := trainFile(ctx, path, m.train)
	if err != nil {
		return nil, err
	}
	whole := []string{"episodes", "runs"}
	for i, way := range []struct {
		packedPayloads
		store  storing
		tables []string // that hold the payloads
	}{
		{packedPayloads{name: "episodes", most: 0.15, dictionary: dict}, putWhole, whole},
		{packedPayloads{name: "single steps", most: 0.30, dictionary: dict}, appendEach, whole[1:]},
		{packedPayloads{name: "first episode of a database", most: 0.45}, putWhole, whole},
	} {
		p := &way.packedPayloads
		if p.plain, err = plainPayloads(ctx, fmt.Sprintf("%s-plain-%d.db", path, i), m.test, way.store, way.tables); err != nil {
			return nil, fmt.Errorf("%s, uncompressed: %w", p.name, err)
		}
		if p.dictionary != nil {
			err = p.store(ctx, path, way.store, m.test...)
		}
		for n := 0; p.dictionary == nil && n < len(m.test) && err == nil; n++ {
			err = p.store(ctx, fmt.Sprintf("%s-first-%d.db", path, n), way.store, m.test[n])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		sum := len(p.plain) // the byte before each that tells its format
		for _, text := range p.plain {
			sum += len(text)
		}
		if p.payloads != uint64(len(p.plain)) || p.plainBytes != uint64(sum) {
			return nil, fmt.Errorf("%s: the Store counts %d payloads of %d bytes, stored uncompressed they are %d of %d", p.name, p.payloads, p.plainBytes, len(p.plain), sum)
		}
		all = append(all, p)
	}
	return all, nil
}

// trainFile stores the episodes in a new file, and returns the dictionary trained
// of them.
func trainFile(ctx context.Context, path string, episodes []*episodic.Episode) (_ *codec.Dictionary, err error) {
	store, err := episodic.Open(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	id, err := train(ctx, store, episodes)
	if err = errors.Join(err, store.Close()); err != nil {
		return nil, err
	}
	content, err := blobs(ctx, path, fmt.Sprintf(`SELECT content FROM dictionaries WHERE id = %d`, id))
	if err != nil {
		return nil, err
	}
	return codec.NewDictionary(id, content[0])
}

// blobs reads a column of a file that no Store has open.
func blobs(ctx context.Context, path, query string) (list [][]byte, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var blob []byte
		if err := rows.Scan(&blob); err != nil {
			return nil, err
		}
		list = append(list, blob)
	}
	return list, rows.Err()
}

// store adds what becomes of the episodes in a Store of the file. Each is deleted
// again, lest a dictionary be trained of it.
func (p *packedPayloads) store(ctx context.Context, path string, way storing, episodes ...*episodic.Episode) (err error) {
	store, err := episodic.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, e := range episodes {
		id, s, err := way(ctx, store, e)
		if err != nil {
			return err
		}
		p.payloads += s.Payloads
		p.plainBytes += s.PlainBytes
		p.storedBytes += s.StoredBytes
		p.took += s.Time
		if err := store.DeleteEpisode(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// putWhole stores an episode at once.
func putWhole(ctx context.Context, store *episodic.Store, e *episodic.Episode) (episodic.ID, episodic.PayloadStats, error) {
	whole := *e
	whole.Steps = slices.Clone(e.Steps)
	s, err := compressing(store, func() error { return store.PutEpisode(ctx, &whole) })
	return whole.ID, s, err
}

// appendEach starts an episode and appends its steps one by one; only they are
// looked at.
func appendEach(ctx context.Context, store *episodic.Store, e *episodic.Episode) (episodic.ID, episodic.PayloadStats, error) {
	running := begun(e)
	if err := store.StartEpisode(ctx, &running); err != nil {
		return running.ID, episodic.PayloadStats{}, err
	}
	s, err := compressing(store, func() error {
		for _, step := range e.Steps {
			if _, err := store.AppendSteps(ctx, running.ID, step); err != nil {
				return err
			}
		}
		return nil
	})
	return running.ID, s, err
}

// compressing returns what the Store has compressed of episodes while f ran.
func compressing(store *episodic.Store, f func() error) (episodic.PayloadStats, error) {
	before := store.Stats().Compression.Episodes
	err := f()
	s := store.Stats().Compression.Episodes
	s.Payloads -= before.Payloads
	s.PlainBytes -= before.PlainBytes
	s.StoredBytes -= before.StoredBytes
	s.Time -= before.Time
	return s, err
}

// plainPayloads stores the episodes uncompressed, and returns the JSON of the
// payloads that are in the tables then.
func plainPayloads(ctx context.Context, path string, episodes []*episodic.Episode, way storing, tables []string) (all [][]byte, err error) {
	store, err := episodic.Open(ctx, path, &episodic.Options{Compression: episodic.Compression{Codec: episodic.Uncompressed}})
	if err != nil {
		return nil, err
	}
	for _, e := range episodes {
		if _, _, err = way(ctx, store, e); err != nil {
			break
		}
	}
	if err = errors.Join(err, store.Close()); err != nil {
		return nil, err
	}
	for _, t := range tables {
		list, err := blobs(ctx, path, `SELECT substr(payload, 2) FROM `+t)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// plainCodec is a plain way to compress. Both functions append to dst.
type plainCodec struct {
	name                 string
	compress, decompress func(dst, src []byte) ([]byte, error)
}

// plainCodecs returns them with encoders and decoders that are used again and
// again, for one caller.
func plainCodecs() ([]plainCodec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	w, err := gzip.NewWriterLevel(nil, 6)
	if err != nil {
		return nil, err
	}
	var block lz4.Compressor
	var out bytes.Buffer
	var in bytes.Reader
	var r gzip.Reader
	return []plainCodec{
		{"LZ4", func(dst, src []byte) ([]byte, error) {
			begin := len(dst)
			dst = slices.Grow(dst, lz4.CompressBlockBound(len(src)))
			n, err := block.CompressBlock(src, dst[begin:cap(dst)])
			if n == 0 {
				return append(dst, src...), err
			}
			return dst[:begin+n], err
		}, func(dst, src []byte) ([]byte, error) {
			n, err := lz4.UncompressBlock(src, dst[len(dst):cap(dst)])
			return dst[:len(dst)+n], err
		}},
		{"gzip", func(dst, src []byte) ([]byte, error) {
			out.Reset()
			w.Reset(&out)
			_, err := w.Write(src)
			err = errors.Join(err, w.Close())
			return append(dst, out.Bytes()...), err
		}, func(dst, src []byte) ([]byte, error) {
			in.Reset(src)
			out.Reset()
			if err := r.Reset(&in); err != nil {
				return dst, err
			}
			_, err := out.ReadFrom(&r)
			return append(dst, out.Bytes()...), err
		}},
		{"zstd", func(dst, src []byte) ([]byte, error) { return enc.EncodeAll(src, dst), nil },
			func(dst, src []byte) ([]byte, error) { return dec.DecodeAll(src, dst) }},
	}, nil
}

// row is the row of a table.
func (p *packedPayloads) row(material string) ([]string, error) {
	n := float64(p.payloads)
	row := []string{
		material + ", " + p.name, fmt.Sprint(p.payloads), fmt.Sprintf("%.0f", float64(p.plainBytes)/n),
		fmt.Sprintf("%.3f", p.ratio()), ms(time.Duration(float64(p.took) / n)),
	}
	codecs, err := plainCodecs()
	if err != nil {
		return nil, err
	}
	for _, c := range codecs {
		var buf []byte
		var stored int
		var took time.Duration
		for range 2 { // the first time makes it warm
			stored = 0
			start := time.Now()
			for _, text := range p.plain {
				if buf, err = c.compress(buf[:0], text); err != nil {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
				stored += len(buf)
			}
			took = time.Since(start)
		}
		row = append(row, fmt.Sprintf("%.3f", float64(stored)/float64(p.plainBytes)), ms(time.Duration(float64(took)/n)))
	}
	return row, nil
}

// timePayload measures the time for the payload that is nearest to payloadSize.
func (b *bench) timePayload(ctx context.Context, material string, p *packedPayloads) error {
	plain := slices.MinFunc(p.plain, func(x, y []byte) int {
		off := func(t []byte) float64 { return math.Abs(float64(len(t) - payloadSize)) }
		return int(off(x) - off(y))
	})
	enc, err := codec.NewEncoder(codec.Options{Dictionary: p.dictionary})
	if err != nil {
		return err
	}
	dec := codec.NewDecoder(1 << 20)
	if err := dec.Learn(p.dictionary); err != nil {
		return err
	}
	ways, err := plainCodecs()
	if err != nil {
		return err
	}
	ways = append(ways, plainCodec{"episodic", func(dst, src []byte) ([]byte, error) { return enc.Encode(dst, src), nil }, dec.Decode})

	var pairs [][2]*cell
	var cells []*cell
	table := [][]string{{"", "bytes", "compress, p50", "p99", "allocations", "decompress, p50", "p99", "allocations"}}
	for i := range ways {
		w := &ways[i]
		small, err := w.compress(make([]byte, 0, 2*len(plain)+64), plain)
		if err != nil {
			return err
		}
		to := make([]byte, 0, 2*len(plain)+64)
		got, err := w.decompress(to, small)
		if err != nil || !bytes.Equal(got, plain) {
			return errors.Join(fmt.Errorf("%s: %w", w.name, errChanged), err)
		}
		frame := slices.Clone(small)
		buf := make([]byte, 0, 2*len(plain)+64)
		compress := func() (err error) { _, err = w.compress(buf, plain); return err }
		decompress := func() (err error) { _, err = w.decompress(to, frame); return err }
		pair := [2]*cell{
			loadCell(w.name+" compress", 1, func(context.Context, int) error { return compress() }),
			loadCell(w.name+" decompress", 1, func(context.Context, int) error { return decompress() }),
		}
		pairs, cells = append(pairs, pair), append(cells, pair[:]...)
		allocations := func(f func() error) string {
			return fmt.Sprintf("%.0f", testing.AllocsPerRun(100, func() { err = errors.Join(err, f()) }))
		}
		table = append(table, []string{w.name, fmt.Sprint(len(frame)), "", "", allocations(compress), "", "", allocations(decompress)})
		if err != nil {
			return err
		}
	}
	if err := b.interleave(ctx, cells...); err != nil {
		return err
	}
	for i, pair := range pairs {
		row := table[i+1]
		row[2], row[3] = ms(pair[0].percentile(0.5)), ms(pair[0].percentile(0.99))
		row[5], row[6] = ms(pair[1].percentile(0.5)), ms(pair[1].percentile(0.99))
	}
	b.printf("\nSteps of %s, %d bytes:\n", material, len(plain))
	b.table(table...)
	ours := pairs[len(pairs)-1]
	row := table[len(table)-1]
	p50 := ours[0].percentile(0.5)
	b.judge(p50 <= 600*time.Microsecond && row[4] == "0", "compress in at most 0.6 ms without allocations", "%s, %s", ms(p50), row[4])
	p50 = ours[1].percentile(0.5)
	b.judge(p50 <= 60*time.Microsecond && row[7] == "0", "decompress in at most 0.06 ms without allocations", "%s, %s", ms(p50), row[7])
	return nil
}
