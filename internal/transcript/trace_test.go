package transcript

import (
	"fmt"
	"strings"
	"testing"
)

// otlp is a file of spans, each {trace, id, parent, seconds from, to, attributes as "key=value;..."}.
func otlp(spans ...[6]string) string {
	var b strings.Builder
	for _, s := range spans {
		fmt.Fprintf(&b, `{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[{"traceId":%q,"spanId":%q,"parentSpanId":%q,"name":"n","startTimeUnixNano":"%s000000000","endTimeUnixNano":"%s000000000","attributes":[`,
			s[0], s[1], s[2], "17750000"+s[3], "17750000"+s[4])
		for i, kv := range strings.Split(s[5], ";") {
			key, value, _ := strings.Cut(kv, "=")
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, `{"key":%s,"value":{"stringValue":%s}}`, quoted(key), quoted(value))
		}
		b.WriteString("]}]}]}]}\n")
	}
	return b.String()
}

func TestTraces(t *testing.T) {
	t.Parallel()
	const (
		chat  = "gen_ai.operation.name=chat"
		agent = "gen_ai.operation.name=invoke_agent;gen_ai.agent.name="
		tool  = "gen_ai.operation.name=execute_tool;gen_ai.tool.name="
		user  = `{"role":"user","parts":[{"type":"text","content":"%s"}]}`
		said  = `{"role":"assistant","parts":[{"type":"text","content":"%s"}]}`
	)
	u, a := func(s string) string { return fmt.Sprintf(user, s) }, func(s string) string { return fmt.Sprintf(said, s) }
	for _, test := range []struct{ name, in, want string }{
		{"prompts that are equal", otlp(
			[6]string{"t", "1", "", "00", "01", chat + ";gen_ai.input.messages=[" + u("go on") + "];gen_ai.output.messages=[" + a("one") + "]"},
			[6]string{"t", "2", "", "02", "03", chat + ";gen_ai.input.messages=[" + u("go on") + "," + a("one") + "," + u("more") + "];gen_ai.output.messages=[" + a("two") + "]"},
			[6]string{"t", "3", "", "04", "05", chat + ";gen_ai.input.messages=[" + u("go on") + "," + a("one") + "," + u("more") + "," + a("two") + "," + u("more") + "];gen_ai.output.messages=[" + a("two") + "]"}),
			`[t] "go on" | "one" | after "more" "two" | after "more" => "two"`},
		{"an agent within an agent, without content", otlp(
			[6]string{"t", "4", "3", "04", "05", tool + "inner"},
			[6]string{"t", "2", "1", "01", "03", tool + "outer;error.type=Broken"},
			[6]string{"t", "5", "3", "03", "04", chat},
			[6]string{"t", "3", "1", "03", "06", agent + "sub"},
			[6]string{"t", "1", "", "00", "09", agent + "main"}),
			`[t/1] "a run without a recorded task" | outer() error "Broken" 2s | sub: inner() 1s => "" -1 chat of which the content was not recorded`},
		{"two agents, and a span sent twice", otlp(
			[6]string{"t", "1", "9", "00", "01", agent + "a;gen_ai.input.messages=[" + u("q") + "];gen_ai.output.messages=[" + a("x") + "]"},
			[6]string{"t", "1", "9", "00", "01", agent + "a;gen_ai.input.messages=[" + u("q") + "];gen_ai.output.messages=[" + a("x") + "]"},
			[6]string{"t", "2", "9", "02", "03", agent + "b;gen_ai.input.messages=[" + u("q") + "];gen_ai.output.messages=[" + a("y") + "]"}),
			`[t/1] "q" => "x"
[t/2] "q" => "y"`},
		{"traces of one conversation", otlp(
			[6]string{"t1", "1", "", "00", "01", chat + ";gen_ai.conversation.id=c;gen_ai.input.messages=[" + u("q") + "];gen_ai.output.messages=[" + a("x") + "]"},
			[6]string{"t2", "1", "", "02", "03", chat + ";gen_ai.conversation.id=c;gen_ai.input.messages=[" + u("q") + "," + a("x") + "," + u("r") + "];gen_ai.output.messages=[" + a("y") + "]"}),
			`[conversation/c] "q" | "x" | after "r" => "y"`},
		{"OpenLLMetry", otlp([6]string{"t", "1", "", "00", "01", "gen_ai.request.model=m;gen_ai.prompt.0.role=user;gen_ai.prompt.0.content=q;gen_ai.completion.0.role=assistant;gen_ai.completion.0.tool_calls.0.id=1;gen_ai.completion.0.tool_calls.0.name=f;gen_ai.completion.0.tool_calls.0.arguments={\"a\":1}"},
			[6]string{"t", "2", "", "02", "03", "gen_ai.request.model=m;gen_ai.prompt.0.role=user;gen_ai.prompt.0.content=q;gen_ai.prompt.1.role=assistant;gen_ai.prompt.1.tool_calls.0.id=1;gen_ai.prompt.1.tool_calls.0.name=f;gen_ai.prompt.1.tool_calls.0.arguments={\"a\": 1};gen_ai.prompt.2.role=tool;gen_ai.prompt.2.tool_call_id=1;gen_ai.prompt.2.content=r;gen_ai.completion.0.content=a"}),
			`[t] "q" | f({"a":1}) output "r" 1s => "a"`},
		{"OpenInference", otlp([6]string{"t", "1", "", "00", "09", "openinference.span.kind=AGENT;input.value=q;output.value=a"},
			[6]string{"t", "2", "1", "01", "02", "openinference.span.kind=LLM;llm.input_messages.0.message.role=user;llm.input_messages.0.message.content=q;llm.output_messages.0.message.role=assistant;llm.output_messages.0.message.tool_calls.0.tool_call.function.name=f;llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments={}"},
			[6]string{"t", "3", "1", "03", "05", "openinference.span.kind=TOOL;tool.name=f;input.value={};output.value=r"}),
			`[t/1] "q" | f({}) output "r" 2s => "a"`},
		{"none of an agent", otlp([6]string{"t", "1", "", "00", "09", "http.method=GET"}), `[] -1 span that is none of an agent`},
		{"events", `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"t","spanId":"1","startTimeUnixNano":1775000000000000000,"endTimeUnixNano":"1775000001000000000","attributes":[{"key":"gen_ai.system","value":{"stringValue":"x"}},{"key":"gen_ai.request.model","value":{"stringValue":"m"}}],
"events":[{"name":"gen_ai.user.message","attributes":[{"key":"content","value":{"stringValue":"q"}}]},{"name":"gen_ai.choice","attributes":[{"key":"message","value":{"stringValue":"{\"role\":\"assistant\",\"content\":\"a\"}"}}]}]}]}]}]}`,
			`[t] "q" => "a"`},
		{"nested runs of LangSmith", `{"id":"1","trace_id":"1","run_type":"chain","name":"n","start_time":"2026-01-01T00:00:00","end_time":"2026-01-01T00:00:09","inputs":{"messages":[{"role":"user","content":"before"},{"role":"assistant","content":"b"},{"role":"user","content":"q"}]},"outputs":{"messages":[{"type":"human","content":"q"},{"type":"ai","content":"a"}]},"child_runs":[
{"id":"2","run_type":"llm","start_time":"2026-01-01T00:00:01","end_time":"2026-01-01T00:00:02","inputs":{"messages":[[{"lc":1,"type":"constructor","id":["x","HumanMessage"],"kwargs":{"content":"before"}},{"lc":1,"type":"constructor","id":["x","AIMessage"],"kwargs":{"content":"b"}},{"lc":1,"type":"constructor","id":["x","HumanMessage"],"kwargs":{"content":"q"}}]]},"outputs":{"generations":[[{"text":"see","message":{"lc":1,"type":"constructor","id":["x","AIMessage"],"kwargs":{"content":"see","tool_calls":[{"id":"k","name":"f","args":{"a":1}}]}}}]]}},
{"id":"3","run_type":"tool","name":"f","start_time":"2026-01-01T00:00:03","end_time":"2026-01-01T00:00:05","inputs":{"input":"{'a': 1}"},"outputs":{"output":{"type":"tool","content":"r","tool_call_id":"k","status":"success"}}}]}`,
			`[1] "q" | "see" f({"a":1}) output "r" 2s => "a" -2 earlier message of the thread`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := retell(test.in, "traces.json", nil); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestTracesTooFarApart: traces are given before the file ends if all of them take too much,
// and what comes of them later is told, and not another version of them.
func TestTracesTooFarApart(t *testing.T) {
	t.Parallel()
	var got []string
	r := &records{opts: &Options{}, format: otel}
	r.emit = func(run *Run) { got = append(got, retold(run)) }
	r.tell = func(p *Problem) { got = append(got, "! "+p.Error()) }
	ts := newTraces(r)
	ts.most = 700
	const tool = "gen_ai.operation.name=execute_tool;gen_ai.tool.name=f"
	for i, line := range strings.Split(strings.TrimSpace(otlp(
		[6]string{"a", "1", "", "00", "01", tool},
		[6]string{"http", "1", "", "00", "01", "http.method=GET"},
		[6]string{"b", "1", "", "00", "01", tool},
		[6]string{"c", "1", "", "00", "01", tool},
		[6]string{"http", "2", "", "00", "01", "http.method=GET"},
		[6]string{"a", "2", "", "02", "03", tool},
	)), "\n") {
		n, err := parse(line)
		if err != nil {
			t.Fatal(err)
		}
		span := n.items("resourceSpans")[0].items("scopeSpans")[0].items("spans")[0]
		ts.otel(span, i+1, "")
	}
	ts.finish()
	const run = `] "a run without a recorded task" | f() 1s => ""`
	want := []string{"[a" + run, "[b" + run, "[c" + run, "! trace a: has 1 spans too far from its others, and they were left out; sort the file by trace"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
