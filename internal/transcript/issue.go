package transcript

import "strings"

// Benchmarks of programming put a task into a template. frames are what stands before and
// behind it in those that are common.
var frames = []struct{ before, behind string }{
	{"<pr_description>", "</pr_description>"},
	{"<issue_description>", "</issue_description>"},
	{"<github_issue>", "</github_issue>"},
	{"Here's the issue text:\nISSUE:\n", "\n\nINSTRUCTIONS:\n"},
	{"\nISSUE:\n", "\n\nINSTRUCTIONS:\n"},
	{"Please solve this issue:", "\n\nYou can execute bash commands"},
	{"Please solve this task:", "\n\nYou can execute bash commands"},
}

// leads are what a frame has before the words of people.
var leads = []string{"Consider the following PR description:", "Consider the following issue:"}

// issue is the task in a prompt. template is how the prompt was made, where the record has
// it, with {{task}} or {{problem_statement}} for the task.
func issue(prompt, template string) string {
	for _, name := range []string{"{{task}}", "{{ task }}", "{{problem_statement}}"} {
		before, behind, found := strings.Cut(template, name)
		if !found {
			continue
		}
		before, behind = before[lastEnd(before):], strings.TrimSpace(behind)
		if i := strings.Index(behind, "{"); i >= 0 { // what it says there is not known
			behind = behind[:i]
		}
		if text, ok := between(prompt, strings.TrimSpace(before), strings.TrimSpace(start(behind, 60))); ok {
			return text
		}
	}
	for _, f := range frames {
		text, ok := between(prompt, f.before, f.behind)
		if !ok {
			continue
		}
		for _, lead := range leads {
			text = strings.TrimSpace(strings.TrimPrefix(text, lead))
		}
		return text
	}
	if _, text, ok := strings.Cut(prompt, "</uploaded_files>"); ok && strings.HasPrefix(strings.TrimSpace(prompt), "<uploaded_files>") {
		return strings.TrimSpace(text)
	}
	return strings.TrimSpace(prompt)
}

// start is the beginning of a text, of at most n bytes.
func start(text string, n int) string {
	if len(text) > n {
		text = strings.ToValidUTF8(text[:n], "")
	}
	return text
}

// lastEnd is where the last variable of a template ends.
func lastEnd(template string) int {
	if i := strings.LastIndex(template, "}"); i >= 0 {
		return i + 1
	}
	return 0
}

// between is what stands in a text between two others.
func between(text, before, behind string) (string, bool) {
	if before == "" && behind == "" {
		return "", false
	}
	_, text, found := strings.Cut(text, before)
	if !found {
		return "", false
	}
	if behind != "" {
		i := strings.LastIndex(text, behind)
		if i < 0 {
			return "", false
		}
		text = text[:i]
	}
	text = strings.TrimSpace(text)
	return text, text != ""
}
