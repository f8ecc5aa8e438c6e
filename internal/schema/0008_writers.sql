-- Machines that write to a server take turns: more than three that write at once may make it lose its write
-- lock for good. A machine has a row, which its writes keep up to date: when it wrote last and how long its
-- writes take (hold_us), in the server's time; all times but hold_us are milliseconds. until: it has announced
-- a long write. A local file has no rows.

CREATE TABLE writers(
  machine INTEGER PRIMARY KEY CHECK(machine > 0),
  at INTEGER NOT NULL,
  hold_us INTEGER NOT NULL,
  until INTEGER NOT NULL DEFAULT 0
) STRICT

-- turns has a row for each machine that wrote within the last hour, and one, 0, for all others. Time is
-- divided into slots; a machine may write in those whose number leaves place when divided by period. Up to
-- three machines may always write. Of more, those that wrote within 150 slots are active and share all slots, but
-- two may always write; the others have the odd slots: with the one whose slot it is and one that is late,
-- three write at once at most. A slot lasts three times as long as writes do on average. Times in the future
-- are those of a clock that was set back.

CREATE VIEW turns AS
WITH clock(now) AS MATERIALIZED (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)),
lately(now, us) AS MATERIALIZED (
  SELECT now, 3 * coalesce(avg(hold_us), 0) FROM clock LEFT JOIN writers ON at > now - 5000 AND at < now + 1500),
length AS MATERIALIZED (
  SELECT now, CASE WHEN us <= 10000 THEN 10 WHEN us <= 20000 THEN 20 WHEN us <= 40000 THEN 40
    WHEN us <= 80000 THEN 80 ELSE 160 END AS slot
  FROM lately),
known AS MATERIALIZED (
  SELECT machine, CASE WHEN until < now + 10000 THEN until ELSE 0 END AS until, at > now - 150 * slot AS active
  FROM length, writers WHERE at > now - 3600000 AND at < now + 1500),
slots AS MATERIALIZED (
  SELECT now, slot, count(machine) AS machines, coalesce(sum(active), 0) AS active FROM length LEFT JOIN known),
places AS (
  SELECT machine, until AS own, CASE
      WHEN machines <= 3 OR k.active AND s.active <= 2 THEN 1
      WHEN k.active THEN s.active
      ELSE 2 * (machines - s.active) END AS period,
    CASE
      WHEN machines <= 3 OR k.active AND s.active <= 2 THEN 0
      WHEN k.active THEN (SELECT count(*) FROM known o WHERE o.active AND o.machine < k.machine)
      ELSE 1 + 2 * (SELECT count(*) FROM known o WHERE NOT o.active AND o.machine < k.machine) END AS place
  FROM slots s, known k
  UNION ALL
  SELECT 0, 0, CASE WHEN machines <= 2 THEN 1 ELSE 2 END, CASE WHEN machines <= 2 THEN 0 ELSE 1 END FROM slots),
busy AS (
  SELECT p.*, coalesce((SELECT max(until) FROM known o WHERE o.machine <> p.machine), 0) AS until FROM places p)
SELECT machine, machines, now, slot, period, place, until,
  own > now OR until <= now AND now / slot % period = place AS open
FROM slots, busy
