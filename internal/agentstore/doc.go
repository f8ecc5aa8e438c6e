// Package agentstore reads the sessions of agents that keep them in a database, or in a file
// for each message: OpenCode, Cursor, OpenHands. It puts a session together as one JSON value,
// in a form that package transcript reads.
//
// It knows where the pieces of a session lie, and nothing of what they say. It never writes.
package agentstore
