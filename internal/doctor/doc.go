// Package doctor reads the rows that the pages of a SQLite file hold, without SQLite: of a
// file that SQLite refuses, because its header, its schema, some of its pages or its end are
// damaged. It follows b-trees from the schema as far as they are whole; pages that no tree
// leads to are told by the shape of their rows. It knows file formats and the shapes of
// tables that it is given, and no nouns. See https://www.sqlite.org/fileformat2.html.
package doctor
