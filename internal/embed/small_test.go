package embed

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// numbers is a tensor to be written.
type numbers struct {
	kind  string
	shape []int
	data  []float64
}

// safetensors is a file with the tensors.
func safetensors(ts map[string]numbers) []byte {
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	for name, t := range ts {
		from := len(data)
		for _, f := range t.data {
			switch t.kind {
			case "F32":
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(f)))
			case "BF16":
				data = binary.LittleEndian.AppendUint16(data, uint16(math.Float32bits(float32(f))>>16))
			case "F16": // only whole numbers from 1 to 2 and 0 come up
				data = binary.LittleEndian.AppendUint16(data, map[float64]uint16{0: 0, 1: 0x3c00, 2: 0x4000, -1: 0xbc00}[f])
			case "I8":
				data = append(data, byte(int8(f)))
			case "I64":
				data = binary.LittleEndian.AppendUint64(data, uint64(int64(f)))
			}
		}
		header[name] = map[string]any{"dtype": t.kind, "shape": t.shape, "data_offsets": []int{from, len(data)}}
	}
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(h)))
	return append(append(file, h...), data...)
}

const (
	wordPieceJSON = `{"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
		"pre_tokenizer":{"type":"BertPreTokenizer"},
		"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
			"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"cat":3,"##s":4,"dog":5}}}`
	bytePairsJSON = `{"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"_"},{"type":"Replace","pattern":{"String":" "},"content":"_"}]},
		"model":{"type":"BPE","unk_token":"?","fuse_unk":true,"vocab":{"?":0,"_":1,"a":2,"b":3,"ab":4,"_ab":5,"ba":6},
			"merges":["a b",["_","ab"],"b a"]}}`
	unigramJSON = `{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"_","prepend_scheme":"always","split":true}]},
		"model":{"type":"Unigram","unk_id":0,"vocab":[["?",0],["_",-1],["a",-2],["b",-2.5],["ab",-4.5],["_ab",-6],["_a",-2.5]]}}`
)

func TestTokenizers(t *testing.T) {
	for _, test := range []struct {
		file, text string
		want       []uint32
	}{
		{wordPieceJSON, "Cats, dog", []uint32{3, 4, 0, 5}},
		{wordPieceJSON, "catsx", []uint32{0}},
		{wordPieceJSON, "", nil},
		{bytePairsJSON, "", nil},
		{bytePairsJSON, "ab", []uint32{5}},
		{bytePairsJSON, "aba b", []uint32{5, 2, 1, 3}}, // a b comes before b a
		{bytePairsJSON, "bba", []uint32{1, 3, 6}},
		{bytePairsJSON, "xyza", []uint32{1, 0, 2}},
		{bytePairsJSON, "\xff", []uint32{1, 0}},
		{unigramJSON, "", nil},
		{unigramJSON, " ab \n b", []uint32{6, 3, 1, 3}}, // -5 is more than -5.5 and -6
		{unigramJSON, "axyb", []uint32{6, 0, 3}},
		{unigramJSON, "a_b", []uint32{6, 1, 3}},
	} {
		tok, _, _, err := parseTokenizer([]byte(test.file))
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.appendTokens(nil, test.text); !slices.Equal(got, test.want) {
			t.Errorf("%T: %q has the tokens %v, want %v", tok, test.text, got, test.want)
		}
	}
}

func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestStaticFolders(t *testing.T) {
	embeddings := []float64{1, 1, 2, 0, 0, 2, 1, -1}
	for _, test := range []struct {
		name    string
		tensors map[string]numbers
		want    []float32 // of "cats dog, cat", whose tokens are 3 4 5 0 3
	}{
		{"rows by token, WordLlama", map[string]numbers{"embedding.weight": {"F16", []int{6, 2}, []float64{1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 2, 2}}}, []float32{5, 4}},
		{"unknown words left out, Model2Vec", map[string]numbers{"embeddings": {"F32", []int{6, 2}, []float64{1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 2, 2}}}, []float32{4, 3}},
		{"mapping and weights", map[string]numbers{
			"embeddings": {"I8", []int{4, 2}, embeddings},
			"mapping":    {"I64", []int{6}, []float64{0, 0, 0, 1, 2, 3}},
			"weights":    {"F32", []int{6}, []float64{9, 0, 0, .5, 2, 1}},
		}, []float32{3, 3}},
		{"BF16", map[string]numbers{"embeddings": {"BF16", []int{6, 2}, []float64{1, 1, 0, 0, 0, 0, 1, 0, 0, 1, -2, 2}}}, []float32{0, 3}},
	} {
		m, err := OpenFolder(folder(t, map[string][]byte{"model.safetensors": safetensors(test.tensors), "tokenizer.json": []byte(wordPieceJSON)}))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got, err := m.Embed(t.Context(), []string{"cats dog, cat", ""})
		normalize(test.want)
		if err != nil || !near(got, [][]float32{test.want, {0, 0}}, 1e-6) || m.Dim() != 2 || !strings.HasPrefix(m.Name(), "static-") {
			t.Errorf("%s: %s %v, %v, want %v", test.name, m.Name(), got, err, test.want)
		}
	}
}

func TestFolderNamesChangeWithTheFiles(t *testing.T) {
	name := func(f float64) string {
		m, err := OpenFolder(folder(t, map[string][]byte{
			"only.safetensors":           safetensors(map[string]numbers{"embedding.weight": {"F32", []int{6, 1}, []float64{f, 0, 0, 0, 0, 0}}}),
			"my_tokenizer_config.json":   []byte(wordPieceJSON),
			"tokenizer_config.json":      []byte("{}"),
			"special_tokens_map.json":    []byte("{}"),
			"some other file.with words": []byte("x"),
		}))
		if err != nil {
			t.Fatal(err)
		}
		return m.Name()
	}
	if a, again, b := name(1), name(1), name(2); a != again || a == b {
		t.Errorf("names %s, %s and %s", a, again, b)
	}
}

func TestFoldersThatCannotBeOpened(t *testing.T) {
	rows := func(kind string, shape ...int) map[string]numbers {
		n := 1
		for _, d := range shape {
			n *= d
		}
		return map[string]numbers{"embeddings": {kind, shape, make([]float64, n)}}
	}
	model := func(ts map[string]numbers) map[string][]byte {
		return map[string][]byte{"model.safetensors": safetensors(ts), "tokenizer.json": []byte(wordPieceJSON)}
	}
	with := func(file, text string) map[string][]byte {
		m := model(rows("F32", 6, 2))
		m[file] = []byte(text)
		return m
	}
	mapped := rows("F32", 6, 2)
	mapped["mapping"] = numbers{"I64", []int{6}, []float64{0, 1, 2, 3, 4, 6}}
	bert := map[string]numbers{"embeddings.word_embeddings.weight": {"F32", []int{6, 2}, make([]float64, 12)}}
	for _, test := range []struct {
		want  string
		files map[string][]byte
	}{
		{"0 files *.safetensors and no model.safetensors", nil},
		{"0 files *tokenizer*.json and no tokenizer.json", map[string][]byte{"model.safetensors": nil}},
		{"3 bytes are no safetensors", with("model.safetensors", "abc")},
		{"header of 4702111234474983745 bytes", with("model.safetensors", "AAAAAAAA")},
		{`tensor "embedding.weight" is missing`, model(nil)},
		{"5 rows for 6 tokens", model(rows("F32", 5, 2))},
		{"[0 0] is expected", model(rows("F32", 12))},
		{"kind I64", model(rows("I64", 6, 2))},
		{`tensor "mapping" has the number 6; it must be below 6`, model(mapped)},
		{`tokenizer of type "WordLevel"`, with("tokenizer.json", `{"model":{"type":"WordLevel"}}`)},
		{"tokenizer of type WordPiece with [Lowercase]", with("tokenizer.json", `{"normalizer":{"type":"Lowercase"},"model":{"type":"WordPiece"}}`)},
		{"tokenizer of type BPE with [ByteLevel]", with("tokenizer.json", `{"pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"BPE"}}`)},
		{"tokenizer of type Unigram with []", with("tokenizer.json", `{"model":{"type":"Unigram"}}`)},
		{"Metaspace without a replacement", with("tokenizer.json", strings.Replace(unigramJSON, `"replacement":"_"`, `"replacement":""`, 1))},
		{`token for unknown words "[UNK]"`, with("tokenizer.json", strings.Replace(wordPieceJSON, `"[UNK]":0`, `"x":0`, 1))},
		{"which are not in the vocabulary", with("tokenizer.json", strings.Replace(bytePairsJSON, `"ba":6`, `"bc":6`, 1))},
		{"config.json: no such file", model(bert)},
		{`model of type "roberta"`, map[string][]byte{"model.safetensors": safetensors(bert), "tokenizer.json": []byte(wordPieceJSON), "config.json": []byte(`{"model_type":"roberta"}`)}},
		{"config with 0 heads", map[string][]byte{"model.safetensors": safetensors(bert), "tokenizer.json": []byte(wordPieceJSON), "config.json": []byte(`{"model_type":"bert","hidden_act":"gelu"}`)}},
		{`tensor "embeddings.position_embeddings.weight" is missing`, map[string][]byte{"model.safetensors": safetensors(bert), "tokenizer.json": []byte(wordPieceJSON),
			"config.json": []byte(`{"model_type":"bert","hidden_act":"gelu","num_attention_heads":1,"num_hidden_layers":1,"layer_norm_eps":1e-12}`)}},
	} {
		if _, err := OpenFolder(folder(t, test.files)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want %s", err, test.want)
		}
	}
	if _, err := OpenFolder(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = u.Unwrap()
	}
}

func TestStaticModelWithNumbersThatAreNotFinite(t *testing.T) {
	m, err := OpenFolder(folder(t, map[string][]byte{"tokenizer.json": []byte(wordPieceJSON),
		"model.safetensors": safetensors(map[string]numbers{"embeddings": {"F32", []int{6, 1}, []float64{0, 0, 0, math.NaN(), 0, math.Inf(1)}}})}))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"cat", "dog"} {
		if _, err := m.Embed(t.Context(), []string{text}); err == nil || !strings.Contains(err.Error(), "not finite") {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

func FuzzTensors(f *testing.F) {
	f.Add(safetensors(map[string]numbers{"a": {"F16", []int{2, 1}, []float64{1, 2}}, "b": {"I64", []int{1}, []float64{7}}}))
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ts, err := parseTensors(b)
		if err != nil {
			return
		}
		for name, tensor := range ts {
			if f, err := ts.floats(name, tensor.shape...); err == nil {
				n := 1
				for _, d := range tensor.shape {
					n *= d
				}
				if len(f) != n {
					t.Errorf("%d numbers, want %v", len(f), tensor.shape)
				}
			}
			if n, err := ts.ints(name, 10, tensor.shape...); err == nil && len(n) > 0 && slices.Max(n) >= 10 {
				t.Errorf("the number %d", slices.Max(n))
			}
		}
	})
}

func FuzzTokenizer(f *testing.F) {
	for _, file := range []string{wordPieceJSON, bytePairsJSON, unigramJSON} {
		f.Add([]byte(file), "cats ab  b_ba xyz")
	}
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		tok, _, size, err := parseTokenizer(file)
		if err != nil {
			return
		}
		for _, id := range tok.appendTokens(nil, text) {
			if int(id) >= size {
				t.Fatalf("token %d of %d", id, size)
			}
		}
	})
}

func FuzzCharsmap(f *testing.F) {
	f.Add(binary.LittleEndian.AppendUint32([]byte("\x04\x00\x00\x00"), 1<<10), "aé")
	f.Add([]byte("\xff\xff\xff\xff"), "")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		m, err := parseCharsmap(base64.StdEncoding.EncodeToString(b))
		if err != nil {
			return
		}
		m.normalize(text)
	})
}

func TestModelsCanBeUsedConcurrently(t *testing.T) {
	small, err := OpenFolder(folder(t, map[string][]byte{"tokenizer.json": []byte(wordPieceJSON),
		"model.safetensors": safetensors(map[string]numbers{"embeddings": {"F32", []int{6, 1}, []float64{0, 0, 0, 1, 0, 1}}})}))
	if err != nil {
		t.Fatal(err)
	}
	encoder, err := OpenFolder("testdata/bert")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []Model{Builtin{}, small, encoder} {
		want, err := m.Embed(t.Context(), []string{"the cats, the dog"})
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for range 20 {
					if got, err := m.Embed(t.Context(), []string{"the cats, the dog"}); err != nil || !near(got, want, 0) {
						t.Errorf("%s: %v, %v, want %v", m.Name(), got, err, want)
					}
				}
			})
		}
		group.Wait()
	}
}
