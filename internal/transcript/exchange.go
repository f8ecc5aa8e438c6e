package transcript

import (
	"cmp"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Logs of requests to a model and its answers, one record each, of OpenAI's chat completions
// or Responses, or of Anthropic's messages; and the files of their batches. A record of a
// conversation repeats all that came before it, or names the response before it, so that
// several records are one run.

var openAILog = &format{name: "openai", title: "a log of requests to OpenAI", fits: fitsLog, all: readExchanges}

func fitsLog(h *head) bool {
	return h.some(func(n node) bool {
		request, response := sides(n)
		if n.has("custom_id") { // of a batch
			return n.get("body").isObject() || n.get("params").isObject() || n.get("result").isObject() || n.has("response") || n.has("error")
		}
		if said := n.get("completion"); said.isString() || said.isArray() || n.get("preferred_output").isArray() {
			return true
		}
		return isAnswered(response) || n.has("request") && n.has("response") && (request.get("messages").isArray() || request.get("input").isArray())
	})
}

func isAnswered(response node) bool {
	list := response.items("choices")
	return len(list) > 0 && (list[0].has("message") || list[0].has("text") || list[0].has("delta"))
}

// sides are the request of a record and its response. Both may be the record itself.
func sides(n node) (request, response node) {
	return side(n, "request", "request_body", "input", "kwargs", "body", "params"), side(n, "response", "response_body", "output", "result")
}

// side is the object at one of some keys, without its envelope; n itself if there is none.
// Some writers keep it as text.
func side(n node, keys ...string) node {
	for _, key := range keys {
		of := n.get(key)
		if of.isString() && strings.HasPrefix(key, "re") {
			of, _ = parse(of.str()) // otherwise it is none
		}
		for _, envelope := range []string{"body", "json"} {
			if inner := of.get(envelope); inner.isObject() {
				of = inner
			}
		}
		if m := of.get("message"); key == "result" && m.isObject() { // of a batch of Anthropic's
			of = m
		}
		if of.isObject() {
			return of
		}
	}
	return n
}

// Bounds of how many conversations of a log are held to see whether they go on, and of the
// text of their records, in bytes.
const (
	openConversations = 256
	openText          = 64 << 20
)

// exchange is a request and its response.
type exchange struct {
	value
	n                 node
	request, response node
	asked, answered   []node // messages or items
	id, before        string // of the response, and of the one before it
	begun, at         time.Time
	called            [sha256.Size]byte // hash of the turns of the request
	chain             [sha256.Size]byte // of those of the response as well
}

// held is what of an exchange is held while its conversation may go on. Parsed it would take
// several times the memory.
type held struct {
	value
	id    string
	chain [sha256.Size]byte
	turns int
}

type exchanges struct {
	in   *records
	open *list.List // of *conversation, the latest last
	// Conversations by what they must begin with that go on with them.
	byChain map[[sha256.Size]byte]*list.Element
	byID    map[string]*list.Element
	size    int
}

func readExchanges(r *records) error {
	x := &exchanges{in: r, open: list.New(), byChain: make(map[[sha256.Size]byte]*list.Element), byID: make(map[string]*list.Element)}
	for {
		v, err := r.next()
		if err != nil {
			r.last = noEOF(err)
			break
		}
		n, err := v.parsed()
		if err == nil {
			err = x.record(n, v)
		}
		if err != nil {
			r.problem(err)
		}
	}
	for x.open.Len() > 0 {
		x.close(x.open.Front())
	}
	return nil
}

// record adds a record to the conversation that it goes on with, or begins one.
func (x *exchanges) record(n node, v value) error {
	e := newExchange(n, v)
	if len(e.asked) == 0 && len(e.answered) == 0 && !e.response.get("error").there() {
		return &Problem{Line: v.line, Text: "is neither a request nor a response"}
	}
	el, prefix := x.before(e)
	if el == nil {
		el = x.open.PushBack(&conversation{key: e.key(), times: make(map[int]time.Time)})
	}
	c := el.Value.(*conversation)
	x.forget(el)
	switch {
	case len(c.parts) > 0 && prefix == nil: // it goes on with it
		e.chain = chained(c.last().chain, e.chain)
	case len(c.parts) > 0:
		x.size -= c.size
		c.parts, c.size = nil, 0
	}
	c.take(e)
	x.size += len(e.text)
	x.open.MoveToBack(el)
	if e.chain != ([sha256.Size]byte{}) {
		x.byChain[e.chain] = el
	}
	if e.id != "" {
		x.byID[e.id] = el
	}
	for x.open.Len() > 1 && (x.open.Len() > openConversations || x.size > openText) {
		x.close(x.open.Front())
	}
	return nil
}

// before is the open conversation with which an exchange goes on. prefix is what of the
// exchange repeats it; nil: nothing does.
func (x *exchanges) before(e *exchange) (el *list.Element, prefix []node) {
	if el := x.byID[e.before]; e.before != "" && el != nil {
		return el, nil
	}
	var chain [sha256.Size]byte
	for i, n := range e.asked {
		chain = link(chain, n)
		if at := x.byChain[chain]; at != nil && at.Value.(*conversation).whole() {
			el, prefix = at, e.asked[:i+1]
		}
	}
	return el, prefix
}

func (x *exchanges) forget(el *list.Element) {
	if c := el.Value.(*conversation); len(c.parts) > 0 {
		last := c.last()
		if x.byChain[last.chain] == el {
			delete(x.byChain, last.chain)
		}
		if x.byID[last.id] == el {
			delete(x.byID, last.id)
		}
	}
}

func (x *exchanges) close(el *list.Element) {
	c := x.open.Remove(el).(*conversation)
	x.forget(el)
	x.size -= c.size
	if err := x.in.conversation(c); err != nil {
		x.in.problem(err)
	}
}

func newExchange(n node, v value) *exchange {
	e := &exchange{value: v, n: n}
	e.request, e.response = sides(n)
	e.asked = firstOf(e.request, "messages", "input", "prompt").items()
	if text := firstOf(e.request, "input", "prompt"); text.isString() && !e.request.has("messages") {
		e.asked = []node{said("user", text.str())}
	}
	e.answered = answered(e.response)
	e.id = e.response.str("id")
	e.before = cmp.Or(e.response.str("previous_response_id"), e.request.str("previous_response_id"))
	e.begun = firstTime(n, "timestamp", "start_time", "startTime", "request_time", "created_at")
	e.at = firstTime(e.response, "completed_at", "created", "created_at")
	if e.at.IsZero() {
		e.at = firstTime(n, "end_time", "endTime")
	}
	for _, m := range e.asked {
		e.called = link(e.called, m)
	}
	e.chain = e.called
	for _, m := range e.answered {
		e.chain = link(e.chain, m)
	}
	return e
}

// answered is what the model answered, as messages or items.
func answered(response node) []node {
	if response.get("output").isArray() {
		return response.items("output")
	}
	if choices := response.items("choices"); len(choices) > 0 {
		if m := choices[0].get("message"); m.isObject() {
			return []node{m}
		}
		if text := choices[0].str("text"); text != "" {
			return []node{said("assistant", text)}
		}
		return nil
	}
	if response.has("content") && response.str("role") == "assistant" { // of Anthropic's messages
		return []node{response}
	}
	if m := response.get("message"); m.has("role") { // of Ollama's chat
		return []node{m}
	}
	if of := firstOf(response, "completion", "preferred_output"); of.isArray() {
		return of.items()
	} else if of.isString() {
		return []node{said("assistant", of.str())}
	}
	return nil
}

// said is a message.
func said(role, text string) node {
	n, _ := parse(`{"role":` + quoted(role) + `,"content":` + quoted(text) + `}`) // it is JSON
	return n
}

// key is what a conversation is called that begins with this exchange.
func (e *exchange) key() string {
	if id := cmp.Or(e.id, e.n.str("id"), e.n.str("request_id")); id != "" {
		return id
	}
	for _, name := range []string{"custom_id", "conversation_id", "session_id", "thread_id", "trace_id"} {
		if id := e.n.plain(name); id != "" { // there may be several in it
			return id + "/" + hex.EncodeToString(e.called[:8])
		}
	}
	if at := cmp.Or(e.begun, e.at); !at.IsZero() {
		return at.Format(time.RFC3339Nano) + "/" + hex.EncodeToString(e.called[:8])
	}
	return "" // it is known by its hash
}

// link adds a turn to the hash of those before it. What the system says changes from request
// to request, with the time of day, and makes no other conversation.
func link(chain [sha256.Size]byte, n node) [sha256.Size]byte {
	if roles[strings.ToLower(n.str("role"))] == fromSystem {
		return chain
	}
	var sum [sha256.Size]byte
	switch kind := n.str("type"); {
	case kind == "reasoning":
		return chain // not all of it is sent back
	case n.has("role"):
		sum = turnOf(n).hash()
	case n.has("call_id"):
		sum = sha256.Sum256([]byte(kind + "\x00" + n.str("call_id") + "\x00" + n.str("name") + "\x00" + spelling(argumentsOf(firstOf(n, "arguments", "input"))) + "\x00" + n.json("output")))
	case n.str("id") != "":
		sum = sha256.Sum256([]byte(kind + "\x00" + n.str("id")))
	default:
		sum = n.hash()
	}
	return chained(chain, sum)
}

func chained(a, b [sha256.Size]byte) [sha256.Size]byte { return sha256.Sum256(append(a[:], b[:]...)) }
