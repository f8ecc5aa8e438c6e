package eval

import "math"

// Depth is how many of the results of a search are judged.
const Depth = 100

// Recall returns the part of the relevant items that is among the first k results. hits
// says of each result, the best first, whether it is relevant; relevant, at least 1, is
// how many relevant items there are.
func Recall(hits []bool, relevant, k int) float64 {
	found := 0
	for _, hit := range hits[:min(k, len(hits))] {
		if hit {
			found++
		}
	}
	return float64(found) / float64(relevant)
}

// ReciprocalRank returns 1 divided by the rank, from 1, of the first relevant result, or
// 0 if there is none. Its mean over questions is MRR.
func ReciprocalRank(hits []bool) float64 {
	for i, hit := range hits {
		if hit {
			return 1 / float64(i+1)
		}
	}
	return 0
}

// NDCG returns the normalised discounted cumulative gain of the first k results, with a
// gain of 1 for a relevant item (Järvelin and Kekäläinen, 2002): the sum of 1/log2(rank+1) over
// the relevant results, divided by that of the best possible order. hits and relevant are
// those of Recall.
func NDCG(hits []bool, relevant, k int) float64 {
	gain, best := 0.0, 0.0
	for i := range k {
		discounted := 1 / math.Log2(float64(i+2))
		if i < len(hits) && hits[i] {
			gain += discounted
		}
		if i < relevant {
			best += discounted
		}
	}
	return gain / best
}

// Scores is how well the results for one question fit, or the mean over several.
type Scores struct {
	Recall5  float64 `json:"recall_at_5"`
	Recall10 float64 `json:"recall_at_10"`
	Recall20 float64 `json:"recall_at_20"`
	MRR      float64 `json:"mrr"` // within the best Depth
	NDCG10   float64 `json:"ndcg_at_10"`
}

func (s *Scores) add(o Scores, weight float64) {
	s.Recall5 += weight * o.Recall5
	s.Recall10 += weight * o.Recall10
	s.Recall20 += weight * o.Recall20
	s.MRR += weight * o.MRR
	s.NDCG10 += weight * o.NDCG10
}

// Want returns how many results to ask for, so that Depth of them are left without the
// excluded ones.
func (t *Task) Want() int { return Depth + t.extra }

// Score judges what a search found, the best first: documents (Part is -1) for a task of the level
// Episodes, and parts for one of the level Steps. What the question excludes is taken out first, with
// all its parts, and what is found twice counts once.
func (t *Task) Score(found []Key) Scores {
	var hits []bool
	seen := make(map[Key]bool)
	for _, k := range found {
		if seen[k] || t.excluded[k] || t.excluded[k.document()] {
			continue
		}
		seen[k] = true
		if hits = append(hits, t.relevant[k]); len(hits) == Depth {
			break
		}
	}
	relevant := len(t.relevant) + t.Missing
	return Scores{
		Recall5:  Recall(hits, relevant, 5),
		Recall10: Recall(hits, relevant, 10),
		Recall20: Recall(hits, relevant, 20),
		MRR:      ReciprocalRank(hits),
		NDCG10:   NDCG(hits, relevant, 10),
	}
}
