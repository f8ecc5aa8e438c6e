package main

import "fmt"

// below is by which part t lies below another one, if so many bytes of both do not
// count.
func (t traffic) below(other traffic, besides float64) float64 {
	return 1 - (t.total()-besides)/(other.total()-besides)
}

// leastHeads is the bytes of HTTP heads that no client can spare with a request
// for each of so many calls: request line, Host, Authorization and what the server
// answers.
func (g *wireGroup) leastHeads(calls int) float64 {
	return float64(calls) * g.mean(func(s savedStep) int { return s.address + s.status })
}

// lifeCalls is a start, a completion, a fetch and the steps of each episode.
func (g *wireGroup) lifeCalls() (calls int) {
	for _, e := range g.episodes {
		calls += len(e.Steps) + 3
	}
	return calls
}

// mean is that over the saved steps; 0 if there are none.
func (g *wireGroup) mean(of func(savedStep) int) float64 {
	sum := 0
	for _, s := range g.saved {
		sum += of(s)
	}
	return float64(sum) / float64(max(len(g.saved), 1))
}

// row is a traffic in a table, for each of n episodes.
func (t traffic) row(name, way string, n int) []string {
	each := func(x float64) string { return fmt.Sprintf("%.0f", x/float64(n)) }
	return []string{name, way, fmt.Sprintf("%.1f", float64(t.requests)/float64(n)), each(float64(t.up)), each(float64(t.down)), each(t.total()), each(float64(t.heads))}
}

// compared is the row of another way than ours, in so many calls.
func (g *wireGroup) compared(name, way string, other, ours traffic, calls int) []string {
	n := len(g.episodes)
	regained := "never"
	if saved := (other.total() - ours.total()) / float64(n); saved > 0 {
		regained = fmt.Sprintf("%.1f", float64(g.opening)/saved)
	}
	return append(other.row(name, way, n), fmt.Sprintf("%.1f %%", 100*ours.below(other, 0)), fmt.Sprintf("%.1f %%", 100*ours.below(other, g.leastHeads(calls))), regained)
}

var wireColumns = []string{"", "", "requests", "bytes up", "bytes down", "together", "HTTP heads of it", "episodic lies below it by", "without the heads HTTP needs by", "episodes that regain opening"}

// lives prints what whole lives take.
func (b *bench) lives(groups []*wireGroup) {
	b.printf("\nWhole lives:\n")
	table := [][]string{wireColumns}
	for _, g := range groups {
		table = append(table,
			g.compared(g.name, "rewritten", g.rewritten, g.life, g.lifeCalls()),
			g.compared("", "rewritten with LZ4", g.lz4, g.life, g.lifeCalls()),
			append(g.life.row("", "episodic", len(g.episodes)), "", "", ""))
	}
	b.table(table...)
	for _, g := range groups {
		if g.least == nil {
			continue
		}
		for i, other := range []struct {
			name string
			t    traffic
		}{{"rewriting", g.rewritten}, {"rewriting with LZ4", g.lz4}} {
			below := g.life.below(other.t, 0)
			b.judge(below >= g.least[i], fmt.Sprintf("%s: a life at least %.0f %% below %s", g.name, 100*g.least[i], other.name), "%.1f %%", 100*below)
		}
	}
	b.printf("\nAmong these is what an agent asks now and then: whether there is a newer dictionary. Not counted is what a Store takes once, to open the database, to get the dictionary and for an agent's first small episode: %d bytes. "+
		"The last column says how many episodes save as much as that of two Stores. Nor is training counted, which reads at most 4 MB of rows, five times in the life of a database.\n", groups[0].opening/2)
}

// keeping prints what storing at once and fetching take.
func (b *bench) keeping(groups []*wireGroup) {
	b.printf("\nStored at once and fetched by another Store:\n")
	table := [][]string{wireColumns}
	for _, g := range groups {
		table = append(table,
			g.compared(g.name, "16 columns", g.columns, g.kept, 2*len(g.episodes)),
			g.compared("", "16 columns, answers by gzip", g.gzipped, g.kept, 2*len(g.episodes)),
			append(g.kept.row("", "episodic", len(g.episodes)), "", "", ""))
	}
	b.table(table...)
	b.printf("net/http asks for answers by gzip unless it is told not to. The target is against answers as they are.\n\n")
	for _, g := range groups {
		if g.least == nil {
			continue
		}
		below := g.kept.below(g.columns, 0)
		b.judge(below >= 0.8, g.name+": stored and fetched at least 80 % below 16 columns", "%.1f %%", 100*below)
	}
}

// steps prints what a saved step is made of.
func (b *bench) steps(groups []*wireGroup) {
	b.printf("\nOne saved step, and ten appended by one call:\n")
	table := [][]string{{"", "steps", "its JSON", "compressed", "request line, Host, Authorization", "other headers", "request body", "head of the answer", "body of the answer", "up", "down", "ten together"}}
	var verdicts []func()
	for _, g := range groups {
		row := []string{g.name, fmt.Sprintf("%d of %d", len(g.saved), g.saves)}
		for _, of := range []func(savedStep) int{
			func(s savedStep) int { return s.plain },
			func(s savedStep) int { return s.payload },
			func(s savedStep) int { return s.address },
			func(s savedStep) int { return s.headers },
			func(s savedStep) int { return s.body },
			func(s savedStep) int { return s.status },
			func(s savedStep) int { return s.answer },
			func(s savedStep) int { return s.address + s.headers + s.body },
			func(s savedStep) int { return s.status + s.answer },
		} {
			row = append(row, fmt.Sprintf("%.0f", g.mean(of)))
		}
		ten := ""
		if g.tenRequests > 0 {
			ten = fmt.Sprintf("%d request, %.0f bytes", g.tenRequests, g.ten.total())
			verdicts = append(verdicts, func() {
				b.judge(g.tenRequests == 1 && g.ten.requests == 1, g.name+": ten steps in one request", "%d counted by the Store, %d on the socket", g.tenRequests, g.ten.requests)
			})
		}
		table = append(table, append(row, ten))
		if g.tau {
			rest := g.mean(func(s savedStep) int { return s.headers + s.body + s.answer - s.payload })
			verdicts = append(verdicts, func() {
				b.judge(rest <= 310, "a saved step of tau-bench in at most 310 bytes besides its compressed form and what HTTP needs", "%.0f", rest)
			})
		}
	}
	b.table(table...)
	b.printf("Steps with which something else was sent, such as a look for a newer dictionary, are not among these, but are in the lives above.\n\n")
	for _, say := range verdicts {
		say()
	}
}
