// Package index turns texts into the tokens of a full-text index, and what is
// asked for into the tokens that find them, by the same rules. It knows scripts,
// spellings of identifiers, English stems and stop words. It does not know what the
// texts are of, where they are stored, or how hits are ranked.
//
// A token holds a to z, 0 to 9, letters, digits and marks beyond ASCII, and in
// numbers such as 3.11.2 the full stop, so that SQLite's ascii tokenizer, told that
// '.' is a token character, gives back exactly these tokens.
package index
