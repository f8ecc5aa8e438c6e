package transcript

import (
	"cmp"
	"regexp"
	"strings"
	"time"

	"github.com/episodic-memory/episodic"
)

// What reaches a session of Claude Code while its model is at work: what became of tasks in the
// background, and what people wrote meanwhile.

var noticeID = regexp.MustCompile(`(?s)<(task-id|tool-use-id)>\s*([^<\s]+)`)

// notice reads what became of what went on in the background: it takes the place of the
// answer that it was begun.
func (t *claudeThread) notice(text string, at time.Time) {
	ids := make(map[string]string)
	for _, m := range noticeID.FindAllStringSubmatch(text[:min(len(text), 4096)], -1) {
		if ids[m[1]] == "" {
			ids[m[1]] = m[2]
		}
	}
	i, ok := t.steps[cmp.Or(ids["tool-use-id"], t.tasks[ids["task-id"]])]
	if !ok || t.run != t.b.run || i >= len(t.b.e.Steps) || t.b.e.Steps[i].Result == nil {
		t.b.left("notice of a background task", 1)
		return
	}
	t.b.seen(at)
	s := &t.b.e.Steps[i]
	result := *s.Result // forks have the former
	s.Result = &result
	said := cmp.Or(strings.TrimSpace(inTag(text, "result")), strings.TrimSpace(inTag(text, "summary")))
	s.Result.Text = cmp.Or(said, s.Result.Text)
	if status := strings.TrimSpace(inTag(text, "status")); status == "failed" || status == "killed" {
		s.Result.Kind = episodic.ResultError
	}
	if !at.IsZero() && at.After(s.Time) && !s.Time.IsZero() {
		s.Latency = at.Sub(s.Time)
	}
}

// queuedPrompt is what people wrote while the model was at work. Most are written again once
// the model gets them.
type queuedPrompt struct {
	text  string
	at    time.Time
	asked int // how often it had been asked before
}

func (s *claudeSession) queue(n node, line int) {
	switch n.str("operation") {
	case "enqueue":
		s.enqueue(n.get("content"), n, line)
	case "popAll": // people took it back, to change it
		s.queued = nil
	}
}

func (s *claudeSession) enqueue(content, n node, line int) {
	text := content.str()
	if content.isArray() {
		var texts []string
		for _, part := range content.items() {
			if text, _ := partText(part); text != "" {
				texts = append(texts, text)
			}
		}
		text = strings.Join(texts, "\n")
	}
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "", strings.HasPrefix(trimmed, "/"): // commands have lines of their own
		return
	case strings.HasPrefix(trimmed, "<task-notification>"):
		if s.main != nil {
			s.main.notice(trimmed, n.when("timestamp"))
		}
		return
	}
	text = words(text)
	for _, q := range s.queued {
		if q.text == text {
			return
		}
	}
	s.thread(n, line)
	s.queued = append(s.queued, queuedPrompt{text, n.when("timestamp"), s.asked[text]})
}

// flush keeps prompts that were queued and are written nowhere else: with the step that
// followed them.
func (s *claudeSession) flush(b *builder) {
next:
	for _, q := range s.queued {
		if q.text == "" || s.asked[q.text] > q.asked {
			continue
		}
		if b.e.Description == "" {
			b.task(q.text)
			b.seen(q.at)
			continue
		}
		for i := range b.e.Steps {
			if step := &b.e.Steps[i]; !q.at.IsZero() && step.Time.After(q.at) {
				b.note(i, MetaPrompt, join(step.Metadata[MetaPrompt], q.text))
				continue next
			}
		}
		b.asks(q.text, q.at)
	}
}
