package main

import "testing"

func TestChoose(t *testing.T) {
	for suite := range suites {
		chosen, err := choose(suite + ",start")
		if err != nil || len(chosen) != len(suites[suite])+1 {
			t.Fatalf("%s: %d scenarios, %v", suite, len(chosen), err)
		}
		for _, s := range chosen {
			if s.run == nil {
				t.Errorf("%s has a scenario that there is not", suite)
			}
		}
	}
	if all, err := choose(""); err != nil || len(all) != len(scenarios) {
		t.Errorf("%d scenarios, %v", len(all), err)
	}
	if _, err := choose("puts,nothing"); err == nil {
		t.Error("an unknown scenario is chosen")
	}
}
