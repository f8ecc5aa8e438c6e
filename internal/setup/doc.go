// Package setup makes agent programs use a memory: it knows where each of them keeps its
// configuration, and what belongs there.
//
// A Plan says what would change in which file. Carrying it out leaves a record, by which the
// same files can be restored, with what was edited in them since.
package setup
