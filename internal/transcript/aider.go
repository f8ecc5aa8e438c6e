package transcript

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The chat history of Aider, .aider.chat.history.md, to which all chats in a folder are
// appended: what people say after "#### ", what Aider itself says after "> ", and between
// them what the model says.
// https://aider.chat/docs/config/options.html#history-files

var aider = &format{name: "aider", title: "a chat history of Aider", fits: fitsAider, text: readAider}

const aiderBegin = "# aider chat started at "

func fitsAider(h *head) bool {
	return len(h.values) == 0 && (bytes.HasPrefix(h.text, []byte(aiderBegin)) || bytes.Contains(h.text, []byte("\n"+aiderBegin)))
}

// What Aider says.
var (
	aiderVersion = regexp.MustCompile(`^Aider v(\S+)`)
	aiderModel   = regexp.MustCompile(`^(?:Main model|Model|Models): (\S+) with `)
	aiderTokens  = regexp.MustCompile(`^Tokens: ([0-9.,]+[kM]?) sent,.*?([0-9.,]+[kM]?) received\.`)
	aiderCost    = regexp.MustCompile(`\$([0-9.]+) session`)
	aiderEdit    = regexp.MustCompile(`^Applied edit to (.+)$`)
	aiderCommit  = regexp.MustCompile(`^Commit ([0-9a-f]{6,40}) (.*)$`)
	aiderRun     = regexp.MustCompile(`^Running (.+)$`)
	aiderSetUp   = regexp.MustCompile(`^(Git repo:|Repo-map:|Weak model:|Editor model:|Added .* to the chat|Use /help|\S*aider( |$)|\S*python\S* .*aider)`)
)

// aiderTalk are the commands whose words are for the model.
var aiderTalk = regexp.MustCompile(`^/(ask|code|architect|context|help)\s+`)

// aiderChat is a chat that is being read.
type aiderChat struct {
	*builder
	started        string
	prompt         []string // lines of a prompt that may go on
	reply          []string
	fenced         bool     // the reply is within a code block
	output         []string // of the command that ran last
	command        int      // the step of it; -1: none
	sent, received int64
}

func readAider(in *bufio.Reader, r *records) error {
	var c *aiderChat
	for at := 1; ; at++ {
		line, err := aiderLine(in)
		if line == "" && err != nil {
			if c != nil {
				c.end()
			}
			return noEOF(err)
		}
		line = strings.TrimRight(line, "\r\n")
		if started, ok := strings.CutPrefix(line, aiderBegin); ok && (c == nil || !c.fenced || aiderSpeaks(in)) {
			if c != nil {
				c.end()
			}
			c = &aiderChat{builder: r.begin(at), command: -1}
			c.begins(strings.TrimSpace(started))
		}
		if c == nil {
			continue // text before the first chat
		}
		sum := sha256.Sum256([]byte(line))
		c.run.Hash = sha256.Sum256(append(c.run.Hash[:], sum[:]...))
		c.run.Bytes += int64(len(line) + 1)
		c.line(line)
	}
}

// aiderLine reads a line; of one that is longer than any value its beginning.
func aiderLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) <= maxValue {
			line = append(line, part...)
		}
		if err != bufio.ErrBufferFull {
			return string(line), err
		}
	}
}

// aiderSpeaks reports whether what follows is what Aider says when it starts.
func aiderSpeaks(in *bufio.Reader) bool {
	next, _ := in.Peek(8) // fewer at the end
	return bytes.HasPrefix(bytes.TrimLeft(next, "\r\n"), []byte("> "))
}

// begins begins the chat. Aider writes the time of the machine's zone, without naming it.
func (c *aiderChat) begins(started string) {
	c.started = started
	c.meta(MetaAgent, "aider")
	at, err := time.ParseInLocation(time.DateTime, started, time.Local)
	if err != nil {
		c.odd("aider chat started at", "is no time: "+clip(started, 40))
		return
	}
	c.seen(at.UTC())
}

// line adds a line. Within a code block of the model only the lines count that the model
// cannot have written: Aider ends its own with two spaces.
func (c *aiderChat) line(line string) {
	if strings.HasPrefix(line, aiderBegin) && !c.fenced {
		return
	}
	if c.fenced && strings.HasPrefix(line, "> Tokens: ") && strings.HasSuffix(line, "  ") {
		c.fenced = false // the model was cut off
	}
	if c.fenced {
		c.replies(line)
		return
	}
	switch {
	case line == "####" || strings.HasPrefix(line, "#### "):
		c.prompt = append(c.prompt, strings.TrimRight(strings.TrimPrefix(line[4:], " "), " "))
		return
	case blank(line) && len(c.prompt) > 0:
		c.asked()
	case line == ">" || strings.HasPrefix(line, "> "):
		c.asked()
		c.aider(strings.TrimSpace(line[1:]))
	default:
		c.asked()
		c.replies(line)
	}
}

// replies adds a line of the model.
func (c *aiderChat) replies(line string) {
	if mark := strings.TrimSpace(line); strings.HasPrefix(mark, "```") {
		c.fenced = !c.fenced
	}
	if !blank(line) || len(c.reply) > 0 {
		c.ran()
		c.reply = append(c.reply, line)
	}
}

// asked ends a prompt, and what came of the one before it.
func (c *aiderChat) asked() {
	text := strings.TrimSpace(strings.Join(c.prompt, "\n"))
	c.prompt = nil
	if text == "" {
		return
	}
	c.ran()
	if said := aiderTalk.FindString(text); said != "" {
		text = text[len(said):]
	} else if strings.HasPrefix(text, "/") || strings.HasPrefix(text, "!") { // a command for Aider
		c.builder.prompt = join(c.builder.prompt, text)
		return
	}
	c.replied()
	if c.asks(text, time.Time{}); c.prompts == 1 { // also of a chat that is split
		c.sent, c.received = 0, 0
	}
	if c.run.Key == "" {
		sum := sha256.Sum256([]byte(text))
		c.run.Key = c.started + " " + hex.EncodeToString(sum[:8])
	}
}

// replied ends what the model said. What Aider did of it comes before.
func (c *aiderChat) replied() {
	c.says(strings.TrimSpace(strings.Join(c.reply, "\n")), time.Time{})
	c.reply, c.fenced = nil, false
}

// aider adds a line of Aider's own.
func (c *aiderChat) aider(text string) {
	if m := aiderEdit.FindStringSubmatch(text); m != nil {
		c.did("edit", `{"file":`+quoted(m[1])+`}`, text)
		return
	}
	if m := aiderCommit.FindStringSubmatch(text); m != nil {
		c.did("commit", `{"hash":`+quoted(m[1])+`}`, m[2])
		return
	}
	if m := aiderRun.FindStringSubmatch(text); m != nil {
		c.ran()
		c.command = c.call("", "run", `{"command":`+quoted(m[1])+`}`, time.Time{})
		return
	}
	if m := aiderTokens.FindStringSubmatch(text); m != nil {
		c.ran()
		c.counted(m[1], m[2])
		if cost := aiderCost.FindStringSubmatch(text); cost != nil {
			c.meta(MetaCost, cost[1])
		}
		return
	}
	if c.command >= 0 {
		c.output = append(c.output, text)
		return
	}
	if m := aiderVersion.FindStringSubmatch(text); m != nil {
		c.meta(MetaVersion, m[1])
	} else if m := aiderModel.FindStringSubmatch(text); m != nil {
		c.meta(MetaModel, m[1])
	} else if text != "" && !aiderSetUp.MatchString(text) {
		c.left("line of Aider's own", 1)
	}
}

// did adds a step of Aider's.
func (c *aiderChat) did(tool, parameters, result string) {
	c.ran()
	c.call("", tool, parameters, time.Time{})
	c.answers(answer{tool: tool, text: result})
}

// ran ends the command that is running.
func (c *aiderChat) ran() {
	if c.command >= 0 {
		c.answers(answer{tool: "run", text: strings.Join(c.output, "\n")})
		c.command, c.output = -1, nil
	}
}

// counted adds the tokens of an answer: "2.1k".
func (c *aiderChat) counted(sent, received string) {
	in, out := aiderNumber(sent), aiderNumber(received)
	c.used(in, out)
	c.sent += in
	c.received += out
}

func aiderNumber(text string) int64 {
	text = strings.ReplaceAll(text, ",", "")
	scale := 1.0
	switch {
	case strings.HasSuffix(text, "k"):
		scale = 1e3
	case strings.HasSuffix(text, "M"):
		scale = 1e6
	}
	f, err := strconv.ParseFloat(strings.TrimRight(text, "kM"), 64)
	if err != nil || f < 0 || f > 1e9 {
		return 0
	}
	return int64(f*scale + 0.5)
}

// aiderText writes a number of tokens as Aider does.
func aiderText(n int64) string {
	switch {
	case n < 1000:
		return strconv.FormatInt(n, 10)
	case n < 10_000:
		return strconv.FormatFloat(float64(n)/1000, 'f', 1, 64) + "k"
	}
	return strconv.FormatInt((n+500)/1000, 10) + "k"
}

// end ends the chat. One in which nobody asked for anything is no episode.
func (c *aiderChat) end() {
	c.asked()
	c.ran()
	if c.prompts == 0 && len(c.e.Steps) == 0 && len(c.reply) == 0 {
		if c.builder.prompt != "" {
			c.run.Episode = nil
			c.left("chat of commands only", 1)
			c.emit(c.run)
		}
		return
	}
	c.replied()
	if c.sent > 0 || c.received > 0 {
		c.meta("tokens_sent", aiderText(c.sent))
		c.meta("tokens_received", aiderText(c.received))
	}
	c.run.Key = cmp.Or(c.run.Key, c.started)
	c.finish()
}
