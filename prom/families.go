package prom

import "github.com/episodic-memory/episodic"

// families returns the metrics of a Store with these Stats.
func families(s episodic.Stats) []family {
	all := []family{
		one("reads_total", "Successful calls that read from the database.", s.Reads),
		one("writes_total", "Successful calls that wrote to the database.", s.Writes),
		one("commits_total", "Transactions committed for writes.", s.Commits),
		one("retries_total", "Transactions and requests retried.", s.Retries),
		one("turns_taken_total", "Turns taken to write.", s.Turns.Taken),
		one("turns_waited_seconds_total", "Time waited for turns to write.", s.Turns.Waited.Seconds()),
		one("turns_unlocked_total", "Turns taken without the lock of this machine.", s.Turns.Unlocked),
		one("turns_missed_total", "Writes that came to the server at another machine's turn, and again later.", s.Turns.Missed),
		one("damaged_total", "Reads of something stored that was not what was written.", s.Damaged),
		by("redacted_total", "Secrets replaced in what was to be stored by kind.", "kind", s.Redacted),
		by("failures_total", "Calls to the database that failed by reason.", "reason", s.Failures),
		one("compression_trainings_total", "Trainings of a dictionary that came to an end.", s.Compression.Trainings),
		one("compression_failures_total", "Looks for a dictionary and trainings in the background that failed.", s.Compression.Failures),
	}
	all = append(all, payloadFamilies("compression_episodes_", "episodes and steps", &s.Compression.Episodes)...)
	all = append(all, payloadFamilies("compression_patterns_", "patterns, heuristics and relations", &s.Compression.Patterns)...)
	all = append(all, vectorFamilies(&s.Vectors)...)
	if s.Embedder != nil {
		all = append(all, embedderFamilies(s.Embedder)...)
	}
	if s.Cache != nil {
		all = append(all, cacheFamilies(s.Cache)...)
	}
	if s.Replica != nil {
		all = append(all, replicaFamilies(s.Replica)...)
	}
	if s.Server == nil {
		return all
	}
	all = append(all,
		one("requests_total", "HTTP requests sent to the server, without pings.", s.Requests),
		one("breaker_rejected_total", "Requests not sent because the circuit breaker was open.", s.Server.BreakerRejected),
		one("stuck_total", "Times that the server was found to answer reads and no writes.", s.Server.Stuck),
		one("retry_budget_exhausted_total", "Retries not made because the retry budget was used up.", s.Server.RetryBudgetExhausted),
		traffic("read_bytes_total", "Bytes on the sockets of calls that read.", s.Server.ReadBytes),
		traffic("pull_bytes_total", "Bytes on the sockets of what keeps the replica in step.", s.Server.PullBytes),
		traffic("write_bytes_total", "Bytes on the sockets of calls that write.", s.Server.WriteBytes),
		traffic("upkeep_bytes_total", "Bytes on the sockets of handshakes, pings and requests that only close streams.", s.Server.UpkeepBytes),
		by("server_info", "The protocol of the server's last answer.", "protocol", map[string]uint64{s.Server.Protocol: 1}),
		one("streams_opened_total", "Streams opened.", s.Server.StreamsOpened),
		one("streams_reused_total", "Requests sent on a stream that was already open.", s.Server.StreamsReused),
		one("streams_closed_total", "Streams closed by the store.", s.Server.StreamsClosed),
		one("streams_lost_total", "Streams ended by the server or the network.", s.Server.StreamsLost),
	)
	if len(s.Server.Servers) > 0 {
		all = append(all, endpointFamilies(s.Server.Servers)...)
	}
	return append(all, poolFamilies(&s.Server.Pool)...)
}

func endpointFamilies(servers []episodic.EndpointStats) []family {
	reads, failures, down := map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	for _, s := range servers {
		reads[s.Address], failures[s.Address], down[s.Address] = s.Reads, s.Failures, uint64(oneIf(s.Down))
	}
	return []family{
		by("server_reads_total", "Reads that a server answered.", "address", reads),
		by("server_read_failures_total", "Reads that a server did not answer, and that were asked for at another.", "address", failures),
		by("server_down", "Whether the last read that a server was asked for failed.", "address", down),
	}
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

func replicaFamilies(r *episodic.ReplicaStats) []family {
	asOf := 0.0
	if !r.AsOf.IsZero() {
		asOf = float64(r.AsOf.UnixMicro()) / 1e6
	}
	since := 0.0
	if !r.Since.IsZero() {
		since = float64(r.Since.UnixMicro()) / 1e6
	}
	families := []family{
		one("replica_as_of_timestamp_seconds", "When the server had what the replica has, 0 while that is no moment.", asOf),
		one("replica_complete", "Whether the replica has all that the server had then.", oneIf(r.Complete)),
		one("replica_remaining", "About how many items the replica is yet to fetch.", r.Remaining),
		one("replica_since_timestamp_seconds", "When the first episodes began that the replica holds, 0 if it holds all.", since),
		one("replica_down", "Whether the server could not be asked for changes the last time.", oneIf(r.Down != "")),
		one("replica_pulls_total", "Times that changes were asked for and had.", r.Pulls),
		one("replica_items_total", "Items fetched into the replica.", r.Items),
		one("replica_payload_bytes_total", "Bytes of the compressed payloads of items fetched.", r.PayloadBytes),
		one("replica_reads_total", "Reads that the replica answered.", r.Reads),
		one("replica_older_reads_total", "Reads that the replica answered although it was older than promised.", r.OlderReads),
		one("replica_server_reads_total", "Reads for which the server was asked in place of the replica.", r.ServerReads),
		one("replica_waits_total", "Reads that waited for changes to be fetched.", r.Waits),
		one("replica_failures_total", "Reads that failed because the replica was not new enough.", r.Failures),
	}
	if q := r.Queue; q != nil {
		families = append(families,
			one("queue_down", "Whether queued writes could not be pushed the last time.", oneIf(q.Down != "")),
			one("queue_queued_total", "Writes that were queued.", q.Queued),
			one("queue_pushed_total", "Queued writes that this store has pushed.", q.Pushed),
			one("queue_requests_total", "Transactions that carried queued writes to the server.", q.Requests),
			one("queue_refused_total", "Times that the server has refused a queued write for good.", q.Refused),
			one("queue_merged_total", "Queued writes that were merged with what others had changed.", q.Merged),
			one("queue_conflicts_total", "Queued writes by which something lost, or that came late.", q.Conflicts),
			one("queue_unsure_total", "Times that the server was asked how much it has of the queued writes.", q.Unsure),
		)
	}
	return families
}

func vectorFamilies(v *episodic.VectorStats) []family {
	return []family{
		one("vectors_held", "Vectors held in memory.", v.Held),
		one("vectors_bytes", "Memory that the vectors take.", v.Bytes),
		one("vectors_searches_total", "Calls of Nearest that were answered.", v.Searches),
		one("vectors_fallbacks_total", "Calls of Nearest for which the vectors did not fit into memory.", v.Fallbacks),
		one("vectors_loads_total", "Times that the vectors of a kind and model were loaded.", v.Loads),
		one("vectors_evictions_total", "Times that the vectors of a kind and model made room for others.", v.Evictions),
	}
}

func embedderFamilies(e *episodic.EmbedderStats) []family {
	return []family{
		by("embedder_info", "The embedding model of searches.", "model", map[string]uint64{e.Name: 1}),
		one("embedder_dim", "Numbers of a vector of the embedding model.", e.Dim),
		one("embedder_embedded_total", "Documents whose vectors were stored.", e.Embedded),
		one("embedder_refused_total", "Documents that the embedding model did not take.", e.Refused),
		one("embedder_failures_total", "Times that making vectors was given up.", e.Failures),
		one("embedder_searches_total", "Searches for which the embedding model was asked.", e.Searches),
		one("embedder_missed_total", "Searches for which the embedding model failed.", e.Missed),
		one("embedder_skipped_total", "Searches for which the embedding model was not asked because it had just failed.", e.Skipped),
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
		by("pool_connections", "Open connections by state.", "state", map[string]uint64{
			"idle": uint64(p.Idle), "in_use": uint64(p.InUse), "pinging": uint64(p.Pinging),
		}),
		one("pool_connections_target", "Desired number of connections.", p.Target),
		one("pool_connections_peak", "Maximum number of open connections so far.", p.Peak),
		one("pool_connections_busy_max", "Mean of connections in use in the busiest of the last 30 seconds.", p.BusyMax),
		one("pool_dials_in_flight", "Dials in flight.", p.Dialing),
		one("pool_calls_waiting", "Calls waiting for a connection.", p.Waiting),
		one("pool_oldest_wait_seconds", "How long the first waiting call has waited.", p.OldestWait.Seconds()),
		one("pool_asleep", "1 after the idle shutdown, until the next call; otherwise 0.", oneIf(p.Asleep)),

		one("pool_calls_total", "Calls that needed a connection.", p.Calls),
		one("pool_acquired_total", "Connections acquired by calls.", p.Acquired),
		one("pool_waits_total", "Calls that had to wait, whatever their result.", p.Waits),
		times("pool_wait_seconds", "Duration of waits that have ended, whatever their result.", &p.WaitTimes),
		one("pool_timeouts_total", "Calls whose deadline passed while they waited.", p.Timeouts),
		one("pool_cancelled_total", "Calls whose context was cancelled while they waited.", p.Cancelled),
		one("pool_queue_full_total", "Calls that failed because the queue of waiting calls was full.", p.QueueFull),
		one("pool_dial_errors_total", "Calls that failed because a dial failed.", p.DialErrors),
		one("pool_pool_closed_total", "Calls that failed because the store was closed.", p.PoolClosed),
		one("pool_returned_total", "Connections released after use.", p.Returned),
		one("pool_released_unused_total", "Connections released without having been used.", p.ReleasedUnused),
		one("pool_leaked_total", "Connections that a call never released: a bug in episodic.", p.Leaked),
		one("pool_force_closed_total", "Connections that closing the store closed while they were in use.", p.ForceClosed),
		one("pool_first_use_failures_total", "Calls that failed on an idle connection that was considered healthy.", p.FirstUseFailures),

		one("pool_dials_total", "Dials started.", p.Dials),
		one("pool_dial_failures_total", "Dials that failed.", p.DialFailures),
		times("pool_dial_seconds", "Duration of dials, including failed ones.", &p.DialTimes),
		one("pool_connections_opened_total", "Connections opened.", p.Opened),
		by("pool_connections_closed_total", "Connections closed by reason.", "reason", p.ClosedBy),

		one("pool_pings_sent_total", "Pings sent.", p.PingsSent),
		one("pool_pings_failed_total", "Pings that failed or timed out.", p.PingsFailed),
		one("pool_ping_timeouts_total", "Pings that timed out.", p.PingTimeouts),
		one("pool_pings_cancelled_total", "Pings cancelled because a call waited or the store was closed.", p.PingsCancelled),
		times("pool_ping_seconds", "Duration of successful pings.", &p.PingTimes),

		by("pool_connections_stale_total", "Connections found stale by reason.", "reason", p.Stale),
		one("pool_refreshes_total", "Connections dialled to replace one that expired or was lost.", p.Refreshes),
		one("pool_resets_total", "Network resets: two connection failures within a second.", p.Resets),

		one("pool_grown_on_demand_total", "Dials started because the queue would outlast a dial.", p.GrownOnDemand),
		one("pool_grown_on_utilisation_total", "Dials started because of high utilisation.", p.GrownOnUtilisation),
		one("pool_shrunk_total", "Connections closed because of low utilisation.", p.Shrunk),
		one("pool_overloads_total", "Requests that the server refused because of overload.", p.Overloads),

		one("pool_connections_open_seconds_total", "Sum of the time that connections were open.", p.ConnTime.Seconds()),
		one("pool_connections_in_use_seconds_total", "Sum of the time that connections were in use.", p.BusyTime.Seconds()),
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
