// Package capture follows the session files of agents, and keeps a memory up to date with
// them while they grow.
//
// It knows folders and files: which there are, what has been added to them, and when a session
// has ended. What is in them internal/transcript knows, and what is stored already the Store:
// Capture keeps no state of its own, so that it can be killed at any moment, run twice, and
// goes on where the memory is.
package capture
