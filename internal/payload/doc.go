// Package payload turns values into the payload columns of rows and back: JSON,
// compressed if that makes it smaller, with dictionaries that are trained on
// stored payloads and kept in the database. It knows those columns, their tables
// and the table of dictionaries. It does not know what a payload says, except that
// an episode's description names its task, nor how items are found.
package payload
