package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

const tinyModel = "../../internal/embed/testdata/bert"

// embeddingServer is a server of embeddings that knows two words.
func embeddingServer(t *testing.T) (spec string, down *bool) {
	down = new(bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if *down {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var in struct{ Input []string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		var data []string
		for _, text := range in.Input {
			data = append(data, fmt.Sprintf(`{"embedding":[%d,%d,1]}`, strings.Count(text, "cat"), strings.Count(text, "dog")))
		}
		fmt.Fprintf(w, `{"data":[%s]}`, strings.Join(data, ","))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/v1#pets", down
}

func TestModelUseListDrop(t *testing.T) {
	spec, down := embeddingServer(t)
	c := newCLI(t)
	c.put(sample(1, "A cat"), sample(2, "A dog"))
	c.fails(exitUsage, "names no model", "model", "use", strings.TrimSuffix(spec, "#pets"))
	got := c.run("model", "use", spec)
	if got.code != exitOK || !strings.Contains(got.stderr, "no vector of it; episodic compact") {
		t.Errorf("%+v", got)
	}
	if out := c.ok("compact"); !strings.Contains(out, "documents embedded by pets") {
		t.Errorf("compact: %s", out)
	}
	out := c.ok("model", "list")
	if !strings.HasPrefix(out, "pets: 3 numbers, ") || !strings.Contains(out, "(100 %), ") || !strings.HasSuffix(out, ", used\n") {
		t.Errorf("list: %q", out)
	}
	listed := decode[struct {
		Models []episodic.SearchModel
		Pulled []string
	}](t, c.ok("model", "list", "--json"))
	if m := listed.Models[0]; m.Name != "pets" || !m.Used || m.Waiting != 0 || m.Bytes == 0 {
		t.Errorf("%+v", listed)
	}

	// What is stored later is embedded by compact, whose JSON stays one document.
	c.put(sample(3, "Another dog"))
	decode[map[string]any](t, c.ok("compact", "--json"))
	c.ok("model", "use", spec, "--now") // there is nothing to do
	if out := c.ok("model", "list"); !strings.Contains(out, "(100 %)") {
		t.Errorf("list: %q", out)
	}

	*down = true
	c.put(sample(4, "A third dog"))
	c.fails(exitFailure, "compact goes on from there", "compact")
	c.ok("list") // does not need the model
	if got := c.run("search", "dog"); got.code != exitOK || !strings.Contains(got.stdout, "dog") || !strings.Contains(got.stderr, "without the model") && !strings.Contains(got.stderr, "took no part") {
		t.Errorf("%+v", got)
	}

	c.ok("model", "use", "none")
	c.ok("compact")
	c.fails(exitFailure, "model list", "model", "drop", "cats")
	c.ok("model", "drop", "pets")
	if got := c.run("model", "list"); got.stdout != "" || !strings.Contains(got.stderr, "there is no model") {
		t.Errorf("%+v", got)
	}
}

func TestModelThatIsNotWhereItWas(t *testing.T) {
	c := newCLI(t)
	c.put(sample(1, "A cat"))
	dir := filepath.Join(c.home, "tiny")
	if err := os.CopyFS(dir, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	c.ok("model", "use", dir, "--now")
	found := decode[episodic.SearchResults](t, c.ok("search", "cat", "--json"))
	if !strings.HasPrefix(found.Model, "bert-") {
		t.Errorf("found by %q", found.Model)
	}
	c.ok("brief", "cat")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if got := c.run("search", "cat"); got.code != exitOK || !strings.Contains(got.stdout, "A cat") || !strings.Contains(got.stderr, "found without the model") {
		t.Errorf("%+v", got)
	}
	got := c.run("search", "cat", "--model", dir)
	if got.code != exitOK || !strings.Contains(got.stdout, "A cat") || !strings.Contains(got.stderr, "goes on without an embedding model") {
		t.Errorf("%+v", got)
	}
	if err := os.Remove(filepath.Join(c.home, "episodic", "models", "places.json")); err != nil {
		t.Fatal(err)
	}
	c.ok("list")
	spec, _ := embeddingServer(t)
	other := newCLI(t)
	other.home = c.home
	other.put(sample(1, "A dog"))
	other.ok("model", "use", spec, "--now")
	if got := c.run("list"); got.code != exitOK || !strings.Contains(got.stderr, "not known where that is") {
		t.Errorf("%+v", got)
	}
	c.ok("search", "cat", "--model", "none")
}

// hub serves the files of the tiny model as a hub does.
func hub(t *testing.T, change func(w http.ResponseWriter, r *http.Request) bool) string {
	files := http.FileServer(http.Dir(tinyModel))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if change != nil && change(w, r) {
			return
		}
		http.StripPrefix("/some/tiny/resolve/main", files).ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestModelPull(t *testing.T) {
	c := newCLI(t)
	c.env[hubVariable] = hub(t, nil) + "/"
	got := c.run("model", "pull", "some/tiny")
	dir := filepath.Join(c.home, "episodic", "models", "some--tiny")
	if got.code != exitOK || strings.Count(got.stdout, "sha256") != 3 || !strings.Contains(got.stdout, "bert-") || !strings.Contains(got.stderr, dir) {
		t.Fatalf("%+v", got)
	}
	if _, err := episodic.OpenEmbedder(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if out := c.ok("model", "list"); out != "pulled      "+dir+"\n" {
		t.Errorf("list: %q", out)
	}
	c.fails(exitFailure, "is there already", "model", "pull", "some/tiny")
	c.put(sample(1, "A cat"))
	c.ok("model", "use", "some/tiny", "--now") // by the name that was pulled

	to := filepath.Join(c.home, "elsewhere", "tiny")
	c.fails(exitFailure, "config.json is not at", "model", "pull", "some/other", "--to", to)
	if got := c.run("model", "pull", c.env[hubVariable]+"some/tiny", "--to", to); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	for spec, says := range map[string]string{
		"tiny": "neither OWNER/NAME", "ftp://x/y/z": "ftp", "http://example.org/some/tiny": "unencrypted",
		"https://me:secret@example.org/some/tiny": "no URL of a model",
	} {
		if got := c.fails(exitUsage, says, "model", "pull", spec, "--to", filepath.Join(c.home, "x")); strings.Contains(got.stderr, "secret") {
			t.Errorf("%s", got.stderr)
		}
	}
}

func TestModelPullLeavesNothingHalf(t *testing.T) {
	for name, change := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"cut": func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "safetensors") {
				return false
			}
			w.Header().Set("Content-Length", "8576")
			w.Write(make([]byte, 100))
			return true
		},
		"no model": func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "safetensors") {
				return false
			}
			w.Write(make([]byte, 100))
			return true
		},
		"login": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
		"busy": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCLI(t)
			c.env[hubVariable] = hub(t, change)
			says := map[string]string{"cut": "unexpected EOF", "no model": "cannot be used", "login": "login", "busy": "503"}[name]
			c.fails(exitFailure, says, "model", "pull", "some/tiny")
			left, err := os.ReadDir(filepath.Join(c.home, "episodic", "models"))
			if err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
