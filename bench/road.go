//go:debug x509usefallbackroots=1

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// road is the way to a server in the world: over a link with a round-trip time
// to a front that speaks TLS, as the edge of a hosted database does. Link and
// front are part of this process.
type road struct {
	link     *hranatest.Link
	front    *httptest.Server
	back     *http.Transport
	requests atomic.Int64 // that reached the front
}

// newRoad builds a road to the server at target. The front offers HTTP/2 beside
// HTTP/1.1 only if told to.
func newRoad(target string, rtt time.Duration, http2 bool) (*road, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	r := &road{back: &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true}}
	quiet := log.New(io.Discard, "", 0) // what matters reaches the client as a failed request
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to) },
		Transport: r.back,
		ErrorLog:  quiet,
	}
	r.front = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		proxy.ServeHTTP(w, req)
	}))
	r.front.Config.ErrorLog = quiet
	r.front.EnableHTTP2 = http2
	r.front.StartTLS()
	trust(r.front.Certificate())
	if r.link, err = hranatest.NewLink(r.front.URL); err != nil {
		r.close()
		return nil, err
	}
	r.link.SetRTT(rtt)
	return r, nil
}

func (r *road) close() {
	if r.link != nil {
		r.link.Close()
	}
	r.front.CloseClientConnections()
	r.front.Close()
	r.back.CloseIdleConnections()
}

var trusting sync.Once

// trust makes every client of this process accept the fronts. They all have the
// same certificate.
func trust(cert *x509.Certificate) {
	trusting.Do(func() {
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		x509.SetFallbackRoots(roots) // with the setting at the top of this file they replace the system's
	})
}

// trip is a client at the beginning of a road of its own.
type trip struct {
	*cell
	http2 bool
	open  func(url string) (client, error)
	road  *road
	conns []int // opened in each round
}

// run lets a new client ask for 1, so many callers at once, a number of times
// with pauses in between. No call may fail.
func (t *trip) run(ctx context.Context, callers, times int, pause time.Duration) (s sample, err error) {
	before := t.road.link.Counts().Accepted
	c, err := t.open(t.road.link.URL())
	if err != nil {
		return s, err
	}
	defer func() {
		err = errors.Join(err, c.close())
		t.conns = append(t.conns, t.road.link.Counts().Accepted-before)
	}()
	for i := range times {
		if i > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return s, ctx.Err()
			}
		}
		s.burst(ctx, callers, func(ctx context.Context, _ int) error {
			v, err := c.ask(ctx, "SELECT 1")
			if err == nil && v != int64(1) {
				err = fmt.Errorf("SELECT 1 gives %v", v)
			}
			return err
		})
		if len(s.errs) > 0 {
			return s, fmt.Errorf("%d of %d calls failed, the first: %w", len(s.errs), (i+1)*callers, s.errs[0])
		}
	}
	return s, nil
}

// burst lets so many callers call f once, all at the same time.
func (s *sample) burst(ctx context.Context, callers int, f op) {
	type end struct {
		took time.Duration
		err  error
	}
	ends := make(chan end, callers)
	begin := time.Now()
	for caller := range callers {
		go func() {
			err := f(ctx, caller)
			ends <- end{time.Since(begin), err}
		}()
	}
	for range callers {
		e := <-ends
		s.add(e.took, e.took, e.err)
	}
	s.window += time.Since(begin)
}

// requestsEach is how many requests a call took.
func (t *trip) requestsEach() float64 {
	return float64(t.road.requests.Load()) / float64(t.acknowledged())
}

// slower is by which part of the p50 of b that of a lies above it, round by round.
func slower(a, b *cell) ratio {
	var all []float64
	for i := range a.rounds {
		all = append(all, percentile(a.rounds[i].latencies, 0.5).Seconds()/percentile(b.rounds[i].latencies, 0.5).Seconds()-1)
	}
	slices.Sort(all)
	return ratio{all[(len(all)-1)/2], all[0], all[len(all)-1]}
}

func percents(r ratio) string {
	return fmt.Sprintf("%+.0f %% (%+.0f to %+.0f)", 100*r.median, 100*r.low, 100*r.high)
}
