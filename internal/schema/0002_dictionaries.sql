-- Dictionaries that compressed payloads name. A row is an attempt to train one: without content it
-- was given up, or is not needed any more, but its id is never given again.

CREATE TABLE dictionaries(
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  items INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  ratio REAL NOT NULL,
  retired_us INTEGER,
  sha256 BLOB NOT NULL,
  content BLOB NOT NULL
) STRICT

CREATE TRIGGER dictionary_changed BEFORE UPDATE OF id, kind, sha256, content ON dictionaries
WHEN new.id <> old.id OR new.kind <> old.kind OR new.sha256 <> old.sha256 OR old.retired_us IS NULL OR length(new.content) > 0 BEGIN
  SELECT RAISE(ABORT, 'a dictionary is never changed');
END

CREATE TRIGGER dictionary_deleted BEFORE DELETE ON dictionaries BEGIN
  SELECT RAISE(ABORT, 'a dictionary is never deleted');
END

-- For each kind: the newest that is not retired, which is the one to write with, how many items there
-- are, as far as it matters, and how many there were when a dictionary was last trained.

CREATE VIEW dictionary_use AS
  SELECT n.kind, d.id, d.ratio, n.items, (SELECT max(items) FROM dictionaries WHERE kind = n.kind) AS trained
  FROM (
    SELECT 'episode' AS kind, (SELECT count(*) FROM (SELECT 1 FROM episodes LIMIT 2000)) AS items
    UNION ALL SELECT 'pattern', (SELECT count(*) FROM (
      SELECT 1 FROM patterns UNION ALL SELECT 1 FROM heuristics UNION ALL SELECT 1 FROM relations LIMIT 2000))
  ) n LEFT JOIN dictionaries d ON d.kind = n.kind AND d.retired_us IS NULL
    AND d.created_us = (SELECT max(created_us) FROM dictionaries WHERE kind = n.kind AND retired_us IS NULL)
