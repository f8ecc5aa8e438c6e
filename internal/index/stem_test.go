package index

import (
	"strings"
	"testing"

	porterstemmer "github.com/blevesearch/go-porterstemmer"
)

func stemOf(word string) string {
	var s scanner
	return string(s.appendStem(nil, []byte(word)))
}

// Words and stems from "An algorithm for suffix stripping" (Porter, 1980), at least
// one for each rule, after all steps.
func TestStem(t *testing.T) {
	for _, c := range strings.Fields(`
		caresses:caress ponies:poni ties:ti caress:caress cats:cat feed:feed agreed:agre plastered:plaster bled:bled
		motoring:motor sing:sing conflated:conflat troubled:troubl sized:size hopping:hop tanned:tan falling:fall
		hissing:hiss fizzed:fizz failing:fail filing:file happy:happi sky:sky relational:relat conditional:condit
		rational:ration valency:valenc hesitancy:hesit digitizer:digit conformably:conform radically:radic
		differently:differ vilely:vile analogously:analog vietnamization:vietnam predication:predic operator:oper
		feudalism:feudal decisiveness:decis hopefulness:hope callousness:callous formality:formal
		sensitivity:sensit sensibility:sensibl triplicate:triplic formative:form formalize:formal
		electricity:electr electrical:electr hopeful:hope goodness:good revival:reviv allowance:allow
		inference:infer airliner:airlin gyroscopic:gyroscop adjustable:adjust defensible:defens irritant:irrit
		replacement:replac adjustment:adjust dependent:depend adoption:adopt homologou:homolog communism:commun
		activate:activ angularity:angular homologous:homolog effective:effect bowdlerize:bowdler
		probate:probat rate:rate cease:ceas controll:control roll:roll a:a is:is internationalization:internation`) {
		word, want, _ := strings.Cut(c, ":")
		for range 2 { // the second time from memory, if it is short
			if got := stemOf(word); got != want {
				t.Errorf("stem of %q is %q, want %q", word, got, want)
			}
		}
	}
}

// A remembered stem must be that of the word itself, whatever was stemmed before.
func FuzzStem(f *testing.F) {
	f.Add("running")
	f.Add("happy")
	f.Add("internationalization")
	f.Fuzz(func(t *testing.T, s string) {
		word := strings.Map(func(r rune) rune {
			if 'a' <= r && r <= 'z' {
				return r
			}
			return -1
		}, s)
		word = word[:min(len(word), maxToken)]
		want := string(porterstemmer.StemWithoutLowerCasing([]rune(word)))
		for range 2 {
			if got := stemOf(word); got != want {
				t.Errorf("stem of %q is %q, want %q", word, got, want)
			}
		}
	})
}
