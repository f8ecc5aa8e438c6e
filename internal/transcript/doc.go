// Package transcript reads what other programs have recorded of agents: session files,
// logs, traces, data sets. It decides for a file as a whole which format it is of, and makes
// an episode of each run in it.
//
// It knows formats, one in each file of this package, and nothing of stores: which episodes
// are stored already, and what becomes of them, is for its callers to know. It reads a file
// once, from begin to end, and holds no more of it than one value or, where the records of a
// run lie apart, one run.
package transcript
