-- What was imported, and which content it had then: the same record is known without reading its episode, and
-- one whose episode was deleted is not stored again by the next import. A row has no more of the record than
-- a hash.

CREATE TABLE imports(
  item BLOB PRIMARY KEY,
  hash BLOB NOT NULL
) STRICT, WITHOUT ROWID
