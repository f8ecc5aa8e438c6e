package eval

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The invented datasets of the tests.
const (
	sampleLoCoMo = `[
  {"sample_id": "conv-1",
   "conversation": {
     "speaker_a": "Mira", "speaker_b": "Tom",
     "session_10_date_time": "12:05 am on 3 February, 2024",
     "session_10": [{"speaker": "Mira", "dia_id": "D10:1", "text": "The kiln is repaired."}],
     "session_2_date_time": "1:56 pm on 8 May, 2023",
     "session_2": [
       {"speaker": "Tom", "dia_id": "D2:1", "text": "Look!", "blip_caption": "a green boat", "img_url": ["x"]},
       {"speaker": "Mira", "dia_id": "D2:2", "text": "", "blip_caption": "a vase"}],
     "session_3_date_time": "9:00 am on 1 June, 2023"},
   "qa": [
     {"question": "What was repaired?", "answer": "the kiln", "category": 4, "evidence": ["D10:1"]},
     {"question": "Why?", "answer": 7, "category": 1, "evidence": ["D2:1", "D2:2; D10:1"]},
     {"question": "What did Tom break?", "adversarial_answer": "a cup", "category": 5, "evidence": ["D2:1"]},
     {"question": "Where?", "answer": "?", "category": 3, "evidence": []}]}
]`
	sampleLongMemEval = `[
{"question_id": "q1", "question_type": "single-session-user", "question": "Which tea?", "answer": "mint", "question_date": "2023/06/01 (Thu) 10:00",
 "haystack_session_ids": ["s1", "answer_1", "s1"], "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/21 (Sun) 12:00", "2023/05/22 (Mon) 00:00"],
 "haystack_sessions": [[{"role": "user", "content": "Hi"}], [{"role": "user", "content": "I like mint tea", "has_answer": true}, {"role": "assistant", "content": "Noted", "has_answer": false}], [{"role": "user", "content": "Hi"}]],
 "answer_session_ids": ["answer_1"]},
{"question_id": "q2_abs", "question": "Which cake?"}
]`
	sampleSWE = `{"id": "lib-1", "repo": "lib", "task": "Crash on empty list\nIt panics.", "files": ["a.py"], "steps": [{"thought": "Look.", "command": "grep -rn \"<x>\" .", "returncode": 1, "result": "none"}, {"thought": "Done", "command": "", "result": ""}]}
{"id": "lib-2", "task": "Wrong sum", "steps": []}

{"id": "lib-3", "task": "Slow start"}
`
	sampleSWEQueries = `[{"id": "lib-3", "title": "Slow start", "relevant": ["lib-1", "lib-2"]}]`
	sampleJSONL      = `{"question": {"collection": "two", "text": "Early?", "relevant": ["d"]}}
{"document": {"id": "d", "time": "2026-01-31T10:30:00+01:00", "title": "Mend the pump", "tags": ["pump"], "parts": [{"id": "d.1", "actor": "sh", "text": "try", "parameters": {"n": [1, 2]}, "result": "ok"}, {"text": "think", "parameters": null}]}}
{"document": {"collection": "two", "id": "d", "title": "Other"}}
{"question": {"id": "first", "type": "how", "text": "Which pump?", "relevant": ["d.1"], "exclude": ["e"]}}
{"document": {"id": "e", "title": "Paint"}}
`
)

func at(year, month, day, hour, minute int) time.Time {
	return time.Date(year, time.Month(month), day, hour, minute, 0, 0, time.UTC)
}

func parse(format, text, queries string) (*Dataset, error) {
	in, err := newInput("data", strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	var second *input
	if formats[format].needsQueries {
		if second, err = newInput("queries", strings.NewReader(queries)); err != nil {
			return nil, err
		}
	}
	return load(context.Background(), format, in, second)
}

func TestLoadersGiveTheNeutralForm(t *testing.T) {
	for _, tt := range []struct {
		format, text, queries string
		want                  Dataset
	}{
		{"locomo", sampleLoCoMo, "", Dataset{LeftOut: 2, Collections: []Collection{{
			Name: "conv-1",
			Documents: []Document{
				{ID: "session_2", Time: at(2023, 5, 8, 13, 56), Title: "Session 2", Parts: []Part{
					{ID: "D2:1", Actor: "Tom", Text: "Look!\na green boat"}, {ID: "D2:2", Actor: "Mira", Text: "a vase"},
				}},
				{ID: "session_10", Time: at(2024, 2, 3, 0, 5), Title: "Session 10", Parts: []Part{{ID: "D10:1", Actor: "Mira", Text: "The kiln is repaired."}}},
			},
			Questions: []Question{
				{ID: "conv-1 qa[0]", Type: "single-hop", Text: "What was repaired?", Relevant: []string{"D10:1"}},
				{ID: "conv-1 qa[1]", Type: "multi-hop", Text: "Why?", Relevant: []string{"D2:1", "D2:2; D10:1"}},
			},
		}}}},
		{"longmemeval", sampleLongMemEval, "", Dataset{LeftOut: 1, Collections: []Collection{{
			Name: "q1",
			Documents: []Document{
				{ID: "s1", Time: at(2023, 5, 20, 2, 21), Title: "Session 1", Parts: []Part{{ID: "s1_1", Actor: "user", Text: "Hi"}}},
				{ID: "answer_1", Time: at(2023, 5, 21, 12, 0), Title: "Session 2", Parts: []Part{
					{ID: "answer_1_1", Actor: "user", Text: "I like mint tea"}, {ID: "answer_1_2", Actor: "assistant", Text: "Noted"},
				}},
			},
			Questions: []Question{{ID: "q1", Type: "single-session-user", Text: "Which tea?", Relevant: []string{"answer_1", "answer_1_1"}}},
		}}}},
		{"swe", sampleSWE, sampleSWEQueries, Dataset{Collections: []Collection{{
			Documents: []Document{
				{ID: "lib-1", Title: "Crash on empty list\nIt panics.", Parts: []Part{
					{ID: "lib-1/1", Actor: "bash", Text: "Look.", Parameters: `"grep -rn \"<x>\" ."`, Result: "none"},
					{ID: "lib-1/2", Actor: "bash", Text: "Done"},
				}},
				{ID: "lib-2", Title: "Wrong sum"},
				{ID: "lib-3", Title: "Slow start"},
			},
			Questions: []Question{{ID: "lib-3", Text: "Slow start", Relevant: []string{"lib-1", "lib-2"}, Exclude: []string{"lib-3"}}},
		}}}},
		{"jsonl", sampleJSONL, "", Dataset{Collections: []Collection{
			{
				Name:      "two",
				Documents: []Document{{ID: "d", Title: "Other"}},
				Questions: []Question{{ID: "line 1", Text: "Early?", Relevant: []string{"d"}}},
			},
			{
				Documents: []Document{{ID: "d", Time: at(2026, 1, 31, 9, 30), Title: "Mend the pump", Tags: []string{"pump"}, Parts: []Part{
					{ID: "d.1", Actor: "sh", Text: "try", Parameters: `{"n": [1, 2]}`, Result: "ok"}, {Text: "think"},
				}}, {ID: "e", Title: "Paint"}},
				Questions: []Question{{ID: "first", Type: "how", Text: "Which pump?", Relevant: []string{"d.1"}, Exclude: []string{"e"}}},
			},
		}}},
	} {
		got, err := parse(tt.format, tt.text, tt.queries)
		if err != nil {
			t.Errorf("%s: %v", tt.format, err)
			continue
		}
		for i := range got.Collections {
			for j := range got.Collections[i].Documents {
				doc := &got.Collections[i].Documents[j]
				doc.Time = doc.Time.UTC()
			}
		}
		if tt.want.Format = tt.format; !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s: got\n%+v, want\n%+v", tt.format, *got, tt.want)
		}
	}
}

func TestErrorsNameFileLineAndField(t *testing.T) {
	longMemEval := func(from, to string) string { return strings.Replace(sampleLongMemEval, from, to, 1) }
	locomo := func(from, to string) string { return strings.Replace(sampleLoCoMo, from, to, 1) }
	swe := func(from, to string) string { return strings.Replace(sampleSWE, from, to, 1) }
	document := `{"document":{"id":"d","title":"T"}}` + "\n"
	for _, tt := range []struct{ format, text, queries, want string }{
		{"jsonl", "", "", "data: holds no question with evidence"},
		{"jsonl", document, "", "data: holds no question with evidence"},
		{"jsonl", document + "\n{", "", "data:3: ends within a JSON document"},
		{"jsonl", document + "{\n\"document\" x}", "", "data:3: is not JSON: invalid character 'x' after object key"},
		{"jsonl", "[" + document + ",{}", "", "data:2: must hold either a document or a question"},
		{"jsonl", "[" + document, "", "data:2: ends within a JSON document"},
		{"jsonl", "[" + document + ",\n{\n\"document\": tr}]", "", "data:4: is not JSON: invalid character '}' in literal true (expecting 'u')"},
		{"jsonl", "[" + document + "] []", "", "data:2: something follows the end of the array"},
		{"jsonl", document + "\"d\xff\"", "", "data:2: is not valid UTF-8"},
		{"jsonl", document + "7", "", "data:2: holds a JSON number, want an object"},
		{"jsonl", "null", "", "data:1: must hold either a document or a question"},
		{"jsonl", `{"document":{},"question":{}}`, "", "data:1: must hold either a document or a question"},
		{"jsonl", `{"document":{"id":"d","titel":"T"}}`, "", `data:1: cannot be read: unknown field "titel"`},
		{"jsonl", "{\"document\":{\"id\":\"d\",\n\"title\":[]}}", "", "data:2: document.title holds a JSON array, want a string"},
		{"jsonl", `{"document":{"title":"T"}}`, "", "data:1: document.id is missing or empty"},
		{"jsonl", document + document, "", `data:2: document.id is "d", which names another document or part already`},
		{"jsonl", `{"document":{"id":"d"}}`, "", "data:1: document.title is missing or empty; it becomes the description of the task"},
		{"jsonl", `{"document":{"id":"d","title":"T","time":"today"}}`, "", `data:1: document.time is "today", which is no RFC 3339 time such as 2026-01-31T09:30:00Z`},
		{"jsonl", `{"document":{"id":"d","title":"T","parts":[{"text":"x"},{"id":"p"}]}}`, "", "data:1: document.parts[1].text is empty and so is actor; a part needs one of them"},
		{"jsonl", `{"document":{"id":"d","title":"T","parts":[{"id":"d","text":"x"}]}}`, "", `data:1: document.parts[0].id is "d", which names another document or part already`},
		{"jsonl", document + `{"question":{"relevant":["d"]}}`, "", "data:2: question.text is missing or empty"},
		{"jsonl", document + `{"question":{"text":"?"}}`, "", "data:2: question.relevant is missing or empty; a question needs evidence"},
		{"jsonl", `{"question":{"text":"?","relevant":["d","e"]}}` + "\n" + document, "", `data:1: question.relevant[1] is "e", which names no document or part`},
		{"jsonl", document + `{"question":{"text":"?","relevant":["d"],"exclude":["f"]}}`, "", `data:2: question.exclude[0] is "f", which names no document or part`},
		{"jsonl", document + `{"question":{"text":"?","relevant":["d"],"exclude":["d"]}}`, "", `data:2: question.relevant[0] is "d", which is excluded as well`},
		{"jsonl", `{"document":{"id":"d","title":"T","parts":[{"id":"p","text":"x"}]}}` + `{"question":{"text":"?","relevant":["p"],"exclude":["d"]}}`, "", `data:1: question.relevant[0] is "p", which is excluded as well`},
		{"jsonl", document + `{"question":{"collection":"c","text":"?","relevant":["d"]}}`, "", `data:2: question.relevant[0] is "d", which names no document or part`},

		{"locomo", locomo(`"text": "Look!"`, `"text": 1`), "", "data:9: conversation.session_2.text holds a JSON number, want a string"},
		{"locomo", locomo(`"category": 4`, `"category": "4"`), "", "data:13: qa.category holds a JSON string, want a whole number"},
		{"locomo", locomo(`"category": 4`, `"category": 6`), "", "data:2: qa[0].category is 6; it must lie between 1 and 5"},
		{"locomo", locomo("What was repaired?", ""), "", "data:2: qa[0].question is missing or empty"},
		{"locomo", locomo("1:56 pm", "noon"), "", `data:2: conversation.session_2_date_time is "noon on 8 May, 2023", which is no time such as 1:56 pm on 8 May, 2023`},
		{"locomo", locomo("D2:2", "D2:1"), "", `data:2: conversation.session_2[1].dia_id is "D2:1", which names another document or part already`},
		{"locomo", locomo("D2:2", ""), "", "data:2: conversation.session_2[1].dia_id is missing or empty"},
		{"locomo", locomo(`"speaker": "Tom"`, `"speaker": ""`), "", "data:2: conversation.session_2[0].speaker is missing or empty"},
		{"locomo", `{"sample_id":"x"}`, "", "data:1: conversation.session_1 is missing; a conversation has sessions"},

		{"longmemeval", longMemEval(`"Which tea?"`, `""`), "", "data:2: question is missing or empty"},
		{"longmemeval", longMemEval(`"q1"`, `""`), "", "data:2: question_id is missing or empty"},
		{"longmemeval", longMemEval(`["s1", `, `[`), "", "data:2: haystack_session_ids has 2 ids for 3 sessions"},
		{"longmemeval", longMemEval(`"2023/05/21 (Sun) 12:00", `, ""), "", "data:2: haystack_dates has 2 dates for 3 sessions"},
		{"longmemeval", longMemEval("2023/05/21 (Sun) 12:00", "21 May"), "", `data:2: haystack_dates[1] is "21 May", which is no time such as 2023/05/20 (Sat) 02:21`},
		{"longmemeval", longMemEval(`"content": "Noted"`, `"content": null, "role": 5`), "", "data:4: haystack_sessions.role holds a JSON number, want a string"},
		{"longmemeval", longMemEval(`"role": "assistant"`, `"role": ""`), "", "data:2: haystack_sessions[1][1].role is missing or empty"},
		{"longmemeval", longMemEval(`"content": "Hi"`, `"content": "Ho"`), "", `data:2: haystack_session_ids[2] is "s1", which names another document or part already`},
		{"longmemeval", `{"question_id":"q","question":"?","answer_session_ids":["a"]}`, "", "data:1: haystack_sessions is missing or empty"},

		{"swe", swe(`"Wrong sum"`, `""`), sampleSWEQueries, "data:2: task is missing or empty"},
		{"swe", swe(`"lib-3"`, `"lib-2"`), sampleSWEQueries, `data:4: id is "lib-2", which names another document or part already`},
		{"swe", swe(`"steps": []`, `"steps": {}`), sampleSWEQueries, "data:2: steps holds a JSON object, want an array"},
		{"swe", sampleSWE, "[]", "queries: holds no question with evidence"},
		{"swe", sampleSWE, `[{"id":"lib-4"}]`, `queries:1: id is "lib-4", which is no run`},
		{"swe", sampleSWE, `[{"id":"lib-3"}]`, `queries:1: title is missing or empty`},
		{"swe", sampleSWE, `[{"id":"lib-3","title":"x","relevant":["lib-3"]}]`, `queries:1: relevant[0] is "lib-3", which is excluded as well`},
	} {
		_, err := parse(tt.format, tt.text, tt.queries)
		if _, ok := errors.AsType[*Error](err); !ok || err.Error() != tt.want {
			t.Errorf("%s %q %q:\n%v, want\n%v", tt.format, tt.text, tt.queries, err, tt.want)
		}
	}
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFilesAreHashedAsTheyAre(t *testing.T) {
	runs, queries := zipped(t, "\ufeff"+sampleSWE+strings.Repeat(" \n", 10_000)), []byte(sampleSWEQueries)
	d, err := Load(t.Context(), "swe", write(t, "runs.jsonl.gz", runs), write(t, "queries.json", queries))
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	want := []Source{{"runs.jsonl.gz", sum(runs), int64(len(runs))}, {"queries.json", sum(queries), int64(len(queries))}}
	if !reflect.DeepEqual(d.Sources, want) || len(d.Collections[0].Documents) != 3 {
		t.Errorf("sources are %+v, want %+v; %d documents", d.Sources, want, len(d.Collections[0].Documents))
	}
}

func TestLoadRefusesWhatIsNoDataset(t *testing.T) {
	whole := zipped(t, sampleJSONL)
	good := write(t, "good.jsonl", []byte(sampleJSONL))
	for _, tt := range []struct{ format, file, queries, want string }{
		{"jsonl", filepath.Join(t.TempDir(), "none"), "", "no such file"},
		{"jsonl", t.TempDir(), "", "is a directory"},
		{"jsonl", write(t, "cut.gz", whole[:len(whole)-9]), "", "ends within a JSON document"},
		{"jsonl", write(t, "head.gz", whole[:5]), "", "cannot be unzipped"},
		{"csv", good, "", `"csv" is no format`},
		{"jsonl", good, good, ErrQueries.Error()},
		{"swe", good, "", ErrQueries.Error()},
	} {
		if _, err := Load(t.Context(), tt.format, tt.file, tt.queries); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: %v, want %q in it", tt.format, tt.file, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Load(ctx, "jsonl", good, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a load that was given up: %v", err)
	}
}

func TestExampleOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/eval.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/eval.md has no example")
	}
	d, err := parse("jsonl", example, "")
	if err != nil {
		t.Fatal(err)
	}
	if c := d.Collections[0]; len(d.Collections) != 1 || len(c.Documents) != 2 || len(c.Documents[0].Parts) != 2 || len(c.Questions) != 2 || len(d.Tasks(Steps)) != 1 {
		t.Errorf("the example is %+v", d.Collections)
	}
}

// checkLoaded checks what must be true of whatever a loader returns: an error says
// where, and a search that finds all evidence first has the best scores.
func checkLoaded(t *testing.T, d *Dataset, err error) {
	if err != nil {
		if e, ok := errors.AsType[*Error](err); !ok || e.File == "" || e.Problem == "" || e.Line < 0 {
			t.Fatalf("%T: %v", err, err)
		}
		return
	}
	for _, level := range []Level{Episodes, Steps} {
		for _, task := range d.Tasks(level) {
			var found []Key
			for k := range task.relevant {
				found = append(found, k)
			}
			s := task.Score(found)
			if len(task.excluded) == 0 && task.Missing == 0 && len(found) <= 5 && (s.Recall5 != 1 || s.MRR != 1 || !near(s.NDCG10, 1)) {
				t.Fatalf("%q: %+v for the evidence itself", task.Question.ID, s)
			}
			if s.Recall5 > s.Recall10 || s.Recall10 > s.Recall20 || s.Recall20 > 1 || s.NDCG10 > 1+1e-9 || task.Want() < Depth {
				t.Fatalf("%q: %+v", task.Question.ID, s)
			}
		}
	}
}

func fuzzLoader(f *testing.F, format, text string) {
	f.Add([]byte(text))
	f.Add([]byte(strings.Replace(text, `"`, "", 1)))
	f.Add([]byte(strings.NewReplacer(`"D2:1"`, `null`, `"s1"`, `""`, `"d"`, `7`).Replace(text)))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parse(format, string(b), "")
		checkLoaded(t, d, err)
	})
}

func FuzzLoCoMo(f *testing.F)      { fuzzLoader(f, "locomo", sampleLoCoMo) }
func FuzzLongMemEval(f *testing.F) { fuzzLoader(f, "longmemeval", sampleLongMemEval) }
func FuzzJSONL(f *testing.F)       { fuzzLoader(f, "jsonl", sampleJSONL) }

func FuzzSWE(f *testing.F) {
	f.Add([]byte(sampleSWE), []byte(sampleSWEQueries))
	f.Add([]byte("["+strings.ReplaceAll(strings.TrimSpace(sampleSWE), "\n", ",")+"]"), []byte(`{"id":"lib-1","title":"x","relevant":["lib-2/1"]}`))
	f.Add([]byte(`{"id":1}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, runs, queries []byte) {
		d, err := parse("swe", string(runs), string(queries))
		checkLoaded(t, d, err)
	})
}
