package testkit

import (
	"os"
	"testing"
)

// LongEnv is the environment variable that asks for long tests if it is "1", as
// "make test-long" sets it.
const LongEnv = "EPISODIC_LONG"

// Effort says how much a test should do: short under "go test -short", otherwise
// long if LongEnv is set, and otherwise usual. It must not be called before the test
// flags are parsed, as in a variable's initial value.
func Effort(short, usual, long int) int {
	switch {
	case testing.Short():
		return short
	case os.Getenv(LongEnv) == "1":
		return long
	default:
		return usual
	}
}
