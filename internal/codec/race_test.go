//go:build race

package codec_test

// The race detector makes sync.Pool forget at random, so that calls allocate.
const raceEnabled = true
