// Package replica keeps a copy of a server's memory in a local file.
//
// It reads which items have changed from the server's change feed, fetches what of them
// is not here yet, and stores it in the same tables; so the file is an ordinary memory,
// which an ordinary Store reads. The package knows the feed, the tables and the position
// up to which they were copied. It knows no nouns, decodes no payload, makes no search
// index, and decides no read: it tells how new the copy is.
//
// Processes share a file. Whoever needs a pull takes a lock for that one pull, so that no
// process leads and none has to take over from another.
package replica
