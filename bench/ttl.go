package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/cache"
)

const ttlClaim = "How long a cache keeps entries: by `cache.NextTTL` with its defaults, for a fixed time, or by the original's rule: 5 min; a hit makes that 25 % longer if it is at least the tenth in 5 min, 25 % shorter if at most the second, within 1 min and 1 h. " +
	"Simulated in virtual time: one process reads, others write. " +
	"Targets, where a TTL decides: 5 points more hits or 20 % fewer loads than 300 s with room for as much and, where writes are few, 3 points more hits than whichever fixed TTL fills the same memory, and 7 points more than the original's rule. Where others write much, it is they who decide how long anything may be kept."

const (
	ttlSeeds  = 3
	ttlLength = 6 * time.Hour
	ttlPoll   = 5 * time.Second

	valueBytes   = 6 << 10 // of an episode
	plainBytes   = 128     // that otter needs for an entry
	nextTTLBytes = 400     // that package cache counts for an entry
)

// ttlPolicy is a rule and what it costs.
type ttlPolicy struct {
	name  string
	bytes int // of an entry
	rule  func() ttlRule
}

func fixedPolicy(name string, ttl time.Duration) ttlPolicy {
	return ttlPolicy{name, valueBytes + plainBytes, func() ttlRule { return fixedTTL(ttl) }}
}

func nextTTLPolicy(name string, o cache.Options) ttlPolicy {
	return ttlPolicy{name, valueBytes + nextTTLBytes, func() ttlRule { return newNextTTL(o) }}
}

// The policies that are compared.
const (
	fixedMinute = iota
	fixed5Minutes
	fixedHour
	theirs
	ours
	oursFeedless
	filling // a fixed one that takes as much memory as ours
)

var ttlPolicies = [...]ttlPolicy{
	fixedMinute:   fixedPolicy("fixed 60 s", time.Minute),
	fixed5Minutes: fixedPolicy("fixed 300 s", 5*time.Minute),
	fixedHour:     fixedPolicy("fixed 3600 s", time.Hour),
	theirs:        {"the original's", valueBytes + plainBytes, func() ttlRule { return original{} }},
	ours:          nextTTLPolicy("`NextTTL`", cache.Options{}.WithDefaults()),
	oursFeedless:  nextTTLPolicy("`NextTTL`, `WithoutFeed`", cache.Options{}.WithDefaults().WithoutFeed()),
	filling:       fixedPolicy("fixed, in the memory of `NextTTL`", 0),
}

var writeMixes = []writeMix{
	{"mixed writes", mixedWrites},
	{"few writes", func(key int, kind float64) time.Duration { return 20 * mixedWrites(key, kind) }},
	{"hot keys written", func(key int, kind float64) time.Duration {
		if key < 200 {
			return 2 * time.Minute
		}
		return mixedWrites(key, kind)
	}},
}

func mixedWrites(_ int, kind float64) time.Duration {
	switch {
	case kind < 0.03:
		return 90 * time.Second
	case kind < 0.20:
		return 30 * time.Minute
	}
	return 48 * time.Hour
}

// ttlTrial is what became of a policy in the traces of all seeds, by seed.
type ttlTrial struct {
	ttlPolicy
	free, held []*ttlOutcome   // without a bound; with room for the memory that ours takes then
	ttl        []time.Duration // of filling
}

// memory is what the entries take without a bound, in bytes on average.
func (t *ttlTrial) memory(seed int) float64 { return t.free[seed].entries() * float64(t.bytes) }

func ttl(ctx context.Context, b *bench) error {
	seeds, length := ttlSeeds, ttlLength
	if b.short {
		seeds, length = 1, 10*time.Minute
	}
	b.printf("\n%d keys are read %d times a second for %v, by Zipf's law to the power of %v. The reads are the same in all tables; sums over %d seeds, verdicts on the median. "+
		"Mixed writes: of all keys, whichever, 3 %% are written every 90 s, 17 %% every 30 min, the others every 48 h. Few writes: a twentieth of that. Hot keys written: the 200 that are read most every 2 min, too. "+
		"The change feed names every key that was written. Every load reads it, and a poll after %v without a load.\n",
		ttlKeys, ttlReads, length, zipfPower, seeds, ttlPoll)
	b.printf("\nA stale read is a hit of another version than the database has at that moment; its age is the time since it was overwritten. "+
		"An entry takes %d bytes, %d more with `NextTTL`. "+
		"In the last two columns every policy has room for the memory that `NextTTL` takes on average when it is not bounded, and what was not read for longest has to go; in the others nothing is bounded. "+
		"Without the feed the product bounds every TTL to 60 s (`WithoutFeed`), because only that bounds the age of its answers; `NextTTL` is then what the rule alone would do.\n",
		valueBytes+plainBytes, nextTTLBytes-plainBytes)
	b.printf("\nNot judged is what is said of keys that are read and written most, and of many writes but against 300 s: there changes end entries, or only stale answers would help.\n")
	for _, feed := range []bool{false, true} {
		for _, mix := range writeMixes {
			trials, err := tryTTLs(ctx, mix, feed, seeds, length)
			if err != nil {
				return err
			}
			name := mix.name + ", no feed"
			if feed {
				name = mix.name + ", change feed"
			}
			b.ttlTable(name, trials)
			b.judgeTTLs(name, trials)
		}
	}
	return nil
}

func tryTTLs(ctx context.Context, mix writeMix, feed bool, seeds int, length time.Duration) (trials [len(ttlPolicies)]*ttlTrial, err error) {
	for i, p := range ttlPolicies {
		trials[i] = &ttlTrial{ttlPolicy: p}
	}
	for seed := range seeds {
		trace := newReadTrace(mix, uint64(seed), length)
		for i, t := range trials {
			if err := ctx.Err(); err != nil {
				return trials, err
			}
			switch {
			case i == filling:
				t.fill(trace, feed, trials[ours].memory(seed))
				continue
			case i == oursFeedless && feed:
				continue
			}
			t.free = append(t.free, trace.simulate(t.rule(), feed, ttlPoll, math.MaxInt))
		}
		for i, t := range trials {
			switch {
			case len(t.free) == 0:
				continue
			case i == filling:
				t.held = append(t.held, t.free[seed])
				continue
			}
			room := int(trials[ours].memory(seed)) / t.bytes
			t.held = append(t.held, trace.simulate(t.rule(), feed, ttlPoll, room))
		}
	}
	return trials, nil
}

// fill adds the outcome of the fixed TTL whose entries take so much memory on
// average, to a part in two hundred.
func (t *ttlTrial) fill(trace *readTrace, feed bool, memory float64) {
	low, high := time.Duration(0), trace.length
	for {
		ttl := (low + high) / 2
		o := trace.simulate(fixedTTL(ttl), feed, ttlPoll, math.MaxInt)
		switch got := o.entries() * float64(t.bytes); {
		case high-low > time.Second && got < memory*0.995:
			low = ttl
		case high-low > time.Second && got > memory*1.005:
			high = ttl
		default:
			t.free, t.ttl = append(t.free, o), append(t.ttl, ttl)
			return
		}
	}
}

func (b *bench) ttlTable(name string, trials [len(ttlPolicies)]*ttlTrial) {
	table := [][]string{{
		name, "hits", "loads/s", "stale reads", "age p99", "longest",
		"entries", "memory", "hits in the memory of `NextTTL`", "loads/s in it",
	}}
	for _, t := range trials {
		if len(t.free) == 0 {
			continue
		}
		var free, held ttlOutcome
		for seed := range t.free {
			free.add(t.free[seed])
			held.add(t.held[seed])
		}
		name, length := t.name, free.length.Seconds()
		if len(t.ttl) > 0 {
			name = fmt.Sprintf("%s: %.0f s", name, percentile(t.ttl, 0.5).Seconds())
		}
		table = append(table, []string{
			name, share(free.hitShare()), digits(float64(free.loads) / length),
			fmt.Sprintf("%.3f %%", 100*free.staleShare()), seconds(percentile(free.stale, 0.99)), seconds(percentile(free.stale, 1)),
			fmt.Sprintf("%.0f", free.entries()), fmt.Sprintf("%.1f MiB", free.entries()*float64(t.bytes)/(1<<20)),
			share(held.hitShare()), digits(float64(held.loads) / length),
		})
	}
	b.table(table...)
}

func seconds(d time.Duration) string { return digits(d.Seconds()) + " s" }

func share(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// judgeTTLs judges what a TTL can decide with the change feed, or
// without: not where the keys that are read most are written all the time.
func (b *bench) judgeTTLs(name string, trials [len(ttlPolicies)]*ttlTrial) {
	us := trials[ours]
	few, many := strings.HasPrefix(name, "few"), strings.HasPrefix(name, "hot")
	judge := func(judged, met bool, target, got string) {
		if judged {
			b.judge(met, name+": "+target, "%s", got)
		} else {
			b.printf("- %s: %s: %s\n", name, target, got)
		}
	}
	more := func(a, b []*ttlOutcome) (hits, loads ratio, text string) {
		hits, loads = gain((*ttlOutcome).hitShare, a, b), moreLoads(a, b)
		return hits, loads, points(hits) + ", loads " + percents(loads)
	}
	hits, loads, got := more(us.held, trials[fixed5Minutes].held)
	judge(!many, hits.median >= 0.05 || loads.median <= -0.2, "5 points more hits or 20 % fewer loads than 300 s with room for as much", got)
	hits, _, got = more(us.free, trials[filling].free)
	judge(few, hits.median >= 0.03, "3 points more hits than the fixed TTL that fills the same memory", got)
	hits, _, got = more(us.held, trials[theirs].held)
	judge(few, hits.median >= 0.07, "7 points more hits than the original's rule with room for as much", got)
}

// gain is how much more a has of something than b.
func gain(of func(*ttlOutcome) float64, a, b []*ttlOutcome) ratio {
	var all []float64
	for seed := range a {
		all = append(all, of(a[seed])-of(b[seed]))
	}
	return spread(all)
}

// moreLoads is how many more loads a has than b, in parts of those of b.
func moreLoads(a, b []*ttlOutcome) ratio {
	var all []float64
	for seed := range a {
		all = append(all, float64(a[seed].loads)/float64(b[seed].loads)-1)
	}
	return spread(all)
}

func points(r ratio) string {
	return fmt.Sprintf("%+.1f points (%+.1f to %+.1f)", 100*r.median, 100*r.low, 100*r.high)
}
