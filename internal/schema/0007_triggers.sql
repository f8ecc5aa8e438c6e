-- A libSQL server parses the schema anew for every stream, which an hrana client opens for nearly every request:
-- what several triggers of 0005 and 0006 said each stands here once, as the trigger of a view.

DROP TRIGGER episode_removed

DROP TRIGGER episode_superseded

DROP TRIGGER pattern_removed

DROP TRIGGER pattern_superseded

DROP TRIGGER heuristic_removed

DROP TRIGGER heuristic_superseded

DROP TRIGGER relation_removed

DROP TRIGGER relation_superseded

DROP TRIGGER episode_stored

DROP TRIGGER episode_rewritten

DROP TRIGGER run_stored

DROP TRIGGER run_rewritten

DROP TRIGGER pattern_stored

DROP TRIGGER pattern_rewritten

DROP TRIGGER heuristic_stored

DROP TRIGGER heuristic_rewritten

DROP TRIGGER relation_stored

DROP TRIGGER relation_rewritten

DROP TRIGGER item_changed

DROP TRIGGER episode_added

DROP TRIGGER episode_changed

DROP TRIGGER episode_gone

DROP TRIGGER run_changed

DROP TRIGGER tag_added

DROP TRIGGER tag_changed

DROP TRIGGER tag_removed

DROP TRIGGER pattern_added

DROP TRIGGER pattern_changed

DROP TRIGGER pattern_gone

DROP TRIGGER heuristic_added

DROP TRIGGER heuristic_changed

DROP TRIGGER heuristic_gone

DROP TRIGGER relation_added

DROP TRIGGER relation_changed

DROP TRIGGER relation_gone

DROP TRIGGER embedding_added

DROP TRIGGER embedding_changed

DROP TRIGGER embedding_gone

DROP TRIGGER episode_deleted

DROP TRIGGER episode_replaced

DROP TRIGGER pattern_deleted

DROP TRIGGER heuristic_deleted

DROP VIEW changed

-- Inserting into frames refuses a payload whose dictionary is gone: bytes 3 to 5 of a frame are the id of a
-- trained dictionary if the top bits of the first two are set.

CREATE VIEW frames(payload) AS SELECT payload FROM runs

CREATE TRIGGER frame_stored INSTEAD OF INSERT ON frames
WHEN substr(new.payload, 1, 1) = x'02' AND substr(new.payload, 3, 1) >= x'80' AND substr(new.payload, 4, 1) >= x'80'
AND NOT EXISTS (SELECT 1 FROM dictionaries WHERE tag = substr(new.payload, 3, 3) AND closed = 0) BEGIN
  SELECT RAISE(ABORT, 'dictionary gone');
END

-- Inserting into changed counts a change of an item: gone is 1 if the item is gone, of a set if nothing is left
-- of it. Whoever deletes clears away two deletions of more than 30 days ago, so that they do not add up.

CREATE VIEW changed(kind, item, scope, gone) AS SELECT kind, item, scope, gone_us FROM feed

CREATE TRIGGER item_changed INSTEAD OF INSERT ON changed WHEN NOT EXISTS (SELECT 1 FROM compacting) BEGIN
  INSERT INTO feed VALUES((SELECT max(forgotten, (SELECT ifnull(max(n), 0) FROM feed)) + 1 FROM feed_state), new.kind, new.item, new.scope, iif(new.gone, (SELECT us FROM now), NULL))
    ON CONFLICT(item, kind, scope) DO UPDATE SET n = excluded.n, gone_us = excluded.gone_us;
  DELETE FROM feed WHERE new.gone AND n IN (SELECT n FROM feed WHERE gone_us < (SELECT us FROM now) - 2592000000000 LIMIT 2);
END

-- Inserting into moved counts a change of an item that had another id or another scope before; an id is NULL
-- before the item was there and after it is gone. A pattern or a heuristic that is replaced or deleted, and an
-- episode that is deleted, counts as a removal.

CREATE VIEW moved(kind, was, was_scope, id, scope) AS SELECT kind, item, scope, item, scope FROM feed

CREATE TRIGGER item_moved INSTEAD OF INSERT ON moved BEGIN
  INSERT INTO changed SELECT new.kind, new.was, new.was_scope, 1 WHERE new.was NOT NULL AND (new.id IS NOT new.was OR new.scope <> new.was_scope);
  INSERT INTO changed SELECT new.kind, new.id, new.scope, 0 WHERE new.id NOT NULL;
  UPDATE removals SET n = n + 1 WHERE kind = iif(new.kind = 1, 'episode', 'pattern') AND new.was NOT NULL AND (new.kind > 1 OR new.id IS NULL)
    AND NOT EXISTS (SELECT 1 FROM compacting);
END

-- Inserting into touched counts a change of an episode (kind 1) or of the relations from it (kind 4), by its
-- seq; inserting into embedded, of the embeddings of an item.

CREATE VIEW touched(kind, seq) AS SELECT 1, seq FROM episodes

CREATE TRIGGER episode_touched INSTEAD OF INSERT ON touched BEGIN
  INSERT INTO changed SELECT new.kind, id, scope, new.kind = 4 AND NOT EXISTS (SELECT 1 FROM relations WHERE src = seq) FROM episodes WHERE seq = new.seq;
END

CREATE VIEW embedded(kind, item) AS SELECT kind, item FROM embeddings

CREATE TRIGGER item_embedded INSTEAD OF INSERT ON embedded BEGIN
  INSERT INTO changed VALUES(5, new.item, ifnull((SELECT scope FROM items WHERE id = new.item AND kind = new.kind), 0),
    NOT EXISTS (SELECT 1 FROM embeddings WHERE item = new.item));
END

CREATE TRIGGER episode_added AFTER INSERT ON episodes BEGIN
  INSERT INTO frames VALUES(new.payload);
  INSERT INTO moved VALUES(1, NULL, NULL, new.id, new.scope);
END

-- To replace an episode sets its id. To append leaves its payload alone, which may be large.

CREATE TRIGGER episode_replaced BEFORE UPDATE OF id ON episodes BEGIN
  DELETE FROM runs WHERE episode = old.seq;
  DELETE FROM tags WHERE episode = old.seq;
  DELETE FROM search WHERE rowid = old.seq;
  UPDATE removals SET n = n + 1 WHERE kind = 'episode';
END

CREATE TRIGGER episode_rewritten AFTER UPDATE OF payload ON episodes BEGIN
  INSERT INTO frames VALUES(new.payload);
END

CREATE TRIGGER episode_changed AFTER UPDATE ON episodes BEGIN
  INSERT INTO moved VALUES(1, old.id, old.scope, new.id, new.scope);
END

CREATE TRIGGER episode_deleted BEFORE DELETE ON episodes BEGIN
  DELETE FROM runs WHERE episode = old.seq;
  DELETE FROM tags WHERE episode = old.seq;
  DELETE FROM relations WHERE src = old.seq OR dst = old.seq;
  DELETE FROM embeddings WHERE kind = 'episode' AND item = old.id;
  DELETE FROM search WHERE rowid = old.seq;
  INSERT INTO moved VALUES(1, old.id, old.scope, NULL, NULL);
END

CREATE TRIGGER run_added AFTER INSERT ON runs BEGIN
  INSERT INTO frames VALUES(new.payload);
END

CREATE TRIGGER run_changed AFTER UPDATE ON runs BEGIN
  INSERT INTO frames VALUES(new.payload);
  INSERT INTO touched VALUES(1, old.episode);
  INSERT INTO touched VALUES(1, new.episode);
END

CREATE TRIGGER tag_added AFTER INSERT ON tags BEGIN
  INSERT INTO touched VALUES(1, new.episode);
END

CREATE TRIGGER tag_changed AFTER UPDATE ON tags BEGIN
  INSERT INTO touched VALUES(1, old.episode);
  INSERT INTO touched VALUES(1, new.episode);
END

CREATE TRIGGER tag_removed AFTER DELETE ON tags BEGIN
  INSERT INTO touched VALUES(1, old.episode);
END

CREATE TRIGGER pattern_added AFTER INSERT ON patterns BEGIN
  INSERT INTO frames VALUES(new.payload);
  INSERT INTO moved VALUES(2, NULL, NULL, new.id, new.scope);
END

CREATE TRIGGER pattern_changed AFTER UPDATE ON patterns BEGIN
  INSERT INTO frames VALUES(new.payload);
  INSERT INTO moved VALUES(2, old.id, old.scope, new.id, new.scope);
END

CREATE TRIGGER pattern_deleted BEFORE DELETE ON patterns BEGIN
  DELETE FROM embeddings WHERE kind = 'pattern' AND item = old.id;
  INSERT INTO moved VALUES(2, old.id, old.scope, NULL, NULL);
END

CREATE TRIGGER heuristic_added AFTER INSERT ON heuristics BEGIN
  INSERT INTO frames VALUES(new.payload);
  INSERT INTO moved VALUES(3, NULL, NULL, new.id, new.scope);
END

CREATE TRIGGER heuristic_changed AFTER UPDATE ON heuristics BEGIN
  INSERT INTO frames VALUES(new.payload);
  INSERT INTO moved VALUES(3, old.id, old.scope, new.id, new.scope);
END

CREATE TRIGGER heuristic_deleted BEFORE DELETE ON heuristics BEGIN
  DELETE FROM embeddings WHERE kind = 'heuristic' AND item = old.id;
  INSERT INTO moved VALUES(3, old.id, old.scope, NULL, NULL);
END

CREATE TRIGGER relation_added AFTER INSERT ON relations BEGIN
  INSERT INTO frames VALUES(new.payload);
  INSERT INTO touched VALUES(4, new.src);
END

CREATE TRIGGER relation_changed AFTER UPDATE ON relations BEGIN
  INSERT INTO frames VALUES(new.payload);
  INSERT INTO touched VALUES(4, old.src);
  INSERT INTO touched VALUES(4, new.src);
  UPDATE removals SET n = n + 1 WHERE kind = 'pattern' AND NOT EXISTS (SELECT 1 FROM compacting);
END

CREATE TRIGGER relation_deleted AFTER DELETE ON relations BEGIN
  INSERT INTO touched VALUES(4, old.src);
  UPDATE removals SET n = n + 1 WHERE kind = 'pattern';
END

CREATE TRIGGER embedding_added AFTER INSERT ON embeddings BEGIN
  INSERT INTO embedded VALUES(new.kind, new.item);
END

CREATE TRIGGER embedding_changed AFTER UPDATE ON embeddings BEGIN
  INSERT INTO embedded VALUES(new.kind, new.item);
END

CREATE TRIGGER embedding_removed AFTER DELETE ON embeddings BEGIN
  INSERT INTO embedded VALUES(old.kind, old.item);
END
