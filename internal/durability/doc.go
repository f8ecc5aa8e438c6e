// Package durability tries whether a memory keeps what it acknowledges: processes write with
// receipts and read, and are killed; connections are cut, the disk is full, a server is killed;
// then a fresh process verifies every receipt, and looks for what is stored twice, and the whole
// memory is examined.
//
// It uses the public API alone, so that what it finds holds for every program. How a process
// is started is for the caller to say.
package durability
