package doctor

import "iter"

// Rows are the rows of table t of those that were charted, with the values of its columns:
// nil, int64, float64, string or []byte. Those that a tree leads to come first, in their order. A
// row may come twice where pages are of different times. It ends with the first error, which is one of
// the file system; rows that cannot be read are counted in Found.
func (a *Atlas) Rows(t int) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		for _, n := range a.order[t] {
			p, ok, err := a.file.tree(n)
			if err != nil {
				yield(nil, err)
				return
			}
			if !ok {
				continue
			}
			cells := p.rowCells(a.file.usable)
			a.Found.Rows += int64(p.cells - len(cells))
			for _, c := range cells {
				content, whole, err := a.file.content(&c)
				if err != nil {
					yield(nil, err)
					return
				}
				var row []any
				if whole {
					var values []any
					if values, whole = record(content); whole {
						row, whole = a.tables[t].row(&c, values)
					}
				}
				if !whole {
					a.Found.Rows++
					continue
				}
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}
