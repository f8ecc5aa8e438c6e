package index

import (
	"regexp"
	"sync"
)

// asking are questions for a time.
var asking = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(when|how long|how recently|(what|which) (date|day|week|weekend|month|season|year|time)|how many (days|weeks|months|years))\b`)
})

// AsksWhen reports whether a text asks when something was, in English.
func AsksWhen(text string) bool { return asking().MatchString(text) }

// TimeWords are the tokens of words that say when something was.
var TimeWords = func() []string {
	var words []string
	seen := make(map[string]bool)
	s := newScanner(`yesterday today tonight tomorrow ago last next week weeks weekend month months year years day days
 monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
 october november december morning evening since recently soon`)
	defer s.release()
	for s.scan() {
		for _, p := range s.pieces {
			if t := s.token(p); !seen[t] {
				seen[t] = true
				words = append(words, t)
			}
		}
	}
	return words
}()
