package transcript

import (
	"regexp"
	"testing"
)

// keyless matches the part of a key of a chat that is a hash.
var keyless = regexp.MustCompile(`(\[[-0-9]+ [:0-9]+) [0-9a-f]{16}\]`)

func TestAider(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{"marks in code blocks", "# aider chat started at 2026-01-02 03:04:05\n\n> Aider v1.0  \n\n#### document it  \n\nHere:\n\n```md\n# aider chat started at 2020-01-01 00:00:00\n#### a heading\n> a quote\n```\n\nDone.\n\n> Tokens: 900 sent, 1.2k received.  \n",
			`[2026-01-02 03:04:05 KEY] "document it" => "Here:\n\n` + "```md" + `\n# aider chat started at 2020-01-01 00:00:00\n#### a heading\n> a quote\n` + "```" + `\n\nDone."`},
		{"a reply that was cut off", "# aider chat started at 2026-01-02 03:04:05\n#### one  \n\n```py\nx = 1\n\n> Tokens: 1k sent, 2 received. Cost: $0.01 message, $0.01 session.  \n\n#### two  \n\nfine\n\n# aider chat started at 2026-01-02 04:00:00\n\n> Aider v1.0  \n\n#### three  \n",
			`[2026-01-02 03:04:05 KEY] "one" | "` + "```py" + `\nx = 1" | after "two" => "fine"
[2026-01-02 04:00:00 KEY] "three" => ""`},
		{"a chat that was killed within a code block", "# aider chat started at 2026-01-02 03:04:05\n#### one  \n\n```py\nx = 1\n\n# aider chat started at 2026-01-02 04:00:00\n\n> Aider v1.0  \n\n#### three  \n",
			`[2026-01-02 03:04:05 KEY] "one" => "` + "```py" + `\nx = 1"
[2026-01-02 04:00:00 KEY] "three" => ""`},
		{"commands", "# aider chat started at 2026-01-02 03:04:05\n#### /add a.go  \n> Added a.go to the chat  \n#### /ask why?  \n\nBecause.\n\n> Running go test  \n> FAIL  \n> exit 1  \n\n#### fix it  \n\nok\n\n> Applied edit to a.go  \n",
			`[2026-01-02 03:04:05 KEY] "why?" | after "/add a.go" run({"command":"go test"}) output "FAIL\nexit 1" | "Because." | after "fix it" edit({"file":"a.go"}) output "Applied edit to a.go" => "ok"`},
		{"commands only", "# aider chat started at 2026-01-02 03:04:05\n#### /help  \n> many lines  \n",
			"[] -1 chat of commands only -1 line of Aider's own"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := keyless.ReplaceAllString(retell(test.in, ".aider.chat.history.md", nil), "$1 KEY]"); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestAiderNumbers(t *testing.T) {
	t.Parallel()
	for text, n := range map[string]int64{"120": 120, "2.1k": 2100, "12k": 12000, "1,200": 1200, "1.5M": 1_500_000, "k": 0} {
		if got := aiderNumber(text); got != n {
			t.Errorf("%s is %d, want %d", text, got, n)
		}
	}
	for n, text := range map[int64]string{999: "999", 2100: "2.1k", 9999: "10.0k", 12_499: "12k"} {
		if got := aiderText(n); got != text {
			t.Errorf("%d is %s, want %s", n, got, text)
		}
	}
}
