package episodic

import (
	"fmt"

	"github.com/google/uuid"
)

// ID names an episode, a pattern or a heuristic. It is a UUID made by the
// client, so that a write can be repeated without storing anything twice.
// The zero ID means "none yet": storing fills it in.
type ID [16]byte

// NewID returns a new UUIDv7: it sorts by the millisecond it was made in.
func NewID() ID {
	// NewV7 fails only when the system's random source does, and crypto/rand
	// has ended the program by then.
	return ID(uuid.Must(uuid.NewV7()))
}

// ParseID reads a UUID of any version in its usual form of 36 characters, with
// or without the hyphens. The error is an *InvalidError for the field "id".
func ParseID(s string) (ID, error) {
	if len(s) == 36 || len(s) == 32 {
		if u, err := uuid.Parse(s); err == nil {
			return ID(u), nil
		}
	}
	return ID{}, &InvalidError{Field: "id", Problem: fmt.Sprintf("%.60q is not a UUID", s)}
}

// IsZero reports whether id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// bytes is id as a column holds it; the caller may change id afterwards.
func (id ID) bytes() []byte { return id[:] }

// String returns the usual form of 36 characters.
func (id ID) String() string { return uuid.UUID(id).String() }

// MarshalText implements encoding.TextMarshaler with String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler with ParseID.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// idFrom reads an ID column.
func idFrom(v any) (ID, error) {
	b, ok := v.([]byte)
	if !ok || len(b) != len(ID{}) {
		return ID{}, fmt.Errorf("id column holds %T of %d bytes, want 16 bytes", v, len(b))
	}
	return ID(b), nil
}
