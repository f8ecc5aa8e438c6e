package index

import "strings"

// stopWords are the English words that nearly every text holds, and what an
// apostrophe leaves of them. They leave a query that has other words, and are in
// the index all the same: phrases hold them.
var stopWords = func() map[string]bool {
	m := make(map[string]bool)
	for w := range strings.FieldsSeq(`
		a about above after again against all also am an and any are as at be because been before being below between both
		but by can could d did do does doing don down during each few for from further get got had has have having he her
		here hers herself him himself his how i if in into is it its itself just kind like ll m me might mine more most much
		must my myself no nor not now of off on once only or other our ours out over own please re s same shall she should
		so some such t than that the their theirs them themselves then there these they this those through to too type
		types under until up us ve very was we were what when where which while who whom whose why will with would you your
		yours yourself`) {
		m[w] = true
	}
	return m
}()
