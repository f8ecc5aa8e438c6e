// Package agentstore reads the sessions of agents that keep them in a database, or in a file
// for each message: OpenCode, Cursor, OpenHands; and the memory of do-memory-core. It puts a
// session, or a row of the memory, together as one JSON value, in a form that package
// transcript reads.
//
// It knows where the pieces lie, and nothing of what they say. It never writes.
package agentstore
