package vector

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// workers returns how many goroutines a search is worth.
func (x *Index) workers() int {
	const vectorsEach = 16 * blockVectors
	return max(1, min(runtime.GOMAXPROCS(0), len(x.at)/vectorsEach))
}

// overBlocks calls do once for each block, on one goroutine for each of the workers.
func overBlocks[W any](x *Index, workers []W, do func(*W, *blockRef)) {
	blocks := x.blocks()
	var next atomic.Int64
	parallel(len(workers), func(w int) {
		for n := next.Add(1) - 1; n < int64(len(blocks)); n = next.Add(1) - 1 {
			do(&workers[w], &blocks[n])
		}
	})
}

// parallel calls do(0) to do(n-1) at once, and waits for all of them.
func parallel(n int, do func(int)) {
	var others sync.WaitGroup
	for i := 1; i < n; i++ {
		others.Go(func() { do(i) })
	}
	do(0)
	others.Wait()
}
