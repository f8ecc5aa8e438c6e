package eval

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// locomo is a conversation of LoCoMo (Maharana et al., 2024, "Evaluating Very Long-Term
// Conversational Memory of LLM Agents").
type locomo struct {
	SampleID string `json:"sample_id"`
	// Conversation holds session_N, an array of turns, and session_N_date_time, beside others.
	Conversation map[string]json.RawMessage `json:"conversation"`
	QA           []struct {
		Question string   `json:"question"`
		Category int      `json:"category"`
		Evidence []string `json:"evidence"`
	} `json:"qa"`
}

type locomoTurn struct {
	ID      string `json:"dia_id"`
	Speaker string `json:"speaker"`
	Text    string `json:"text"`
	Caption string `json:"blip_caption"` // of a picture that is shown with the text
}

// locomoCategories are the types of questions that have an answer.
var locomoCategories = map[int]string{1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}

const (
	locomoAdversarial = 5
	locomoTime        = "3:04 pm on 2 January, 2006"
)

// loadLoCoMo makes a collection of each conversation, a document of each session and a
// part of each turn. Questions without an answer or without evidence are left out.
func loadLoCoMo(ctx context.Context, d *Dataset, in, _ *input) error {
	for {
		e, err := in.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.addLoCoMo(&e); err != nil {
			return err
		}
	}
}

func (d *Dataset) addLoCoMo(e *element) error {
	var conversation locomo
	if err := e.decode("", e.raw, &conversation, false); err != nil {
		return err
	}
	c := Collection{Name: conversation.SampleID}
	ids := make(names)
	for _, n := range locomoSessions(conversation.Conversation) {
		doc, err := locomoSession(e, conversation.Conversation, n, ids)
		if err != nil {
			return err
		}
		c.Documents = append(c.Documents, doc)
	}
	if len(c.Documents) == 0 {
		return e.fail("conversation.session_1", "is missing; a conversation has sessions")
	}
	for i, qa := range conversation.QA {
		category, answerable := locomoCategories[qa.Category]
		switch {
		case qa.Category != locomoAdversarial && !answerable:
			return e.fail(fmt.Sprintf("qa[%d].category", i), "is %d; it must lie between 1 and 5", qa.Category)
		case !answerable || len(qa.Evidence) == 0:
			d.LeftOut++
			continue
		case qa.Question == "":
			return e.fail(fmt.Sprintf("qa[%d].question", i), "is missing or empty")
		}
		c.Questions = append(c.Questions, Question{
			ID: fmt.Sprintf("%s qa[%d]", c.Name, i), Type: category, Text: qa.Question, Relevant: qa.Evidence,
		})
	}
	d.Collections = append(d.Collections, c)
	return nil
}

// locomoSessions returns the numbers of the sessions, ascending.
func locomoSessions(fields map[string]json.RawMessage) []int {
	var sessions []int
	for key := range fields {
		number, ok := strings.CutPrefix(key, "session_")
		if n, err := strconv.Atoi(number); ok && err == nil && strconv.Itoa(n) == number {
			sessions = append(sessions, n)
		}
	}
	slices.Sort(sessions)
	return sessions
}

func locomoSession(e *element, fields map[string]json.RawMessage, n int, ids names) (Document, error) {
	key := fmt.Sprintf("session_%d", n)
	path := "conversation." + key
	doc := Document{ID: key, Title: fmt.Sprintf("Session %d", n)}
	if err := ids.take(doc.ID, doc.ID, e, path); err != nil {
		return Document{}, err
	}
	if raw := fields[key+"_date_time"]; raw != nil {
		var text string
		if err := e.decode(path+"_date_time", raw, &text, false); err != nil {
			return Document{}, err
		}
		var err error
		if doc.Time, err = time.Parse(locomoTime, text); err != nil {
			return Document{}, e.fail(path+"_date_time", "is %.60q, which is no time such as 1:56 pm on 8 May, 2023", text)
		}
	}
	var turns []locomoTurn
	if err := e.decode(path, fields[key], &turns, false); err != nil {
		return Document{}, err
	}
	for i, turn := range turns {
		at := fmt.Sprintf("%s[%d].", path, i)
		if err := ids.take(turn.ID, doc.ID, e, at+"dia_id"); err != nil {
			return Document{}, err
		}
		if turn.Speaker == "" {
			return Document{}, e.fail(at+"speaker", "is missing or empty")
		}
		text := turn.Text
		if turn.Caption != "" {
			text = strings.TrimSpace(text + "\n" + turn.Caption)
		}
		doc.Parts = append(doc.Parts, Part{ID: turn.ID, Actor: turn.Speaker, Text: text})
	}
	return doc, nil
}
