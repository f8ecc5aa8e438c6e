package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLineTellsThePartsOfAnExchange(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/chunked" {
			http.NewResponseController(w).Flush()
		}
		_, _ = w.Write(body[:len(body)/2])
		if r.URL.Path == "/slow" {
			http.NewResponseController(w).Flush()
			<-release
		}
		_, _ = w.Write(body[len(body)/2:])
	}))
	defer server.Close()
	l, err := newLine(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	post := func(path, body string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.url()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer x")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if path == "/slow" {
			if list, err := l.take(); err != nil || len(list) != 0 {
				t.Errorf("an answer that goes on gives %v, error %v", list, err)
			}
			close(release)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, tt := range []struct {
		path, body string
		answer     int // bytes, with the frames
	}{
		{"/", "hello", 5},
		{"/", "", 0},
		{"/", strings.Repeat("0123456789", 10_000), 100_000 + len("c350\r\n\r\n")*2 + len("0\r\n\r\n")},
		{"/chunked", "ok", len("2\r\nok\r\n") + len("0\r\n\r\n")},
		{"/slow", "ok", 2*len("1\r\nx\r\n") + len("0\r\n\r\n")},
	} {
		if got := post(tt.path, tt.body); got != tt.body {
			t.Fatalf("%s: %d bytes came back as %d", tt.path, len(tt.body), len(got))
		}
		list, err := l.take()
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: %v, error %v", tt.path, list, err)
		}
		address := len("POST  HTTP/1.1\r\n"+tt.path) + len("Host: \r\n"+strings.TrimPrefix(l.url(), "http://")) + len("Authorization: Bearer x\r\n")
		x := list[0]
		if x.address != address || x.body != len(tt.body) || x.answer != tt.answer {
			t.Errorf("%s with %d bytes: %+v, want an address of %d bytes and an answer of %d", tt.path, len(tt.body), x, address, tt.answer)
		}
	}
	if all, err := l.sum(); err != nil || all.requests != 5 {
		t.Errorf("in all %+v, error %v", all, err)
	}
}

func TestLineMissesBytes(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	l, err := newLine(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	resp, err := http.Get(l.url())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := l.tap.take(); err != nil { // past the line
		t.Fatal(err)
	}
	if all, err := l.sum(); err == nil {
		t.Errorf("no error, but %+v", all)
	}
}
