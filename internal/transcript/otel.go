package transcript

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

// Traces of OpenTelemetry in OTLP's JSON, as the collector's file exporter writes it, and spans
// as the SDK for Python prints them: spans of the semantic conventions for GenAI, of those before
// them, of OpenLLMetry and OpenInference.
// https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/

var otel = &format{name: "otel", title: "OpenTelemetry traces", fits: fitsOTel, all: readOTel}

func fitsOTel(h *head) bool {
	return h.some(func(n node) bool { return n.has("resourceSpans") || n.has("resource_spans") || isPrintedSpan(n) })
}

// isPrintedSpan reports whether it is a span as the console exporter prints it.
func isPrintedSpan(n node) bool { return n.get("context").has("trace_id") && n.has("attributes") }

func readOTel(r *records) error {
	ts := newTraces(r)
	spans, ours := 0, 0
	for line, n := range r.all() {
		if isPrintedSpan(n) {
			if spans++; ts.otel(n, line, attributes(n.get("resource")).text("service.name")) {
				ours++
			}
		}
		for _, rs := range firstOf(n, "resourceSpans", "resource_spans").items() {
			domain := attributes(rs.get("resource")).text("service.name")
			for _, scope := range firstOf(rs, "scopeSpans", "scope_spans", "instrumentationLibrarySpans").items() {
				for _, s := range scope.items("spans") {
					if spans++; ts.otel(s, line, domain) {
						ours++
					}
				}
			}
		}
		for _, rl := range firstOf(n, "resourceLogs", "resource_logs").items() {
			for _, scope := range firstOf(rl, "scopeLogs", "scope_logs").items() {
				for _, l := range scope.items("logRecords") {
					ts.otelLog(l, line)
				}
			}
		}
	}
	if ours == 0 && spans > 0 {
		b := r.begin(1)
		b.run.Episode = nil
		b.left("span that is none of an agent", spans)
		b.emit(b.run)
	}
	ts.finish()
	return nil
}

// attrs are the attributes of a span, by their names.
type attrs map[string]node

// attributes reads attributes: a list of keys and typed values, or an object.
func attributes(n node) attrs {
	a := make(attrs)
	list := n.get("attributes")
	for _, f := range list.fields() {
		a[f.key] = f.value
	}
	for _, kv := range list.items() {
		a[kv.str("key")] = kv.get("value")
	}
	return a
}

// text is an attribute as text: the first of some names that is there.
func (a attrs) text(names ...string) string {
	for _, name := range names {
		if n := typed(a[name]); n.there() {
			if text := resultOf(n); text != "" {
				return text
			}
		}
	}
	return ""
}

// count is an attribute as a count.
func (a attrs) count(names ...string) int64 {
	for _, name := range names {
		if n := typed(a[name]).integer(); n > 0 {
			return n
		}
	}
	return 0
}

// value is an attribute whose value is structured, or JSON in a string.
func (a attrs) value(name string) node {
	n := typed(a[name])
	if text := strings.TrimSpace(n.str()); text != "" && (text[0] == '[' || text[0] == '{') {
		if of, err := parse(text); err == nil {
			return of
		}
	}
	return n
}

// typed is a value without OTLP's wrapper of its type: {"stringValue": "x"}.
func typed(n node) node {
	fields := n.fields()
	if len(fields) != 1 {
		return n
	}
	switch fields[0].key {
	case "stringValue", "intValue", "doubleValue", "boolValue", "bytesValue", "string_value", "int_value", "double_value", "bool_value":
		return fields[0].value
	case "arrayValue", "kvlistValue", "array_value", "kvlist_value":
		of, _ := parse(string(appendTyped(nil, n, 0))) // it is JSON
		return of
	}
	return n
}

// appendTyped appends a typed value as JSON.
func appendTyped(b []byte, n node, depth int) []byte {
	fields := n.fields()
	if len(fields) != 1 || depth > 64 {
		return append(b, "null"...)
	}
	of := fields[0].value
	switch strings.ReplaceAll(fields[0].key, "_v", "V") {
	case "arrayValue":
		b = append(b, '[')
		for i, v := range of.items("values") {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTyped(b, v, depth+1)
		}
		return append(b, ']')
	case "kvlistValue":
		b = append(b, '{')
		for i, kv := range of.items("values") {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendQuoted(b, kv.str("key")), ':')
			b = appendTyped(b, kv.get("value"), depth+1)
		}
		return append(b, '}')
	case "intValue", "doubleValue": // numbers are strings in OTLP
		if f, ok := of.num(); ok && of.isString() {
			return strconv.AppendFloat(b, f, 'f', -1, 64)
		}
	}
	if of.v == nil {
		return append(b, "null"...)
	}
	return appendJSON(b, of.v, false)
}

// otelID is an id of a trace or a span in hexadecimal. Some writers use base64.
func otelID(id string) string {
	if raw, err := base64.StdEncoding.DecodeString(id); err == nil && (len(raw) == 16 && len(id) == 24 || len(raw) == 8 && len(id) == 12) {
		return hex.EncodeToString(raw)
	}
	return strings.TrimPrefix(strings.ToLower(id), "0x")
}

// otel adds a span, and reports whether it is one of an agent.
func (ts *traces) otel(n node, line int, domain string) (ours bool) {
	a := attributes(n)
	t := ts.of(otelID(cmp.Or(n.str("traceId"), n.str("trace_id"), n.str("context", "trace_id"))), line)
	if t == nil {
		return true
	}
	s := t.fresh(otelID(cmp.Or(n.str("spanId"), n.str("span_id"), n.str("context", "span_id"))))
	s.parent = otelID(cmp.Or(n.str("parentSpanId"), n.str("parent_span_id"), n.str("parent_id")))
	s.start = firstTime(n, "startTimeUnixNano", "start_time_unix_nano", "start_time")
	s.end = firstTime(n, "endTimeUnixNano", "end_time_unix_nano", "end_time")
	s.domain = domain
	size := 256
	if s.kind = a.kind(); s.kind != spanOther {
		sum := n.hash()
		t.hash = sha256.Sum256(append(t.hash[:], sum[:]...))
		size += ts.otelSpan(t, s, n, a)
	}
	ts.grow(t, size)
	return s.kind != spanOther
}

// kind is what a span is of. Those that are none of an agent's have no such attribute.
func (a attrs) kind() spanKind {
	switch a.text("gen_ai.operation.name") {
	case "invoke_agent", "invoke_workflow":
		return spanAgent
	case "execute_tool":
		return spanTool
	case "chat", "text_completion", "generate_content", "completion":
		return spanChat
	case "":
	default:
		return spanInner // embeddings, create_agent
	}
	switch strings.ToLower(a.text("openinference.span.kind", "traceloop.span.kind")) {
	case "agent", "workflow":
		return spanAgent
	case "tool", "retriever":
		return spanTool
	case "llm":
		return spanChat
	case "":
	default:
		return spanInner
	}
	for name := range a {
		if name == "gen_ai.tool.name" {
			return spanTool
		}
	}
	if a.text("gen_ai.request.model", "gen_ai.response.model", "llm.request.type") != "" {
		return spanChat
	}
	for name := range a {
		if strings.HasPrefix(name, "gen_ai.") {
			return spanInner
		}
	}
	return spanOther
}

// otelSpan adds what a span of an agent tells.
func (ts *traces) otelSpan(t *trace, s *span, n node, a attrs) (size int) {
	code := cmp.Or(n.plain("status", "code"), n.str("status", "status_code"))
	s.failed = code == "2" || code == "STATUS_CODE_ERROR" || code == "ERROR" || a.text("error.type") != ""
	s.problem = cmp.Or(n.str("status", "message"), n.str("status", "description"))
	for _, e := range n.items("events") {
		of := attributes(e)
		if e.str("name") == "exception" {
			s.problem = cmp.Or(of.text("exception.message"), s.problem)
			continue
		}
		size += t.otelEvent(s, e.str("name"), of, node{})
	}
	s.problem = cmp.Or(s.problem, a.text("error.type"))
	switch s.kind {
	case spanTool:
		s.name = a.text("gen_ai.tool.name", "tool.name", "traceloop.entity.name")
		s.call = a.text("gen_ai.tool.call.id", "tool_call.id", "tool.id")
		s.arguments = arguments(a.text("gen_ai.tool.call.arguments", "tool.parameters", "input.value", "traceloop.entity.input"))
		if text := a.text("gen_ai.tool.call.result", "output.value", "traceloop.entity.output"); text != "" {
			s.result = &text
			size += len(text)
		}
		s.name = cmp.Or(s.name, strings.TrimPrefix(n.str("name"), "execute_tool "))
		size += len(s.arguments)
	case spanAgent:
		s.name = a.text("gen_ai.agent.name", "agent.name", "traceloop.entity.name")
		s.name = cmp.Or(s.name, strings.TrimPrefix(n.str("name"), "invoke_agent "))
	}
	if s.kind == spanAgent || s.kind == spanChat {
		size += t.otelMessages(s, a)
		if s.kind == spanAgent && len(s.asked) == 0 {
			s.input = plainOf(a.anyValue("input.value", "traceloop.entity.input"))
		}
		if s.kind == spanAgent && len(s.answered) == 0 {
			s.final = plainOf(a.anyValue("output.value", "traceloop.entity.output"))
		}
		size += len(s.input) + len(s.final)
	}
	s.used, s.requested = a.text("gen_ai.response.model", "llm.model_name"), a.text("gen_ai.request.model")
	s.conversation = a.text("gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id")
	s.tokens = [2]int64{
		a.count("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
		a.count("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
	}
	s.cost, _ = typed(a["gen_ai.usage.cost"]).num()
	if s.cost == 0 {
		s.cost, _ = typed(a["llm.cost.total"]).num()
	}
	if field := ts.in.opts.OutcomeField; field != "" {
		if of := typed(a[field]); of.there() {
			s.verdict = of.json()
		}
	}
	return size
}

// anyValue is the value of the first of some attributes that is there, text as {"text": ...}.
func (a attrs) anyValue(names ...string) node {
	for _, name := range names {
		of := a.value(name)
		if of.isString() {
			of, _ = parse(`{"text":` + quoted(of.str()) + `}`) // it is JSON
		}
		if of.there() {
			return of
		}
	}
	return node{}
}
