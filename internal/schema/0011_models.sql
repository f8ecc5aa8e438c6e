-- Vectors that an embedding model made of documents, by which searches of a file compare meanings. Places
-- are those of the index: an episode's number times 2^24, plus 0 for its task or the number of a step. Of an
-- episode there are those of its task and of its first steps, without a gap, because they are made in this
-- order. An empty vector is that of a text which the model did not take. Programs use the model with used = 1.

CREATE TABLE models(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  dim INTEGER NOT NULL,
  done INTEGER NOT NULL DEFAULT 0,
  used INTEGER NOT NULL DEFAULT 0
) STRICT

CREATE TABLE document_vectors(
  model INTEGER NOT NULL,
  place INTEGER NOT NULL,
  vector BLOB NOT NULL,
  PRIMARY KEY(model, place)
) STRICT, WITHOUT ROWID

-- An index that is made anew needs no new vectors, so that they go with the episode itself.

CREATE TRIGGER vectors_deleted BEFORE DELETE ON episodes BEGIN
  DELETE FROM document_vectors WHERE model IN (SELECT id FROM models) AND place >= (old.seq << 24) AND place < ((old.seq + 1) << 24);
END

CREATE TRIGGER vectors_replaced BEFORE UPDATE OF id ON episodes BEGIN
  DELETE FROM document_vectors WHERE model IN (SELECT id FROM models) AND place >= (old.seq << 24) AND place < ((old.seq + 1) << 24);
END
