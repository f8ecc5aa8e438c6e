package prom_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/prom"
)

// An agent shows Prometheus what its memory does.
func ExampleNewCollector() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "episodic")
	if err != nil {
		log.Fatal(err)
	}
	store, err := episodic.Open(ctx, filepath.Join(dir, "memory.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		if err := errors.Join(store.Close(), os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}()

	registry := prometheus.NewRegistry()
	registry.MustRegister(prom.NewCollector(store, prometheus.Labels{"store": "agent"}))
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{}) // for http.Handle("/metrics", metrics)

	for _, task := range []string{"Fix the flaky test", "Write the manual"} {
		if err := store.PutEpisode(ctx, &episodic.Episode{Description: task}); err != nil {
			log.Fatal(err)
		}
	}

	answer := httptest.NewRecorder()
	metrics.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.Contains(line, "episodic_compression_episodes_payloads_total") {
			fmt.Print(line)
		}
	}
	// Output:
	// # HELP episodic_compression_episodes_payloads_total Payloads of episodes and steps made ready to be sent.
	// # TYPE episodic_compression_episodes_payloads_total counter
	// episodic_compression_episodes_payloads_total{store="agent"} 2
}
