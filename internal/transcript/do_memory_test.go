package transcript

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/episodic-memory/episodic"
)

// doMemoryRow is a row as package agentstore gives it. belong is JSON of what belongs to it.
func doMemoryRow(table string, columns map[string]any, belong string) string {
	text, err := json.Marshal(map[string]any{"table": table, "row": 7, "columns": columns, "of": json.RawMessage(belong)})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// readDoMemoryText returns what is read of a text, and what is told.
func readDoMemoryText(t *testing.T, text string) (runs []*Run, told string) {
	t.Helper()
	var lines []string
	for run, err := range Read(strings.NewReader(text), "memory.db", &Options{Modified: time.Unix(1_700_000_000, 0)}) {
		switch p, ok := err.(*Problem); {
		case ok:
			lines = append(lines, strings.TrimPrefix(p.Place+": "+p.Text, ": "))
		case err != nil:
			lines = append(lines, err.Error())
		default:
			runs = append(runs, run)
		}
	}
	return runs, strings.Join(lines, "\n")
}

const (
	idOne = "01900000-0000-4000-8000-000000000001"
	idTwo = "01900000-0000-4000-8000-000000000002"
)

// episodeColumns are those of an episode, of which some are changed; nil: there is none.
func episodeColumns(changes map[string]any) map[string]any {
	columns := map[string]any{
		"episode_id": idOne, "task_type": "testing", "task_description": "d", "context": `{"language":null,"framework":null,"complexity":"Moderate","domain":"general","tags":[]}`,
		"start_time": 1760000000, "steps": "[]", "outcome": "null", "reward": "null", "reflection": "null", "patterns": "[]", "heuristics": "[]",
		"checkpoints": "[]", "metadata": "{}", "domain": "general", "created_at": 1760000001,
	}
	for name, v := range changes {
		if columns[name] = v; v == nil {
			delete(columns, name)
		}
	}
	return columns
}

// TestDoMemoryEpisodes: a column that is odd is told and kept, and the rest of the episode is as
// it was.
func TestDoMemoryEpisodes(t *testing.T) {
	t.Parallel()
	type changes map[string]any
	for name, test := range map[string]struct {
		columns changes
		of      string
		want    func(e *episodic.Episode)
		told    string
	}{
		"as it should be": {want: func(*episodic.Episode) {}},
		"columns that are missing or NULL": {
			columns: changes{"context": nil, "steps": nil, "outcome": nil, "reward": nil, "reflection": nil, "patterns": nil, "heuristics": nil, "checkpoints": nil, "metadata": nil},
			want:    func(e *episodic.Episode) { e.Context.Complexity = "" },
		},
		"columns of another version": {
			columns: changes{"priority": 3, "mood": "good", "extra": `{"a":1}`},
			want: func(e *episodic.Episode) {
				e.Metadata = map[string]string{"priority": "3", "mood": "good", "extra": `{"a":1}`}
			},
		},
		"names that metadata has already": {
			columns: changes{"metadata": `{"summary":"mine","archived_at":"5","n":1,"deep":{"a":[1]}}`, "archived_at": 6},
			of:      `{"episode_summaries":[{"summary_text":"theirs","key_concepts":"[\"c\"]","key_steps":"[]"}]}`,
			want: func(e *episodic.Episode) {
				e.Metadata = map[string]string{"summary": "mine", "do_memory_summary": "theirs", "archived_at": "5", "do_memory_archived_at": "6", "n": "1", "deep": `{"a":[1]}`, "key_concepts": `["c"]`}
			},
		},
		"what is not JSON": {
			columns: changes{"steps": "[{", "outcome": "{", "context": "x"},
			want: func(e *episodic.Episode) {
				e.Context.Complexity = ""
				e.Metadata = map[string]string{"steps": "[{", "outcome": "{", "context": "x"}
			},
			told: "context: is not JSON; it is kept in the metadata\nsteps: is not JSON; it is kept in the metadata\noutcome: is not JSON; it is kept in the metadata",
		},
		"JSON of other kinds": {
			columns: changes{"steps": `{"a":1}`, "outcome": `{"Great":{"a":1}}`, "reward": `{"total":null,"base":1}`, "reflection": `[1]`, "patterns": `7`},
			want: func(e *episodic.Episode) {
				e.Metadata = map[string]string{"steps": `{"a":1}`, "outcome": `{"Great":{"a":1}}`, "a": "1", "reward": `{"total":null,"base":1}`, "reflection": `[1]`, "patterns": "7"}
			},
			told: "steps: is no array; it is kept in the metadata\noutcome: is no outcome that is known; it is kept in the metadata\nreward: has no total; it is kept in the metadata\nreflection: is no object; it is kept in the metadata\npatterns: is no array and no object; it is kept in the metadata",
		},
		"an id that is no UUID": {
			columns: changes{"episode_id": "seven"},
			want: func(e *episodic.Episode) {
				e.ID = episodic.ID{}
				e.Metadata = map[string]string{"episode_id": "seven"}
			},
			told: "episode_id: is no UUID; it is kept in the metadata",
		},
		"times": {
			columns: changes{"start_time": "soon", "end_time": 5, "outcome": `{"Success":{"verdict":"v","artifacts":[]}}`},
			want: func(e *episodic.Episode) {
				e.Start, e.End = time.Unix(1_700_000_000, 0).UTC(), time.Unix(1_700_000_000, 0).UTC()
				e.Outcome = episodic.Outcome{Kind: episodic.Success, Verdict: "v"}
				e.Metadata = map[string]string{"start_time": "soon", MetaTimeSource: "file", "end_time": "1970-01-01T00:00:05Z"}
			},
			told: "start_time: is no time; it is kept in the metadata\nend_time: lies before start_time; it is kept in the metadata",
		},
		"a time that cannot be stored": {
			columns: changes{"end_time": int64(1) << 60},
			want:    func(e *episodic.Episode) { e.Metadata = map[string]string{"end_time": "1152921504606846976"} },
			told:    "end_time: is no time; it is kept in the metadata",
		},
		"an outcome without an end": {
			columns: changes{"outcome": `{"Failure":{"reason":"r","error_details":null}}`, "steps": `[{"tool":"t","timestamp":"2025-10-10T00:00:00Z"}]`},
			want: func(e *episodic.Episode) {
				e.Outcome = episodic.Outcome{Kind: episodic.Failure, Reason: "r"}
				e.End = time.Date(2025, 10, 10, 0, 0, 0, 0, time.UTC)
				e.Steps = []episodic.Step{{Tool: "t", Time: e.End}}
			},
		},
		"steps": {
			columns: changes{"steps": `[7, {"step_number":1,"tool":"t","parameters":{"a":1},"result":{"Timeout":{}},"latency_ms":1.5,"tokens_used":3,"metadata":{"k":2},"mood":"good"},
				{"step_number":0,"action":"a","parameters_json":"{}","result":{"Odd":1},"latency_ms":-1,"tokens_used":"x","timestamp":"never"}, {"step_number":3,"parameters_json":"{","result":{"Error":{"message":"m"}}}]`},
			want: func(e *episodic.Episode) {
				e.Metadata = map[string]string{"steps[0]": "7"}
				e.Steps = []episodic.Step{
					{Tool: "t", Parameters: `{"a":1}`, Result: &episodic.Result{Kind: episodic.ResultTimeout}, Latency: 1500 * time.Microsecond, Tokens: 3, Metadata: map[string]string{"k": "2", "mood": "good"}},
					{Action: "a", Metadata: map[string]string{"step_number": "0", "result": `{"Odd":1}`, "latency_ms": "-1", "tokens_used": "x", "timestamp": "never"}},
					{Action: "no action", Parameters: `"{"`, Result: &episodic.Result{Kind: episodic.ResultError, Text: "m"}},
				}
			},
			told: "steps[0]: is no object; it is kept in the metadata\nsteps[2].timestamp: is no time; it is kept in the metadata of the step\nsteps[2].result: is no result that is known; it is kept in the metadata of the step\n" +
				"steps[2].latency_ms: is no duration; it is kept in the metadata of the step\nsteps[2].tokens_used: is no number of tokens; it is kept in the metadata of the step",
		},
		"a context that is odd": {
			columns: changes{"context": `{"domain":"a\u0000b","language":"go","complexity":"Epic","tags":["x","","x",7],"more":1}`, "domain": "other", "language": "rust"},
			of:      `{"episode_tags":[{"tag":"x"},{"tag":"y"}]}`,
			want: func(e *episodic.Episode) {
				e.Context = episodic.Context{Language: "go", Tags: []string{"x", "7", "y"}}
				e.Metadata = map[string]string{"domain": "a\x00b", "complexity": "Epic", "more": "1"}
			},
			told: "domain: is too long for a name, or has control characters; it is kept in the metadata",
		},
		"a description that is empty, or no text": {
			columns: changes{"task_description": map[string]string{"$bytes": base64.StdEncoding.EncodeToString([]byte("a\xffb"))}},
			want:    func(e *episodic.Episode) { e.Description = "a\ufffdb" },
			told:    "task_description: is not UTF-8; what is none was replaced",
		},
		"what belongs to it": {
			of: `{"recommendation_sessions":[{"payload":"{\"a\":1}"},{"payload":"{"}],"recommendation_feedback":[{"payload":""}],"episode_pattern_relationships":[{"pattern_id":"p"}]}`,
			want: func(e *episodic.Episode) {
				e.Metadata = map[string]string{"recommendation_sessions": `[{"a":1},"{"]`, "recommendation_feedback": `[""]`, "episode_pattern_relationships": `[{"pattern_id":"p"}]`}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.of == "" {
				test.of = "{}"
			}
			runs, told := readDoMemoryText(t, doMemoryRow("episodes", episodeColumns(test.columns), test.of))
			want := &episodic.Episode{
				TaskType: "testing", Description: "d", Context: episodic.Context{Domain: "general", Complexity: episodic.Moderate}, Start: time.Unix(1760000000, 0).UTC(), Metadata: map[string]string{},
			}
			want.ID, _ = episodic.ParseID(idOne)
			test.want(want)
			if len(runs) != 1 {
				t.Fatalf("%d runs; told %q", len(runs), told)
			}
			if got := runs[0].Episode; asJSON(got) != asJSON(want) {
				t.Errorf("got\n%s\nwant\n%s", asJSON(got), asJSON(want))
			}
			if test.told != "" {
				test.told = "episodes row 7: " + strings.ReplaceAll(test.told, "\n", "\nepisodes row 7: ")
			}
			if told != test.told {
				t.Errorf("told\n%s\nwant\n%s", told, test.told)
			}
			if runs[0].Place != "episodes row 7" {
				t.Errorf("the place is %s", runs[0].Place)
			}
		})
	}
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// TestDoMemoryItems: rows of other tables.
func TestDoMemoryItems(t *testing.T) {
	t.Parallel()
	vector := base64.StdEncoding.EncodeToString([]byte{0, 0, 128, 63, 0, 0, 0, 192})
	for name, test := range map[string]struct {
		row  string
		want string
		told string
	}{
		"a heuristic without evidence": {
			doMemoryRow("heuristics", map[string]any{"heuristic_id": idOne, "condition_text": "c", "action_text": "a", "confidence": 0.5, "created_at": 1760000000}, `{"episodes":[{"episode_id":"`+idTwo+`"},{"episode_id":"x"}]}`),
			`{"id":"` + idOne + `","condition":"c","action":"a","confidence":0.5,"evidence":{"episodes":["` + idTwo + `"]},"created":"2025-10-09T08:53:20Z"}`, "",
		},
		"a heuristic that is odd": {
			doMemoryRow("heuristics", map[string]any{"heuristic_id": "x", "confidence": 1.5, "evidence": `{"episode_ids":["` + idOne + `","z"],"success_rate":"no","sample_size":-3,"more":1}`}, `{}`),
			`{"condition":"no condition","action":"no action","confidence":1,"evidence":{"episodes":["` + idOne + `"]},"metadata":{"confidence":"1.5","evidence":"[\"` + idOne + `\",\"z\"]","evidence_success_rate":"no","heuristic_id":"x","more":"1"}}`,
			"heuristic_id: is no UUID; it is kept in the metadata\nconfidence: does not lie between 0 and 1; it is kept in the metadata\nevidence: names an item by \"z\", which is no UUID; it is kept in the metadata\nevidence_success_rate: does not lie between 0 and 1; it is kept in the metadata",
		},
		"a pattern of another version": {
			doMemoryRow("patterns", map[string]any{"pattern_id": idOne, "pattern_type": "ToolSequence", "pattern_data": `{"description":"d","heuristic":{"condition":"c","action":"a"},"more":1}`, "success_rate": 1, "context_domain": "x", "context_tags": `["t"]`, "occurrence_count": 2}, `{}`),
			`{"id":"` + idOne + `","description":"d","context":{"domain":"x","tags":["t"]},"success_rate":1,"occurrences":2,"decision_point":{"condition":"c","action":"a"},"metadata":{"heuristic":"{\"condition\":\"c\",\"action\":\"a\"}","more":"1","pattern_type":"ToolSequence"}}`, "",
		},
		"a pattern that is cut off": {
			doMemoryRow("patterns", map[string]any{"pattern_id": idOne, "pattern_type": `ToolSequence { tools: ["a`, "pattern_data": "{", "success_rate": 0}, `{}`),
			`{"id":"` + idOne + `","success_rate":0,"occurrences":0,"decision_point":{"condition":"no condition","action":"no action"},"metadata":{"pattern_data":"{","pattern_type":"ToolSequence { tools: [\"a"}}`,
			"pattern_data: is not JSON; it is kept in the metadata\npattern_type: is no pattern that is known; it is kept in the metadata",
		},
		"a pattern without what it is about": {
			doMemoryRow("patterns", map[string]any{"pattern_id": idOne, "pattern_type": `ErrorRecovery { error_type: "", recovery_steps: [] }`, "success_rate": 0}, `{}`),
			`{"id":"` + idOne + `","success_rate":0,"occurrences":0,"decision_point":{"condition":"no condition","action":"no action"},"metadata":{"pattern_type":"ErrorRecovery { error_type: \"\", recovery_steps: [] }"}}`,
			"pattern_type: is no pattern that is known; it is kept in the metadata",
		},
		"a skill": {
			doMemoryRow("procedural_memory", map[string]any{"procedural_id": idOne, "name": "n", "steps": `[{"action":"a","tool_hint":"t","expected_result":"r"},7]`, "effectiveness": `{"times_applied":2,"success_when_applied":9}`}, `{}`),
			`{"id":"` + idOne + `","condition":"n","action":"1. a (t) -\u003e r\n2. 7","confidence":1,"evidence":{"success_rate":1,"sample_size":2},"metadata":{"effectiveness":"{\"times_applied\":2,\"success_when_applied\":9}","kind":"procedural_memory","steps":"[{\"action\":\"a\",\"tool_hint\":\"t\",\"expected_result\":\"r\"},7]"}}`, "",
		},
		"a relation": {
			doMemoryRow("episode_relationships", map[string]any{"from_episode_id": idOne, "to_episode_id": idTwo, "relationship_type": "parent_child", "priority": 200, "weight": 0.5, "metadata": `{"weight":"heavy"}`}, `{}`),
			`{"from":"` + idOne + `","type":"parent_of","to":"` + idTwo + `","metadata":{"do_memory_weight":"0.5","priority":"200","weight":"heavy"}}`,
			"priority: is more than 10; it is kept in the metadata",
		},
		"a relation from nowhere": {doMemoryRow("episode_relationships", map[string]any{"to_episode_id": idTwo}, `{}`), "", "from_episode_id: is no UUID; the relation is left out"},
		"a vector": {
			doMemoryRow("embeddings", map[string]any{"item_id": idOne, "item_type": "pattern", "embedding_data": "[1,-2e0]", "model": "default", "dimension": 2}, `{}`),
			`{"kind":"pattern","item":"` + idOne + `","model":"do-memory:default:2","vector":[1,-2]}`, "",
		},
		"a vector of a model": {
			doMemoryRow("embeddings_other", map[string]any{"item_id": "emb_v1:openai:m:2#r1:episode:" + idOne, "item_type": "embedding", "embedding_data": "[1,-2]", "model": "default"}, `{}`),
			`{"kind":"episode","item":"` + idOne + `","model":"openai:m:2#r1","vector":[1,-2]}`, "",
		},
		"a vector that only the index has": {
			doMemoryRow("embeddings", map[string]any{"item_id": idOne, "item_type": "episode", "embedding_data": "[1,", "embedding_vector": map[string]string{"$bytes": vector}, "model": "m", "dimension": 2}, `{}`),
			`{"kind":"episode","item":"` + idOne + `","model":"m","vector":[1,-2]}`, "",
		},
		"a damaged vector": {
			doMemoryRow("embeddings", map[string]any{"item_id": idOne, "item_type": "episode", "embedding_data": `[1,"x"]`, "embedding_vector": map[string]string{"$bytes": "AAAA"}, "model": "m", "dimension": 2}, `{}`),
			"", `embedding_data: has at 1 no finite number: "x"; the embedding is left out`,
		},
		"a compressed vector": {
			doMemoryRow("embeddings", map[string]any{"item_id": idOne, "item_type": "episode", "embedding_data": pack(t, "zstd", []byte{0, 0, 128, 63, 0, 0, 0, 192}), "model": "m"}, `{}`),
			`{"kind":"episode","item":"` + idOne + `","model":"m","vector":[1,-2]}`, "",
		},
		"a vector of nothing": {doMemoryRow("embeddings", map[string]any{"item_id": "x", "item_type": "episode", "embedding_data": "[]"}, `{}`), "", "item_id: is no UUID; the embedding is left out"},
		"a vector of a summary": {
			doMemoryRow("episode_summaries", map[string]any{"episode_id": idOne, "summary_embedding": map[string]string{"$bytes": vector}}, `{}`),
			`{"kind":"episode","item":"` + idOne + `","model":"do-memory:summary:2","vector":[1,-2]}`, "",
		},
		"a row that cannot be read":    {`{"table":"patterns","row":7,"error":"malformed"}`, "", "cannot be read: malformed"},
		"a row that belongs to no one": {`{"table":"episode_tags","row":7,"orphan":true}`, "", "belongs to no episode that is there, and was left out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runs, told := readDoMemoryText(t, test.row)
			got := ""
			for _, run := range runs {
				for _, item := range []any{run.Pattern, run.Heuristic, run.Relation, run.Embedding} {
					if !reflect.ValueOf(item).IsNil() {
						got += asJSON(item)
					}
				}
			}
			if got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			var lines []string
			for line := range strings.Lines(told) {
				_, line, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " row 7: ")
				lines = append(lines, line)
			}
			if told := strings.Join(lines, "\n"); told != test.told {
				t.Errorf("told\n%s\nwant\n%s", told, test.told)
			}
		})
	}
}

// pack is a column as the crate compresses it.
func pack(t *testing.T, algorithm string, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch algorithm {
	case "zstd":
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(nil); err == nil {
			b.Write(w.EncodeAll(data, nil))
		}
	case "gzip":
		w := gzip.NewWriter(&b)
		if _, err = w.Write(data); err == nil {
			err = w.Close()
		}
	case "lz4":
		out := make([]byte, lz4.CompressBlockBound(len(data)))
		var n int
		n, err = lz4.CompressBlock(data, out, nil)
		b.Write(out[:n])
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("__compressed__:%s:%d\n%s", algorithm, len(data), base64.StdEncoding.EncodeToString(b.Bytes()))
}

func TestPacked(t *testing.T) {
	t.Parallel()
	data := strings.Repeat(`{"a":"é"}`, 100)
	for _, algorithm := range []string{"zstd", "gzip", "lz4"} {
		text := pack(t, algorithm, []byte(data))
		if got, err := unpacked(text); err != nil || string(got) != data {
			t.Errorf("%s: %.40q, %v", algorithm, got, err)
		}
		for _, bad := range []string{
			strings.Replace(text, ":900\n", ":899\n", 1), strings.Replace(text, ":900\n", ":901\n", 1), strings.Replace(text, ":900\n", ":99999999999\n", 1),
			strings.Replace(text, ":900\n", ":-1\n", 1), strings.Replace(text, "\n", "", 1), text[:len(text)-8], text + "!", strings.Replace(text, algorithm, "rar", 1),
		} {
			if got, err := unpacked(strings.Replace(bad, ":1000\n", ":1001\n", 1)); err == nil && len(data) == 900 {
				t.Errorf("%.60s gave %d bytes", bad, len(got))
			}
		}
	}
	if got, err := unpacked("plain"); err != nil || string(got) != "plain" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDoMemoryBackup: what `do-memory-cli backup create` writes, in either of its formats.
func TestDoMemoryBackup(t *testing.T) {
	t.Parallel()
	one := `{"episode_id":"` + idOne + `","task_type":"CodeGeneration","task_description":"d","context":{"domain":"x","complexity":"Simple","tags":[]},"start_time":"2025-10-09T08:55:00.123456Z","end_time":null,"steps":[],` +
		`"outcome":null,"reward":null,"reflection":null,"patterns":["` + idTwo + `"],"heuristics":[],"applied_patterns":[{"pattern_id":"` + idTwo + `","applied_at_step":2,"outcome":"NoEffect","notes":"n"},{"pattern_id":"x","outcome":"Helped"}],` +
		`"salient_features":{"key_insights":["i"]},"metadata":{"$bytes":"aGk="},"tags":["t"],"checkpoints":[]}`
	want := `{"id":"` + idOne + `","task_type":"code_generation","description":"d","context":{"domain":"x","complexity":"simple","tags":["t"]},"start":"2025-10-09T08:55:00.123456Z",` +
		`"applied_patterns":[{"pattern_id":"` + idTwo + `","step":2,"effect":"no_effect","note":"n"}],"metadata":{"$bytes":"aGk=","applied_patterns[1]":"{\"pattern_id\":\"x\",\"outcome\":\"Helped\"}","patterns":"[\"` + idTwo + `\"]","salient_features":"{\"key_insights\":[\"i\"]}"}}`
	for name, text := range map[string]string{
		"json":  `{"backup_id":"b","timestamp":"t","episodes":[` + one + `],"patterns":[]}`,
		"jsonl": one + "\n",
	} {
		runs, told := readDoMemoryText(t, text)
		var got string
		for _, run := range runs {
			if run.Episode != nil {
				got += asJSON(run.Episode)
			}
		}
		if got != want || told != "applied_patterns[1]: has no pattern or no outcome that is known; it is kept in the metadata" {
			t.Errorf("%s: got\n%s\nwant\n%s\ntold %s", name, got, want, told)
		}
	}
}

func TestRedbIsTold(t *testing.T) {
	t.Parallel()
	if _, told := readDoMemoryText(t, "redb\x1a\n\xa9\r\nrest"); !strings.Contains(told, "is a database of redb") {
		t.Errorf("told %s", told)
	}
}
