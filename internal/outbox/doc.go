// Package outbox keeps what was written while a server could not be reached, or was not
// waited for, in a file of its own, until the server has it.
//
// It knows operations by number, item and revision, in the order in which they were added,
// which of them have failed, and how far the server has got. It knows neither what an
// operation does nor how to reach a server.
package outbox
