// Package confedit puts entries into configuration files of other programs, and takes them out
// again, by editing their texts: comments, order, indentation and line ends stay as they are.
//
// An edit is a list of Splices, so that it can be shown and undone. What an edit would break is
// refused.
package confedit
