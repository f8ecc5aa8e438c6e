-- To append steps is what a Store does most, and a statement travels with every call: so it is short,
-- and what it does lies here. Read, the view is the runs that were appended last. It looks no further
-- back than a repeated append may come late; the run just added is the only one behind the last
-- counted step.

CREATE VIEW appends(id, first, count, key, payload, words) AS
  SELECT id, first, count, key, runs.payload, NULL FROM episodes JOIN runs ON episode = seq
  WHERE first > (SELECT max(first) FROM runs WHERE episode = seq) - 1000

CREATE TRIGGER appended INSTEAD OF INSERT ON appends BEGIN
  INSERT INTO runs(episode, first, count, key, payload)
    SELECT seq, steps + 1, new.count, new.key, new.payload FROM episodes
    WHERE id = new.id AND end_us IS NULL AND new.first IN (0, steps + 1)
    AND NOT EXISTS (SELECT 1 FROM appends WHERE id = new.id AND key = new.key);
  UPDATE search SET steps = steps || new.words WHERE length(steps) < 65536
    AND rowid = (SELECT seq FROM episodes JOIN runs ON episode = seq AND first = steps + 1 WHERE id = new.id);
  UPDATE episodes SET steps = steps + new.count
    WHERE seq = (SELECT seq FROM episodes JOIN runs ON episode = seq AND first = steps + 1 WHERE id = new.id);
END

-- The + keeps the column's type out of answers.

CREATE VIEW last_run AS SELECT +first AS n, key FROM runs ORDER BY rowid DESC LIMIT 1
