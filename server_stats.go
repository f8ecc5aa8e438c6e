package episodic

import (
	"time"

	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/pool"
)

// ServerStats is what happened on the way to a libSQL server since the Store was
// opened. Numbers only grow, except those of Pool that describe a moment.
type ServerStats struct {
	// Protocol is what the server answered last, such as "Hrana 3 protobuf".
	Protocol string    `json:"protocol"`
	Pool     PoolStats `json:"pool"`

	// A stream is a connection to the database inside the server. While calls
	// follow one another it is kept for the next (StreamsReused counts those);
	// otherwise each call opens one and closes it in the same request. Streams
	// that were lost were ended by the server or the network.
	StreamsOpened uint64 `json:"streams_opened"`
	StreamsReused uint64 `json:"streams_reused"`
	StreamsClosed uint64 `json:"streams_closed"`
	StreamsLost   uint64 `json:"streams_lost"`

	// RetriesDenied are retries not made because there had been too many: at most
	// one request in ten, and one a second on top, is sent again.
	RetriesDenied uint64 `json:"retries_denied"`
	// Withheld are requests not sent because the server had been failing.
	Withheld uint64 `json:"withheld"`

	// Bytes on the sockets, with all that HTTP and TLS add: of calls that read, of
	// calls that write, and of what carries no call, such as handshakes, pings and
	// the closing of streams.
	ReadBytes   Traffic `json:"read_bytes"`
	WriteBytes  Traffic `json:"write_bytes"`
	UpkeepBytes Traffic `json:"upkeep_bytes"`
}

// Traffic is a number of bytes in each direction.
type Traffic struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}

// PoolStats is what the pool of connections counted, as of one moment:
//
//	opened     == closed + open
//	dials      == opened + dial_failures + dialing
//	open       == idle + in_use + pinging
//	calls      == acquired + timeouts + cancelled + rejected + dial_errors + refused + waiting
//	acquired   == returned + abandoned + reclaimed + aborted + in_use
//	pings_sent == ping_times.count + pings_failed + pings_cut + pinging
//
// A call here is a request that needs a connection. Durations are nanoseconds in
// JSON.
type PoolStats struct {
	// The state of this moment.

	Open        int           `json:"open"`         // connections
	Idle        int           `json:"idle"`         // of these, unused
	InUse       int           `json:"in_use"`       // of these, with a request
	Pinging     int           `json:"pinging"`      // of these, out for a ping
	Dialing     int           `json:"dialing"`      // dials under way
	Waiting     int           `json:"waiting"`      // calls that wait for a connection
	OldestWait  time.Duration `json:"oldest_wait"`  // how long the first of them has waited
	Target      int           `json:"target"`       // the size the pool steers at
	Peak        int           `json:"peak"`         // the largest Open so far
	Asleep      bool          `json:"asleep"`       // after KeepAlive.IdleShutdown, until the next call
	Utilisation float64       `json:"utilisation"`  // connections in use / open during the last second, 0 to 1
	BusyMax     float64       `json:"busy_max"`     // connections in use during the busiest second of the last 30
	ServiceTime time.Duration `json:"service_time"` // how long a connection is in use, on average over the last ones
	DialTime    time.Duration `json:"dial_time"`    // how long a dial takes, on average over the last ones
	PingTime    time.Duration `json:"ping_time"`    // how long a ping takes, on average over the last ones

	// What calls got.

	Calls      uint64    `json:"calls"`
	Acquired   uint64    `json:"acquired"`    // connections given to calls
	Waits      uint64    `json:"waits"`       // calls that had to wait, whatever their end
	WaitTimes  Histogram `json:"wait_times"`  // of calls that had to wait, whatever their end
	Timeouts   uint64    `json:"timeouts"`    // calls that waited to their deadline
	Cancelled  uint64    `json:"cancelled"`   // calls that were cancelled while they waited
	Rejected   uint64    `json:"rejected"`    // calls refused because Pool.MaxWaiters waited
	DialErrors uint64    `json:"dial_errors"` // calls ended by a failed dial
	Refused    uint64    `json:"refused"`     // calls ended by Close
	Returned   uint64    `json:"returned"`    // connections that came back used
	Abandoned  uint64    `json:"abandoned"`   // connections that came back unused
	Reclaimed  uint64    `json:"reclaimed"`   // connections that were dropped instead of returned: a defect
	Aborted    uint64    `json:"aborted"`     // connections that Close did not wait for

	// FirstUseFailures counts calls that failed on a connection which had been
	// idle and was called healthy: what keep-alive is there to prevent.
	FirstUseFailures uint64 `json:"first_use_failures"`

	// What was done with connections.

	Dials         uint64            `json:"dials"`
	DialFailures  uint64            `json:"dial_failures"`
	DialTimes     Histogram         `json:"dial_times"` // of dials that have ended, failed ones included
	Opened        uint64            `json:"opened"`
	Closed        uint64            `json:"closed"`
	ClosedBy      map[string]uint64 `json:"closed_by"`      // by reason; all reasons are there
	CloseFailures uint64            `json:"close_failures"` // connections whose closing gave an error

	PingsSent    uint64    `json:"pings_sent"`
	PingsFailed  uint64    `json:"pings_failed"`  // answered with an error or not in time
	PingTimeouts uint64    `json:"ping_timeouts"` // of these, not in time
	PingsCut     uint64    `json:"pings_cut"`     // given up because of Close or calls that waited
	PingTimes    Histogram `json:"ping_times"`    // of pings that succeeded

	Stale           map[string]uint64 `json:"stale"`            // connections found stale, by reason; all reasons are there
	Refreshes       uint64            `json:"refreshes"`        // connections replaced by a new one
	RefreshFailures uint64            `json:"refresh_failures"` // of such dials, failed
	Resets          uint64            `json:"resets"`           // times the whole network was taken to have failed

	// What was decided about the size.

	GrownOnDemand uint64 `json:"grown_on_demand"` // dials because the queue would have outlasted them
	GrownAhead    uint64 `json:"grown_ahead"`     // dials because utilisation reached Pool.ScaleUpAt
	Shrunk        uint64 `json:"shrunk"`          // connections closed because utilisation stayed under Pool.ScaleDownAt
	Overloads     uint64 `json:"overloads"`       // times the server called itself overloaded
	Elided        uint64 `json:"elided"`          // calls for which no dial was started because the queue moved sooner

	ConnTime time.Duration `json:"conn_time"` // sum over all connections of the time they were open
	BusyTime time.Duration `json:"busy_time"` // of the time they were in use

	Events []SizeEvent `json:"events"` // the last changes of the size, at most 64, the oldest first
}

// SizeEvent is a change of the number of connections.
type SizeEvent struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"` // demand, ahead, shrunk, overload, refilled or asleep
	From   int       `json:"from"`
	To     int       `json:"to"`
	Detail string    `json:"detail"` // what the decision was made on, for people
}

// Histogram counts durations.
type Histogram struct {
	// Bounds are the upper bounds, inclusive, of all buckets but the last, which
	// has none.
	Bounds  []time.Duration `json:"bounds"`
	Buckets []uint64        `json:"buckets"` // not cumulative, one more than Bounds
	Count   uint64          `json:"count"`
	Sum     time.Duration   `json:"sum"`
}

func newServerStats(s remote.ServerStats) *ServerStats {
	out := &ServerStats{
		Protocol:      s.Protocol,
		Pool:          newPoolStats(s.Pool),
		StreamsOpened: s.StreamsOpened, StreamsReused: s.StreamsReused,
		StreamsClosed: s.StreamsClosed, StreamsLost: s.StreamsLost,
		RetriesDenied: s.RetryBudgetExhausted, Withheld: s.BreakerRejected,
		ReadBytes: Traffic(s.Reads), WriteBytes: Traffic(s.Writes), UpkeepBytes: Traffic(s.Upkeep),
	}
	for _, e := range s.SizeEvents {
		out.Pool.Events = append(out.Pool.Events, SizeEvent{At: e.At, Reason: e.Reason.String(), From: e.From, To: e.To, Detail: e.String()})
	}
	return out
}

func newPoolStats(s pool.Stats) PoolStats {
	out := PoolStats{
		Open: s.Open, Idle: s.Idle, InUse: s.InUse, Pinging: s.Away, Dialing: s.Dialing,
		Waiting: s.Waiting, OldestWait: s.OldestWait, Target: s.Target, Peak: s.Peak, Asleep: s.Asleep,
		Utilisation: s.Utilisation, BusyMax: s.BusyMax,
		ServiceTime: s.Service, DialTime: s.DialTime, PingTime: s.PingTime,

		Calls: s.Calls, Acquired: s.Acquired, Waits: s.Waits, WaitTimes: newHistogram(s.WaitTimes),
		Timeouts: s.Timeouts, Cancelled: s.Cancelled, Rejected: s.Rejected, DialErrors: s.DialErrors, Refused: s.Refused,
		Returned: s.Returned, Abandoned: s.Abandoned, Reclaimed: s.Reclaimed, Aborted: s.Aborted,
		FirstUseFailures: s.FirstUseFailures,

		Dials: s.Dials, DialFailures: s.DialFailures, DialTimes: newHistogram(s.DialTimes),
		Opened: s.Opened, Closed: s.Closed, ClosedBy: map[string]uint64{}, CloseFailures: s.CloseFailures,
		PingsSent: s.PingsSent, PingsFailed: s.PingsFailed, PingTimeouts: s.PingTimeouts, PingsCut: s.PingsCut,
		PingTimes: newHistogram(s.PingTimes),
		Stale:     map[string]uint64{}, Refreshes: s.Refreshes, RefreshFailures: s.RefreshFailures, Resets: s.Resets,

		GrownOnDemand: s.UpsDemand, GrownAhead: s.UpsAhead, Shrunk: s.Downs, Overloads: s.Overloads, Elided: s.Elided,
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
