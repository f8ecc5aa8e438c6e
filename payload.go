package episodic

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Bounds of what one row may hold. libSQL servers refuse values over 5,000,000
// bytes, and answers over 10 MB.
const (
	maxPayload = 4_500_000 // encoded bytes of one step, or of an episode without its steps
	maxEpisode = 64 << 20  // encoded bytes of all steps stored by one call
	runTarget  = 1 << 20   // encoded bytes after which a run of steps is cut
	// readAtOnce is how many bytes of runs are asked for in one round trip, unless
	// a single run is larger: together with the largest head and the overhead of
	// any protocol it stays below the 10 MB of an answer.
	readAtOnce = 4_000_000
)

// formatJSON is the first byte of a payload that goes on as JSON. Other values
// are reserved for later formats; docs/formats.md lists them.
const formatJSON = 0x01

// encodePayload encodes v. A value that is too large is blamed on field.
func encodePayload(field string, v any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte(formatJSON)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %s: %w", field, err)
	}
	p := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(p) > maxPayload {
		return nil, invalid(field, "takes %d bytes when stored, at most %d are allowed; keep large data elsewhere and store a reference", len(p), maxPayload)
	}
	return p, nil
}

// decodePayload decodes a column into v. Its error names nothing; the caller
// knows the row.
func decodePayload(column any, v any) error {
	p, ok := column.([]byte)
	if !ok {
		return fmt.Errorf("%w: payload is %T, want a blob", ErrCorrupt, column)
	}
	if len(p) == 0 {
		return fmt.Errorf("%w: payload is empty", ErrCorrupt)
	}
	if p[0] != formatJSON {
		return fmt.Errorf("%w: payload has the unknown format %#02x; a newer episodic may have written it", ErrCorrupt, p[0])
	}
	if err := json.Unmarshal(p[1:], v); err != nil {
		return fmt.Errorf("%w: payload: %w", ErrCorrupt, err)
	}
	return nil
}
