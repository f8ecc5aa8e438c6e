// Package prom exports the statistics of an [episodic.Store] to Prometheus.
//
//	registry.MustRegister(prom.NewCollector(store, nil))
//	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
//
// All names begin with episodic_: episodic_pool_ for the connection pool,
// episodic_compression_ for compression, episodic_cache_ for the cache, episodic_vectors_ for
// Nearest. Each is a field of [episodic.Stats], [episodic.ServerStats], [episodic.PoolStats],
// [episodic.CompressionStats], [episodic.CacheStats] or [episodic.VectorStats], where it is
// described; times are in seconds. A Store on a local file has reads, writes, commits, retries,
// failures, compression, the cache and vectors.
//
// Events and LastFailure are not exported, nor are fields of PoolStats that Prometheus
// can compute:
//
//	Open         sum without (state) (episodic_pool_connections)
//	Closed       sum without (reason) (episodic_pool_connections_closed_total)
//	Utilisation  rate(episodic_pool_connections_in_use_seconds_total[1m])
//	             / rate(episodic_pool_connections_open_seconds_total[1m])
//	ServiceTime  rate(episodic_pool_connections_in_use_seconds_total[1m])
//	             / rate(episodic_pool_acquired_total[1m])
//	DialTime     rate(episodic_pool_dial_seconds_sum[1m])
//	             / rate(episodic_pool_dial_seconds_count[1m])
//	PingTime     rate(episodic_pool_ping_seconds_sum[1m])
//	             / rate(episodic_pool_ping_seconds_count[1m])
package prom

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/episodic-memory/episodic"
)

// NewCollector returns a collector of store's metrics; each scrape calls
// [episodic.Store.Stats] once. The labels, which may be nil, are added to every metric.
// Several Stores in one registry need the same label names with different values.
// Register returns an error for invalid labels; the names state, reason, kind, protocol,
// direction, mode and (of several servers) address are reserved. The collector of a closed Store
// exports its last values until it is unregistered.
func NewCollector(store *episodic.Store, labels prometheus.Labels) prometheus.Collector {
	return newCollector(store.Stats, labels)
}

type collector struct {
	stats func() episodic.Stats
	descs map[string]*prometheus.Desc // by family name
}

func newCollector(stats func() episodic.Stats, labels prometheus.Labels) *collector {
	c := &collector{stats: stats, descs: map[string]*prometheus.Desc{}}
	for _, f := range families(stats()) {
		var variable []string
		if f.label != "" {
			variable = []string{f.label}
		}
		c.descs[f.name] = prometheus.NewDesc("episodic_"+f.name, f.help, variable, labels)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, f := range families(c.stats()) {
		f.collect(c.descs[f.name], out)
	}
}

// family is a metric with its current value: a number, a number for each value of a
// label, or a histogram.
type family struct {
	name, help string // the name without episodic_
	number     float64
	label      string
	numbers    map[string]uint64 // by the label's value
	times      *episodic.Histogram
}

func (f *family) collect(desc *prometheus.Desc, out chan<- prometheus.Metric) {
	kind := prometheus.GaugeValue
	if strings.HasSuffix(f.name, "_total") {
		kind = prometheus.CounterValue
	}
	switch {
	case f.times != nil:
		out <- histogram(desc, f.times)
	case f.label != "":
		for value, n := range f.numbers {
			out <- prometheus.MustNewConstMetric(desc, kind, float64(n), value)
		}
	default:
		out <- prometheus.MustNewConstMetric(desc, kind, f.number)
	}
}

func histogram(desc *prometheus.Desc, h *episodic.Histogram) prometheus.Metric {
	upTo := make(map[float64]uint64, len(h.Bounds))
	sum := uint64(0)
	for i, bound := range h.Bounds {
		sum += h.Buckets[i]
		upTo[bound.Seconds()] = sum
	}
	return prometheus.MustNewConstHistogram(desc, h.Count, h.Sum.Seconds(), upTo)
}
