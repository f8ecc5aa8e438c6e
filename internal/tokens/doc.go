// Package tokens estimates how many tokens of a language model a text takes, without a
// tokenizer, and cuts texts by that. Its estimate is above the count for nearly all texts, so
// that what fits by it fits.
package tokens
