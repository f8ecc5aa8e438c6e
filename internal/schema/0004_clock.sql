-- The clock tells caches what has changed: for each of 4,096 groups of items, which are the last three
-- hex digits of their ids, the number of the last change. The row without a group makes that there
-- always is a number. Triggers count what anybody changes, as part of the change.

CREATE TABLE clock(
  g TEXT PRIMARY KEY,
  seq INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID

INSERT INTO clock VALUES('', 1)

CREATE VIEW changes(id) AS SELECT g FROM clock

CREATE TRIGGER tick INSTEAD OF INSERT ON changes BEGIN
  INSERT INTO clock VALUES(substr(hex(new.id), 30), (SELECT max(seq) FROM clock) + 1)
    ON CONFLICT(g) DO UPDATE SET seq = excluded.seq;
END

CREATE TRIGGER episode_ticks AFTER INSERT ON episodes BEGIN
  INSERT INTO changes VALUES(new.id);
END

CREATE TRIGGER episode_changed_ticks AFTER UPDATE ON episodes BEGIN
  INSERT INTO changes VALUES(new.id);
END

CREATE TRIGGER episode_deleted_ticks AFTER DELETE ON episodes BEGIN
  INSERT INTO changes VALUES(old.id);
END

CREATE TRIGGER run_changed_ticks AFTER UPDATE ON runs BEGIN
  INSERT INTO changes SELECT id FROM episodes WHERE seq = new.episode;
END

CREATE TRIGGER tag_ticks AFTER INSERT ON tags BEGIN
  INSERT INTO changes SELECT id FROM episodes WHERE seq = new.episode;
END

CREATE TRIGGER tag_changed_ticks AFTER UPDATE ON tags BEGIN
  INSERT INTO changes SELECT id FROM episodes WHERE seq IN (old.episode, new.episode);
END

CREATE TRIGGER tag_deleted_ticks AFTER DELETE ON tags BEGIN
  INSERT INTO changes SELECT id FROM episodes WHERE seq = old.episode;
END

CREATE TRIGGER pattern_ticks AFTER INSERT ON patterns BEGIN
  INSERT INTO changes VALUES(new.id);
END

CREATE TRIGGER pattern_changed_ticks AFTER UPDATE ON patterns BEGIN
  INSERT INTO changes VALUES(new.id);
END

CREATE TRIGGER pattern_deleted_ticks AFTER DELETE ON patterns BEGIN
  INSERT INTO changes VALUES(old.id);
END

CREATE TRIGGER heuristic_ticks AFTER INSERT ON heuristics BEGIN
  INSERT INTO changes VALUES(new.id);
END

CREATE TRIGGER heuristic_changed_ticks AFTER UPDATE ON heuristics BEGIN
  INSERT INTO changes VALUES(new.id);
END

CREATE TRIGGER heuristic_deleted_ticks AFTER DELETE ON heuristics BEGIN
  INSERT INTO changes VALUES(old.id);
END
