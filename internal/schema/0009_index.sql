-- The full-text index. A document is a head or a step. Its place is the number of its group times 2^24, plus
-- its own number: a group is an episode, or a pattern at minus twice its number, or a heuristic at one less;
-- 0 is the head, 2^24-1 what was concluded when the episode ended. Units hold what was written last, one for
-- each write, and segments what was merged of them; neither ever changes. key, which is random, tells one
-- from another in the same place. The blocks of a segment are stored before it is. Documents of a group are
-- gone from the segments up to a number. Waiting are groups that are yet to be indexed, or anew.

DROP VIEW ended

DROP VIEW gathered

DROP VIEW appends

DROP TRIGGER episode_deleted

DROP TRIGGER episode_replaced

DROP TRIGGER pattern_deleted

DROP TRIGGER heuristic_deleted

DROP TABLE search

CREATE TABLE index_units(
  place INTEGER PRIMARY KEY,
  data BLOB NOT NULL,
  key INTEGER NOT NULL DEFAULT (random())
) STRICT

CREATE TABLE index_segments(
  n INTEGER PRIMARY KEY,
  key INTEGER NOT NULL,
  level INTEGER NOT NULL,
  base INTEGER NOT NULL,
  places BLOB NOT NULL
) STRICT

CREATE TABLE index_blocks(
  segment INTEGER NOT NULL,
  first TEXT NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY(segment, first)
) STRICT

CREATE TABLE index_gone(
  g INTEGER PRIMARY KEY,
  upto INTEGER NOT NULL
) STRICT

CREATE TABLE index_waiting(
  g INTEGER PRIMARY KEY
) STRICT

INSERT INTO index_waiting SELECT seq FROM episodes UNION ALL SELECT -2 * seq FROM patterns UNION ALL SELECT -2 * seq - 1 FROM heuristics

-- A server, whose clients do not read the tables above, has the words of heads here, and of steps if that was
-- asked for: those of an append under minus their place.

CREATE VIRTUAL TABLE heads USING fts5(
  words,
  content = "", contentless_delete = 1,
  tokenize = ascii
)

-- A database that was moved from a file to a server, or back, has what the other one reads: then all items are
-- indexed anew.

CREATE VIEW index_state(waiting, of_file, of_server) AS SELECT (SELECT count(*) FROM index_waiting),
  EXISTS (SELECT 1 FROM index_units) OR EXISTS (SELECT 1 FROM index_segments), EXISTS (SELECT 1 FROM heads_docsize)

-- Who inserts a group here deletes all that the index has of it.

CREATE VIEW forgotten(g) AS SELECT g FROM index_gone

CREATE TRIGGER group_forgotten INSTEAD OF INSERT ON forgotten BEGIN
  DELETE FROM index_units WHERE place >= (new.g << 24) AND place < ((new.g + 1) << 24);
  INSERT INTO index_gone SELECT new.g, n FROM (SELECT max(n) AS n FROM index_segments) WHERE n IS NOT NULL
    ON CONFLICT(g) DO UPDATE SET upto = excluded.upto;
  DELETE FROM index_waiting WHERE g = new.g;
  DELETE FROM heads WHERE rowid = new.g;
  DELETE FROM heads WHERE new.g > 0 AND rowid > -((new.g + 1) << 24) AND rowid < -(new.g << 24);
END

CREATE TRIGGER episode_deleted BEFORE DELETE ON episodes BEGIN
  DELETE FROM runs WHERE place > (old.seq << 24) AND place < ((old.seq + 1) << 24);
  DELETE FROM tags WHERE episode = old.seq;
  DELETE FROM relations WHERE src = old.seq OR dst = old.seq;
  DELETE FROM embeddings WHERE kind = 'episode' AND item = old.id;
  INSERT INTO forgotten VALUES(old.seq);
END

CREATE TRIGGER episode_replaced BEFORE UPDATE OF id ON episodes BEGIN
  DELETE FROM runs WHERE place > (old.seq << 24) AND place < ((old.seq + 1) << 24);
  DELETE FROM tags WHERE episode = old.seq;
  INSERT INTO forgotten VALUES(old.seq);
END

CREATE TRIGGER pattern_deleted BEFORE DELETE ON patterns BEGIN
  DELETE FROM embeddings WHERE kind = 'pattern' AND item = old.id;
  INSERT INTO forgotten VALUES(-2 * old.seq);
END

CREATE TRIGGER heuristic_deleted BEFORE DELETE ON heuristics BEGIN
  DELETE FROM embeddings WHERE kind = 'heuristic' AND item = old.id;
  INSERT INTO forgotten VALUES(-2 * old.seq - 1);
END

CREATE TRIGGER pattern_replaced BEFORE UPDATE OF created_us ON patterns BEGIN
  INSERT INTO forgotten VALUES(-2 * old.seq);
END

CREATE TRIGGER heuristic_replaced BEFORE UPDATE OF created_us ON heuristics BEGIN
  INSERT INTO forgotten VALUES(-2 * old.seq - 1);
END

-- words of an append are a unit for the index of a file, or a text for heads.

CREATE VIEW appends(id, first, count, key, payload, words, bytes) AS
  SELECT e.id, first, count, key, r.payload, NULL, NULL FROM episodes e JOIN runs r ON r.place < ((seq + 1) << 24)
  AND r.place > max(seq << 24, (SELECT max(place) FROM runs WHERE place < ((seq + 1) << 24)) - 1000)

CREATE TRIGGER appended INSTEAD OF INSERT ON appends BEGIN
  INSERT INTO runs(place, count, key, payload)
    SELECT (seq << 24) + steps + 1, new.count, new.key, new.payload FROM episodes
    WHERE id = new.id AND end_us IS NULL AND new.first IN (0, steps + 1) AND bytes + new.bytes <= 67108864
    AND NOT EXISTS (SELECT 1 FROM appends WHERE id = new.id AND key = new.key);
  INSERT INTO index_units(place, data) SELECT r.place, new.words FROM episodes e JOIN runs r ON r.place = (seq << 24) + steps + 1
    WHERE e.id = new.id AND typeof(new.words) = 'blob';
  INSERT INTO heads(rowid, words) SELECT -r.place, new.words FROM episodes e JOIN runs r ON r.place = (seq << 24) + steps + 1
    WHERE e.id = new.id AND typeof(new.words) = 'text' AND NOT EXISTS (SELECT 1 FROM heads_docsize d WHERE d.id = -r.place);
  UPDATE episodes SET steps = steps + new.count, bytes = bytes + new.bytes, rev = random() & 9223372036854775807
    WHERE id = new.id AND EXISTS (SELECT 1 FROM runs r WHERE r.place = (seq << 24) + steps + 1);
END
