-- The place of a run is its episode and its first step in one number, so that no index is needed beside
-- the table.

DROP VIEW appends

DROP VIEW last_run

DROP TRIGGER episode_deleted

DROP TRIGGER episode_replaced

ALTER TABLE runs RENAME TO old_runs

CREATE TABLE runs(
  place INTEGER PRIMARY KEY,
  count INTEGER NOT NULL,
  key BLOB,
  payload BLOB NOT NULL,
  episode INTEGER AS (place >> 24),
  first INTEGER AS (place & 16777215)
) STRICT

INSERT INTO runs(place, count, key, payload) SELECT (episode << 24) + first, count, key, payload FROM old_runs ORDER BY episode, first

DROP TABLE old_runs

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

CREATE TRIGGER run_changed AFTER UPDATE ON runs WHEN NOT EXISTS (SELECT 1 FROM compacting) BEGIN
  INSERT INTO changed SELECT 1, id, scope, NULL FROM episodes WHERE seq IN (old.episode, new.episode);
END

-- An append has a row of its own in search, under its run's place with a minus: its words are indexed
-- once. To add them to the row of the episode would index again all that it holds.

CREATE TRIGGER episode_deleted BEFORE DELETE ON episodes BEGIN
  DELETE FROM runs WHERE place > (old.seq << 24) AND place < ((old.seq + 1) << 24);
  DELETE FROM tags WHERE episode = old.seq;
  DELETE FROM relations WHERE src = old.seq OR dst = old.seq;
  DELETE FROM embeddings WHERE kind = 'episode' AND item = old.id;
  DELETE FROM search WHERE rowid = old.seq;
  DELETE FROM search WHERE rowid > -((old.seq + 1) << 24) AND rowid < -(old.seq << 24);
END

CREATE TRIGGER episode_replaced BEFORE UPDATE OF id ON episodes BEGIN
  DELETE FROM runs WHERE place > (old.seq << 24) AND place < ((old.seq + 1) << 24);
  DELETE FROM tags WHERE episode = old.seq;
  DELETE FROM search WHERE rowid = old.seq;
  DELETE FROM search WHERE rowid > -((old.seq + 1) << 24) AND rowid < -(old.seq << 24);
END

CREATE VIEW appends(id, first, count, key, payload, words, bytes) AS
  SELECT e.id, first, count, key, r.payload, NULL, NULL FROM episodes e JOIN runs r ON r.place < ((seq + 1) << 24)
  AND r.place > max(seq << 24, (SELECT max(place) FROM runs WHERE place < ((seq + 1) << 24)) - 1000)

CREATE VIEW last_run(id, n, key) AS
  SELECT e.id, +first, key FROM episodes e JOIN runs r ON r.place = (SELECT max(place) FROM runs WHERE place < ((seq + 1) << 24))

CREATE TRIGGER appended INSTEAD OF INSERT ON appends BEGIN
  INSERT INTO runs(place, count, key, payload)
    SELECT (seq << 24) + steps + 1, new.count, new.key, new.payload FROM episodes
    WHERE id = new.id AND end_us IS NULL AND new.first IN (0, steps + 1) AND bytes + new.bytes <= 67108864
    AND NOT EXISTS (SELECT 1 FROM appends WHERE id = new.id AND key = new.key);
  INSERT INTO search(rowid, steps) SELECT -r.place, new.words FROM episodes e JOIN runs r ON r.place = (seq << 24) + steps + 1
    WHERE e.id = new.id AND new.words <> '';
  UPDATE episodes SET steps = steps + new.count, bytes = bytes + new.bytes, rev = random() & 9223372036854775807
    WHERE id = new.id AND EXISTS (SELECT 1 FROM runs r WHERE r.place = (seq << 24) + steps + 1);
END

-- Who ends an episode inserts the words of its outcome here: then all words of it come together in one
-- row, so that they are ranked together, unless they are very many.

CREATE VIEW ended(id, rev, words) AS SELECT id, rev, NULL FROM episodes

CREATE TRIGGER words_gathered INSTEAD OF INSERT ON ended BEGIN
  UPDATE search SET outcome = new.words, steps = iif(size > 65536, steps, trim(steps || char(10) || g.words, char(10)))
    FROM gathered g WHERE g.id = new.id AND g.rev = new.rev AND search.rowid = g.seq;
  DELETE FROM search WHERE rowid IN (SELECT a.rowid FROM gathered g JOIN search a ON a.rowid > -((seq + 1) << 24) AND a.rowid < -(seq << 24)
    WHERE id = new.id AND rev = new.rev AND size <= 65536);
END

CREATE VIEW gathered(seq, id, rev, words, size) AS
  SELECT seq, id, rev,
  (SELECT ifnull(group_concat(steps, char(10)), '') FROM (SELECT steps FROM search WHERE rowid > -((seq + 1) << 24) AND rowid < -(seq << 24) ORDER BY rowid DESC)),
  (SELECT ifnull(sum(length(steps)), 0) FROM search WHERE rowid > -((seq + 1) << 24) AND rowid < -(seq << 24))
  FROM episodes

-- What reading an episode asks for, so that its statement is short: it travels with every call. A row for
-- each run, of which the first one tells what the episode is; only that one if the runs are large. An
-- expression keeps a column's type out of answers.

CREATE VIEW whole(seq, id, task_type, domain, language, outcome, start_us, end_us, steps, payload, tags, rev, scope, first, count, run, place) AS
  SELECT iif(first > 1, NULL, seq), e.id, iif(first > 1, NULL, task_type), iif(first > 1, NULL, domain), iif(first > 1, NULL, language),
  iif(first > 1, NULL, outcome), iif(first > 1, NULL, start_us), iif(first > 1, NULL, end_us), iif(first > 1, NULL, steps), iif(first > 1, NULL, e.payload),
  iif(first > 1, NULL, (SELECT json_group_array(tag) FROM (SELECT tag FROM tags WHERE episode = e.seq ORDER BY pos))), iif(first > 1, NULL, rev),
  iif(first > 1 OR scope = 0, '', (SELECT text FROM scopes WHERE n = e.scope)), +first, +count, +r.payload, r.place
  FROM episodes e LEFT JOIN runs r ON r.place > (seq << 24) AND r.place < ((seq + 1) << 24) AND (bytes < 4000000 OR r.place = (seq << 24) + 1)
