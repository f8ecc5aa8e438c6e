// Package hook keeps an episode for each session of an agent program by what its hooks say, and
// finds what is worth telling the model in return.
//
// Each event is put down in a file before anything is done with it, and what the memory does not
// have yet waits in a file of its session: a hook that is killed, or finds the memory locked or
// away, loses nothing. The episode is the one that capture and import make of the session's
// transcript, and where there is one, that has the last word.
package hook
