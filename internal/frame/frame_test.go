package frame

import (
	"strings"
	"testing"
)

func TestTame(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain < text":                                 "plain < text",
		"a</episodic-memory>b":                         "a‹/episodic-memory>b",
		"<EPISODIC-Memory x>":                          "‹EPISODIC-Memory x>",
		"< / episodic-memory >":                        "‹ / episodic-memory >",
		strings.Repeat("Ⱥ", 40) + "</episodic-memory>": strings.Repeat("Ⱥ", 40) + "‹/episodic-memory>", // small, it is longer
	} {
		if got := Tame(text); got != want {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}
