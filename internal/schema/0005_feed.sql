-- Provisional: the change feed as the cache needs it, until the migration of the feed takes its place.

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

CREATE TABLE feed(
  n INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  item BLOB NOT NULL,
  scope INTEGER NOT NULL,
  gone_us INTEGER,
  UNIQUE(kind, item)
) STRICT

INSERT INTO feed(kind, item, scope) SELECT 1, id, 0 FROM episodes ORDER BY seq

INSERT INTO feed(kind, item, scope) SELECT 2, id, 0 FROM patterns ORDER BY seq

INSERT INTO feed(kind, item, scope) SELECT 3, id, 0 FROM heuristics ORDER BY seq

CREATE VIEW changed(kind, item) AS SELECT kind, item FROM feed

CREATE TRIGGER item_changed INSTEAD OF INSERT ON changed BEGIN
  INSERT INTO feed VALUES(ifnull((SELECT max(n) FROM feed), 0) + 1, new.kind, new.item, 0, NULL)
    ON CONFLICT(kind, item) DO UPDATE SET n = excluded.n;
END

CREATE TRIGGER episode_insert_feeds AFTER INSERT ON episodes BEGIN
  INSERT INTO changed VALUES(1, new.id);
END

CREATE TRIGGER episode_update_feeds AFTER UPDATE ON episodes BEGIN
  INSERT INTO changed VALUES(1, new.id);
END

CREATE TRIGGER episode_delete_feeds AFTER DELETE ON episodes BEGIN
  INSERT INTO changed VALUES(1, old.id);
END

CREATE TRIGGER pattern_insert_feeds AFTER INSERT ON patterns BEGIN
  INSERT INTO changed VALUES(2, new.id);
END

CREATE TRIGGER pattern_update_feeds AFTER UPDATE ON patterns BEGIN
  INSERT INTO changed VALUES(2, new.id);
END

CREATE TRIGGER pattern_delete_feeds AFTER DELETE ON patterns BEGIN
  INSERT INTO changed VALUES(2, old.id);
END

CREATE TRIGGER heuristic_insert_feeds AFTER INSERT ON heuristics BEGIN
  INSERT INTO changed VALUES(3, new.id);
END

CREATE TRIGGER heuristic_update_feeds AFTER UPDATE ON heuristics BEGIN
  INSERT INTO changed VALUES(3, new.id);
END

CREATE TRIGGER heuristic_delete_feeds AFTER DELETE ON heuristics BEGIN
  INSERT INTO changed VALUES(3, old.id);
END

CREATE TRIGGER run_update_feeds AFTER UPDATE ON runs BEGIN
  INSERT INTO changed SELECT 1, id FROM episodes WHERE seq = new.episode;
END

CREATE TRIGGER tag_insert_feeds AFTER INSERT ON tags BEGIN
  INSERT INTO changed SELECT 1, id FROM episodes WHERE seq IN (new.episode);
END

CREATE TRIGGER tag_update_feeds AFTER UPDATE ON tags BEGIN
  INSERT INTO changed SELECT 1, id FROM episodes WHERE seq IN (old.episode, new.episode);
END

CREATE TRIGGER tag_delete_feeds AFTER DELETE ON tags BEGIN
  INSERT INTO changed SELECT 1, id FROM episodes WHERE seq IN (old.episode);
END
