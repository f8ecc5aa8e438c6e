package prom

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, target string) *episodic.Store {
	t.Helper()
	s, err := episodic.Open(t.Context(), target, &episodic.Options{Replica: episodic.Replica{Disabled: true}})
	ok(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// targets are a local file and a server.
func targets(t *testing.T) map[string]string {
	return map[string]string{"file": filepath.Join(t.TempDir(), "m.db"), "server": hranatest.Start(t).URL()}
}

// gathered returns the values of one scrape by name and label.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	ok(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "episodic_")
			labels := ""
			for _, l := range m.Label {
				labels += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			if h := m.Histogram; h != nil {
				got[name+"_count"+labels], got[name+"_sum"+labels] = float64(h.GetSampleCount()), h.GetSampleSum()
				for _, b := range h.Bucket {
					got[fmt.Sprint(name, "_bucket", labels, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
				continue
			}
			got[name+labels] = m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is nil
		}
	}
	return got
}

// leftOut are the fields that the package doc names as not exported, as metric names.
var leftOut = []string{"pool_open", "pool_closed_total", "pool_utilisation", "pool_service_time_seconds", "pool_dial_time_seconds", "pool_ping_time_seconds"}

// renamed are the metrics whose name differs from the JSON name of their field.
var renamed = map[string]string{
	"compression_episodes_time_seconds": "compression_episodes_seconds_total",
	"compression_patterns_time_seconds": "compression_patterns_seconds_total",
	"turns_waited_seconds":              "turns_waited_seconds_total",
	"pool_idle":                         `pool_connections{state="idle"}`,
	"pool_in_use":                       `pool_connections{state="in_use"}`,
	"pool_pinging":                      `pool_connections{state="pinging"}`,
	"pool_target":                       "pool_connections_target",
	"pool_peak":                         "pool_connections_peak",
	"pool_busy_max":                     "pool_connections_busy_max",
	"pool_dialing":                      "pool_dials_in_flight",
	"pool_waiting":                      "pool_calls_waiting",
	"pool_opened_total":                 "pool_connections_opened_total",
	"pool_closed_by_total":              "pool_connections_closed_total",
	"pool_stale_total":                  "pool_connections_stale_total",
	"pool_wait_times":                   "pool_wait_seconds",
	"pool_dial_times":                   "pool_dial_seconds",
	"pool_ping_times":                   "pool_ping_seconds",
	"pool_conn_time_seconds":            "pool_connections_open_seconds_total",
	"pool_busy_time_seconds":            "pool_connections_in_use_seconds_total",
}

// wanted adds to want the expected metrics of the struct v, one for every field.
func wanted(t *testing.T, v reflect.Value, prefix string, want map[string]float64) {
	t.Helper()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		name = prefix + name
		set := func(suffix, label string, n float64) {
			name := name + suffix
			if slices.Contains(leftOut, name) {
				return
			}
			if other, is := renamed[name]; is {
				name = other
			}
			want[name+label] = n
		}
		switch f := v.Field(i).Interface().(type) {
		case uint64:
			set("_total", "", float64(f))
		case int:
			set("", "", float64(f))
		case float64:
			set("", "", f)
		case bool:
			set("", "", map[bool]float64{true: 1}[f])
		case time.Duration:
			set("_seconds", "", f.Seconds())
		case map[string]uint64:
			label := "reason"
			if name == "redacted" {
				label = "kind"
			}
			for value, n := range f {
				set("_total", fmt.Sprintf("{%s=%q}", label, value), float64(n))
			}
		case episodic.Traffic:
			set("_total", `{direction="sent"}`, float64(f.Sent))
			set("_total", `{direction="received"}`, float64(f.Received))
		case episodic.Histogram:
			set("", "_count", float64(f.Count))
			set("", "_sum", f.Sum.Seconds())
			upTo := uint64(0)
			for i, bound := range f.Bounds {
				upTo += f.Buckets[i]
				set("", fmt.Sprint("_bucket", bound.Seconds()), float64(upTo))
			}
		case uint32:
			set("", "", float64(f))
		case episodic.Turns:
			wanted(t, reflect.ValueOf(f), "turns_", want)
		case episodic.CompressionStats:
			wanted(t, reflect.ValueOf(f), "compression_", want)
		case episodic.PayloadStats:
			wanted(t, reflect.ValueOf(f), name+"_", want)
		case string:
			if name == "compression_last_failure" || name == "embedder_last_failure" {
				continue
			}
			if name == "embedder_name" {
				want[fmt.Sprintf("embedder_info{model=%q}", f)] = 1
				continue
			}
			if name == "cache_mode" {
				want[fmt.Sprintf("cache_info{mode=%q}", f)] = 1
				continue
			}
			if name == "replica_path" {
				continue
			}
			if name == "replica_down" || name == "queue_down" {
				want[name] = map[bool]float64{true: 1}[f != ""]
				continue
			}
			want[fmt.Sprintf("server_info{protocol=%q}", f)] = 1
		case *episodic.ServerStats:
			if f == nil {
				delete(want, "requests_total")
			} else {
				wanted(t, reflect.ValueOf(*f), "", want)
			}
		case int64:
			set("", "", float64(f))
		case *episodic.CacheStats:
			if f != nil {
				wanted(t, reflect.ValueOf(*f), "cache_", want)
			}
		case *episodic.ReplicaStats:
			if f != nil {
				wanted(t, reflect.ValueOf(*f), "replica_", want)
			}
		case *episodic.QueueStats:
			if f != nil {
				wanted(t, reflect.ValueOf(*f), "queue_", want)
			}
		case time.Time:
			want[name+"_timestamp_seconds"] = 0
			if !f.IsZero() {
				want[name+"_timestamp_seconds"] = float64(f.UnixMicro()) / 1e6
			}
		case episodic.VectorStats:
			wanted(t, reflect.ValueOf(f), "vectors_", want)
		case *episodic.EmbedderStats:
			if f != nil {
				wanted(t, reflect.ValueOf(*f), "embedder_", want)
			}
		case episodic.PoolStats:
			wanted(t, reflect.ValueOf(f), "pool_", want)
		case []episodic.EndpointStats:
			for _, s := range f {
				label := fmt.Sprintf("{address=%q}", s.Address)
				want["server_reads_total"+label] = float64(s.Reads)
				want["server_read_failures_total"+label] = float64(s.Failures)
				want["server_down"+label] = map[bool]float64{true: 1}[s.Down]
			}
		case []episodic.SizeEvent:
		default:
			t.Fatalf("%s is a %T: which metric is that?", name, f)
		}
	}
}

// check compares a scrape with its Stats.
func check(t *testing.T, got map[string]float64, stats episodic.Stats) {
	t.Helper()
	want := map[string]float64{}
	wanted(t, reflect.ValueOf(stats), "", want)
	for name, n := range want {
		if g, is := got[name]; !is || g != n {
			t.Errorf("%s is %v, %v; want %v", name, g, is, n)
		}
	}
	for name := range got {
		if _, is := want[name]; !is {
			t.Errorf("%s is no field", name)
		}
	}
}

// fill sets every number in v to a different value.
func fill(v reflect.Value, next *int64) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), next)
	case reflect.Struct:
		if at, is := v.Addr().Interface().(*time.Time); is {
			*next++
			*at = time.UnixMicro(*next)
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), next)
		}
		if h, is := v.Addr().Interface().(*episodic.Histogram); is {
			h.Buckets = append(h.Buckets, 3) // the one without a bound
		}
	case reflect.Slice:
		if v.Type() != reflect.TypeFor[[]episodic.SizeEvent]() {
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			fill(v.Index(0), next)
			fill(v.Index(1), next)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]uint64{"one": uint64(*next + 1), "two": uint64(*next + 2)}))
		*next += 2
	case reflect.Int, reflect.Int64:
		*next++
		v.SetInt(*next)
	case reflect.Uint32, reflect.Uint64:
		*next++
		v.SetUint(uint64(*next))
	case reflect.Float64:
		*next++
		v.SetFloat(float64(*next) + 0.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("Hrana")
	}
}

func TestEveryFieldIsExportedOnce(t *testing.T) {
	var stats episodic.Stats
	next := int64(0)
	fill(reflect.ValueOf(&stats).Elem(), &next)
	registry := prometheus.NewPedanticRegistry()
	ok(t, registry.Register(newCollector(func() episodic.Stats { return stats }, nil)))
	check(t, gathered(t, registry), stats)
}

func TestHistogramsAreCumulativeAndInSeconds(t *testing.T) {
	stats := episodic.Stats{Server: &episodic.ServerStats{Pool: episodic.PoolStats{DialTimes: episodic.Histogram{
		Bounds:  []time.Duration{100 * time.Microsecond, 2500 * time.Microsecond, time.Second},
		Buckets: []uint64{4, 0, 2, 1}, Count: 7, Sum: 3250 * time.Millisecond,
	}}}}
	err := testutil.CollectAndCompare(newCollector(func() episodic.Stats { return stats }, prometheus.Labels{"store": "a"}), strings.NewReader(`
# HELP episodic_pool_dial_seconds Duration of dials, including failed ones.
# TYPE episodic_pool_dial_seconds histogram
episodic_pool_dial_seconds_bucket{store="a",le="0.0001"} 4
episodic_pool_dial_seconds_bucket{store="a",le="0.0025"} 4
episodic_pool_dial_seconds_bucket{store="a",le="1"} 6
episodic_pool_dial_seconds_bucket{store="a",le="+Inf"} 7
episodic_pool_dial_seconds_sum{store="a"} 3.25
episodic_pool_dial_seconds_count{store="a"} 7
`), "episodic_pool_dial_seconds")
	ok(t, err)
}

// Each scrape is one snapshot, while the store is used and when it is closed.
func TestScrapesEqualStats(t *testing.T) {
	for name, target := range targets(t) {
		t.Run(name, func(t *testing.T) {
			store := open(t, target)
			var stats episodic.Stats
			taken := 0
			c := newCollector(func() episodic.Stats { stats = store.Stats(); taken++; return stats }, nil)
			registry := prometheus.NewPedanticRegistry()
			ok(t, registry.Register(c))

			var working sync.WaitGroup
			for range 6 {
				working.Go(func() {
					for range 30 {
						if err := store.PutEpisode(t.Context(), &episodic.Episode{Description: "x"}); err != nil {
							t.Error(err)
						}
						if _, err := store.Counts(t.Context()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			before := map[string]float64{}
			scrape := func() map[string]float64 {
				taken = 0
				got := gathered(t, registry)
				check(t, got, stats)
				if taken != 1 {
					t.Errorf("the stats were taken %d times", taken)
				}
				open, closed := 0.0, 0.0
				for name, n := range got {
					switch family, _, _ := strings.Cut(name, "{"); {
					case family == "pool_connections":
						open += n
					case family == "pool_connections_closed_total":
						closed += n
					}
					if strings.Contains(name, "_total") && n < before[name] {
						t.Errorf("%s fell from %v to %v", name, before[name], n)
					}
				}
				if opened := got["pool_connections_opened_total"]; opened != open+closed {
					t.Errorf("%v connections were opened, %v are open and %v closed", opened, open, closed)
				}
				before = got
				return got
			}
			for range 20 {
				scrape()
			}
			working.Wait()

			got := scrape()
			if got["writes_total"] < 180 || got["reads_total"] < 180 {
				t.Errorf("%v", got)
			}
			if _, is := got["pool_acquired_total"]; is != (name == "server") || is && (got["pool_acquired_total"] == 0 || got["pool_dial_seconds_count"] == 0) {
				t.Errorf("%v", got)
			}
			ok(t, store.Close())
			got = scrape()
			for _, state := range []string{"idle", "in_use", "pinging"} {
				if n := got[fmt.Sprintf("pool_connections{state=%q}", state)]; n != 0 {
					t.Errorf("%v connections of a closed store are %s", n, state)
				}
			}
		})
	}
}

func TestMetricsPassLint(t *testing.T) {
	for name, target := range targets(t) {
		problems, err := testutil.CollectAndLint(NewCollector(open(t, target), nil))
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
	}
}

func TestLabelsDistinguishStores(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	stores := map[string]*episodic.Store{}
	for name, target := range targets(t) {
		stores[name] = open(t, target)
		ok(t, registry.Register(NewCollector(stores[name], prometheus.Labels{"store": name})))
	}
	ok(t, stores["server"].PutEpisode(t.Context(), &episodic.Episode{Description: "x"}))
	got := gathered(t, registry)
	for name, store := range stores {
		metric := fmt.Sprintf("writes_total{store=%q}", name)
		if n, want := got[metric], store.Stats().Writes; n != float64(want) || want == 0 {
			t.Errorf("%s is %v, want %d", metric, n, want)
		}
	}
	again := NewCollector(stores["file"], prometheus.Labels{"store": "file"})
	if err := registry.Register(again); !errors.As(err, &prometheus.AlreadyRegisteredError{}) {
		t.Errorf("registering twice: %v", err)
	}
	for _, name := range []string{"state", "reason", "protocol", "__mine"} {
		if err := prometheus.NewRegistry().Register(NewCollector(stores["server"], prometheus.Labels{name: "x"})); err == nil {
			t.Errorf("the label %q was allowed", name)
		}
	}
}

// What an operator is told about must be all there is, and exist.
func TestOperationsPageHasEveryMetric(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tables, _ := strings.Cut(string(page), "\n## Metrics\n")
	tables, queries, _ := strings.Cut(tables, "\n## Queries")
	exported := map[string]bool{}
	for _, f := range families(episodic.Stats{Server: &episodic.ServerStats{Servers: make([]episodic.EndpointStats, 1)}, Cache: &episodic.CacheStats{}, Replica: &episodic.ReplicaStats{Queue: &episodic.QueueStats{}}, Embedder: &episodic.EmbedderStats{}}) {
		exported[f.name] = true
		if !strings.Contains(tables, "`"+f.name+"`") {
			t.Errorf("docs/operations.md says nothing of %s", f.name)
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^\| (`+"`[^|]*"+`) \|`).FindAllStringSubmatch(tables, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			if !exported[name[1]] {
				t.Errorf("docs/operations.md explains %s, which is not exported", name[1])
			}
		}
	}
	for _, name := range regexp.MustCompile(`episodic_(\w+?)(_bucket)?\b`).FindAllStringSubmatch(queries, -1) {
		if !exported[name[1]] {
			t.Errorf("docs/operations.md queries %s, which is not exported", name[0])
		}
	}
}
