package prom

import "github.com/episodic-memory/episodic"

// families is the table of all metrics: those that a Store with these Stats has.
func families(s episodic.Stats) []family {
	all := []family{
		one("reads_total", "Calls that read from the database and succeeded.", s.Reads),
		one("writes_total", "Calls that wrote to the database and succeeded.", s.Writes),
		one("commits_total", "Transactions that carried the writes.", s.Commits),
		one("retries_total", "Transactions begun again and requests sent again.", s.Retries),
		one("compression_trainings_total", "Trainings of a dictionary that came to an end.", s.Compression.Trainings),
		one("compression_failures_total", "Looks for a dictionary and trainings in the background that failed.", s.Compression.Failures),
	}
	all = append(all, payloadFamilies("compression_episodes_", "episodes and steps", &s.Compression.Episodes)...)
	all = append(all, payloadFamilies("compression_patterns_", "patterns, heuristics and relations", &s.Compression.Patterns)...)
	if s.Cache != nil {
		all = append(all, cacheFamilies(s.Cache)...)
	}
	if s.Server == nil {
		return all
	}
	all = append(all,
		one("requests_total", "HTTP requests sent to the server, pings not among them.", s.Requests),
		one("requests_withheld_total", "Requests not sent because the server had been failing.", s.Server.Withheld),
		one("retries_denied_total", "Retries not made because there had been too many.", s.Server.RetriesDenied),
		traffic("read_bytes_total", "Bytes on sockets of calls that read.", s.Server.ReadBytes),
		traffic("write_bytes_total", "Bytes on sockets of calls that write.", s.Server.WriteBytes),
		traffic("upkeep_bytes_total", "Bytes on sockets of handshakes, pings and the closing of streams.", s.Server.UpkeepBytes),
		by("server_info", "The protocol that the server answered last.", "protocol", map[string]uint64{s.Server.Protocol: 1}),
		one("streams_opened_total", "Streams of the server that were opened.", s.Server.StreamsOpened),
		one("streams_reused_total", "Requests that went on with a kept stream.", s.Server.StreamsReused),
		one("streams_closed_total", "Streams of the server that were closed.", s.Server.StreamsClosed),
		one("streams_lost_total", "Streams that the server or the network ended.", s.Server.StreamsLost),
	)
	return append(all, poolFamilies(&s.Server.Pool)...)
}

func cacheFamilies(c *episodic.CacheStats) []family {
	return []family{
		by("cache_info", "How the cache notices changes by others.", "mode", map[string]uint64{c.Mode: 1}),
		one("cache_entries", "Entries in the cache.", c.Entries),
		one("cache_bytes", "Memory that the entries take.", c.Bytes),
		one("cache_hits_total", "Reads served from the cache.", c.Hits),
		one("cache_stale_served_total", "Hits while the server could not be reached.", c.StaleServed),
		one("cache_misses_total", "Reads that needed a load.", c.Misses),
		one("cache_loads_total", "Loads from the database.", c.Loads),
		one("cache_shared_loads_total", "Times that a read waited for a load begun by another.", c.SharedLoads),
		one("cache_polls_total", "Polls of the change feed, excluding loads.", c.Polls),
		one("cache_load_failures_total", "Loads that failed.", c.LoadFailures),
		one("cache_poll_failures_total", "Polls that failed.", c.PollFailures),
		one("cache_evictions_total", "Entries removed because the memory bound was reached.", c.Evictions),
		one("cache_expiries_total", "Entries removed because their TTL was over.", c.Expiries),
		one("cache_invalidations_local_total", "Entries removed because of writes by this store.", c.InvalidationsLocal),
		one("cache_invalidations_remote_total", "Entries removed because of changes in the feed.", c.InvalidationsRemote),
		one("cache_mean_ttl_seconds", "Average time for which entries were kept or may be.", c.MeanTTL.Seconds()),
	}
}

func payloadFamilies(prefix, what string, p *episodic.PayloadStats) []family {
	return []family{
		one(prefix+"payloads_total", "Payloads of "+what+" made ready to be sent.", p.Payloads),
		one(prefix+"plain_bytes_total", "Bytes of payloads of "+what+" before they were compressed.", p.PlainBytes),
		one(prefix+"stored_bytes_total", "Bytes of payloads of "+what+" as they were sent.", p.StoredBytes),
		one(prefix+"skipped_total", "Payloads of "+what+" left as they are.", p.Skipped),
		one(prefix+"seconds_total", "Time that compressing "+what+" took.", p.Time.Seconds()),
		one(prefix+"dictionary", "The id of the dictionary in use for "+what+", 0 for none.", p.Dictionary),
		one(prefix+"ratio", "What the dictionary in use made of "+what+" that it was not trained with, 0 if it is built in.", p.Ratio),
	}
}

func poolFamilies(p *episodic.PoolStats) []family {
	return []family{
		by("pool_connections", "Open connections by what they do.", "state", map[string]uint64{
			"idle": uint64(p.Idle), "in_use": uint64(p.InUse), "pinging": uint64(p.Pinging),
		}),
		one("pool_connections_target", "The number of connections that the pool steers at.", p.Target),
		one("pool_connections_peak", "The largest number of open connections so far.", p.Peak),
		one("pool_connections_busy_max", "Connections in use during the busiest second of the last 30.", p.BusyMax),
		one("pool_dials_in_flight", "Dials under way.", p.Dialing),
		one("pool_calls_waiting", "Calls that wait for a connection.", p.Waiting),
		one("pool_oldest_wait_seconds", "How long the first of the waiting calls has waited.", p.OldestWait.Seconds()),
		one("pool_asleep", "1 after a long time without a call, until the next.", oneIf(p.Asleep)),

		one("pool_calls_total", "Requests that needed a connection.", p.Calls),
		one("pool_acquired_total", "Connections given to calls.", p.Acquired),
		one("pool_waits_total", "Calls that had to wait, whatever their end.", p.Waits),
		times("pool_wait_seconds", "How long calls waited that had to wait, whatever their end.", &p.WaitTimes),
		one("pool_timeouts_total", "Calls that waited to their deadline.", p.Timeouts),
		one("pool_cancelled_total", "Calls that were cancelled while they waited.", p.Cancelled),
		one("pool_rejected_total", "Calls refused because too many waited.", p.Rejected),
		one("pool_dial_errors_total", "Calls ended by a failed dial.", p.DialErrors),
		one("pool_refused_total", "Calls ended because the store was closed.", p.Refused),
		one("pool_returned_total", "Connections that came back used.", p.Returned),
		one("pool_abandoned_total", "Connections that came back unused.", p.Abandoned),
		one("pool_reclaimed_total", "Connections that were dropped instead of returned: a defect.", p.Reclaimed),
		one("pool_aborted_total", "Connections that closing the store did not wait for.", p.Aborted),
		one("pool_first_use_failures_total", "Calls that failed on an idle connection that was called healthy.", p.FirstUseFailures),

		one("pool_dials_total", "Dials begun.", p.Dials),
		one("pool_dial_failures_total", "Dials that failed.", p.DialFailures),
		times("pool_dial_seconds", "How long dials took, failed ones included.", &p.DialTimes),
		one("pool_connections_opened_total", "Connections opened.", p.Opened),
		by("pool_connections_closed_total", "Connections closed by reason.", "reason", p.ClosedBy),
		one("pool_close_failures_total", "Connections whose closing gave an error.", p.CloseFailures),

		one("pool_pings_sent_total", "Pings sent.", p.PingsSent),
		one("pool_pings_failed_total", "Pings answered with an error or not in time.", p.PingsFailed),
		one("pool_ping_timeouts_total", "Pings not answered in time.", p.PingTimeouts),
		one("pool_pings_cut_total", "Pings given up for waiting calls or because the store was closed.", p.PingsCut),
		times("pool_ping_seconds", "How long pings took that succeeded.", &p.PingTimes),

		by("pool_connections_stale_total", "Connections found stale by reason.", "reason", p.Stale),
		one("pool_refreshes_total", "Connections replaced by a new one.", p.Refreshes),
		one("pool_refresh_failures_total", "Failed dials for replacing a connection.", p.RefreshFailures),
		one("pool_resets_total", "Times the whole network was taken to have failed.", p.Resets),

		one("pool_grown_on_demand_total", "Dials because the queue would have outlasted them.", p.GrownOnDemand),
		one("pool_grown_ahead_total", "Dials because of high utilisation.", p.GrownAhead),
		one("pool_shrunk_total", "Connections closed because of low utilisation.", p.Shrunk),
		one("pool_overloads_total", "Times the server called itself overloaded.", p.Overloads),
		one("pool_elided_total", "Calls for which no dial was started because the queue moved sooner.", p.Elided),

		one("pool_connections_open_seconds_total", "Time that connections were open, summed over all.", p.ConnTime.Seconds()),
		one("pool_connections_in_use_seconds_total", "Time that connections were in use, summed over all.", p.BusyTime.Seconds()),
	}
}

func one[N int | int64 | uint32 | uint64 | float64](name, help string, n N) family {
	return family{name: name, help: help, number: float64(n)}
}

func by(name, help, label string, numbers map[string]uint64) family {
	return family{name: name, help: help, label: label, numbers: numbers}
}

func traffic(name, help string, t episodic.Traffic) family {
	return by(name, help, "direction", map[string]uint64{"sent": t.Sent, "received": t.Received})
}

func times(name, help string, h *episodic.Histogram) family {
	return family{name: name, help: help, times: h}
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}
