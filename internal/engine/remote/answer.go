package remote

import (
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/hrana"
)

// answerClass is what an HTTP answer other than 200 to a pipeline means.
type answerClass struct {
	from, to int  // of the status
	foreign  bool // only if it is not in a form that libSQL servers use

	disposition disposition
	// final: another attempt would fail too, although the first may have been executed.
	final    bool
	down     bool // it counts against the circuit breaker, unless it comes with Retry-After
	overload bool // the pool closes connections
	// apart: requests that were combined are sent in parts, because what was refused
	// may be their size, or one of them.
	apart bool

	kind engine.Kind // of the error, unless a write may have been executed
	says string      // of the error, before what the answer says; SERVER and PROXY are their addresses
}

const (
	saysUnavailable = "server at SERVER is unavailable"
	saysRefused     = "server refused the request"
	saysGateway     = "server at SERVER, or a gateway before it, refused the request; check the token and the address"
)

// answerClasses is the only place that decides what becomes of a refused request; the first
// entry that fits counts. docs/operations.md shows it to operators.
var answerClasses = []answerClass{
	{from: 200, to: 299, disposition: maybeExecuted, final: true, kind: engine.KindOther, says: saysRefused},
	{from: 300, to: 399, kind: engine.KindOther, says: "server at SERVER leads elsewhere; use the address of the database itself"},

	{from: 400, to: 400, apart: true, kind: engine.KindOther, says: saysRefused},
	{from: 401, to: 401, foreign: true, kind: engine.KindAuth, says: saysGateway},
	{from: 401, to: 401, kind: engine.KindAuth, says: "server refused the token"},
	{from: 403, to: 403, foreign: true, apart: true, kind: engine.KindAuth, says: saysGateway},
	{from: 403, to: 403, apart: true, kind: engine.KindAuth, says: "server refused the token"},
	// A router says 404 while the server behind it is replaced.
	{from: 404, to: 404, foreign: true, disposition: notExecuted, kind: engine.KindUnavailable, says: "no libSQL server answers at SERVER; check the address if it stays so"},
	{from: 404, to: 404, kind: engine.KindNotFound, says: "no such database at SERVER"},
	{from: 407, to: 407, kind: engine.KindOther, says: "proxy PROXY wants a user and password; write them in its URL"},
	{from: 408, to: 408, disposition: maybeStillRunning, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 413, to: 413, apart: true, kind: engine.KindTooLarge, says: "request exceeds the limit of the server or of a gateway before it"},
	{from: 421, to: 421, disposition: notExecuted, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 425, to: 425, disposition: notExecuted, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 429, to: 429, disposition: notExecuted, overload: true, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 400, to: 499, apart: true, kind: engine.KindOther, says: saysRefused},

	// sqld says 500 for what it cannot send, such as text that is not UTF-8.
	{from: 500, to: 500, disposition: maybeExecuted, final: true, kind: engine.KindOther, says: saysRefused},
	{from: 501, to: 501, kind: engine.KindOther, says: saysRefused},
	{from: 504, to: 504, disposition: maybeStillRunning, down: true, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 505, to: 505, kind: engine.KindOther, says: saysRefused},
	// Cloudflare: the server refuses connections (521), cannot be reached (523), or TLS to
	// it fails (525, 526); 522 and 524 are timeouts, also of requests that were sent.
	{from: 521, to: 521, disposition: notExecuted, down: true, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 522, to: 522, disposition: maybeStillRunning, down: true, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 523, to: 523, disposition: notExecuted, down: true, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 524, to: 524, disposition: maybeStillRunning, down: true, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 525, to: 526, disposition: notExecuted, down: true, kind: engine.KindUnavailable, says: saysUnavailable},
	{from: 500, to: 999, disposition: maybeExecuted, down: true, kind: engine.KindUnavailable, says: saysUnavailable},
}

// classOf returns what a refusal means.
func classOf(h *hrana.Error) answerClass {
	a := answerClass{disposition: maybeExecuted, final: true, kind: engine.KindOther, says: saysRefused} // no status that HTTP has
	for _, known := range answerClasses {
		if h.Status >= known.from && h.Status <= known.to && (h.Foreign || !known.foreign) {
			a = known
			break
		}
	}
	if h.BatonUsed() { // by a copy of this very request, which may have been executed
		a.disposition, a.apart = maybeExecuted, false
	}
	if h.Code == "TRANSACTION_BUSY" { // too many at once
		a.overload = true
	}
	if h.RetryAfter > 0 { // whoever says when it can be asked again is there
		a.down = false
	}
	return a
}
