// Package clients knows the dialects of agent programs: what their hooks say in JSON, and in
// which form they take what is to be added to the model's context.
//
// It decides nothing: what becomes of an event, and what is said to it, is for others to know.
package clients
