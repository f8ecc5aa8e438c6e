-- Dictionaries can be deleted, at once: nobody can store a payload that names one which is gone, or
-- closed because it is about to go. trainings holds the attempts to train one, by the id that each took,
-- so that no id is given twice.

DROP VIEW dictionary_use

DROP TRIGGER dictionary_changed

DROP TRIGGER dictionary_deleted

ALTER TABLE dictionaries RENAME TO old_dictionaries

CREATE TABLE trainings(
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  items INTEGER NOT NULL
) STRICT

INSERT INTO trainings SELECT id, kind, items FROM old_dictionaries

-- How often items of the kind were deleted or replaced. A dictionary that was trained when this was
-- another number is tainted: it may hold text that no item holds any more.

CREATE TABLE removals(
  kind TEXT PRIMARY KEY,
  n INTEGER NOT NULL
) STRICT, WITHOUT ROWID

INSERT INTO removals VALUES('episode', 0), ('pattern', 0)

-- tag is the id as frames hold it.

CREATE TABLE dictionaries(
  id INTEGER PRIMARY KEY,
  tag BLOB NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  ratio REAL NOT NULL,
  removals INTEGER NOT NULL,
  closed INTEGER NOT NULL DEFAULT 0,
  sha256 BLOB NOT NULL,
  content BLOB NOT NULL
) STRICT

INSERT INTO dictionaries(id, tag, kind, created_us, samples, ratio, removals, sha256, content)
  SELECT id, unhex(printf('%02X%02X%02X', id & 127 | 128, id >> 7 & 127 | 128, id >> 14)), kind, created_us, samples, ratio, -1, sha256, content
  FROM old_dictionaries WHERE length(content) > 0

DROP TABLE old_dictionaries

CREATE TRIGGER dictionary_changed BEFORE UPDATE OF id, tag, kind, sha256, content ON dictionaries BEGIN
  SELECT RAISE(ABORT, 'a dictionary is never changed');
END

CREATE TRIGGER episode_removed AFTER DELETE ON episodes BEGIN
  UPDATE removals SET n = n + 1 WHERE kind = 'episode';
END

CREATE TRIGGER episode_superseded AFTER UPDATE OF id ON episodes BEGIN
  UPDATE removals SET n = n + 1 WHERE kind = 'episode';
END

-- To replace an item sets created_us; to compress it again does not.

CREATE TRIGGER pattern_removed AFTER DELETE ON patterns BEGIN
  UPDATE removals SET n = n + 1 WHERE kind = 'pattern';
END

CREATE TRIGGER pattern_superseded AFTER UPDATE OF created_us ON patterns BEGIN
  UPDATE removals SET n = n + 1 WHERE kind = 'pattern';
END

CREATE TRIGGER heuristic_removed AFTER DELETE ON heuristics BEGIN
  UPDATE removals SET n = n + 1 WHERE kind = 'pattern';
END

CREATE TRIGGER heuristic_superseded AFTER UPDATE OF created_us ON heuristics BEGIN
  UPDATE removals SET n = n + 1 WHERE kind = 'pattern';
END

CREATE TRIGGER relation_removed AFTER DELETE ON relations BEGIN
  UPDATE removals SET n = n + 1 WHERE kind = 'pattern';
END

CREATE TRIGGER relation_superseded AFTER UPDATE OF created_us ON relations BEGIN
  UPDATE removals SET n = n + 1 WHERE kind = 'pattern';
END

-- Bytes 3 to 5 of a frame are the id of a trained dictionary if the top bits of the first two are set.

CREATE TRIGGER episode_stored BEFORE INSERT ON episodes
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER episode_rewritten BEFORE UPDATE OF payload ON episodes
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER run_stored BEFORE INSERT ON runs
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER run_rewritten BEFORE UPDATE OF payload ON runs
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER pattern_stored BEFORE INSERT ON patterns
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER pattern_rewritten BEFORE UPDATE OF payload ON patterns
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER heuristic_stored BEFORE INSERT ON heuristics
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER heuristic_rewritten BEFORE UPDATE OF payload ON heuristics
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER relation_stored BEFORE INSERT ON relations
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

CREATE TRIGGER relation_rewritten BEFORE UPDATE OF payload ON relations
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END
