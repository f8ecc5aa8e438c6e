package transcript

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/episodic-memory/episodic"
)

// embedding reads a row of a table of vectors. The crate notes no model but "default", unless
// the item is named by a key that has it.
func (r *memoryRow) embedding() error {
	e := &episodic.Embedding{Kind: episodic.ItemKind(r.text("item_type")), Model: r.text("model")}
	item := r.text("item_id")
	if e.Kind == "embedding" {
		var ok bool
		if e.Model, e.Kind, item, ok = scopedKey(item); !ok {
			r.run.Episode = nil
			r.left("embedding of what is no episode and no pattern", 1)
			r.emit(r.run)
			return nil
		}
	}
	var err error
	if e.Item, err = episodic.ParseID(item); err != nil {
		return invalid("item_id", "is no UUID; the embedding is left out")
	}
	if e.Vector, err = r.vector(); err != nil {
		return invalid("embedding_data", "%v; the embedding is left out", err)
	}
	if e.Model == "" || e.Model == "default" {
		e.Model = fmt.Sprintf("do-memory:default:%d", len(e.Vector))
	}
	r.run.Episode, r.run.Embedding = nil, e
	r.emit(r.run)
	return nil
}

// scopedKey takes the key of a vector apart: emb_v1:MODEL:NAMESPACE:ITEM. The model has colons,
// and ends in the revision of its configuration, #r and a number.
func scopedKey(key string) (model string, kind episodic.ItemKind, item string, ok bool) {
	rest, found := strings.CutPrefix(key, "emb_v1:")
	last := strings.LastIndexByte(rest, ':')
	if !found || last < 0 {
		return "", "", "", false
	}
	rest, item = rest[:last], rest[last+1:]
	if last = strings.LastIndexByte(rest, ':'); last < 0 {
		return "", "", "", false
	}
	model, kind = rest[:last], episodic.ItemKind(rest[last+1:])
	return model, kind, item, model != "" && (kind == episodic.ItemEpisode || kind == episodic.ItemPattern)
}

// vector is that of a row: an array of numbers, or compressed bytes, or else what the column
// for searches has.
func (r *memoryRow) vector() ([]float32, error) {
	data := r.n.get("embedding_data").plain()
	var vector []float32
	var err error
	if strings.HasPrefix(data, packedPrefix) {
		var raw []byte
		if raw, err = unpacked(data); err == nil {
			vector, err = floats(node{}, raw)
		}
	} else if n, bad := parse(data); bad != nil {
		err = fmt.Errorf("is not JSON")
	} else {
		vector, err = floats(n, nil)
	}
	if err == nil {
		return vector, nil
	}
	if raw, ok := r.bytes("embedding_vector"); ok {
		if vector, bad := floats(node{}, raw); bad == nil && len(vector) == wholeNumber(r.n.get("dimension")) {
			return vector, nil
		}
	}
	return nil, err
}

// summaryEmbedding reads the vector of a row of episode_summaries; its texts are metadata of the
// episode.
func (r *memoryRow) summaryEmbedding() error {
	item, err := episodic.ParseID(r.text("episode_id"))
	if err != nil {
		return invalid("episode_id", "is no UUID; the embedding is left out")
	}
	raw, _ := r.bytes("summary_embedding")
	vector, err := floats(node{}, raw)
	if err != nil {
		return invalid("summary_embedding", "%v; it is left out", err)
	}
	r.run.Episode = nil
	r.run.Embedding = &episodic.Embedding{Kind: episodic.ItemEpisode, Item: item, Model: fmt.Sprintf("do-memory:summary:%d", len(vector)), Vector: vector}
	r.emit(r.run)
	return nil
}

// littleEndian are the numbers of a vector whose length is known to be right.
func littleEndian(raw []byte) []float32 {
	vector := make([]float32, len(raw)/4)
	for i := range vector {
		vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return vector
}

// floats are the numbers of a vector: of a JSON array, or of bytes with four for each.
func floats(n node, raw []byte) ([]float32, error) {
	if raw != nil {
		if len(raw) == 0 || len(raw)%4 != 0 {
			return nil, fmt.Errorf("has %d bytes, which are no numbers of four", len(raw))
		}
		return littleEndian(raw), nil
	}
	var vector []float32
	for i, v := range n.items() {
		f, ok := v.num()
		if !ok || math.Abs(f) > math.MaxFloat32 {
			return nil, fmt.Errorf("has at %d no finite number: %s", i, clip(v.json(), 40))
		}
		vector = append(vector, float32(f))
	}
	if len(vector) == 0 {
		return nil, fmt.Errorf("holds no numbers")
	}
	return vector, nil
}
