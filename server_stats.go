package episodic

import (
	"time"

	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/pool"
)

// ServerStats describes the traffic with a libSQL server since the Store was opened.
// All numbers are counters that only grow, except the gauges in Pool.
type ServerStats struct {
	// Protocol is the protocol of the server's last answer, such as
	// "Hrana 3 protobuf".
	Protocol string `json:"protocol"`
	// Pool describes the connection pool.
	Pool PoolStats `json:"pool"`

	// A stream is a database connection inside the server. During a series of calls
	// it is kept open and reused; otherwise each request opens and closes one.
	StreamsOpened uint64 `json:"streams_opened"` // streams opened
	StreamsReused uint64 `json:"streams_reused"` // requests sent on a stream that was already open
	StreamsClosed uint64 `json:"streams_closed"` // streams closed by the Store
	StreamsLost   uint64 `json:"streams_lost"`   // streams ended by the server or the network

	// RetryBudgetExhausted counts retries that were not made because the retry budget
	// was used up. It allows one retry per ten requests plus one a second.
	RetryBudgetExhausted uint64 `json:"retry_budget_exhausted"`
	// BreakerRejected counts requests that were not sent because the circuit breaker
	// was open.
	BreakerRejected uint64 `json:"breaker_rejected"`
	// Stuck counts how often the server was found to answer reads and no writes: see
	// ErrServerStuck.
	Stuck uint64 `json:"stuck"`

	// Servers are those of a target that names several, the primary first; otherwise nil.
	// Pool and streams are those of the primary, to which all writes go.
	Servers []EndpointStats `json:"servers,omitempty"`

	// Bytes on the sockets, including HTTP and TLS.
	ReadBytes   Traffic `json:"read_bytes"`   // of calls that read
	PullBytes   Traffic `json:"pull_bytes"`   // of what keeps the replica in step: see Options.Replica
	WriteBytes  Traffic `json:"write_bytes"`  // of calls that write
	UpkeepBytes Traffic `json:"upkeep_bytes"` // of handshakes, pings and requests that only close streams
}

// EndpointStats counts what one server of several did.
type EndpointStats struct {
	Address  string `json:"address"`  // host and port
	Reads    uint64 `json:"reads"`    // that it answered
	Failures uint64 `json:"failures"` // reads that it did not answer, and that were asked for at another
	Down     bool   `json:"down"`     // the last one failed
}

// Traffic is a number of bytes in each direction.
type Traffic struct {
	Sent     uint64 `json:"sent"`     // bytes from the Store to the server
	Received uint64 `json:"received"` // bytes from the server to the Store
}

// PoolStats is a snapshot of the gauges and counters of the connection pool. In every
// snapshot
//
//	opened     == closed + open
//	dials      == opened + dial_failures + dialing
//	open       == idle + in_use + pinging
//	calls      == acquired + timeouts + cancelled + queue_full + dial_errors + pool_closed + waiting
//	acquired   == returned + released_unused + leaked + force_closed + in_use
//	pings_sent == ping_times.count + pings_failed + pings_cancelled + pinging
//
// A call is a request that needs a connection. Durations are nanoseconds in JSON.
type PoolStats struct {
	// Gauges.

	Open        int           `json:"open"`         // connections
	Idle        int           `json:"idle"`         // of Open, not in use
	InUse       int           `json:"in_use"`       // of Open, in use by a call
	Pinging     int           `json:"pinging"`      // of Open, being pinged
	Dialing     int           `json:"dialing"`      // dials in flight
	Waiting     int           `json:"waiting"`      // calls waiting for a connection
	OldestWait  time.Duration `json:"oldest_wait"`  // how long the first waiting call has waited
	Target      int           `json:"target"`       // desired number of connections
	Peak        int           `json:"peak"`         // maximum of Open since the Store was opened
	Asleep      bool          `json:"asleep"`       // after KeepAlive.IdleShutdown, until the next call
	Utilisation float64       `json:"utilisation"`  // connections in use / open over the last second, 0 to 1
	BusyMax     float64       `json:"busy_max"`     // mean of connections in use in the busiest of the last 30 seconds
	ServiceTime time.Duration `json:"service_time"` // moving average of the time that a call uses a connection
	DialTime    time.Duration `json:"dial_time"`    // moving average of successful dials
	PingTime    time.Duration `json:"ping_time"`    // moving average of successful pings

	// Counters of calls.

	Calls          uint64    `json:"calls"`           // calls that needed a connection
	Acquired       uint64    `json:"acquired"`        // connections acquired by calls
	Waits          uint64    `json:"waits"`           // calls that had to wait, whatever their result
	WaitTimes      Histogram `json:"wait_times"`      // duration of waits that have ended, whatever their result
	Timeouts       uint64    `json:"timeouts"`        // calls whose deadline passed while they waited
	Cancelled      uint64    `json:"cancelled"`       // calls whose context was cancelled while they waited
	QueueFull      uint64    `json:"queue_full"`      // calls that failed because Pool.MaxWaiters calls were waiting
	DialErrors     uint64    `json:"dial_errors"`     // calls that failed because a dial failed
	PoolClosed     uint64    `json:"pool_closed"`     // calls that failed because the Store was closed
	Returned       uint64    `json:"returned"`        // connections released after use
	ReleasedUnused uint64    `json:"released_unused"` // connections released without having been used
	Leaked         uint64    `json:"leaked"`          // connections that a call never released: a bug in episodic
	ForceClosed    uint64    `json:"force_closed"`    // connections that Close closed while they were in use

	// FirstUseFailures counts calls that failed on a connection that had been idle and
	// was considered healthy. Keep-alive exists to prevent these.
	FirstUseFailures uint64 `json:"first_use_failures"`

	// Counters of connections.

	Dials        uint64            `json:"dials"`         // dials started
	DialFailures uint64            `json:"dial_failures"` // dials that failed
	DialTimes    Histogram         `json:"dial_times"`    // duration of dials, including failed ones
	Opened       uint64            `json:"opened"`        // connections opened
	Closed       uint64            `json:"closed"`        // connections closed
	ClosedBy     map[string]uint64 `json:"closed_by"`     // connections closed, by reason; has all reasons

	PingsSent      uint64    `json:"pings_sent"`      // pings sent
	PingsFailed    uint64    `json:"pings_failed"`    // pings that failed or timed out
	PingTimeouts   uint64    `json:"ping_timeouts"`   // pings that timed out
	PingsCancelled uint64    `json:"pings_cancelled"` // pings cancelled by Close or because a call waited
	PingTimes      Histogram `json:"ping_times"`      // duration of successful pings

	Stale     map[string]uint64 `json:"stale"`     // connections found stale, by reason; has all reasons
	Refreshes uint64            `json:"refreshes"` // connections dialled to replace one that expired or was lost
	Resets    uint64            `json:"resets"`    // network resets: two connection failures within a second

	// Counters of sizing decisions.

	GrownOnDemand      uint64 `json:"grown_on_demand"`      // dials started because the queue would outlast a dial
	GrownOnUtilisation uint64 `json:"grown_on_utilisation"` // dials started because utilisation reached Pool.ScaleUpAt
	Shrunk             uint64 `json:"shrunk"`               // connections closed because utilisation stayed under Pool.ScaleDownAt
	Overloads          uint64 `json:"overloads"`            // requests that the server refused because of overload

	ConnTime time.Duration `json:"conn_time"` // sum of the time that connections were open
	BusyTime time.Duration `json:"busy_time"` // sum of the time that connections were in use

	Events []SizeEvent `json:"events"` // the last changes of the number of connections, at most 64, oldest first
}

// SizeEvent is a change of the number of connections.
type SizeEvent struct {
	At time.Time `json:"at"`
	// Reason is demand, utilisation, low_utilisation, overload, below_min or
	// idle_shutdown.
	Reason string `json:"reason"`
	From   int    `json:"from"`   // connections and dials in flight before
	To     int    `json:"to"`     // and after, without those to be closed when released
	Detail string `json:"detail"` // the event and the state that led to it, as text
}

// Histogram is a histogram of durations.
type Histogram struct {
	// Bounds are the inclusive upper bounds of all buckets but the last, which has
	// none.
	Bounds  []time.Duration `json:"bounds"`
	Buckets []uint64        `json:"buckets"` // counts, not cumulative; one more than Bounds
	Count   uint64          `json:"count"`   // number of durations
	Sum     time.Duration   `json:"sum"`     // sum of durations
}

func newServerStats(s remote.ServerStats) *ServerStats {
	out := &ServerStats{
		Protocol:      s.Protocol,
		Pool:          newPoolStats(s.Pool),
		StreamsOpened: s.StreamsOpened, StreamsReused: s.StreamsReused,
		StreamsClosed: s.StreamsClosed, StreamsLost: s.StreamsLost,
		RetryBudgetExhausted: s.RetryBudgetExhausted, BreakerRejected: s.BreakerRejected, Stuck: s.Stuck,
		ReadBytes: Traffic(s.Reads), PullBytes: Traffic(s.Pulls), WriteBytes: Traffic(s.Writes), UpkeepBytes: Traffic(s.Upkeep),
	}
	for _, e := range s.Servers {
		out.Servers = append(out.Servers, EndpointStats(e))
	}
	for _, e := range s.SizeEvents {
		out.Pool.Events = append(out.Pool.Events, SizeEvent{At: e.At, Reason: e.Reason.String(), From: e.From, To: e.To, Detail: e.String()})
	}
	return out
}

func newPoolStats(s pool.Stats) PoolStats {
	out := PoolStats{
		Open: s.Open, Idle: s.Idle, InUse: s.InUse, Pinging: s.Pinging, Dialing: s.Dialing,
		Waiting: s.Waiting, OldestWait: s.OldestWait, Target: s.Target, Peak: s.Peak, Asleep: s.Asleep,
		Utilisation: s.Utilisation, BusyMax: s.BusyMax,
		ServiceTime: s.ServiceTime, DialTime: s.DialTime, PingTime: s.PingTime,

		Calls: s.Calls, Acquired: s.Acquired, Waits: s.Waits, WaitTimes: newHistogram(s.WaitTimes),
		Timeouts: s.Timeouts, Cancelled: s.Cancelled, QueueFull: s.QueueFull, DialErrors: s.DialErrors, PoolClosed: s.PoolClosed,
		Returned: s.Returned, ReleasedUnused: s.ReleasedUnused, Leaked: s.Leaked, ForceClosed: s.ForceClosed,
		FirstUseFailures: s.FirstUseFailures,

		Dials: s.Dials, DialFailures: s.DialFailures, DialTimes: newHistogram(s.DialTimes),
		Opened: s.Opened, Closed: s.Closed, ClosedBy: map[string]uint64{},
		PingsSent: s.PingsSent, PingsFailed: s.PingsFailed, PingTimeouts: s.PingTimeouts, PingsCancelled: s.PingsCancelled,
		PingTimes: newHistogram(s.PingTimes),
		Stale:     map[string]uint64{}, Refreshes: s.Refreshes, Resets: s.Resets,

		GrownOnDemand: s.GrownOnDemand, GrownOnUtilisation: s.GrownOnUtilisation, Shrunk: s.Shrunk, Overloads: s.Overloads,
		ConnTime: s.ConnTime, BusyTime: s.BusyTime,
	}
	for reason, n := range s.ClosedBy {
		out.ClosedBy[pool.CloseReason(reason).String()] = n
	}
	for reason, n := range s.Stale {
		out.Stale[pool.StaleReason(reason).String()] = n
	}
	return out
}

func newHistogram(h pool.Histogram) Histogram {
	return Histogram{Bounds: pool.HistogramBounds(), Buckets: h.Buckets[:], Count: h.Count, Sum: h.Sum}
}
