//go:build race

package replica_test

const raceDetector = true
