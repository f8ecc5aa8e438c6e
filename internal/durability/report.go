package durability

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// Report is what Run has found.
type Report struct {
	Target    string  `json:"target"`
	Processes int     `json:"processes"`
	Seconds   float64 `json:"seconds"` // of writing
	Seed      uint64  `json:"seed"`
	// Scope is that of all that was written.
	Scope episodic.Scope `json:"scope"`

	Acknowledged int      `json:"acknowledged"` // writes
	Receipts     int      `json:"receipts"`     // of them; a repeated start or deletion that finds itself done has none
	Verified     int      `json:"verified"`     // receipts
	Lost         int      `json:"lost"`         // of Verified
	Doubled      int      `json:"doubled"`      // steps and items that are stored once too often
	Reads        int      `json:"reads"`        // episodes
	Examples     []string `json:"examples,omitempty"`
	// Doctor is what Examine finds in the whole memory afterwards; nil only where Run has failed.
	Doctor *episodic.Examination `json:"doctor"`

	Kills     map[string]int `json:"kills"`      // by what was killed: writer, reader, server
	Cuts      int            `json:"cuts"`       // connections
	FullDisks int            `json:"full_disks"` // writes that met a full disk
	// Errors are failed attempts by kind. Each write was tried again until it was acknowledged.
	Errors  map[string]int    `json:"errors"`
	Details map[string]string `json:"error_examples,omitempty"` // one of each kind

	LongestWait     Millis `json:"longest_wait_ms"`     // of a write, until it was acknowledged
	LongestRecovery Millis `json:"longest_recovery_ms"` // from a kill until a write that was begun after it was acknowledged
}

// Millis is a duration that JSON has in milliseconds.
type Millis time.Duration

// MarshalJSON implements json.Marshaler.
func (m Millis) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.1f", float64(m)/float64(time.Millisecond)), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Millis) UnmarshalJSON(b []byte) error {
	ms, err := strconv.ParseFloat(string(b), 64)
	*m = Millis(ms * float64(time.Millisecond))
	return err
}

func (m Millis) String() string { return time.Duration(m).Round(time.Millisecond).String() }

// Failed reports whether the memory has lost or doubled something, or Examine has found a fault in
// it.
func (r *Report) Failed() bool { return r.Lost > 0 || r.Doubled > 0 || !r.Doctor.Clean() }

// Diagnosis is what Examine found, in a few words.
func (r *Report) Diagnosis() string {
	if r.Doctor.Clean() {
		return "clean"
	}
	var found []string
	for _, f := range r.Doctor.Findings {
		if f.Severity == episodic.Fault {
			found = append(found, fmt.Sprintf("%s (%d)", f.Check, f.Count))
		}
	}
	if n := len(r.Doctor.Skipped); n > 0 {
		found = append(found, fmt.Sprintf("%d checks not made", n))
	}
	return strings.Join(found, ", ")
}

// Print writes the report as a table for people.
func (r *Report) Print(w io.Writer) error {
	rows := [][2]string{
		{"target", r.Target},
		{"processes", fmt.Sprintf("%d, for %.0f s, seed %d", r.Processes, r.Seconds, r.Seed)},
		{"killed", counts(r.Kills)},
		{"connections cut", fmt.Sprint(r.Cuts)},
		{"full disks", fmt.Sprint(r.FullDisks)},
		{"acknowledged", fmt.Sprintf("%d writes, %d receipts", r.Acknowledged, r.Receipts)},
		{"verified", fmt.Sprintf("%d receipts", r.Verified)},
		{"lost", fmt.Sprint(r.Lost)},
		{"doubled", fmt.Sprint(r.Doubled)},
		{"doctor", fmt.Sprintf("%s; %d items", r.Diagnosis(), r.Doctor.Items)},
		{"read", fmt.Sprintf("%d episodes", r.Reads)},
		{"failed attempts", counts(r.Errors)},
		{"longest wait", r.LongestWait.String()},
		{"longest recovery", r.LongestRecovery.String()},
	}
	for _, row := range rows {
		if _, err := fmt.Fprintf(w, "%-17s %s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	lines := slices.Clip(r.Examples)
	for _, f := range r.Doctor.Findings {
		if f.Severity == episodic.Fault {
			lines = append(lines, fmt.Sprintf("doctor: %s (%d): %s: %s", f.Check, f.Count, f.Problem, strings.Join(f.Items, ", ")))
		}
	}
	for _, what := range r.Doctor.Skipped {
		lines = append(lines, "doctor: not looked at: "+what)
	}
	for _, e := range lines {
		if _, err := fmt.Fprintf(w, "  %s\n", e); err != nil {
			return err
		}
	}
	return nil
}

func counts(m map[string]int) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%d %s", m[name], name)
	}
	if text == "" {
		return "none"
	}
	return text
}
