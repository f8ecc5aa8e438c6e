package transcript

import (
	"regexp"
	"strings"
	"sync"
)

// cuts are passages that programs put around what people write. RE2 takes time in proportion
// to the text.
var cuts = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)<(system-reminder|environment_context|user_instructions|permissions instructions|INSTRUCTIONS|ide_opened_file|ide_selection|local-command-caveat|additional_data|attached_files|open_and_recently_viewed_files|git_status|project_layout|rules|timestamp|hook_context|episodic-memory)\b[^>]*>.*?</(system-reminder|environment_context|user_instructions|permissions instructions|INSTRUCTIONS|ide_opened_file|ide_selection|local-command-caveat|additional_data|attached_files|open_and_recently_viewed_files|git_status|project_layout|rules|timestamp|hook_context|episodic-memory)>`)
})

// wraps are marks around what people write, which stays.
var wraps = regexp.MustCompile(`</?(user_query|user-query|user_request|task|pr_description|issue_description)>`)

// words returns a prompt in its writer's words: without what programs have put around it.
func words(prompt string) string {
	if strings.IndexByte(prompt, '<') >= 0 {
		prompt = wraps.ReplaceAllString(cuts().ReplaceAllString(prompt, ""), "")
	}
	return strings.TrimSpace(prompt)
}

// blank reports whether a text has no words.
func blank(s string) bool { return strings.TrimSpace(s) == "" }

// base is the last name of a path, of any system.
func base(path string) string {
	path = strings.TrimRight(path, `/\`)
	return path[strings.LastIndexAny(path, `/\`)+1:]
}

// stem is the name of a file without its folder, and without what its kind is called.
func stem(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(base(path), "."), ".")
	return name
}

// parts are the names of a path, of any system.
func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
}

// mimeKind is what a file of a media type is called when it is left out.
func mimeKind(mime string) string {
	switch kind, _, _ := strings.Cut(mime, "/"); kind {
	case "image", "audio", "video":
		return kind
	}
	return "document"
}
