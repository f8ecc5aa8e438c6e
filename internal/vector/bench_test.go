package vector

import (
	"math/rand/v2"
	"testing"
)

func BenchmarkSearch(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	vectors := clusters(r, 384, 100_000)
	x := newIndex(b, 384)
	for i, v := range vectors {
		ok(b, x.Put(id(i), uint32(i%100), Encode(v, Float16)))
	}
	x.Settle()
	one := Filter{Labels: []bool{true}}
	ids := Filter{}
	for i := range 1000 {
		ids.IDs = append(ids.IDs, id(100*i))
	}
	for name, search := range map[string]func(q []float32){
		"all":         func(q []float32) { x.all(newQuery(q), 10, &Filter{}) },
		"sketches":    func(q []float32) { x.Search(q, 10, Filter{}) },
		"1% by label": func(q []float32) { x.Search(q, 10, one) },
		"1% by id":    func(q []float32) { x.Search(q, 10, ids) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				search(vectors[r.IntN(len(vectors))])
			}
		})
	}
}
