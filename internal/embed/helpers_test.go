package embed

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// near reports whether the vectors agree to within tolerance in each number.
func near(a, b [][]float32, tolerance float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if len(a[i]) != len(b[i]) {
			return false
		}
		for j := range a[i] {
			if !(math.Abs(float64(a[i][j])-float64(b[i][j])) <= tolerance) {
				return false
			}
		}
	}
	return true
}

// readJSONs reads files of the folder testdata.
func readJSONs(t *testing.T, files map[string]any) {
	t.Helper()
	for file, v := range files {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
}
