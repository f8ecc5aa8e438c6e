// Package serve offers a memory to many agents by the Model Context Protocol over HTTP: who may
// call, from where, for which part of the memory, and how much at once. It keeps nothing
// between requests, so that clients of every revision of the protocol may come and go, and a
// restart is noticed by none. What a call does, mcpserver knows.
package serve
