package episodic

import (
	"errors"
	"fmt"

	"github.com/episodic-memory/episodic/internal/payload"
)

// Bounds of what rows may hold, before it is compressed. libSQL servers refuse
// answers over 10 MB.
const (
	maxEpisode = 64 << 20 // encoded bytes of all steps stored by one call
	runTarget  = 1 << 20  // encoded bytes after which a run of steps is cut
	// readAtOnce is how many bytes of runs are asked for in one round trip, unless
	// a single run is larger: together with the largest head and the overhead of
	// any protocol it stays below the 10 MB of an answer. It is also how much
	// Complete folds.
	readAtOnce = 4_000_000
)

// encodePayload encodes v as a row holds it. A value that is too large is blamed
// on field.
func encodePayload(c *payload.Codec, k payload.Kind, field string, v any) ([]byte, error) {
	p, err := c.Encode(k, v)
	return p, encodeFailed(field, err)
}

func encodeFailed(field string, err error) error {
	if large, ok := errors.AsType[*payload.TooLargeError](err); ok {
		return invalid(field, "%v", large)
	}
	if err != nil {
		return fmt.Errorf("encode %s: %w", field, err)
	}
	return nil
}
