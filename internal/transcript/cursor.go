package transcript

import (
	"cmp"
	"regexp"
	"strings"
	"time"
)

// The agent transcripts of Cursor: a file for each conversation, of lines {role, message}. What
// tools answered, the model, tokens, and most times are not in them; Cursor's database has more.

var cursor = &format{name: "cursor", title: "an agent transcript of Cursor", fits: fitsCursor, follow: followCursor, live: true}

func fitsCursor(h *head) bool {
	is := false
	for _, n := range h.values {
		switch {
		case n.has("role") && n.get("message").has("content") && !n.has("uuid"):
			is = true
		case n.str("type") != "turn_ended":
			return false
		}
	}
	return is && !h.array
}

// cursorSession is a transcript while it is read.
type cursorSession struct {
	in *records
	b  *builder // nil: there was no line yet
}

func followCursor(r *records) follower { return &cursorSession{in: r} }

func (s *cursorSession) take(line int, n node) {
	if s.b == nil {
		s.b = beginCursor(s.in, line)
	}
	s.b.add(n)
	s.b.cursorLine(n)
}

func (s *cursorSession) fork(r *records) follower { return &cursorSession{r, s.b.fork(r.emit, r.tell)} }

func (s *cursorSession) end() {
	if s.b == nil {
		s.b = beginCursor(s.in, 1)
	}
	s.in.end(s.b)
}

// beginCursor begins the run of a file, whose place is all that tells which it is.
func beginCursor(r *records, line int) *builder {
	b := r.begin(line)
	b.run.Key = stem(r.Name)
	b.meta(MetaAgent, "cursor")
	b.meta(MetaSession, b.run.Key)
	parts := parts(r.Name)
	for i, part := range parts {
		switch {
		case part == "agent-transcripts" && i > 1 && parts[i-2] == "projects":
			b.meta("project", parts[i-1])
		case part == "subagents" && i > 0:
			b.run.Parent = parts[i-1]
		}
	}
	return b
}

func (b *builder) cursorLine(n node) {
	content := n.get("message", "content")
	switch role := strings.ToLower(n.str("role")); roles[role] {
	case fromPeople:
		b.parts(content, "message.content", time.Time{}, func(text string, _ time.Time) {
			b.asks(text, cursorTime(text))
		})
	case fromModel:
		b.parts(content, "message.content", time.Time{}, b.says)
	case fromSystem:
		b.system(b.content(content))
	default:
		if role != "" || content.there() {
			b.left("message of role "+clip(cmp.Or(role, "none"), 40), 1)
		}
	}
}

var cursorStamp = regexp.MustCompile(`<timestamp>\s*(?:[A-Za-z]+, )?([A-Za-z]+ \d+, \d+, \d+:\d+ [AP]M)(?: \(UTC(?:([+-]\d+)(?::(\d\d))?)?\))?\s*</timestamp>`)

// cursorTime is when a prompt was written, in minutes, where newer versions say so in words.
func cursorTime(text string) time.Time {
	m := cursorStamp.FindStringSubmatch(text)
	if m == nil {
		return time.Time{}
	}
	at, err := time.Parse("Jan 2, 2006, 3:04 PM", m[1])
	if err != nil {
		return time.Time{}
	}
	zone, err := time.ParseDuration(cmp.Or(m[2], "0") + "h" + cmp.Or(m[3], "0") + "m")
	if err != nil {
		return time.Time{}
	}
	return at.Add(-zone)
}
