package episodic

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
	"github.com/episodic-memory/episodic/internal/rank"
)

// Bounds of what is indexed.
const (
	maxResultWords = 4000     // bytes of a step's result
	maxServerWords = 16 << 10 // bytes of a head on a server, and of a call's steps
)

// wording makes what the full-text index holds of an item: on a file a unit of
// internal/index, with a document for the head and one for each step, on a server a
// text of tokens for the table heads.
type wording struct {
	server bool
	steps  bool // a server has those of steps too
}

// words are those of a write: what is indexed of heads, and on a server of steps.
type words struct {
	head, steps any
}

// episode returns the words of an episode with its steps.
func (w wording) episode(e *Episode) words {
	if w.server {
		return words{head: serverWords(headText(e), conclusionText(e)), steps: w.serverSteps(e.Steps)}
	}
	docs := make([]index.Document, 1, len(e.Steps)+1)
	docs[0].Texts[rank.Head] = headText(e) + "\n" + conclusionText(e)
	for i := range e.Steps {
		docs = append(docs, wordsOfStep(i+1, &e.Steps[i]))
	}
	return words{head: index.Encode(docs)}
}

// appended returns the words of steps that are added to an episode, nil for none.
func (w wording) appended(steps []Step) any {
	if w.server {
		return w.serverSteps(steps)
	}
	docs := make([]index.Document, len(steps))
	for i := range steps {
		docs[i] = wordsOfStep(i, &steps[i])
	}
	return index.Encode(docs)
}

// concluded returns the words of an episode that ends.
func (w wording) concluded(e *Episode) any {
	if w.server {
		return serverWords(headText(e), conclusionText(e))
	}
	var d index.Document
	d.Texts[rank.Head] = conclusionText(e)
	return index.Encode([]index.Document{d})
}

// item returns the words of a pattern or heuristic.
func (w wording) item(texts ...string) any {
	if w.server {
		return serverWords(texts...)
	}
	var d index.Document
	d.Texts[rank.Head] = strings.Join(texts, "\n")
	return index.Encode([]index.Document{d})
}

func (w wording) serverSteps(steps []Step) any {
	if !w.steps || len(steps) == 0 {
		return nil
	}
	var b strings.Builder
	for i := range steps {
		d := wordsOfStep(i, &steps[i])
		b.WriteString(d.Texts[rank.Text] + "\n" + d.Texts[rank.Result] + "\n")
	}
	return serverWords(b.String())
}

// serverWords are the tokens of texts, each once for every doubling of its number, so
// that what is often said weighs more, and not what is long.
func serverWords(texts ...string) string {
	text := cutUTF8(strings.Join(texts, "\n"), maxServerWords)
	seen := make(map[string]int)
	var kept []string
	for _, token := range strings.Fields(serverTokens(string(index.AppendTokens(nil, text)))) {
		if seen[token]++; seen[token]&(seen[token]-1) == 0 {
			kept = append(kept, token)
		}
	}
	return strings.Join(kept, " ")
}

// serverTokens are tokens as a server has them: a full stop within a number would end a word
// there, and a setting that says otherwise is not restored from a dump.
func serverTokens(tokens string) string { return strings.ReplaceAll(tokens, ".", "·") }

// headText is what is known of an episode when it begins.
func headText(e *Episode) string {
	parts := []string{e.Description, strings.Join(e.Context.Tags, "\n"), e.Context.Domain, e.Context.Framework}
	return strings.Join(parts, "\n")
}

// conclusionText is what was made of an episode in the end.
func conclusionText(e *Episode) string {
	o, r := &e.Outcome, &e.Reflection
	parts := []string{string(o.Kind), o.Verdict, o.Reason, o.Details}
	for _, list := range [][]string{o.Artifacts, o.Completed, o.Failed, o.Signals, r.Successes, r.Improvements, r.Insights} {
		parts = append(parts, list...)
	}
	return strings.Join(append(parts, metadataText(e.Metadata)), "\n")
}

func metadataText(m map[string]string) string {
	parts := make([]string, 0, len(m))
	for k, v := range m {
		parts = append(parts, k+" "+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n")
}

func wordsOfStep(n int, s *Step) index.Document {
	d := index.Document{Number: n, Actor: s.Tool}
	d.Texts[rank.Text] = strings.Join([]string{s.Tool, s.Action, parametersText(s.Parameters), metadataText(s.Metadata)}, "\n")
	if s.Result != nil {
		d.Texts[rank.Result] = cutUTF8(s.Result.Text, maxResultWords)
	}
	if !s.Time.IsZero() {
		d.Texts[rank.Date] = dateWords(s.Time)
	}
	return d
}

// parametersText is what is written in parameters, without the escapes of JSON, which would
// stick to words.
func parametersText(p JSON) string {
	if strings.IndexByte(string(p), '\\') < 0 {
		return string(p)
	}
	var b strings.Builder
	for d := json.NewDecoder(strings.NewReader(string(p))); ; {
		token, err := d.Token()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return string(p) // no JSON; it is kept byte for byte
			}
			return b.String()
		}
		if _, punctuation := token.(json.Delim); !punctuation {
			fmt.Fprintln(&b, token)
		}
	}
}

func dateWords(t time.Time) string { return t.UTC().Format("Monday 2 January 2006") }

func patternTexts(p *Pattern) []string {
	texts := []string{p.Description, p.Context.Domain, strings.Join(p.Context.Tags, "\n"), metadataText(p.Metadata)}
	if x := p.ToolSequence; x != nil {
		texts = append(texts, x.Tools...)
	}
	if x := p.DecisionPoint; x != nil {
		texts = append(texts, x.Condition, x.Action)
	}
	if x := p.ErrorRecovery; x != nil {
		texts = append(append(texts, x.Error), x.Steps...)
	}
	if x := p.ContextPattern; x != nil {
		texts = append(append(texts, x.Features...), x.Approach)
	}
	return texts
}

func heuristicTexts(h *Heuristic) []string {
	return []string{h.Condition, h.Action, metadataText(h.Metadata)}
}

// Places in the index; see the migration that makes it. The number of a group is that of
// an episode, -2*seq for a pattern and -2*seq-1 for a heuristic.
const (
	sqlIndexHead      = `INSERT INTO index_units(place, data) SELECT seq << 24, ?` + writtenBy
	sqlIndexHeads     = `INSERT INTO index_units(place, data) SELECT seq << 24, column3 FROM `
	sqlIndexConcluded = `INSERT OR REPLACE INTO index_units(place, data) SELECT ((seq + 1) << 24) - 1, ?` + writtenBy
	sqlIndexItem      = `INSERT INTO index_units(place, data) SELECT (-2 * seq - %d) << 24, ? FROM %s WHERE id = ? AND rev = ?`

	// A table without content lets a row in twice, when a batch is repeated.
	notYet = ` AND NOT EXISTS (SELECT 1 FROM heads_docsize d WHERE d.id = seq)`

	sqlServerHead      = `INSERT INTO heads(rowid, words) SELECT seq, ?` + writtenBy + notYet
	sqlServerHeads     = `INSERT INTO heads(rowid, words) SELECT seq, column3 FROM `
	sqlServerSteps     = `INSERT INTO heads(rowid, words) SELECT -(seq << 24) - 1, ?` + writtenBy + ` AND NOT EXISTS (SELECT 1 FROM heads_docsize WHERE id = -(seq << 24) - 1)`
	sqlServerConcluded = `INSERT OR REPLACE INTO heads(rowid, words) SELECT seq, ?` + writtenBy
	sqlServerItem      = `INSERT INTO heads(rowid, words) SELECT -2 * seq - %[1]d, ? FROM %[2]s WHERE id = ? AND rev = ? AND NOT EXISTS (SELECT 1 FROM heads_docsize d WHERE d.id = -2 * seq - %[1]d)`
)

// store are the statements that index an episode that was stored.
func (w wording) store(words words, key []any) []engine.Stmt {
	if !w.server {
		return []engine.Stmt{{SQL: sqlIndexHead, Args: append([]any{words.head}, key...)}}
	}
	stmts := []engine.Stmt{{SQL: sqlServerHead, Args: append([]any{words.head}, key...)}}
	if words.steps != nil {
		stmts = append(stmts, engine.Stmt{SQL: sqlServerSteps, Args: append([]any{words.steps}, key...)})
	}
	return stmts
}

// storeMany is store for many episodes: full-text search writes what it holds before each
// statement that changes several rows, so that with a statement for each episode adding
// them takes 1.6 times as long.
func (w wording) storeMany(rows []*episodeRow) []engine.Stmt {
	head := engine.Stmt{SQL: sqlIndexHeads}
	if w.server {
		head.SQL = sqlServerHeads
	}
	head.SQL += "(VALUES" + strings.TrimSuffix(strings.Repeat("(?,?,?),", len(rows)), ",") + ") JOIN episodes ON id = column1 AND rev = column2"
	if w.server {
		head.SQL += " WHERE NOT EXISTS (SELECT 1 FROM heads_docsize d WHERE d.id = seq)"
	}
	stmts := []engine.Stmt{{}}
	for _, r := range rows {
		head.Args = append(append(head.Args, r.key()...), r.words.head)
		if r.words.steps != nil {
			stmts = append(stmts, engine.Stmt{SQL: sqlServerSteps, Args: append([]any{r.words.steps}, r.key()...)})
		}
	}
	stmts[0] = head
	return stmts
}

func (w wording) patternStmt(p *Pattern, rev int64) engine.Stmt {
	return w.itemStmt(0, "patterns", p.ID, rev, patternTexts(p))
}

func (w wording) heuristicStmt(h *Heuristic, rev int64) engine.Stmt {
	return w.itemStmt(1, "heuristics", h.ID, rev, heuristicTexts(h))
}

// itemStmt indexes an item of a table whose groups are less by so many.
func (w wording) itemStmt(less int, table string, id ID, rev int64, texts []string) engine.Stmt {
	format := sqlIndexItem
	if w.server {
		format = sqlServerItem
	}
	return engine.Stmt{SQL: fmt.Sprintf(format, less, table), Args: []any{w.item(texts...), id.bytes(), rev}}
}

// conclude indexes what was concluded of an episode.
func (w wording) conclude(words any, key []any) engine.Stmt {
	st := engine.Stmt{SQL: sqlIndexConcluded, Args: append([]any{words}, key...)}
	if w.server {
		st.SQL = sqlServerConcluded
	}
	return st
}
