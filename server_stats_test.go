package episodic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/pool"
)

// Every figure that is counted inside must come out, and only once.
func TestServerStatsLoseNothing(t *testing.T) {
	var in remote.ServerStats
	next := int64(1000)
	numbered(reflect.ValueOf(&in).Elem(), &next)
	in.SizeEvents = []pool.SizeEvent{{At: time.Unix(5, 0), Reason: pool.SizeUtilisation, From: 77001, To: 77002}}
	in.Protocol, in.Pool.Asleep = "Hrana", true

	text, err := json.Marshal(newServerStats(in))
	ok(t, err)
	for n := int64(1001); n <= next; n++ {
		if c := strings.Count(string(text), fmt.Sprint(n)); c != 1 {
			t.Errorf("%d comes out %d times", n, c)
		}
	}
	for _, part := range []string{`"protocol":"Hrana"`, `"asleep":true`, `"reason":"utilisation","from":77001,"to":77002`, `"slow_ping":`, `"network_reset":`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
}

// numbered gives every number within v a value of its own.
func numbered(v reflect.Value, next *int64) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			numbered(v.Field(i), next)
		}
	case reflect.Array:
		for i := range v.Len() {
			numbered(v.Index(i), next)
		}
	case reflect.Int, reflect.Int64:
		*next++
		v.SetInt(*next)
	case reflect.Uint64:
		*next++
		v.SetUint(uint64(*next))
	case reflect.Float64:
		*next++
		v.SetFloat(float64(*next))
	}
}

func TestConnectionOptionsAreCheckedByName(t *testing.T) {
	for field, o := range map[string]*Options{
		"Pool.MinConns":          {Pool: Pool{MinConns: -1}},
		"Pool.MaxConns":          {Pool: Pool{MinConns: 5, MaxConns: 2}},
		"Pool.ScaleUpAt":         {Pool: Pool{ScaleUpAt: 80}},
		"Pool.ScaleDownAt":       {Pool: Pool{ScaleDownAt: 0.9}},
		"Pool.MaxWaiters":        {Pool: Pool{MaxWaiters: -1}},
		"Pool.MaxLifetime":       {Pool: Pool{MaxLifetime: -1}},
		"KeepAlive.Interval":     {KeepAlive: KeepAlive{Interval: time.Second}},
		"KeepAlive.StaleAfter":   {KeepAlive: KeepAlive{StaleAfter: 10 * time.Second}},
		"KeepAlive.PingTimeout":  {KeepAlive: KeepAlive{PingTimeout: time.Minute}},
		"KeepAlive.IdleShutdown": {KeepAlive: KeepAlive{IdleShutdown: -1}},
	} {
		for _, target := range []string{"http://127.0.0.1:1", filepath.Join(t.TempDir(), "m.db")} {
			_, err := Open(t.Context(), target, o)
			if bad, ok := errors.AsType[*InvalidError](err); !ok || bad.Field != field || !strings.Contains(bad.Problem, "must be") {
				t.Errorf("%s: error is %v", field, err)
			}
		}
	}
}

func TestStatsOfAServer(t *testing.T) {
	s := open(t, hranatest.Start(t).URL(), nil)
	for range 10 {
		_, err := s.Counts(t.Context())
		ok(t, err)
	}
	stats := s.Stats()
	server := stats.Server
	if server == nil {
		t.Fatal("there are none")
	}
	p := server.Pool
	if p.Opened != p.Closed+uint64(p.Open) || p.Open < 1 || p.Acquired < 10 || uint64(len(p.Events)) == 0 ||
		p.DialTimes.Count != p.Dials-uint64(p.Dialing) || slices.Max(p.DialTimes.Buckets) == 0 || len(p.DialTimes.Buckets) != len(p.DialTimes.Bounds)+1 {
		t.Errorf("%+v", p)
	}
	if server.Protocol != "Hrana 3 protobuf" || server.StreamsReused == 0 || server.StreamsOpened+server.StreamsReused != stats.Requests {
		t.Errorf("%+v of %d requests", server, stats.Requests)
	}
}

func TestWarm(t *testing.T) {
	server := hranatest.Start(t)
	s := open(t, server.URL(), &Options{Pool: Pool{MinConns: 4}})
	ok(t, s.Warm(t.Context()))
	if p := s.Stats().Server.Pool; p.Open != 4 {
		t.Errorf("%d connections are open", p.Open)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	ok(t, s.Close())
	wants(t, s.Warm(t.Context()), ErrClosed, "warm")
	ok(t, onFile(t).Warm(t.Context()))

	s = open(t, server.URL(), nil)
	server.Kill()
	wants(t, s.Warm(cancelled), context.Canceled, "")
	if err := s.Warm(t.Context()); !Retryable(err) || !strings.Contains(fmt.Sprint(err), "warm: cannot reach 127.0.0.1:") {
		t.Errorf("error is %v", err)
	}
}
