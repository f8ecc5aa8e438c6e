//go:build !race

package episodic

const raceDetector = false
