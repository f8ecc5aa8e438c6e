package rank

import (
	"math"
	"time"
)

// OutcomeFactor is what a score is multiplied by for the outcome of its episode. It is
// gentle: among hits that fit equally well, what succeeded comes first.
func OutcomeFactor(kind string) float64 {
	switch kind {
	case "success":
		return 1.04
	case "partial_success":
		return 1.02
	case "failure", "abstained":
		return 0.98
	}
	return 1
}

// MostFactor is the most that the factors of outcome and recency make together.
const MostFactor = 1.04 * 1.04

// PhraseFactor is what a score is multiplied by if a phrase of the query, in quotes, stands in
// the hit as it was written.
const PhraseFactor = 3

// recencyHalf is the age at which the bonus of a recent episode has halved.
const recencyHalf = 30 * 24 * time.Hour

// RecencyFactor is what a score is multiplied by for the age of its episode: 1.04 for one
// of now, 1.02 after 30 days, and so on. One of the future counts as one of now.
func RecencyFactor(age time.Duration) float64 {
	return 1 + 0.04*math.Exp2(-float64(max(age, 0))/float64(recencyHalf))
}
