// Package rank orders what an index found. All of it is pure: it is given postings and
// lengths and returns scores.
//
// Steps and episodes are scored by BM25F; a step receives a part of the scores of the
// steps around it, because the answer often stands beside the words that were asked for.
// The package knows no database, no text and no noun but episodes and their steps.
package rank
