package embed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const testKey = "sk-test-0123456789abcdef"

// serveVectors answers with [length of the text, 0, 4] for each text, last one first.
func serveVectors(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Model string
		Input []string
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var data []string
	for i := len(req.Input) - 1; i >= 0; i-- {
		data = append(data, fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":[%d,0,4]}`, i, len(req.Input[i])))
	}
	fmt.Fprintf(w, `{"object":"list","data":[%s],"usage":{"total_tokens":1}}`, strings.Join(data, ","))
}

func open(t *testing.T, handler http.HandlerFunc, opts HTTPOptions) (*HTTP, error) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	opts.BaseURL, opts.Model = server.URL+"/v1", "m"
	return OpenHTTP(t.Context(), opts)
}

func TestHTTPSendsBatchesAndKeepsTheOrder(t *testing.T) {
	var requests []string
	t.Setenv("TEST_EMBEDDING_KEY", testKey)
	h, err := open(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests = append(requests, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		serveVectors(w, r)
	}, HTTPOptions{Dim: 3, Shorten: true, Batch: 2, KeyEnv: "TEST_EMBEDDING_KEY"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Embed(t.Context(), []string{"abc", " \n", "", "a", "abc"})
	if err != nil {
		t.Fatal(err)
	}
	a, abc := []float32{0.24253564, 0, 0.97014254}, []float32{0.6, 0, 0.8}
	if want := [][]float32{abc, {0, 0, 0}, {0, 0, 0}, a, abc}; !near(got, want, 1e-6) {
		t.Errorf("vectors %v, want %v", got, want)
	}
	want := []string{
		`POST /v1/embeddings Bearer ` + testKey + ` {"model":"m","input":["abc","a"],"encoding_format":"float","dimensions":3}`,
		`POST /v1/embeddings Bearer ` + testKey + ` {"model":"m","input":["abc"],"encoding_format":"float","dimensions":3}`,
	}
	if !reflect.DeepEqual(requests, want) {
		t.Errorf("requests %q, want %q", requests, want)
	}
	if h.Name() != "m@3" {
		t.Errorf("name %q", h.Name())
	}
}

func TestHTTPCutsBatchesBySize(t *testing.T) {
	var sizes []int64
	h, err := open(t, func(w http.ResponseWriter, r *http.Request) {
		sizes = append(sizes, r.ContentLength)
		serveVectors(w, r)
	}, HTTPOptions{Dim: 3})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", maxBatchBytes/2)
	if _, err := h.Embed(t.Context(), []string{long, long, "y", long + long + long}); err != nil {
		t.Fatal(err)
	}
	if len(sizes) != 3 {
		t.Errorf("%d requests of %v bytes, want 3", len(sizes), sizes)
	}
}

func TestHTTPLearnsTheDimension(t *testing.T) {
	h, err := open(t, serveVectors, HTTPOptions{})
	if err != nil || h.Dim() != 3 || h.Name() != "m" {
		t.Fatalf("%+v, %v", h, err)
	}
}

func TestHTTPRefusals(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"key echoed", answer(401, `{"error":"Incorrect API key: `+testKey+`"}`), `status 401; check the key: {"error":"Incorrect API key: [key]"}`},
		{"unknown model", answer(404, "no such model"), "status 404; check the base URL and the model's name: no such model"},
		{"long message", answer(400, strings.Repeat("é", 300)), "status 400: " + strings.Repeat("é", 150) + "…"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		}, "status 307; give the address that it redirects to as base URL"},
		{"too few", answer(200, `{"data":[]}`), "answer has 0 vectors for 1 texts"},
		{"too many", answer(200, `{"data":[{"embedding":[1,0,0]},{"embedding":[1,0,0]}]}`), "answer has 2 vectors for 1 texts"},
		{"index outside", answer(200, `{"data":[{"index":1,"embedding":[1,0,0]}]}`), "one too many with index 1"},
		{"dimension", answer(200, `{"data":[{"embedding":[1,0]}]}`), `model "m": answer has a vector of 2 numbers; 3 are expected`},
		{"too large a number", answer(200, `{"data":[{"embedding":[1e99,0,0]}]}`), "answer: json: cannot unmarshal number 1e99"},
		{"no JSON", answer(200, `<html>`), "answer: invalid character '<'"},
		{"huge", func(w http.ResponseWriter, r *http.Request) {
			for range 1000 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, "answer of more than 65632 bytes for 1 texts"},
	} {
		t.Run(test.name, func(t *testing.T) {
			requests := 0
			h, err := open(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				test.handler(w, r)
			}, HTTPOptions{Dim: 3, Key: func(context.Context) (string, error) { return testKey, nil }})
			if err != nil {
				t.Fatal(err)
			}
			_, err = h.Embed(t.Context(), []string{"x"})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), testKey) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if requests != 1 {
				t.Errorf("%d requests, want 1", requests)
			}
		})
	}
}

// A server that repeats a long key again and again must not show the part of it
// at which reading stops.
func TestHTTPShowsNoPartOfTheKey(t *testing.T) {
	key := strings.Repeat("secret-", 150)
	h, err := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		for range 100 {
			io.WriteString(w, key+" ")
		}
	}, HTTPOptions{Dim: 3, Key: func(context.Context) (string, error) { return key, nil }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Embed(t.Context(), []string{"x"})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "[key] [key]") {
		t.Errorf("error %v", err)
	}
}

func TestHTTPOptionsThatCannotWork(t *testing.T) {
	for want, opts := range map[string]HTTPOptions{
		"base URL is not valid":          {BaseURL: "user:secret@host", Model: "m"},
		"has a user or a fragment":       {BaseURL: "https://user:secret@host", Model: "m"},
		"unencrypted to example.com":     {BaseURL: "http://example.com/v1", Model: "m"},
		"unencrypted to 10.0.0.1":        {BaseURL: "http://10.0.0.1/v1", Model: "m"},
		"model is empty":                 {BaseURL: "https://host"},
		"dimension -1":                   {BaseURL: "https://host", Model: "m", Dim: -1},
		"Shorten needs":                  {BaseURL: "https://host", Model: "m", Shorten: true},
		"both Key and KeyEnv":            {BaseURL: "https://host", Model: "m", KeyEnv: "X", Key: func(context.Context) (string, error) { return "", nil }},
		"negative":                       {BaseURL: "https://host", Model: "m", Batch: -1},
		"variable NOT_SET, which should": {BaseURL: "https://host", Model: "m", KeyEnv: "NOT_SET"},
		"key: vault is shut":             {BaseURL: "https://host", Model: "m", Key: func(context.Context) (string, error) { return "", errors.New("vault is shut") }},
		"key has characters":             {BaseURL: "https://host", Model: "m", Key: func(context.Context) (string, error) { return "secret\x01", nil }},
	} {
		_, err := OpenHTTP(t.Context(), opts)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// transport answers without a network, so that waits pass in virtual time.
type transport func(try int, r *http.Request) (*http.Response, error)

type counted struct {
	transport
	tries int
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.tries++
	return c.transport(c.tries, r)
}

func reply(status int, body string, header ...string) *http.Response {
	w := httptest.NewRecorder()
	for i := 0; i < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.WriteHeader(status)
	w.WriteString(body)
	return w.Result()
}

const oneVector = `{"data":[{"embedding":[3,0,4]}]}`

func TestHTTPTriesAgain(t *testing.T) {
	for _, test := range []struct {
		name      string
		transport transport
		tries     int
		atLeast   time.Duration
		atMost    time.Duration
		want      string // error, or none
	}{
		{"busy twice", func(try int, r *http.Request) (*http.Response, error) {
			if try < 3 {
				return reply(429, "slow down"), nil
			}
			return reply(200, oneVector), nil
		}, 3, 750 * time.Millisecond, 1500 * time.Millisecond, ""},
		{"Retry-After in seconds", func(try int, r *http.Request) (*http.Response, error) {
			if try == 1 {
				return reply(503, "", "Retry-After", "7"), nil
			}
			return reply(200, oneVector), nil
		}, 2, 7 * time.Second, 7 * time.Second, ""},
		{"Retry-After as a date", func(try int, r *http.Request) (*http.Response, error) {
			if try == 1 {
				return reply(503, "", "Retry-After", time.Now().Add(9*time.Second).UTC().Format(http.TimeFormat)), nil
			}
			return reply(200, oneVector), nil
		}, 2, 8 * time.Second, 9 * time.Second, ""},
		{"Retry-After too long", func(try int, r *http.Request) (*http.Response, error) {
			return reply(429, "quota", "Retry-After", "3600"), nil
		}, 1, 0, 0, "given up after 1 tries: status 429: quota"},
		{"never", func(try int, r *http.Request) (*http.Response, error) {
			return reply(500, "broken"), nil
		}, 4, 1750 * time.Millisecond, 3500 * time.Millisecond, "given up after 4 tries: status 500: broken"},
		{"network", func(try int, r *http.Request) (*http.Response, error) {
			return nil, errors.New("refused for " + r.Header.Get("Authorization"))
		}, 4, 1750 * time.Millisecond, 3500 * time.Millisecond, "given up after 4 tries: refused for Bearer [key]"},
		{"no answer", func(try int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 4, 4 * time.Minute, 4*time.Minute + 3500*time.Millisecond, "given up after 4 tries: no answer in 1m0s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &counted{transport: test.transport}
				h, err := OpenHTTP(t.Context(), HTTPOptions{BaseURL: "https://host/v1?key=" + testKey, Model: "m", Dim: 3, Transport: c,
					Key: func(context.Context) (string, error) { return testKey, nil }})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				vs, err := h.Embed(t.Context(), []string{"x"})
				if took := time.Since(start); took < test.atLeast || took > test.atMost {
					t.Errorf("took %v, want %v to %v", took, test.atLeast, test.atMost)
				}
				if c.tries != test.tries {
					t.Errorf("%d tries, want %d", c.tries, test.tries)
				}
				switch {
				case test.want == "" && (err != nil || !near(vs, [][]float32{{0.6, 0, 0.8}}, 1e-6)):
					t.Errorf("%v, %v", vs, err)
				case test.want != "" && (err == nil || !strings.HasSuffix(err.Error(), test.want)):
					t.Errorf("error %v, want %s", err, test.want)
				}
			})
		})
	}
}

func TestHTTPStopsWaitingWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{transport: func(try int, r *http.Request) (*http.Response, error) {
			return reply(429, "busy", "Retry-After", "20"), nil
		}}
		h, err := OpenHTTP(t.Context(), HTTPOptions{BaseURL: "https://host", Model: "m", Dim: 3, Transport: c})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err = h.Embed(ctx, []string{"x"})
		status, ok := errors.AsType[*StatusError](err)
		if !errors.Is(err, context.DeadlineExceeded) || !ok || status.Status != 429 || time.Since(start) != 5*time.Second || c.tries != 1 {
			t.Errorf("%v after %v and %d tries", err, time.Since(start), c.tries)
		}
	})
}

func FuzzDecodeVectors(f *testing.F) {
	f.Add([]byte(oneVector), 1, 3)
	f.Add([]byte(`{"data":[{"index":1,"embedding":[1]},{"index":0,"embedding":[-2]}]}`), 2, 0)
	f.Add([]byte(`{"data":[{"embedding":[1e-45,0]}]}`), 1, 2)
	f.Add([]byte(`{"data":[{"embedding":[3e38,3e38]}]}`), 1, 2)
	f.Add([]byte(`{"data":[{"index":-1,"embedding":null}]}`), 1, 0)
	f.Fuzz(func(t *testing.T, answer []byte, n, dim int) {
		if n < 0 || n > 100 || dim < 0 || dim > 100 {
			return
		}
		vs, err := decodeVectors(answer, n, dim)
		if err != nil {
			return
		}
		if len(vs) != n {
			t.Fatalf("%d vectors, want %d", len(vs), n)
		}
		for _, v := range vs {
			if len(v) == 0 || dim != 0 && len(v) != dim || len(v) != len(vs[0]) {
				t.Fatalf("a vector of %d numbers, want %d", len(v), dim)
			}
			if n := cosine(v, v); n != 0 && math.Abs(n-1) > 1e-5 {
				t.Fatalf("a vector of length² %v", n)
			}
		}
	})
}
