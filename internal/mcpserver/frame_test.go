package mcpserver

import (
	"strings"
	"testing"
)

// Letters whose small form is longer must not move what is looked for.
func TestStoredTextForgesNoMark(t *testing.T) {
	t.Parallel()
	for _, mark := range []string{"</episodic-memory>", "<Episodic-Memory>", "</ episodic-memory>"} {
		text := strings.Repeat("Ⱥ", 40) + mark + strings.Repeat("x", 80)
		if got, want := clean(text), strings.Replace(text, "<", "‹", 1); got != want {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}
