package episodic

import (
	"context"
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

// write encodes payloads and stores them; again, once, if a dictionary that it
// encoded with was deleted meanwhile.
func write[T any](ctx context.Context, s *Store, encode func() (T, error), store func(T) error) error {
	s.payloads.Ready(ctx)
	for again := true; ; again = false {
		v, err := encode()
		if err != nil {
			return err
		}
		err = store(v)
		if again && payload.IsDictionaryGone(err) {
			s.payloads.Reset()
			continue
		}
		if err == nil {
			s.payloads.Maintain()
		}
		return err
	}
}

// readAgain calls read, and again if a dictionary was deleted between the reading of
// a row and that of the dictionary: the row has been recompressed meanwhile.
func readAgain[T any](read func() (T, error)) (T, error) {
	v, err := read()
	if payload.IsDictionaryGone(err) {
		v, err = read()
	}
	return v, err
}
