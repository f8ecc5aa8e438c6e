package transcript

// The sessions of Gemini CLI: one object with messages, or since 2026 lines: the head, then
// messages, which are written again as they grow, and what changes them. And what
// `/chat save` writes: the contents of Gemini's API.

var (
	gemini           = &format{name: "gemini", title: "a session of Gemini CLI", fits: fitsGemini, follow: followGemini, live: true}
	geminiCheckpoint = &format{name: "gemini", title: "a saved chat of Gemini CLI", fits: fitsGeminiCheckpoint, all: readGeminiCheckpoint}
)

func fitsGemini(h *head) bool {
	return !h.array && h.some(func(n node) bool { return n.has("sessionId") && n.has("projectHash") })
}

func fitsGeminiCheckpoint(h *head) bool {
	n := h.first()
	if list := firstOf(n, "history", "contents").items(); len(list) > 0 && !h.array && len(h.values) == 1 {
		n = list[0]
	} else if !h.array {
		return false
	}
	return n.has("role") && n.get("parts").isArray()
}

// geminiSession is a session while it is read.
type geminiSession struct {
	in    *records
	list  geminiList
	taken int // messages that were taken back
	head  map[string]node
	first int // line
	about int // line of the last message
}

func followGemini(r *records) follower {
	return &geminiSession{in: r, list: geminiList{at: make(map[string]int)}, head: make(map[string]node)}
}

func (s *geminiSession) take(line int, n node) {
	if s.first == 0 {
		s.first = line
	}
	switch {
	case n.has("$rewindTo"):
		s.taken += s.list.rewind(n.str("$rewindTo"))
	case n.has("$set"):
		s.set(n.get("$set"))
	case n.has("$patch"):
		s.list.patch(n.get("$patch"))
	case n.has("sessionId"):
		s.set(n)
	case n.has("id") || n.has("type"):
		s.list.put(n)
		s.about = line
	}
}

func (s *geminiSession) set(n node) {
	for _, f := range n.fields() {
		if f.key != "messages" {
			s.head[f.key] = f.value
		}
	}
	for _, m := range n.items("messages") {
		s.list.put(m)
	}
}

// fork shares the messages, which end only reads.
func (s *geminiSession) fork(r *records) follower {
	f := *s
	f.in = r
	return &f
}

func (s *geminiSession) end() {
	r, first := s.in, max(s.first, 1)
	b := r.begin(first)
	b.open = r.open
	b.geminiHead(s.head)
	if list := parts(r.Name); s.head["kind"].str() == "subagent" && len(list) > 2 && list[len(list)-3] == "chats" {
		b.run.Parent = list[len(list)-2] // below the folder of the session that started it
	}
	b.left("message that was taken back", s.taken)
	for i, m := range s.list.list {
		b.add(m)
		if err := b.geminiMessage(m, "messages"+index(i)); err != nil {
			r.problemAt(max(s.about, first), err) // about
		}
	}
	b.addText(b.e.Metadata[MetaTitle])
	r.end(b)
}

// geminiList are the messages of a session, as they are in the end.
type geminiList struct {
	list []node
	at   map[string]int // by their ids
}

// put adds a message; one of the same id takes the place of the former.
func (l *geminiList) put(m node) {
	id := m.str("id")
	if i, ok := l.at[id]; ok && id != "" {
		l.list[i] = m
		return
	}
	l.at[id] = len(l.list)
	l.list = append(l.list, m)
}

// rewind drops a message and all after it. It returns how many those are.
func (l *geminiList) rewind(id string) int {
	i, ok := l.at[id]
	if !ok {
		return 0
	}
	for _, m := range l.list[i:] {
		delete(l.at, m.str("id"))
	}
	dropped := len(l.list) - i
	l.list = l.list[:i]
	return dropped
}

// patch changes fields of messages and of their calls, and drops messages.
func (l *geminiList) patch(n node) {
	for _, m := range n.items("updates") {
		i, ok := l.at[m.str("id")]
		if !ok {
			continue
		}
		to := l.list[i]
		for _, f := range m.fields() {
			if calls := to.items("toolCalls"); f.key == "toolCalls" && len(calls) > 0 {
				geminiPatchCalls(calls, f.value.items())
			} else {
				to.v.Set(f.key, f.value.v)
			}
		}
	}
	for _, id := range n.items("removeIds") {
		if i, ok := l.at[id.str()]; ok {
			l.list[i] = node{}
			delete(l.at, id.str())
		}
	}
}

func geminiPatchCalls(calls, by []node) {
	for _, to := range calls {
		for _, c := range by {
			if to.str("id") != c.str("id") {
				continue
			}
			for _, f := range c.fields() {
				to.v.Set(f.key, f.value.v)
			}
		}
	}
}

func (b *builder) geminiHead(head map[string]node) {
	b.run.Key = head["sessionId"].str()
	b.meta(MetaSession, b.run.Key)
	b.meta(MetaAgent, "gemini-cli")
	b.meta(MetaTitle, head["summary"].str())
	b.meta("project_hash", head["projectHash"].str())
	if list := head["directories"].items(); len(list) > 0 {
		b.meta(MetaFolder, list[0].str())
		b.e.Context.Domain = base(list[0].str())
	}
	b.seen(head["startTime"].when())
}
