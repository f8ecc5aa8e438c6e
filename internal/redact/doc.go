// Package redact takes secrets out of texts: what has the form of a key, a token, a private
// key or a password becomes [redacted:KIND], before it is stored anywhere. It looks at texts
// only: it asks nobody whether a key is valid, and remembers nothing of what it has found but
// how often each kind was. A text without a secret is returned as it is, without a copy.
//
// A text is read once from begin to end, and few of its places are looked at closely: where a
// word begins as a well-known form does, and around "=" and ":". What is looked at there is
// bounded, so that the time grows with the length of the text and nothing else. The forms are
// those that the providers document; which values count as secrets for the name before them
// is a matter of judgement, in value.go. It knows neither nouns nor databases.
package redact
