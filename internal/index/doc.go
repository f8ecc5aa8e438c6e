// Package index is a full-text index. It turns texts into tokens, and what is asked for into
// the tokens that find them, by the same rules; it keeps, for each token, the documents that
// hold it, in tables of a local file, and merges them. It knows scripts, spellings of
// identifiers, English stems and stop words. It does not know what the documents are, or how
// they are ranked: what it finds is in the terms of package rank.
//
// A token holds a to z, 0 to 9, letters, digits and marks beyond ASCII, and in
// numbers such as 3.11.2 the full stop.
package index
