package serve

import (
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/prom"
)

// counters are the metrics of a Server, with those of its Store.
type counters struct {
	answers     *prometheus.CounterVec // by status
	refused     *prometheus.CounterVec // by reason
	connections prometheus.Gauge
	seconds     prometheus.Histogram
	handler     http.Handler
}

func newCounters(store *episodic.Store) *counters {
	c := &counters{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "episodic_http_answers_total", Help: "Requests over HTTP that were answered, by status.",
		}, []string{"status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "episodic_http_refused_total", Help: "Requests over HTTP that were refused, by reason.",
		}, []string{"reason"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "episodic_http_connections", Help: "Connections that are open.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "episodic_http_seconds", Help: "Time that messages of the Model Context Protocol took, from their header to their answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 50},
		}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c.answers, c.refused, c.connections, c.seconds, prom.NewCollector(store, nil))
	c.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return c
}

// connection counts connections; http.Server calls it.
func (c *counters) connection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.connections.Inc()
	case http.StateClosed, http.StateHijacked:
		c.connections.Dec()
	}
}

// answered counts an answer.
func (c *counters) answered(a *answer) {
	if a.status != 0 {
		c.answers.WithLabelValues(strconv.Itoa(a.status)).Inc()
	}
	if a.refused != "" {
		c.refused.WithLabelValues(a.refused).Inc()
	}
	if a.message {
		c.seconds.Observe(time.Since(a.began).Seconds())
	}
}
