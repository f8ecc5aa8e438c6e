-- Statements are separated by blank lines and begin with their verb.
-- Kept lean on purpose: a libSQL server parses the whole schema for every new stream.

CREATE TABLE episodic_migrations(
  version INTEGER PRIMARY KEY,
  applied_us INTEGER NOT NULL
) STRICT

CREATE TABLE episodes(
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  task_type TEXT NOT NULL,
  domain TEXT NOT NULL,
  language TEXT NOT NULL,
  outcome TEXT NOT NULL,
  start_us INTEGER NOT NULL,
  end_us INTEGER,
  steps INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT

CREATE INDEX episodes_by_time ON episodes(start_us, seq, outcome, task_type, language)

CREATE INDEX episodes_by_domain ON episodes(domain, start_us, seq, outcome, task_type, language)

CREATE TABLE runs(
  episode INTEGER NOT NULL REFERENCES episodes(seq),
  first INTEGER NOT NULL,
  count INTEGER NOT NULL,
  key BLOB,
  payload BLOB NOT NULL,
  PRIMARY KEY(episode, first)
) STRICT

CREATE TABLE tags(
  tag TEXT NOT NULL,
  episode INTEGER NOT NULL REFERENCES episodes(seq),
  pos INTEGER NOT NULL,
  PRIMARY KEY(tag, episode)
) STRICT, WITHOUT ROWID

CREATE INDEX tags_by_episode ON tags(episode, pos)

CREATE TABLE relations(
  src INTEGER NOT NULL REFERENCES episodes(seq),
  type TEXT NOT NULL,
  dst INTEGER NOT NULL REFERENCES episodes(seq),
  created_us INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY(src, type, dst)
) STRICT, WITHOUT ROWID

CREATE INDEX relations_by_target ON relations(dst, type)

CREATE TABLE patterns(
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  domain TEXT NOT NULL,
  success_rate REAL NOT NULL,
  created_us INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT

CREATE INDEX patterns_by_time ON patterns(created_us, seq)

CREATE TABLE heuristics(
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  confidence REAL NOT NULL,
  created_us INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT

CREATE INDEX heuristics_by_time ON heuristics(created_us, seq)

CREATE TABLE embeddings(
  kind TEXT NOT NULL,
  item BLOB NOT NULL,
  model TEXT NOT NULL,
  dim INTEGER NOT NULL,
  vector BLOB NOT NULL,
  PRIMARY KEY(kind, item, model)
) STRICT

CREATE INDEX embeddings_by_model ON embeddings(model, dim)

CREATE VIRTUAL TABLE search USING fts5(
  task, tags, steps, outcome,
  tokenize = 'porter unicode61 remove_diacritics 2'
)

INSERT INTO search(search, rank) VALUES('rank', 'bm25(4.0, 3.0, 1.0, 2.0)')

CREATE TRIGGER episode_deleted BEFORE DELETE ON episodes BEGIN
  DELETE FROM runs WHERE episode = old.seq;
  DELETE FROM tags WHERE episode = old.seq;
  DELETE FROM relations WHERE src = old.seq OR dst = old.seq;
  DELETE FROM embeddings WHERE kind = 'episode' AND item = old.id;
  DELETE FROM search WHERE rowid = old.seq;
END

CREATE TRIGGER episode_replaced BEFORE UPDATE OF id ON episodes BEGIN
  DELETE FROM runs WHERE episode = old.seq;
  DELETE FROM tags WHERE episode = old.seq;
  DELETE FROM search WHERE rowid = old.seq;
END

CREATE TRIGGER pattern_deleted BEFORE DELETE ON patterns BEGIN
  DELETE FROM embeddings WHERE kind = 'pattern' AND item = old.id;
END

CREATE TRIGGER heuristic_deleted BEFORE DELETE ON heuristics BEGIN
  DELETE FROM embeddings WHERE kind = 'heuristic' AND item = old.id;
END
