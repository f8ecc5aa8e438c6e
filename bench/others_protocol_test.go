package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeWorker answers each call by a text; "" ends its output.
func fakeWorker(t *testing.T, answer func(c workerCall) string) *worker {
	in, calls := io.Pipe()
	answers, out := io.Pipe()
	go func() {
		defer out.Close()
		for lines := bufio.NewScanner(in); lines.Scan(); {
			var c workerCall
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Errorf("a call that cannot be read: %v", err)
			}
			text := answer(c)
			if text == "" {
				return
			}
			if _, err := io.WriteString(out, text+"\n"); err != nil {
				return
			}
		}
	}()
	return newWorker(calls, answers, func() error { return errors.Join(in.Close(), out.Close()) })
}

func TestWorkerAnswers(t *testing.T) {
	for _, test := range []struct {
		name, text string
		done       float64
		latencies  int
		failures   int
		fails      string // of the call; "": it does not
	}{
		{"all well", `{"done": 1.5, "latencies_us": [1000, 3000], "failed": 0}`, 1.5, 2, 0, ""},
		{"some failed", `{"done": 1, "latencies_us": [2000], "failed": 3, "error": "database is locked"}`, 1, 1, 3, ""},
		{"nothing done", `{}`, 0, 0, 0, ""},
		{"noise before", "model loaded\n\n[1]\n" + `{"done": 1, "latencies_us": [5]}`, 1, 1, 0, ""},
		{"space around", "  {\"done\": 2}  ", 2, 0, 0, ""},
		{"half an answer", `{"done": 1,`, 0, 0, 0, "cannot be read"},
		{"of another type", `{"done": "one"}`, 0, 0, 0, "cannot be read"},
		{"the end", "", 0, 0, 0, errGone.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := fakeWorker(t, func(c workerCall) string {
				if c.Op != "get" || c.Callers != 8 || c.WindowMS != 250 {
					t.Errorf("got the call %+v", c)
				}
				return test.text
			})
			a, err := w.call(t.Context(), workerCall{Op: "get", Callers: 8, WindowMS: 250}, time.Minute)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) || !strings.Contains(err.Error(), "get: ") {
					t.Errorf("the call ended by %v", err)
				}
				if _, again := w.call(t.Context(), workerCall{Op: "list"}, time.Minute); !errors.Is(again, err) {
					t.Errorf("a call after its end ended by %v", again)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s := a.sample(time.Second)
			if s.rate() != test.done || len(s.latencies) != test.latencies || len(s.errs) != test.failures {
				t.Errorf("got %+v", s)
			}
			if (a.err() != nil) != (test.failures > 0) {
				t.Errorf("the error of the answer is %v", a.err())
			}
			if err := w.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWorkerThatHangsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		in, calls := io.Pipe()
		go func() { _, _ = io.Copy(io.Discard, in) }() // reads, and never answers
		answers, out := io.Pipe()
		w := newWorker(calls, answers, func() error { ended = true; return errors.Join(in.Close(), out.Close()) })
		begin := time.Now()
		_, err := w.call(t.Context(), workerCall{Op: "life"}, 10*time.Second)
		if err == nil || err.Error() != "life: no answer within 10s, and killed" || !ended {
			t.Errorf("ended: %v, error: %v", ended, err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestHangingProcessIsKilledWithItsChildren(t *testing.T) {
	w, err := startWorker(nil, "sh", "-c", "sleep 1000 & sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.call(ctx, workerCall{Op: "put"}, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended by %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) { // the child dies by itself
		memory, err := groupMemory(w.pid)
		if err != nil {
			t.Fatal(err)
		}
		if memory == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("its processes have %d bytes", memory)
		}
	}
}

func TestProcessThatDiesIsNamed(t *testing.T) {
	w, err := startWorker([]string{"WHY=no such table"}, "sh", "-c", `read call; echo '{"done": 7}'; read call; echo "$WHY" >&2; exit 3`)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := w.call(t.Context(), workerCall{Op: "fill"}, time.Minute); err != nil || a.Done != 7 {
		t.Errorf("got %+v, %v", a, err)
	}
	_, err = w.call(t.Context(), workerCall{Op: "search"}, time.Minute)
	if err == nil || err.Error() != "search: the process ended before it answered: exit status 3: no such table" {
		t.Errorf("the call ended by %v", err)
	}
}
