-- A queued write may come to an item that others have changed or deleted since it was made. What was decided
-- is noted here, in the transaction that carries it out, with what lost by it, for 30 days: payload is JSON,
-- compressed with the built-in dictionary alone, so that it can be read whatever becomes of others. Steps of a
-- version that lost are parts of their own, as a value may have 5 MB.

CREATE TABLE conflicts(
  n INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  item_kind TEXT NOT NULL,
  item BLOB NOT NULL,
  scope INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  outbox BLOB NOT NULL,
  payload BLOB NOT NULL
) STRICT

CREATE INDEX conflicts_by_item ON conflicts(item)

CREATE INDEX conflicts_by_time ON conflicts(at_us)

CREATE TABLE kept_steps(
  conflict INTEGER NOT NULL,
  part INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY(conflict, part)
) STRICT, WITHOUT ROWID

CREATE TRIGGER conflict_forgotten AFTER DELETE ON conflicts BEGIN
  DELETE FROM kept_steps WHERE conflict = old.n;
END

-- Whoever notes one, or deletes an item, clears away two of more than 30 days ago.

CREATE TRIGGER conflict_noted AFTER INSERT ON conflicts BEGIN
  DELETE FROM conflicts WHERE n IN (SELECT n FROM conflicts WHERE at_us < new.at_us - 2592000000000 ORDER BY at_us LIMIT 2);
END

-- With an item goes what was kept of it. That a deletion came to a changed item is noted after it.

CREATE TRIGGER episode_conflicts AFTER DELETE ON episodes BEGIN
  DELETE FROM conflicts WHERE item = old.id;
  DELETE FROM conflicts WHERE n IN (SELECT n FROM conflicts WHERE at_us < (SELECT us FROM now) - 2592000000000 ORDER BY at_us LIMIT 2);
END

CREATE TRIGGER pattern_conflicts AFTER DELETE ON patterns BEGIN
  DELETE FROM conflicts WHERE item = old.id;
  DELETE FROM conflicts WHERE n IN (SELECT n FROM conflicts WHERE at_us < (SELECT us FROM now) - 2592000000000 ORDER BY at_us LIMIT 2);
END

CREATE TRIGGER heuristic_conflicts AFTER DELETE ON heuristics BEGIN
  DELETE FROM conflicts WHERE item = old.id;
  DELETE FROM conflicts WHERE n IN (SELECT n FROM conflicts WHERE at_us < (SELECT us FROM now) - 2592000000000 ORDER BY at_us LIMIT 2);
END
