// Package frame knows the marks between which what is recalled is shown to a model, and keeps
// stored text from forging them. What else is said there, and what is left out of a text, is for
// those who show it to know.
package frame

import "regexp"

// Mark is the name of the marks: <Mark ...> begins what is recalled, </Mark> ends it.
const Mark = "episodic-memory"

var mark = regexp.MustCompile(`(?i)<(\s*/?\s*` + Mark + `)`)

// Tame returns a text in which nothing can be taken for a mark, in whatever letter case or with
// whatever space in it.
func Tame(text string) string { return mark.ReplaceAllString(text, "‹$1") }
