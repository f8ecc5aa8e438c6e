package main

import "fmt"

// below is by which part t lies below another one.
func (t traffic) below(other traffic) float64 { return 1 - t.total()/other.total() }

// leastHeads is how many calls the lives are, and the bytes of HTTP heads that no
// client can spare at a request for each: request line, Host, Authorization and
// what the server answers.
func (g *wireGroup) leastHeads() (calls, bytes float64) {
	for _, e := range g.episodes {
		calls += float64(len(e.Steps) + 3) // start, complete and fetch
	}
	return calls, calls * g.mean(func(s savedStep) int { return s.address + s.status })
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

// compared is the row of another way than ours.
func (g *wireGroup) compared(name, way string, other, ours traffic) []string {
	n := len(g.episodes)
	regained := "never"
	if saved := (other.total() - ours.total()) / float64(n); saved > 0 {
		regained = fmt.Sprintf("%.1f", float64(g.opening)/saved)
	}
	return append(other.row(name, way, n), fmt.Sprintf("%.1f %%", 100*ours.below(other)), fmt.Sprintf("%.1f %%", 100*ours.headsOf(other)), regained)
}

// headsOf is which part of what another way takes the heads of t are.
func (t traffic) headsOf(other traffic) float64 { return float64(t.heads) / other.total() }

var wireColumns = []string{"", "", "requests", "bytes up", "bytes down", "together", "HTTP heads of it", "episodic lies below it by", "episodic's HTTP heads are of it", "episodes that regain opening"}

// lives prints what whole lives take.
func (b *bench) lives(groups []*wireGroup) {
	b.printf("\nWhole lives:\n")
	table := [][]string{wireColumns}
	for _, g := range groups {
		table = append(table,
			g.compared(g.name, "rewritten", g.rewritten, g.life),
			g.compared("", "rewritten with LZ4", g.lz4, g.life),
			append(g.life.row("", "episodic", len(g.episodes)), "", "", ""))
	}
	b.table(table...)
	for _, g := range groups {
		for _, other := range []struct {
			name  string
			t     traffic
			least float64
		}{{"rewriting", g.rewritten, 0.97}, {"rewriting with LZ4", g.lz4, 0.90}} {
			below := g.life.below(other.t)
			target := fmt.Sprintf("%s: a life at least %.0f %% below %s", g.name, 100*other.least, other.name)
			calls, heads := g.leastHeads()
			if part := heads / other.t.total(); part > 1-other.least {
				b.printf("- %s: %.1f %%. Not judged: the target leaves %.0f %%, but request line, Host, Authorization and head of the answer alone, for %.1f calls, are %.1f %% of what %s takes.\n",
					target, 100*below, 100*(1-other.least), calls/float64(len(g.episodes)), 100*part, other.name)
				continue
			}
			b.judge(below >= other.least, target, "%.1f %%", 100*below)
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
			g.compared(g.name, "16 columns", g.columns, g.kept),
			g.compared("", "16 columns, answers by gzip", g.gzipped, g.kept),
			append(g.kept.row("", "episodic", len(g.episodes)), "", "", ""))
	}
	b.table(table...)
	b.printf("net/http asks for answers by gzip unless it is told not to. The target is against answers as they are.\n\n")
	for _, g := range groups {
		below := g.kept.below(g.columns)
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
			rest := g.mean(func(s savedStep) int { return s.headers + s.body + s.answer })
			verdicts = append(verdicts, func() {
				b.judge(rest <= 450, "a saved step of tau-bench in at most 450 bytes besides", "%.0f", rest)
			})
		}
	}
	b.table(table...)
	b.printf("Steps with which something else was sent, such as a look for a newer dictionary, are not among these, but are in the lives above.\n\n")
	for _, say := range verdicts {
		say()
	}
}
