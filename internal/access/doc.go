// Package access keeps the tokens with which clients reach a memory that is served over HTTP:
// for which part of it each of them is, and what it may do. They are lines of a file, which
// holds no secret but hashes only. The file lies apart from the memory, so that nobody who can
// write a memory, or is given a copy of it, can give rights in it.
package access
