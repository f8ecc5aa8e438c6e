-- The change feed: one row for each item, with the number of its last change (and another for each scope
-- that the item was deleted from before, so that readers of that scope are told). Triggers write it in the
-- transaction of whoever changes an item. Kinds: 1 episode, 2 pattern, 3 heuristic, 4 the relations
-- from an episode, 5 the embeddings of an item. gone_us is when it was deleted (kind 4 and 5: when the
-- last one of them was); NULL while it exists.

DROP TRIGGER episode_ticks

DROP TRIGGER episode_changed_ticks

DROP TRIGGER episode_deleted_ticks

DROP TRIGGER run_changed_ticks

DROP TRIGGER tag_ticks

DROP TRIGGER tag_changed_ticks

DROP TRIGGER tag_deleted_ticks

DROP TRIGGER pattern_ticks

DROP TRIGGER pattern_changed_ticks

DROP TRIGGER pattern_deleted_ticks

DROP TRIGGER heuristic_ticks

DROP TRIGGER heuristic_changed_ticks

DROP TRIGGER heuristic_deleted_ticks

DROP TRIGGER tick

DROP VIEW changes

DROP TABLE clock

-- Scope 0 is the empty one; the number of any other is made of its text, and so the same in every
-- database. Scopes are never changed or deleted.

CREATE TABLE scopes(
  n INTEGER PRIMARY KEY,
  project TEXT NOT NULL,
  user TEXT NOT NULL,
  agent TEXT NOT NULL,
  text TEXT AS (project || char(10) || user || char(10) || agent),
  UNIQUE(project, user, agent)
) STRICT

INSERT INTO scopes VALUES(0, '', '', '')

ALTER TABLE episodes ADD COLUMN scope INTEGER NOT NULL DEFAULT 0

ALTER TABLE patterns ADD COLUMN scope INTEGER NOT NULL DEFAULT 0

ALTER TABLE patterns ADD COLUMN rev INTEGER NOT NULL DEFAULT 1

ALTER TABLE heuristics ADD COLUMN scope INTEGER NOT NULL DEFAULT 0

ALTER TABLE heuristics ADD COLUMN rev INTEGER NOT NULL DEFAULT 1

DROP INDEX episodes_by_time

CREATE INDEX episodes_by_time ON episodes(start_us, seq, scope, outcome, task_type, language, end_us)

CREATE TABLE feed(
  n INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  item BLOB NOT NULL,
  scope INTEGER NOT NULL,
  gone_us INTEGER,
  UNIQUE(item, kind, scope)
) STRICT

CREATE INDEX feed_gone ON feed(gone_us) WHERE gone_us IS NOT NULL

-- life names this database and its copies. No deletion above forgotten has been forgotten.

CREATE TABLE feed_state(
  life BLOB NOT NULL,
  forgotten INTEGER NOT NULL
) STRICT

INSERT INTO feed_state VALUES(randomblob(16), 0)

INSERT INTO feed(kind, item, scope) SELECT 1, id, 0 FROM episodes ORDER BY seq

INSERT INTO feed(kind, item, scope) SELECT 2, id, 0 FROM patterns ORDER BY seq

INSERT INTO feed(kind, item, scope) SELECT 3, id, 0 FROM heuristics ORDER BY seq

INSERT INTO feed(kind, item, scope) SELECT 4, id, 0 FROM episodes WHERE seq IN (SELECT src FROM relations)

INSERT OR IGNORE INTO feed(kind, item, scope) SELECT 5, item, 0 FROM embeddings

CREATE TRIGGER feed_forgets AFTER DELETE ON feed BEGIN
  UPDATE feed_state SET forgotten = max(forgotten, old.n);
END

-- Whoever deletes clears away two deletions of more than 30 days ago, so that they do not add up.

CREATE VIEW changed(kind, item, scope, gone_us) AS SELECT kind, item, scope, gone_us FROM feed

CREATE TRIGGER item_changed INSTEAD OF INSERT ON changed BEGIN
  INSERT INTO feed VALUES((SELECT max(forgotten, (SELECT ifnull(max(n), 0) FROM feed)) + 1 FROM feed_state), new.kind, new.item, new.scope, new.gone_us)
    ON CONFLICT(item, kind, scope) DO UPDATE SET n = excluded.n, gone_us = excluded.gone_us;
  DELETE FROM feed WHERE new.gone_us > 0 AND n IN (SELECT n FROM feed WHERE gone_us < new.gone_us - 2592000000000 LIMIT 2);
END

CREATE VIEW now(us) AS SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)

-- Compaction writes payloads that say the same: it is no change while this table has a row.

CREATE TABLE compacting(
  n INTEGER PRIMARY KEY
) STRICT

CREATE TRIGGER episode_added AFTER INSERT ON episodes BEGIN
  INSERT INTO changed VALUES(1, new.id, new.scope, NULL);
END

CREATE TRIGGER episode_changed AFTER UPDATE ON episodes WHEN NOT EXISTS (SELECT 1 FROM compacting) BEGIN
  INSERT INTO changed SELECT 1, old.id, old.scope, us FROM now WHERE old.id <> new.id OR old.scope <> new.scope;
  INSERT INTO changed VALUES(1, new.id, new.scope, NULL);
END

CREATE TRIGGER episode_gone AFTER DELETE ON episodes BEGIN
  INSERT INTO changed SELECT 1, old.id, old.scope, us FROM now;
END

CREATE TRIGGER run_changed AFTER UPDATE ON runs WHEN NOT EXISTS (SELECT 1 FROM compacting) BEGIN
  INSERT INTO changed SELECT 1, id, scope, NULL FROM episodes WHERE seq IN (old.episode, new.episode);
END

CREATE TRIGGER tag_added AFTER INSERT ON tags BEGIN
  INSERT INTO changed SELECT 1, id, scope, NULL FROM episodes WHERE seq = new.episode;
END

CREATE TRIGGER tag_changed AFTER UPDATE ON tags BEGIN
  INSERT INTO changed SELECT 1, id, scope, NULL FROM episodes WHERE seq IN (old.episode, new.episode);
END

CREATE TRIGGER tag_removed AFTER DELETE ON tags BEGIN
  INSERT INTO changed SELECT 1, id, scope, NULL FROM episodes WHERE seq = old.episode;
END

CREATE TRIGGER pattern_added AFTER INSERT ON patterns BEGIN
  INSERT INTO changed VALUES(2, new.id, new.scope, NULL);
END

CREATE TRIGGER pattern_changed AFTER UPDATE ON patterns WHEN NOT EXISTS (SELECT 1 FROM compacting) BEGIN
  INSERT INTO changed SELECT 2, old.id, old.scope, us FROM now WHERE old.id <> new.id OR old.scope <> new.scope;
  INSERT INTO changed VALUES(2, new.id, new.scope, NULL);
END

CREATE TRIGGER pattern_gone AFTER DELETE ON patterns BEGIN
  INSERT INTO changed SELECT 2, old.id, old.scope, us FROM now;
END

CREATE TRIGGER heuristic_added AFTER INSERT ON heuristics BEGIN
  INSERT INTO changed VALUES(3, new.id, new.scope, NULL);
END

CREATE TRIGGER heuristic_changed AFTER UPDATE ON heuristics WHEN NOT EXISTS (SELECT 1 FROM compacting) BEGIN
  INSERT INTO changed SELECT 3, old.id, old.scope, us FROM now WHERE old.id <> new.id OR old.scope <> new.scope;
  INSERT INTO changed VALUES(3, new.id, new.scope, NULL);
END

CREATE TRIGGER heuristic_gone AFTER DELETE ON heuristics BEGIN
  INSERT INTO changed SELECT 3, old.id, old.scope, us FROM now;
END

CREATE TRIGGER relation_added AFTER INSERT ON relations BEGIN
  INSERT INTO changed SELECT 4, id, scope, NULL FROM episodes WHERE seq = new.src;
END

CREATE TRIGGER relation_changed AFTER UPDATE ON relations WHEN NOT EXISTS (SELECT 1 FROM compacting) BEGIN
  INSERT INTO changed SELECT 4, id, scope, NULL FROM episodes WHERE seq IN (old.src, new.src);
END

CREATE TRIGGER relation_gone AFTER DELETE ON relations BEGIN
  INSERT INTO changed SELECT 4, id, scope, iif(EXISTS (SELECT 1 FROM relations WHERE src = old.src), NULL, us) FROM episodes, now WHERE seq = old.src;
END

CREATE VIEW items(kind, id, scope) AS
  SELECT 'episode', id, scope FROM episodes UNION ALL SELECT 'pattern', id, scope FROM patterns UNION ALL SELECT 'heuristic', id, scope FROM heuristics

CREATE TRIGGER embedding_added AFTER INSERT ON embeddings BEGIN
  INSERT INTO changed VALUES(5, new.item, ifnull((SELECT scope FROM items WHERE id = new.item AND kind = new.kind), 0), NULL);
END

CREATE TRIGGER embedding_changed AFTER UPDATE ON embeddings BEGIN
  INSERT INTO changed VALUES(5, new.item, ifnull((SELECT scope FROM items WHERE id = new.item AND kind = new.kind), 0), NULL);
END

CREATE TRIGGER embedding_gone AFTER DELETE ON embeddings BEGIN
  INSERT INTO changed SELECT 5, old.item, ifnull((SELECT scope FROM items WHERE id = old.item AND kind = old.kind), 0),
    iif(EXISTS (SELECT 1 FROM embeddings WHERE item = old.item), NULL, us) FROM now;
END

-- Every write gives an episode another revision. bytes is what its steps take before compression.

ALTER TABLE episodes ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0

UPDATE episodes SET bytes = (SELECT ifnull(sum(length(payload)), 0) FROM runs WHERE episode = seq) WHERE end_us IS NULL

DROP VIEW appends

CREATE VIEW appends(id, first, count, key, payload, words, bytes) AS
  SELECT id, first, count, key, runs.payload, NULL, NULL FROM episodes JOIN runs ON episode = seq
  WHERE first > (SELECT max(first) FROM runs WHERE episode = seq) - 1000

CREATE TRIGGER appended INSTEAD OF INSERT ON appends BEGIN
  INSERT INTO runs(episode, first, count, key, payload)
    SELECT seq, steps + 1, new.count, new.key, new.payload FROM episodes
    WHERE id = new.id AND end_us IS NULL AND new.first IN (0, steps + 1) AND bytes + new.bytes <= 67108864
    AND NOT EXISTS (SELECT 1 FROM appends WHERE id = new.id AND key = new.key);
  UPDATE search SET steps = steps || new.words WHERE length(steps) < 65536
    AND rowid = (SELECT seq FROM episodes JOIN runs ON episode = seq AND first = steps + 1 WHERE id = new.id);
  UPDATE episodes SET steps = steps + new.count, bytes = bytes + new.bytes, rev = random() & 9223372036854775807
    WHERE seq = (SELECT seq FROM episodes JOIN runs ON episode = seq AND first = steps + 1 WHERE id = new.id);
END
