package index

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// realTexts returns what coding agents were asked for, thought, ran and read, about
// max bytes of it. The data is no part of the repository.
func realTexts(tb testing.TB, max int) []string {
	folder := cmp.Or(os.Getenv("EPISODIC_DATA"), "../../../shared/data")
	f, err := os.Open(filepath.Join(folder, "swe-runs.jsonl.gz"))
	if err != nil {
		tb.Skipf("real coding runs are measured only where EPISODIC_DATA has them: %v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var texts []string
	for d := json.NewDecoder(bufio.NewReader(z)); max > 0 && d.More(); {
		var run struct {
			Task  string
			Steps []struct{ Thought, Command, Result string }
		}
		if err := d.Decode(&run); err != nil {
			tb.Fatal(err)
		}
		texts = append(texts, run.Task)
		for _, s := range run.Steps {
			texts = append(texts, s.Thought, s.Command, s.Result)
			max -= len(s.Thought) + len(s.Command) + len(s.Result)
		}
	}
	return texts
}

// inventedCode returns n bytes that look like code with comments.
func inventedCode(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 2000)
	for i := range words {
		w := make([]byte, 2+r.IntN(8))
		for j := range w {
			w[j] = byte('a' + r.IntN(26))
		}
		words[i] = string(w)
	}
	word := func() string { return words[int(float64(len(words))*r.Float64()*r.Float64())] }
	title := func(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "// %s %s the %s of a %s.\nfunc (%s *%s) %s%s(%s_%s int) error {\n\treturn %s.%s(%s, %d)\n}\n",
			word(), word(), word(), word(), word()[:1], title(word()), word(), title(word()), word(), word(), word(), title(word()), word(), r.IntN(1000))
	}
	return b.String()
}

func BenchmarkAppendTokens(b *testing.B) {
	prose := strings.Repeat("The proxy strips the headers of gzipped answers, so the client waits for bytes that never come. ", 1000)
	chinese := strings.Repeat("数据库连接失败，请检查网络设置后重试。", 1000)
	russian := strings.Repeat("Соединение с базой данных прервано, проверьте настройки сети. ", 1000)
	for _, c := range []struct {
		name  string
		texts func() []string
	}{
		{"Prose", func() []string { return []string{prose} }},
		{"Code", func() []string { return []string{inventedCode(100_000)} }},
		{"Runs", func() []string { return realTexts(b, 4<<20) }},
		{"Chinese", func() []string { return []string{chinese} }},
		{"Russian", func() []string { return []string{russian} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			texts := c.texts()
			bytes := 0
			for _, t := range texts {
				bytes += len(t)
			}
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				for _, t := range texts {
					dst = AppendTokens(dst[:0], t)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	var units [][]Document
	bytes := 0
	texts := realTexts(b, 4<<20)
	for n, text := range texts {
		if n%30 == 0 {
			units = append(units, nil)
		}
		bytes += len(text)
		last := len(units) - 1
		units[last] = append(units[last], Document{Number: n, Texts: [...]string{1: text, 3: ""}})
	}
	b.SetBytes(int64(bytes / len(units)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		Encode(units[i%len(units)])
	}
}
